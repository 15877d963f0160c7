-- transcribe_check_server: mistakes, rights and keys

-- a server that cannot be used is an error, as it is when enqueueing
SELECT * FROM transcribe_check_server('no_such_server');
CREATE FOREIGN DATA WRAPPER regress_other;
CREATE SERVER regress_other FOREIGN DATA WRAPPER regress_other;
SELECT * FROM transcribe_check_server('regress_other');
CREATE SERVER regress_check FOREIGN DATA WRAPPER transcribe;
SELECT * FROM transcribe_check_server('regress_check');
SET transcribe.server = 'regress_check';
SELECT * FROM transcribe_check_server();
RESET transcribe.server;
SELECT * FROM transcribe_check_server('two words');
ALTER SERVER regress_check OPTIONS (ADD url 'http://127.0.0.1:9/v1');
CREATE ROLE regress_checker;
SET ROLE regress_checker;
SELECT * FROM transcribe_check_server('regress_check');
RESET ROLE;

-- USAGE is what it takes; what was not reached is not known
GRANT USAGE ON FOREIGN SERVER regress_check TO regress_checker;
SET ROLE regress_checker;
SELECT step, ok, detail = 'not reached' AS not_reached, hint
FROM transcribe_check_server('regress_check');
RESET ROLE;

-- whose user mapping gives the key
SELECT detail FROM transcribe_check_server('regress_check') WHERE step = 'key';
CREATE USER MAPPING FOR PUBLIC SERVER regress_check OPTIONS (api_key 'sk-public');
SELECT detail FROM transcribe_check_server('regress_check') WHERE step = 'key';
CREATE USER MAPPING FOR regress_checker SERVER regress_check;
SET ROLE regress_checker;
SELECT ok, detail FROM transcribe_check_server('regress_check') WHERE step = 'key';
RESET ROLE;
ALTER USER MAPPING FOR regress_checker SERVER regress_check
    OPTIONS (ADD api_key_file '/nowhere/key');
SET ROLE regress_checker;
SELECT ok, detail, hint FROM transcribe_check_server('regress_check') WHERE step = 'key';
RESET ROLE;

SET client_min_messages = warning;
DROP SERVER regress_check CASCADE;
DROP FOREIGN DATA WRAPPER regress_other CASCADE;
DROP ROLE regress_checker;
