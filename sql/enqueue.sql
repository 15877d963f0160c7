-- a regular file that the server can read, whatever it holds
SELECT current_setting('data_directory') || '/PG_VERSION' AS path,
       current_setting('data_directory') || '/postgresql.conf' AS other_path \gset

-- one active job per owner, session and path
SELECT transcribe_enqueue('a', :'path') AS first \gset
SELECT transcribe_enqueue('a', :'path') = :first AS same_job;
SELECT transcribe_enqueue('b', :'path') <> :first AS other_session;
SELECT transcribe_enqueue('a', :'other_path') <> :first AS other_path;
SELECT session_id, server, owner = current_user AS own, status, progress, priority,
       attempts, max_attempts, options, error, home = transcribe_home() AS at_home
FROM transcribe_jobs ORDER BY id;

-- sessions known by a uuid or a number
SELECT transcribe_enqueue('4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001'::uuid, :'path') > 0 AS uuid;
SELECT transcribe_enqueue(42, :'path') > 0 AS number;
SELECT transcribe_enqueue(session_id => 43::bigint, path => :'path', priority => 7,
                          run_at => '2100-01-01', options => '{"language": "en", "prompt": "x",
                          "temperature": 0.5, "model": "m", "words": true, "translate": false,
                          "channels": "split"}') > 0 AS named;
SELECT session_id, priority, run_at = '2100-01-01' AS later, options
FROM transcribe_jobs WHERE session_id IN ('42', '43', '4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001') ORDER BY id;

-- rolled back: no job
BEGIN;
SELECT transcribe_enqueue('rolled back', :'path') > 0 AS enqueued;
ROLLBACK;
SELECT count(*) FROM transcribe_jobs WHERE session_id = 'rolled back';

-- from a trigger
CREATE TABLE sessions (id int PRIMARY KEY, audio text);
CREATE FUNCTION enqueue_audio() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM transcribe_enqueue(NEW.id, NEW.audio);
    RETURN NULL;
END $$;
CREATE TRIGGER enqueue_audio AFTER INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION enqueue_audio();
INSERT INTO sessions VALUES (100, :'path'), (101, :'path');
SELECT session_id, status FROM transcribe_jobs WHERE session_id IN ('100', '101') ORDER BY id;

-- what cannot be enqueued
SELECT transcribe_enqueue(NULL::text, '/x');
SELECT transcribe_enqueue('a', NULL);
SELECT transcribe_enqueue(repeat('x', 1025), :'path');
SELECT transcribe_enqueue('a', 'relative.wav');
SELECT transcribe_enqueue('a', '/');
SELECT transcribe_enqueue('a', '/dev/null');
SELECT transcribe_enqueue('a', '/no/such/file.wav');
SELECT transcribe_enqueue('a', '/' || repeat('x', 5000));
SELECT transcribe_enqueue('a', :'path', server => 'no_such_server');
SELECT transcribe_enqueue('a', :'path', server => 'whisper, no_such_server');
SELECT transcribe_enqueue('a', :'path', server => 'no such server');
SELECT transcribe_enqueue('a', :'path', server => '"no such server"');
SELECT transcribe_enqueue('a', :'path', server => 'whisper,');
SELECT transcribe_enqueue('a', :'path', server => '');
SELECT transcribe_enqueue('a', :'path', server => (SELECT string_agg('s' || n, ',') FROM generate_series(1, 17) n));
SELECT transcribe_enqueue('a', :'path', options => '[]');
SELECT transcribe_enqueue('a', :'path', options => '{"lang": "en"}');
SELECT transcribe_enqueue('a', :'path', options => '{"language": 1}');
SELECT transcribe_enqueue('a', :'path', options => '{"temperature": 1.5}');
SELECT transcribe_enqueue('a', :'path', options => '{"words": "yes"}');
SELECT transcribe_enqueue('a', :'path', options => '{"prompt": ""}');
SELECT transcribe_enqueue('a', :'path', options => '{"channels": "left"}');
SELECT transcribe_enqueue('a', :'path', options => '{"max_attempts": 0}');
SELECT transcribe_enqueue('a', :'path', options => '{"max_attempts": 1.5}');
BEGIN READ ONLY;
SELECT transcribe_enqueue('a', :'path');
ROLLBACK;
CREATE FOREIGN DATA WRAPPER other;
CREATE SERVER other FOREIGN DATA WRAPPER other;
SELECT transcribe_enqueue('a', :'path', server => 'other');
DROP FOREIGN DATA WRAPPER other CASCADE;
CREATE SERVER no_url FOREIGN DATA WRAPPER transcribe;
SELECT transcribe_enqueue('a', :'path', server => 'no_url');
DROP SERVER no_url;

