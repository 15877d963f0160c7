-- transcribe_stats and transcribe_workers where nothing runs: shape and rights
\d transcribe_progress
\d transcribe_stats
\d transcribe_workers

SELECT transcribe_server_names('gpu'), transcribe_server_names('"two words", cpu,gpu, cpu'),
       transcribe_server_names('not a list'), transcribe_server_names(NULL);

-- a server of which nothing was counted; what is queued counts at each of a list
CREATE SERVER regress_watch FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9/v1');
CREATE SERVER regress_other FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9/v1');
CREATE ROLE regress_watcher;
GRANT USAGE ON FOREIGN SERVER regress_watch TO regress_watcher;
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset
SELECT count(transcribe_enqueue('watch ' || n, :'path', 'regress_watch', priority => n % 3))
FROM generate_series(1, 7) n;
SELECT count(transcribe_enqueue('list', :'path', 'regress_other, regress_watch', run_at => now() - interval '1 hour'));
SELECT count(transcribe_enqueue('later', :'path', 'regress_other', run_at => now() + interval '1 day'));
SELECT server, queued, oldest_wait >= '1 hour' AS waits, running, under_way, requests, p50_s, stats_reset
FROM transcribe_stats WHERE server LIKE 'regress%' ORDER BY server;

-- whoever may use a server sees its numbers, whosever jobs they are of
SET ROLE regress_watcher;
SELECT count(*) FROM transcribe_jobs;
SELECT server, queued FROM transcribe_stats;
SELECT * FROM transcribe_workers;
SELECT transcribe_stats_reset();
RESET ROLE;
GRANT pg_read_all_stats TO regress_watcher;
SET ROLE regress_watcher;
SELECT server, queued FROM transcribe_stats WHERE server LIKE 'regress%' ORDER BY server;
RESET ROLE;
GRANT EXECUTE ON FUNCTION transcribe_stats_reset() TO regress_watcher;
SET ROLE regress_watcher;
SELECT transcribe_stats_reset();
RESET ROLE;

SELECT count(transcribe_delete(id)) FROM transcribe_jobs WHERE server ~ 'regress';
DROP OWNED BY regress_watcher;
DROP SERVER regress_watch;
DROP SERVER regress_other;
DROP ROLE regress_watcher;
