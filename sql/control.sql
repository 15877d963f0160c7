-- Jobs in bulk: what of them is queued again, and what is removed.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset
CREATE SERVER gpu FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9');
CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
GRANT pg_read_server_files TO regress_alice, regress_bob;
GRANT USAGE ON FOREIGN SERVER whisper, gpu TO regress_alice, regress_bob;

-- The worker is played: it takes what waits for a server, and fails.
CREATE FUNCTION fail_jobs(server text, code text, asked text DEFAULT NULL) RETURNS bigint
LANGUAGE sql AS $$
    SELECT count(f.status)
    FROM (SELECT DISTINCT owner FROM transcribe_jobs) o,
         transcribe_claim(7, transcribe_queue(server, 0, o.owner), 100) c,
         transcribe_fail(7, ARRAY[(c.id, 'because', code, NULL, true, false, asked)::transcribe_failure]) f;
$$;

-- transcribe_retry_failed: of a server, by an error, since a time
SELECT count(transcribe_enqueue('whisper ' || n, :'path')) FROM generate_series(1, 2) n;
SELECT count(transcribe_enqueue('gpu ' || n, :'path', server => 'gpu')) FROM generate_series(1, 2) n;
SELECT count(transcribe_enqueue('list ' || n, :'path', server => 'whisper, gpu')) FROM generate_series(1, 2) n;
SELECT fail_jobs('whisper', 'not_found'), fail_jobs('gpu', 'server_error'), fail_jobs('whisper, gpu', 'server_error', 'gpu');
CREATE VIEW queue AS
SELECT session_id, status, attempts, error_code, finished_at IS NOT NULL AS finished
FROM transcribe_jobs ORDER BY id;
BEGIN;
SELECT transcribe_retry_failed(server => 'gpu');
SELECT * FROM queue;
SELECT transcribe_retry_failed() AS the_others, transcribe_retry_failed() AS again;
ROLLBACK;
BEGIN;
SELECT transcribe_retry_failed(error_code => 'not_found'), transcribe_retry_failed(NULL, NULL, 'no such code');
ROLLBACK;
UPDATE transcribe_jobs SET finished_at = now() - interval '1 day' WHERE session_id <> 'gpu 2';
SELECT transcribe_retry_failed(now() - interval '1 hour');
SELECT session_id FROM transcribe_jobs WHERE status = 'queued';
TRUNCATE transcribe_jobs;

-- of several jobs of one recording the last only, and none whose retry is there
SELECT transcribe_enqueue('twice', :'path') > 0 AS enqueued, fail_jobs('whisper', 'not_found');
SELECT transcribe_enqueue('twice', :'path') > 0 AS enqueued, fail_jobs('whisper', 'not_found');
SELECT transcribe_enqueue('active', :'path') > 0 AS enqueued, fail_jobs('whisper', 'not_found');
SELECT transcribe_enqueue('active', :'path') > 0 AS enqueued;
SELECT transcribe_enqueue('cancelled', :'path', server => 'gpu') AS job \gset
SELECT fail_jobs('gpu', 'not_found');
SELECT transcribe_enqueue('cancelled', :'path', server => 'gpu') AS job \gset
SELECT transcribe_cancel(:job);
SELECT transcribe_retry_failed();
SELECT * FROM queue;
TRUNCATE transcribe_jobs;

-- one's own, and those of roles whose rights one has; of those that are gone, a
-- superuser's
SET ROLE regress_alice;
SELECT transcribe_enqueue('alice', :'path') > 0 AS enqueued;
SET ROLE regress_bob;
SELECT transcribe_enqueue('bob', :'path') > 0 AS enqueued;
RESET ROLE;
SELECT fail_jobs('whisper', 'not_found');
SET ROLE regress_bob;
SELECT transcribe_retry_failed();
RESET ROLE;
GRANT regress_alice TO regress_bob;
SET ROLE regress_bob;
SELECT transcribe_retry_failed();
RESET ROLE;
REVOKE regress_alice FROM regress_bob;
SELECT fail_jobs('whisper', 'not_found');
UPDATE transcribe_jobs SET owner = 'regress_no_such_role' WHERE session_id = 'alice';
SET ROLE regress_bob;
SELECT transcribe_retry_failed();
RESET ROLE;
SELECT transcribe_retry_failed();
-- and none of another home
SELECT fail_jobs('whisper', 'not_found');
UPDATE transcribe_jobs SET home = home + 1;
SELECT transcribe_retry_failed();
TRUNCATE transcribe_jobs;

-- what has failed is found by its index, whatever else is there
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query
    LOOP
        RETURN NEXT regexp_replace(line, 'transcribe_home_of\(.*?::bigint\)', 'transcribe_home()');
    END LOOP;
END $$;
SET enable_seqscan = off;
SELECT * FROM pg_temp.plan_of($$
SELECT id FROM transcribe_jobs
WHERE home = transcribe_home() AND status = 'failed' AND finished_at >= '2026-01-01'$$);
RESET enable_seqscan;

-- transcribe_delete: a job with all that belongs to it, and nothing else
CREATE VIEW everything AS
SELECT (SELECT count(*) FROM transcribe_jobs) AS jobs,
       (SELECT count(*) FROM transcribe_chunks) AS chunks,
       (SELECT count(*) FROM transcribe_chunk_segments) AS segments,
       (SELECT count(*) FROM transcribe_attempts) AS attempts;
