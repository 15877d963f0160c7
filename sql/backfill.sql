-- What a table holds already goes into the queue.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path,
       current_setting('data_directory') || '/postgresql.conf' AS other_path \gset
CREATE TABLE calls (id int, audio_path text);
INSERT INTO calls SELECT n, CASE WHEN n % 100 = 7 THEN '/no/such/file-' || n
                                 WHEN n % 10 = 5 THEN NULL ELSE :'path' END
    FROM generate_series(1, 5000) n;
INSERT INTO calls VALUES (NULL, :'path');
DELETE FROM calls WHERE id BETWEEN 1000 AND 1999;

-- some are there already, and one has ended
SELECT count(transcribe_enqueue(n, :'path')) FROM generate_series(1, 4) n;
SELECT transcribe_cancel(id) FROM transcribe_jobs WHERE session_id = '4';
CALL transcribe_backfill('calls', 'id', 'audio_path');
SELECT status, priority, server, count(*), count(DISTINCT session_id), min(session_id::int), max(session_id::int)
FROM transcribe_jobs GROUP BY status, priority, server ORDER BY 1, 2;
-- again: nothing is left to be done
SET client_min_messages = error;
CALL transcribe_backfill('calls', 'id', 'audio_path', batch_size => 1);
-- what is new since
INSERT INTO calls VALUES (6000, :'other_path');
UPDATE calls SET audio_path = :'path' WHERE id = 7;
CALL transcribe_backfill('calls', 'id', 'audio_path', priority => 2);
RESET client_min_messages;
SELECT session_id FROM transcribe_jobs WHERE priority = 2 ORDER BY id;
TRUNCATE transcribe_jobs;

-- each batch is a transaction of its own, but not within one of the caller's
DELETE FROM calls WHERE audio_path NOT IN (:'path', :'other_path');
CALL transcribe_backfill('calls', 'id', 'audio_path', batch_size => 500);
SELECT count(DISTINCT xmin::text) > 2 AS batches FROM transcribe_jobs;
TRUNCATE transcribe_jobs;
BEGIN;
CALL transcribe_backfill('calls', 'id', 'audio_path', batch_size => 500);
SELECT count(DISTINCT xmin::text) AS batches FROM transcribe_jobs;
ROLLBACK;
SELECT count(*) FROM transcribe_jobs;
-- called by PL/pgSQL, which wants variables for what is returned
DO $$
DECLARE
    e bigint; s bigint; r bigint;
BEGIN
    CALL transcribe_backfill('calls', 'id', 'audio_path', batch_size => 500, enqueued => e, skipped => s, refused => r);
    RAISE NOTICE 'returned % % %', e, s, r;
END $$;
SELECT count(DISTINCT xmin::text) > 2 AS batches FROM transcribe_jobs;
TRUNCATE transcribe_jobs;
CREATE FUNCTION fill(e bigint, s bigint, r bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    CALL transcribe_backfill('calls', 'id', 'audio_path', batch_size => 500, enqueued => e, skipped => s, refused => r);
    RETURN e;
END $$;
SELECT fill(0, 0, 0);
SELECT count(DISTINCT xmin::text) AS batches FROM transcribe_jobs;
TRUNCATE transcribe_jobs;
DROP FUNCTION fill(bigint, bigint, bigint);
-- what was done before an interruption stays; here a plan that fails later
CREATE FUNCTION limited(id int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF id = 4500 AND current_setting('regress.break') = 'on' THEN RAISE EXCEPTION 'broken'; END IF;
    RETURN true;
END $$;
CREATE ROLE regress_filler;
GRANT SELECT ON calls TO regress_filler;
GRANT USAGE ON FOREIGN SERVER whisper TO regress_filler;
GRANT pg_read_server_files TO regress_filler;
ALTER TABLE calls ENABLE ROW LEVEL SECURITY;
CREATE POLICY limited ON calls USING (limited(id) AND id % 2 = 0);
SET ROLE regress_filler;
SET regress.break = on;
\set SHOW_CONTEXT never
CALL transcribe_backfill('calls', 'id', 'audio_path', batch_size => 200);
SELECT count(*) > 0 AS some, max(session_id::int) < 4500 AS not_all FROM transcribe_jobs;
SET regress.break = off;
SET client_min_messages = warning;
CALL transcribe_backfill('calls', 'id', 'audio_path', batch_size => 200) \gset
RESET client_min_messages;
SELECT :enqueued > 0 AS rest, :skipped > 0 AS before, :enqueued + :skipped = (SELECT count(*) FROM calls WHERE audio_path IS NOT NULL) AS all,
       (SELECT count(*) FROM transcribe_jobs) = (SELECT count(*) FROM calls WHERE audio_path IS NOT NULL) AS each;
SELECT DISTINCT owner, session_id::int % 2 AS odd FROM transcribe_jobs;
RESET ROLE;
\set SHOW_CONTEXT errors
TRUNCATE transcribe_jobs;

-- partitions and children, by the rights on the parent; all that can be given
CREATE TABLE parts (id int, path varchar) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (10000);
INSERT INTO parts SELECT n, :'path' FROM generate_series(50, 3000) n;
GRANT SELECT ON parts TO regress_filler;
SET ROLE regress_filler;
CALL transcribe_backfill('parts', 'id', 'path', 'whisper', 5, '{"language": "de"}', 'part-', 100);
SELECT server, priority, options, min(session_id), count(DISTINCT session_id) FROM transcribe_jobs GROUP BY 1, 2, 3;
RESET ROLE;
TRUNCATE transcribe_jobs;
CREATE TABLE parent (id int, path text);
CREATE TABLE child (extra int) INHERITS (parent);
INSERT INTO parent SELECT n, :'path' FROM generate_series(1, 3) n;
INSERT INTO child SELECT n, :'path' FROM generate_series(4, 1000) n;
CALL transcribe_backfill('parent', 'id', 'path');
TRUNCATE transcribe_jobs;

-- wrong use
CREATE VIEW calls_view AS SELECT * FROM calls;
CALL transcribe_backfill('calls_view', 'id', 'audio_path');
CALL transcribe_backfill('calls', 'id', 'no_such');
CALL transcribe_backfill('calls', 'id', 'id');
CALL transcribe_backfill('calls', 'id', 'audio_path', batch_size => 0);
CALL transcribe_backfill('calls', 'id', 'audio_path', server => 'no_such_server');
CALL transcribe_backfill('calls', 'id', 'audio_path', options => '{"lang": "en"}');
CALL transcribe_backfill('calls', NULL, 'audio_path');
CALL transcribe_backfill('no_such_table', 'id', 'audio_path');
REVOKE SELECT ON calls FROM regress_filler;
SET ROLE regress_filler;
CALL transcribe_backfill('calls', 'id', 'audio_path');
RESET ROLE;
SELECT count(*) FROM transcribe_jobs;

DROP VIEW calls_view;
DROP TABLE calls, parts, child, parent;
DROP FUNCTION limited(int);
REVOKE USAGE ON FOREIGN SERVER whisper FROM regress_filler;
DROP ROLE regress_filler;
