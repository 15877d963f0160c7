-- Recordings that stand in the database: bytes and large objects.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset

-- what has no type stays a path, also in a parameter
SELECT transcribe_enqueue('x', 'sound');
PREPARE untyped AS SELECT transcribe_enqueue($1, $2);
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped';
PREPARE named AS SELECT transcribe_enqueue(session_id => $1, audio => $2);
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'named';
DEALLOCATE ALL;
SELECT transcribe_enqueue(42, 'sound');
SELECT transcribe_enqueue('4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001'::uuid, 'sound');
SELECT transcribe_enqueue('x', NULL);
SELECT transcribe_enqueue('x', NULL::bytea);
SELECT transcribe_enqueue('x', NULL::oid);
SELECT transcribe_enqueue(NULL::uuid, '\x00'::bytea);

-- the same bytes are the same recording
SELECT transcribe_enqueue('a', 'RIFF'::bytea) AS first \gset
SELECT transcribe_enqueue('a', 'RIFF'::bytea) = :first AS same,
       transcribe_enqueue('a', 'RIFX'::bytea) = :first AS other_bytes,
       transcribe_enqueue('b', 'RIFF'::bytea) = :first AS other_session,
       transcribe_enqueue(7, audio => 'RIFF') > :first AS number,
       transcribe_enqueue('4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001'::uuid, 'RIFF'::bytea, priority => 3,
                          options => '{"language": "en"}') > :first AS uuid;
SELECT session_id, path, priority, options, piece_no, encode(data, 'escape') AS data, r.owner = j.owner AS own
FROM transcribe_jobs j LEFT JOIN transcribe_recordings r ON r.job_id = j.id ORDER BY j.id, piece_no;
-- pieces of a megabyte
SELECT transcribe_enqueue('large', convert_to(repeat('0123456789abcdef', 150000), 'UTF8')) AS large \gset
SELECT piece_no, octet_length(data), data = substring(convert_to(repeat('0123456789abcdef', 150000), 'UTF8') FROM piece_no * 1048576 + 1 FOR 1048576) AS same
FROM transcribe_recordings WHERE job_id = :large ORDER BY piece_no;
-- they go with the job
SELECT transcribe_delete(:large);
SELECT transcribe_cancel(:first);
SELECT count(*) FROM transcribe_recordings WHERE job_id = :first;
SELECT transcribe_purge(failed_before => 'infinity');
SELECT count(*) FROM transcribe_recordings WHERE job_id IN (:first, :large);
BEGIN;
SELECT transcribe_enqueue('gone', 'RIFF'::bytea) AS gone \gset
ROLLBACK;
SELECT count(*) FROM transcribe_recordings WHERE job_id = :gone;
SELECT transcribe_enqueue('x', ''::bytea);
SELECT transcribe_enqueue('x', 'RIFF'::bytea, server => 'no_such_server');
SELECT transcribe_enqueue(repeat('x', 1025), 'RIFF'::bytea);

-- large objects
SELECT lo_from_bytea(0, 'RIFF') AS large_object \gset
SELECT lo_from_bytea(0, '') AS empty \gset
SELECT transcribe_enqueue('lo', :large_object) AS lo_job \gset
SELECT transcribe_enqueue('lo', large_object => :large_object) = :lo_job AS same,
       transcribe_enqueue(7, :large_object) > :lo_job AS number,
       transcribe_enqueue('4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001'::uuid, :large_object::oid) > :lo_job AS uuid;
SELECT session_id, replace(path, :'large_object', 'N') AS path FROM transcribe_jobs WHERE path LIKE 'large%' ORDER BY id;
SELECT transcribe_enqueue('lo', 1);
-- made by the same statement
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1 AS snapshot;
SELECT transcribe_enqueue('lo', lo_from_bytea(0, 'RIFF')) > 0 AS enqueued;
ROLLBACK;
SELECT transcribe_enqueue('lo', :empty);

-- rights: none on files, but on the large object
CREATE ROLE regress_app;
CREATE ROLE regress_other;
GRANT USAGE ON FOREIGN SERVER whisper TO regress_app;
SET ROLE regress_app;
SELECT transcribe_enqueue('app', 'RIFF'::bytea) > 0 AS enqueued;
\set VERBOSITY sqlstate
SELECT transcribe_enqueue('app', :large_object);
\set VERBOSITY default
SELECT count(*) FROM transcribe_recordings;
SET ROLE regress_other;
SELECT count(*) FROM transcribe_recordings;
RESET ROLE;
GRANT SELECT ON LARGE OBJECT :large_object TO regress_app;
GRANT ALL ON transcribe_recordings TO regress_other;
SET ROLE regress_app;
SELECT transcribe_enqueue('app', :large_object) > 0 AS enqueued;
SET ROLE regress_other;
INSERT INTO transcribe_recordings VALUES (1, 0, 'regress_other', 'x');
UPDATE transcribe_recordings SET data = 'x';
DELETE FROM transcribe_recordings;
TRUNCATE transcribe_recordings;
-- a trigger of others does not run
CREATE FUNCTION pg_temp.steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
CREATE TRIGGER steal BEFORE INSERT ON transcribe_recordings FOR EACH ROW EXECUTE FUNCTION pg_temp.steal();
RESET ROLE;
SELECT transcribe_enqueue('no trigger', 'RIFF'::bytea) > 0 AS enqueued;
DROP TRIGGER steal ON transcribe_recordings;
DROP FUNCTION pg_temp.steal();

-- from a table, by trigger and backfill
TRUNCATE transcribe_jobs, transcribe_recordings;
CREATE TABLE notes (id int, audio bytea, object oid);
INSERT INTO notes SELECT n, ('RIFF' || n)::bytea, :large_object FROM generate_series(1, 2) n;
CALL transcribe_backfill('notes', 'id', 'audio');
CALL transcribe_backfill('notes', 'id', 'audio');
CALL transcribe_backfill('notes', 'id', 'object');
CREATE TRIGGER enqueue AFTER INSERT OR UPDATE OF audio ON notes
    FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger('id', 'audio');
INSERT INTO notes VALUES (3, 'RIFF3');
UPDATE notes SET audio = audio;
SELECT session_id, left(path, 6) AS path, encode(data, 'escape') AS data
FROM transcribe_jobs j LEFT JOIN transcribe_recordings r ON r.job_id = j.id ORDER BY j.id;

SELECT lo_unlink(:large_object), lo_unlink(:empty);
DROP TABLE notes;
TRUNCATE transcribe_jobs, transcribe_recordings;
REVOKE ALL ON transcribe_recordings FROM regress_other;
REVOKE USAGE ON FOREIGN SERVER whisper FROM regress_app;
DROP ROLE regress_app, regress_other;
