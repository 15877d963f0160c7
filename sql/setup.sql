-- transcribe_setup: what it makes, mistakes and rights

-- setup makes a server, whatever its name, and a mapping if there is a key
SELECT step, ok, hint
FROM transcribe_setup('http://127.0.0.1:9/v1', 'it''s \ a model',
                      server => 'regress "quoted"; name',
                      options => '{"chunk_seconds": 60, "language": "en"}')
WHERE ok OR hint IS NOT NULL;
SELECT step, ok, detail
FROM transcribe_setup('http://127.0.0.1:9/v1', api_key_file => '/nowhere/it''s a key',
                      server => 'regress_key')
WHERE step IN ('server', 'key');
SELECT s.srvname, s.srvoptions, u.umuser, u.umoptions
FROM pg_foreign_server s LEFT JOIN pg_user_mapping u ON u.umserver = s.oid
WHERE s.srvname IN ('regress "quoted"; name', 'regress_key') ORDER BY 1;

SELECT count(*) FROM transcribe_setup('http://127.0.0.1:9', server => 'regress_profile',
                                      profile => 'whisper.cpp');
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'regress_profile';
DROP SERVER regress_profile;

-- it changes none that is there, and takes what CREATE SERVER takes
SELECT transcribe_setup('http://127.0.0.1:9/v1', server => 'whisper');
SELECT transcribe_setup(NULL);
SELECT transcribe_setup(server => 'regress_none', profile => 'azure', model => 'x');
SELECT transcribe_setup('http://127.0.0.1:9/v1', server => NULL);
SELECT transcribe_setup('ftp://127.0.0.1', server => 'regress_none');
\set VERBOSITY terse
SELECT transcribe_setup('http://h', server => 'regress_none', options => '{"no_such": 1}');
\set VERBOSITY default
SELECT transcribe_setup('http://h', server => 'regress_none', options => '{"url": "http://x"}');
SELECT transcribe_setup('http://h', server => 'regress_none', options => '{"model": ["x"]}');
SELECT transcribe_setup('http://h', server => 'regress_none', options => '[]');
SELECT transcribe_setup('http://h', api_key_file => 'relative', server => 'regress_none');
BEGIN READ ONLY;
SELECT transcribe_setup('http://h', server => 'regress_none');
ROLLBACK;

-- with the rights of whoever calls
CREATE ROLE regress_maker;
SET ROLE regress_maker;
SELECT transcribe_setup('http://127.0.0.1:9/v1', server => 'regress_none');
RESET ROLE;
GRANT USAGE ON FOREIGN DATA WRAPPER transcribe TO regress_maker;
SET ROLE regress_maker;
SELECT transcribe_setup('http://127.0.0.1:9/v1', api_key_file => '/etc/shadow', server => 'regress_none');
SELECT count(*) FROM transcribe_setup('http://127.0.0.1:9/v1', server => 'regress_mine');
SELECT srvname, srvowner::regrole FROM pg_foreign_server WHERE srvname IN ('regress_none', 'regress_mine');
RESET ROLE;

SET client_min_messages = warning;
DROP SERVER regress_mine, regress_key, "regress ""quoted""; name" CASCADE;
REVOKE USAGE ON FOREIGN DATA WRAPPER transcribe FROM regress_maker;
DROP ROLE regress_maker;