-- which server
SET transcribe.server = 'elsewhere';
SELECT transcribe_enqueue('c', :'path');
CREATE SERVER elsewhere FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9', max_attempts '2');
SELECT transcribe_enqueue('c', :'path') > 0 AS enqueued;
RESET transcribe.server;
SELECT server, max_attempts FROM transcribe_jobs WHERE session_id = 'c';

-- cancel and retry
SELECT transcribe_cancel(:first), transcribe_cancel(:first) AS again;
SELECT status, finished_at IS NOT NULL AS finished FROM transcribe_jobs WHERE id = :first;
SELECT transcribe_retry(:first), transcribe_retry(:first) AS again;
SELECT status, finished_at IS NOT NULL AS finished FROM transcribe_jobs WHERE id = :first;
SELECT transcribe_cancel(:first);
-- another job of the same recording is its retry
SELECT transcribe_enqueue('a', :'path') > :first AS new_job;
SELECT transcribe_retry(:first);
SELECT transcribe_cancel(0);
SELECT transcribe_retry(0);
SELECT transcribe_cancel(NULL) IS NULL AS strict;

-- progress is empty: nothing runs
SELECT * FROM transcribe_progress;

DROP TABLE sessions;
DROP FUNCTION enqueue_audio();
-- a list of servers
CREATE SERVER "Odd, ""one""" FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9', max_attempts '7');
SELECT transcribe_enqueue('d', :'path', server => '"Odd, ""one""",whisper , elsewhere,whisper') > 0 AS enqueued;
SELECT server, max_attempts FROM transcribe_jobs WHERE session_id = 'd';
SELECT transcribe_enqueue('own', :'path', options => '{"max_attempts": 3}') > 0 AS enqueued;
SELECT max_attempts FROM transcribe_jobs WHERE session_id = 'own';
SET transcribe.server = whisper, elsewhere;
SELECT transcribe_enqueue('e', :'path') > 0 AS enqueued;
SELECT server FROM transcribe_jobs WHERE session_id = 'e';
RESET transcribe.server;
DROP SERVER "Odd, ""one""";
TRUNCATE transcribe_jobs;

-- what is known of the table is learnt anew when it changes
BEGIN;
SELECT transcribe_enqueue('t1', :'path') AS t1 \gset
ALTER TABLE transcribe_jobs ADD note text DEFAULT 'new', ADD twice text GENERATED ALWAYS AS (session_id || session_id) STORED;
CREATE INDEX ON transcribe_jobs (note);
SELECT transcribe_enqueue('t2', :'path') AS t2 \gset
ALTER TABLE transcribe_jobs DROP twice, ADD CHECK (session_id <> 't5');
SAVEPOINT a;
\set VERBOSITY terse
SELECT transcribe_enqueue('t5', :'path');
\set VERBOSITY default
ROLLBACK TO a;
CREATE INDEX ON transcribe_jobs USING brin (created_at);
SELECT transcribe_enqueue('t3', :'path') AS t3 \gset
SAVEPOINT a;
DROP INDEX transcribe_jobs_created_at_idx;
SELECT transcribe_enqueue('t4', :'path') = transcribe_enqueue('t4', :'path') AS same;
ROLLBACK TO a;
SELECT transcribe_enqueue('t4', :'path') <> :t3 AS another;
SELECT session_id, note FROM transcribe_jobs WHERE id >= :t1 ORDER BY id;
ROLLBACK;

-- a trigger that is to fire always does, in an INSERT
BEGIN;
CREATE FUNCTION pg_temp.double() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.priority = NEW.priority * 2; RETURN NEW; END $$;
CREATE TRIGGER double BEFORE INSERT ON transcribe_jobs FOR EACH ROW EXECUTE FUNCTION pg_temp.double();
ALTER TABLE transcribe_jobs ENABLE ALWAYS TRIGGER double;
SELECT transcribe_enqueue('t6', :'path', priority => 4) AS t6 \gset
SELECT priority FROM transcribe_jobs WHERE id = :t6;
ROLLBACK;
SELECT transcribe_enqueue('t7', :'path', priority => 4) AS t7 \gset
SELECT priority, status, progress, attempts, crashes, created_at > now() - interval '1 min' AS just_now FROM transcribe_jobs WHERE id = :t7;
SELECT transcribe_delete(:t7);
