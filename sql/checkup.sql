-- transcribe_check: shape and rights; what it finds is for test/t/035_check.pl
\df transcribe_check
\d transcribe_problems
SELECT item, ok, regexp_replace(detail, '\d+', 'N', 'g') AS detail, hint
FROM transcribe_check(false) WHERE item IN ('library', 'launcher', 'enabled', 'workers', 'agent', 'media', 'directories');

-- each that is not good says what to type
SELECT item FROM transcribe_check(false) WHERE ok IS NOT TRUE AND hint IS NULL;
SELECT count(*) > 7 AS items, count(DISTINCT item) = count(*) AS different FROM transcribe_check(false);

-- for superusers, and those who are granted it; servers and jobs are the caller's
CREATE ROLE regress_operator;
SET ROLE regress_operator;
SELECT * FROM transcribe_check(false);
RESET ROLE;
GRANT EXECUTE ON FUNCTION transcribe_check(boolean) TO regress_operator;
CREATE SERVER regress_checkup FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9/v1');
CREATE SERVER regress_bare FOREIGN DATA WRAPPER transcribe OPTIONS (language 'en');
CREATE USER MAPPING FOR regress_operator SERVER regress_checkup OPTIONS (api_key 'sk-operator');
CREATE USER MAPPING FOR PUBLIC SERVER regress_checkup OPTIONS (api_key_file '/nowhere/key');
CREATE USER MAPPING FOR PUBLIC SERVER regress_bare OPTIONS (api_key 'sk-bare');
SELECT item, ok, detail FROM transcribe_check(false) WHERE item ~ 'regress' ORDER BY 1;
SET ROLE regress_operator;
SELECT item, ok, detail, hint FROM transcribe_check(false) WHERE item ~ '^(key|server)';
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER regress_checkup TO regress_operator;
SET ROLE regress_operator;
SELECT item, ok, detail FROM transcribe_check(false) WHERE item ~ '^(key|server)' ORDER BY 1;
SELECT item, ok, detail, hint FROM transcribe_check() WHERE item ~ '^server';
RESET ROLE;
SELECT item, ok, detail, hint FROM transcribe_check() WHERE item = 'server regress_bare';
ALTER SERVER regress_bare OPTIONS (ADD url 'http://127.0.0.1:9/v1');

-- problems of jobs, of those that the reader may see
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset
SELECT count(*) FROM transcribe_problems;
SELECT transcribe_enqueue('waits', :'path', 'regress_checkup', run_at => now() - interval '1 hour') AS waits \gset
SELECT transcribe_enqueue('held', :'path', 'regress_checkup', run_at => now() + interval '1 hour') AS later \gset
SELECT item, ok, regexp_replace(detail, 'since .*,', 'since ...,') AS detail, hint FROM transcribe_problems;
SELECT transcribe_hold_server('regress_checkup');
SELECT item, ok, regexp_replace(detail, 'since .* because', 'since ... because') AS detail, hint FROM transcribe_problems;
SET client_min_messages = warning;
DROP SERVER regress_checkup CASCADE;
RESET client_min_messages;
SELECT item, ok, regexp_replace(detail, 'since .* for', 'since ... for') AS detail, hint FROM transcribe_problems;
UPDATE transcribe_jobs SET home = home + 1 WHERE id IN (:waits, :later);
SELECT item, ok, detail, hint FROM transcribe_problems;
SET ROLE regress_operator;
SELECT * FROM transcribe_problems;
RESET ROLE;
UPDATE transcribe_jobs SET home = home - 1, status = 'failed', error = 'the cable is cut', error_code = 'could_not_connect',
    finished_at = '2000-01-01'::timestamptz WHERE id IN (:waits, :later);
SELECT item FROM transcribe_problems;
UPDATE transcribe_jobs SET finished_at = now() WHERE id IN (:waits, :later);
SELECT item, ok, regexp_replace(detail, 'at .*:', 'at ...:') AS detail, hint FROM transcribe_problems;
SELECT count(transcribe_delete(id)) FROM transcribe_jobs WHERE id IN (:waits, :later);
SELECT item, ok FROM transcribe_check(false) WHERE item = 'jobs';

BEGIN;
SELECT transcribe_enqueue('prepared', :'path', 'regress_bare', run_at => 'infinity') > 0 AS queued;
PREPARE TRANSACTION 'regress it''s';
SELECT item, ok, regexp_replace(detail, 'since .*;', 'since ...;') AS detail, hint FROM transcribe_problems;
ROLLBACK PREPARED 'regress it''s';

SET client_min_messages = warning;
DROP SERVER regress_bare CASCADE;
DROP OWNED BY regress_operator;
DROP ROLE regress_operator;
