-- Who may do and see what.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset
CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
CREATE ROLE regress_team;
GRANT regress_team TO regress_bob;
GRANT pg_read_server_files TO regress_alice, regress_team;

-- a server is used with USAGE
SET ROLE regress_alice;
SELECT transcribe_enqueue('alice', :'path');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER whisper TO PUBLIC;
SET ROLE regress_alice;
SELECT transcribe_enqueue('alice', :'path') AS alice \gset
RESET ROLE;
SET ROLE regress_team;
SELECT transcribe_enqueue('team', :'path') AS team \gset
RESET ROLE;

-- each sees its own, and its groups'
SET ROLE regress_alice;
SELECT session_id, owner FROM transcribe_jobs ORDER BY id;
SET ROLE regress_bob;
SELECT session_id, owner FROM transcribe_jobs ORDER BY id;
SELECT transcribe_cancel(:team);
\set VERBOSITY sqlstate
SELECT transcribe_cancel(:alice);
SELECT transcribe_retry(:alice);
\set VERBOSITY default
SELECT transcribe_job_result(:alice);

-- nobody writes directly, even with all privileges
RESET ROLE;
GRANT ALL ON transcribe_jobs, transcribe_chunks, transcribe_chunk_segments TO regress_bob;
SET ROLE regress_bob;
INSERT INTO transcribe_jobs (session_id, path, server, owner, home) VALUES ('x', '/', 'whisper', 'regress_bob', 1);
UPDATE transcribe_jobs SET path = '/etc/passwd';
DELETE FROM transcribe_jobs;
TRUNCATE transcribe_jobs;
RESET ROLE;
SELECT session_id, path = :'path' AS untouched FROM transcribe_jobs ORDER BY id;

-- a trigger that somebody was allowed to put there runs for nobody else
SET ROLE regress_bob;
CREATE FUNCTION pg_temp.steal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ran as %', current_user;
END $$;
CREATE TRIGGER steal BEFORE INSERT OR UPDATE ON transcribe_jobs
    FOR EACH ROW EXECUTE FUNCTION pg_temp.steal();
RESET ROLE;
SELECT transcribe_enqueue('no trigger', :'path') > 0 AS enqueued;
SHOW session_replication_role;
DROP TRIGGER steal ON transcribe_jobs;
DROP FUNCTION pg_temp.steal();
REVOKE ALL ON transcribe_jobs, transcribe_chunks, transcribe_chunk_segments FROM regress_bob;

-- operators of the caller's are not used
CREATE SCHEMA regress_evil;
GRANT ALL ON SCHEMA regress_evil TO regress_alice;
SET ROLE regress_alice;
CREATE FUNCTION regress_evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ran as %', current_user;
END $$;
CREATE OPERATOR regress_evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_evil.eq);
SET search_path = regress_evil, pg_catalog, public;
SELECT transcribe_enqueue('alice', :'path') OPERATOR(pg_catalog.=) :alice AS same;
SELECT transcribe_cancel(:alice);
RESET search_path;
RESET ROLE;
DROP SCHEMA regress_evil CASCADE;

-- the worker's functions are not for others
SET ROLE regress_alice;
SELECT transcribe_claim(1, transcribe_queue('whisper', 0, 'regress_alice'), 1);
SELECT transcribe_complete(1, '{}');
SELECT transcribe_adopt();
SELECT transcribe_incarnations();
RESET ROLE;

-- files: without pg_read_server_files only below the media directories
REVOKE pg_read_server_files FROM regress_alice;
SET ROLE regress_alice;
\set VERBOSITY sqlstate
SELECT transcribe_enqueue('alice', :'path');
SELECT transcribe_enqueue('alice', '/no/such/file');
\set VERBOSITY default
RESET ROLE;

-- an owner that is gone breaks no reader
UPDATE transcribe_jobs SET owner = 'regress_no_such_role' WHERE session_id = 'team';
SET ROLE regress_bob;
SELECT count(*) FROM transcribe_jobs;
RESET ROLE;

TRUNCATE transcribe_jobs;
REVOKE USAGE ON FOREIGN SERVER whisper FROM PUBLIC;
DROP ROLE regress_alice, regress_bob, regress_team;
DROP EXTENSION transcribe CASCADE;