GRANT SELECT ON everything TO PUBLIC;
CREATE FUNCTION complete_jobs(server text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    done bigint := 0;
    j record;
BEGIN
    FOR j IN SELECT c.id, c.owner FROM (SELECT DISTINCT owner FROM transcribe_jobs) o, transcribe_claim(7, transcribe_queue(server, 0, o.owner), 100) c LOOP
        CONTINUE WHEN (SELECT held FROM transcribe_hold(7, ARRAY[j.id])) IS NOT TRUE;
        PERFORM transcribe_save_chunks(ARRAY[(j.id, 0, j.owner, 'plan', 0, 10, 10, '{0,10}', NULL, NULL, 'whisper', NULL, 'en')::transcribe_new_chunk]),
                transcribe_save_segments(ARRAY[(j.id, 0, 0, j.owner, 0, 1, 'hello', NULL, NULL, NULL, NULL, NULL, NULL, NULL)::transcribe_new_segment]),
                transcribe_save_attempts(ARRAY[(j.id, j.owner, 1, 0, 'whisper', NULL, '2026-01-01', 1, 10, 9,
                                                NULL, NULL, NULL, NULL, NULL)::transcribe_new_attempt]);
        done := done + (SELECT count(*) FROM transcribe_complete(7, ARRAY[jsonb_populate_record(NULL::transcribe_completion,
            jsonb_build_object('job_id', j.id, 'language', 'en', 'duration_s', 10))]));
    END LOOP;
    RETURN done;
END $$;
SELECT transcribe_enqueue('completed', :'path') AS completed \gset
SELECT transcribe_enqueue('other', :'path') AS other \gset
SELECT complete_jobs('whisper');
SELECT transcribe_enqueue('queued', :'path') AS queued \gset
SELECT * FROM everything;
SELECT transcribe_delete(:queued), transcribe_delete(:completed);
SELECT * FROM everything;
SELECT transcribe_result('completed') IS NULL AS gone, transcribe_result('other') ->> 'full_text' AS other;
\set VERBOSITY sqlstate
SELECT transcribe_delete(:completed);
SET ROLE regress_alice;
SELECT transcribe_delete(:other);
RESET ROLE;
\set VERBOSITY default
SELECT transcribe_delete(NULL) IS NULL AS strict;
-- triggers of others do not fire
CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ran as %', current_user;
END $$;
CREATE TRIGGER steal BEFORE DELETE ON transcribe_attempts FOR EACH ROW EXECUTE FUNCTION steal();
SELECT transcribe_delete(:other);
SELECT * FROM everything;
DROP FUNCTION steal CASCADE;

-- transcribe_purge: what ended before a time, of two kinds
SELECT count(transcribe_enqueue('completed ' || n, :'path')) FROM generate_series(1, 3) n;
SELECT complete_jobs('whisper');
SELECT count(transcribe_enqueue('failed ' || n, :'path')) FROM generate_series(1, 3) n;
SELECT fail_jobs('whisper', 'not_found');
SELECT transcribe_enqueue('cancelled', :'path') AS cancelled \gset
SELECT transcribe_cancel(:cancelled);
SELECT transcribe_enqueue('queued', :'path') > 0 AS enqueued;
SELECT transcribe_purge() AS none, transcribe_purge(now() - interval '1 hour', now() - interval '1 hour') AS too_young;
SELECT transcribe_purge(now() + interval '1 hour', max_jobs => 1) AS one, transcribe_purge(max_jobs => 0, failed_before => 'infinity') AS none;
SELECT transcribe_purge('infinity', '-infinity') AS failed;
SELECT * FROM everything;
SELECT transcribe_purge(NULL, 'infinity', 2) AS completed;
SELECT * FROM everything;
SELECT transcribe_purge(NULL, NULL, -1);
-- of both kinds, up to so many; the one that waits stays
SELECT fail_jobs('whisper', 'not_found');
SELECT transcribe_enqueue('queued', :'path') > 0 AS enqueued;
SELECT transcribe_purge('infinity', 'infinity', 2) AS both, transcribe_purge('infinity', 'infinity') AS none;
SELECT * FROM everything;
TRUNCATE transcribe_jobs;
-- one's own
SET ROLE regress_alice;
SELECT transcribe_enqueue('alice', :'path') > 0 AS enqueued;
RESET ROLE;
SELECT fail_jobs('whisper', 'not_found');
SET ROLE regress_bob;
SELECT transcribe_purge('infinity', 'infinity');
SET ROLE regress_alice;
SELECT transcribe_purge('infinity', 'infinity');
SELECT * FROM transcribe_oldest();
RESET ROLE;
-- when the first of each kind ended
SELECT count(transcribe_enqueue('oldest ' || n, :'path')) FROM generate_series(1, 3) n;
SELECT fail_jobs('whisper', 'not_found');
UPDATE transcribe_jobs SET finished_at = timestamptz '2026-01-01 UTC' - interval '1 day' * right(session_id, 1)::integer,
    status = CASE session_id WHEN 'oldest 2' THEN 'cancelled' WHEN 'oldest 3' THEN 'completed' ELSE status END;
SELECT failed AT TIME ZONE 'UTC' AS failed, completed AT TIME ZONE 'UTC' AS completed FROM transcribe_oldest();
TRUNCATE transcribe_jobs;
SELECT * FROM transcribe_oldest();

DROP VIEW queue, everything;
DROP FUNCTION complete_jobs;
DROP FUNCTION fail_jobs;
DROP SERVER gpu;
REVOKE USAGE ON FOREIGN SERVER whisper FROM regress_alice, regress_bob;
DROP ROLE regress_alice, regress_bob;
