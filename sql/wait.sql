-- Waiting, as far as it can be seen while the queue stands still.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset
CREATE ROLE regress_waiter;

-- what has ended is not waited for, however it ended
SELECT transcribe_enqueue('failed', :'path') AS failed \gset
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 100);
SELECT count(*) FROM transcribe_fail(7, ARRAY[(:failed, 'because', 'refused', NULL, true, false, NULL)::transcribe_failure]);
SELECT transcribe_enqueue('cancelled', :'path') AS cancelled \gset
SELECT transcribe_cancel(:cancelled);
CALL transcribe_wait(:failed);
CALL transcribe_wait(:cancelled, '1 hour');
CALL transcribe_wait(ARRAY[:failed, :cancelled, :failed]);
CALL transcribe_wait('{}'::bigint[]);

-- what has not, is: its number is in the message, and so hidden here
SELECT transcribe_enqueue('queued', :'path') AS queued \gset
\set VERBOSITY sqlstate
CALL transcribe_wait(:queued, '10 ms');
CALL transcribe_wait(:queued, '0');
CALL transcribe_wait(:queued, '-1 day');
CALL transcribe_wait(ARRAY[:failed, :queued], '0');
SELECT status FROM transcribe_jobs WHERE id = :queued;
CALL transcribe_file(:'path', timeout => '0');
SELECT session_id::uuid IS NOT NULL AS own_session, path = :'path' AS path, server, options, status
FROM transcribe_jobs ORDER BY id DESC LIMIT 1;
SET statement_timeout = '50ms';
CALL transcribe_wait(:queued);
RESET statement_timeout;

-- jobs that are not there, or another's
CALL transcribe_wait(-1);
CALL transcribe_wait(ARRAY[:queued, -1], '1 hour');
SET ROLE regress_waiter;
CALL transcribe_wait(:queued, '1 hour');
CALL transcribe_wait(:failed);
RESET ROLE;
\set VERBOSITY default

-- what is wrong is said at once
\set SHOW_CONTEXT never
CALL transcribe_wait(NULL::bigint);
CALL transcribe_wait(NULL::bigint[]);
CALL transcribe_wait(ARRAY[NULL]::bigint[]);
CALL transcribe_file(NULL);
CALL transcribe_file('relative');
CALL transcribe_file('/no/such/file', server => 'nowhere');
CALL transcribe_file('/no/such/file', options => '{"no": 1}');

\set SHOW_CONTEXT errors
-- not inside a transaction of which others wait for the end
BEGIN;
CALL transcribe_wait(:failed);
ROLLBACK;
BEGIN;
CALL transcribe_file(:'path');
ROLLBACK;
CREATE PROCEDURE wait_inside(id bigint) LANGUAGE plpgsql AS $$ BEGIN CALL transcribe_wait(id); END $$;
CREATE FUNCTION wait_inside_function(id bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL transcribe_wait(id); END $$;
SELECT wait_inside_function(:failed);
DO $$ BEGIN CALL transcribe_wait('{}'::bigint[]); EXCEPTION WHEN others THEN RAISE; END $$;
-- but in a procedure, which may end it
CALL wait_inside(:failed);
DO $$ DECLARE r jsonb; BEGIN CALL transcribe_wait('{}'::bigint[]); END $$;

DROP PROCEDURE wait_inside;
DROP FUNCTION wait_inside_function;
DROP ROLE regress_waiter;
TRUNCATE transcribe_jobs;
