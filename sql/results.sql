-- The worker's functions, called by hand, and what readers see of it.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset
SELECT transcribe_enqueue('s', :'path') AS job \gset
SELECT transcribe_result('s') IS NULL AS none_yet, transcribe_job_result(:job) IS NULL AS none_either;

-- nobody is alive under this number, but the claim does not ask
SELECT id = :job AS claimed, path = :'path' AS same_path, server, owner = current_user AS own, attempts, max_attempts, options
FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT status FROM transcribe_jobs WHERE id = :job;
SELECT count(*) FROM transcribe_claim(8, transcribe_queue('whisper', 0, current_user), 10);
SELECT count(*) AS not_mine FROM transcribe_transcribing(8, ARRAY[:job]);
SELECT count(*) AS mine FROM transcribe_transcribing(7, ARRAY[:job]);

-- segments name their chunk
CREATE FUNCTION pg_temp.of(job bigint, chunk integer, segments jsonb) RETURNS jsonb
RETURN (SELECT jsonb_agg(jsonb_build_object('job_id', job, 'chunk_no', chunk, 'owner', current_user) || s)
        FROM jsonb_array_elements(segments) s);
-- an answer is saved as the worker does it: what it holds is locked first
CREATE FUNCTION pg_temp.save_chunks(incarnation bigint, chunks jsonb, segments jsonb) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE mine bigint[] := ARRAY(SELECT h.job_id FROM transcribe_hold(incarnation, ARRAY(
    SELECT (c ->> 'job_id')::bigint FROM jsonb_array_elements(chunks) c)) h WHERE held);
BEGIN
    PERFORM transcribe_save_chunks(array_agg(c))
    FROM jsonb_array_elements(chunks) o, jsonb_populate_record(NULL::transcribe_new_chunk,
        jsonb_build_object('owner', current_user, 'server', 'whisper', 'audio_s', 10) || o) c
    WHERE c.job_id = ANY (mine);
    PERFORM transcribe_save_segments(array_agg(s)) FROM jsonb_populate_recordset(NULL::transcribe_new_segment, segments) s
    WHERE s.job_id = ANY (mine);
    PERFORM transcribe_save_progress(incarnation, array_agg(moved))
    FROM (SELECT (job_id, max(progress))::transcribe_new_progress AS moved
          FROM jsonb_to_recordset(chunks) AS c (job_id bigint, progress integer) GROUP BY job_id) m;
    RETURN QUERY SELECT unnest(mine);
END $$;
-- so is what was asked of servers, whether the claim holds or not
CREATE FUNCTION pg_temp.save_attempts(attempts jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE there transcribe_new_attempt[] := ARRAY(
    SELECT a FROM jsonb_populate_recordset(NULL::transcribe_new_attempt, attempts) a
    WHERE a.job_id = ANY (ARRAY(SELECT h.job_id FROM transcribe_hold(7, ARRAY(
        SELECT (a ->> 'job_id')::bigint FROM jsonb_array_elements(attempts) a)) h)));
BEGIN
    PERFORM transcribe_save_attempts(there);
    RETURN cardinality(there);
END $$;
CREATE FUNCTION pg_temp.complete(incarnation bigint, results jsonb) RETURNS TABLE (job_id bigint, replaces boolean)
LANGUAGE sql AS $$
SELECT * FROM transcribe_complete(incarnation, ARRAY(SELECT r FROM jsonb_populate_recordset(NULL::transcribe_completion, results) r));
$$;
SELECT count(*) FROM pg_temp.save_chunks(7, jsonb_build_array(jsonb_build_object('job_id', :job, 'chunk_no', 1, 'plan', 'plan',
    'start_s', 10, 'end_s', 20, 'spans', '{10,10}', 'model', 'm', 'language', 'english', 'progress', 60, 'channel', 1, 'loudness_lufs', -30)),
    pg_temp.of(:job, 1, '[{"n": 0, "start_s": 10, "end_s": 12.5, "text": "third", "speaker": "B", "channel": 1}]'));
SELECT count(*) AS not_mine FROM pg_temp.save_chunks(8, jsonb_build_array(jsonb_build_object('job_id', :job, 'chunk_no', 0, 'plan', 'plan',
    'start_s', 0, 'end_s', 10, 'spans', '{0,10}', 'progress', 90)), '[]');
SELECT count(*) FROM pg_temp.save_chunks(7, jsonb_build_array(jsonb_build_object('job_id', :job, 'chunk_no', 0, 'plan', 'plan',
    'start_s', 0, 'end_s', 10, 'spans', '{0,10}', 'model', 'm', 'language', 'english', 'progress', 90, 'channel', 0, 'loudness_lufs', -20)),
    pg_temp.of(:job, 0,
    '[{"n": 0, "start_s": 0, "end_s": 1.5, "text": "first", "channel": 0, "avg_logprob": -0.25, "compression_ratio": 1.5, "no_speech_prob": 0.01},
      {"n": 1, "start_s": 1.5, "end_s": 3, "text": "second", "channel": 0, "words": [{"word": "second", "start": 1.5, "end": 3}]}]'));
-- arrived, but not yet a result
SELECT segment_no, text, status FROM transcribe_live_segments WHERE session_id = 's' ORDER BY segment_no;
SELECT count(*) FROM transcribe_segments;
SELECT progress FROM transcribe_jobs WHERE id = :job;

SELECT jsonb_build_array(jsonb_build_object('job_id', :job, 'language', 'english', 'duration_s', 20, 'speech_s', 19, 'trimmed_s', 1,
    'loudness_lufs', -22.6, 'source_format', 'wav/pcm', 'sample_rate', 16000, 'channels', 2, 'damaged', 'cut', 'missing_s', 3,
    'served_by', 'whisper')) AS result \gset
SELECT count(*) AS not_mine FROM pg_temp.complete(8, :'result');
SELECT count(*) FROM pg_temp.complete(7, :'result');
SELECT status, progress, attempts, language, duration_s, speech_s, trimmed_s, loudness_lufs, source_format, sample_rate, channels,
       damaged, missing_s, served_by, claimed_by FROM transcribe_jobs WHERE id = :job;
SELECT session_id, segment_no, start_s, end_s, text, speaker, channel, avg_logprob,
       compression_ratio, no_speech_prob, words
FROM transcribe_segments WHERE session_id = 's' ORDER BY segment_no;
SELECT jsonb_pretty(transcribe_result('s'));
SELECT transcribe_result('s') = transcribe_job_result(:job) AS same;
-- a session is found by its indexes, whatever else is there
CREATE FUNCTION pg_temp.indexes(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        RETURN QUERY SELECT m[1] FROM regexp_matches(line, 'Index Scan (?:using|on) (\w+)') m;
    END LOOP;
END $$;
SET enable_seqscan = off;
SELECT pg_temp.indexes($$SELECT * FROM transcribe_segments WHERE session_id = 's'$$);
RESET enable_seqscan;

-- a second run of the same recording replaces the first, once it completes
SELECT transcribe_enqueue('s', :'path') AS second \gset
SELECT :second > :job AS new_job;
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT count(*) FROM transcribe_segments WHERE session_id = 's';
SELECT job_id = :second AS completed, replaces FROM pg_temp.complete(7, jsonb_build_array(jsonb_build_object('job_id', :second, 'duration_s', 20)));
SELECT transcribe_replaced(ARRAY[:second]::bigint[]) = :job AS replaced;
SELECT count(*) FROM transcribe_segments WHERE session_id = 's';
SELECT jsonb_pretty(transcribe_result('s'));
SELECT replaced_by = :second AS replaced, transcribe_job_result(:job) IS NULL AS gone
FROM transcribe_jobs WHERE id = :job;
SELECT count(*) FROM transcribe_chunk_segments;

-- keys of other types
UPDATE transcribe_jobs SET session_id = '17' WHERE id = :second;
SELECT transcribe_result(17) IS NOT NULL AS by_number;
UPDATE transcribe_jobs SET session_id = '4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001' WHERE id = :second;
SELECT transcribe_result('4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001'::uuid) IS NOT NULL AS by_uuid;

-- a failed attempt waits, the last one fails, an interruption costs nothing
SELECT transcribe_enqueue('f', :'path') AS job \gset
UPDATE transcribe_jobs SET max_attempts = 2 WHERE id = :job;
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT transcribe_give_back(7, ARRAY[:job]::bigint[]);
SELECT status, attempts, claimed_by FROM transcribe_jobs WHERE id = :job;
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT status FROM transcribe_fail(7, ARRAY[(:job, 'server answered with status 500', 'server_error', '1 hour',
    true, false, NULL)::transcribe_failure]);
SELECT status, attempts, run_at > now() + '59 min' AS later, error, error_code FROM transcribe_jobs WHERE id = :job;
SELECT w.server, w.owner = current_user AS own, w.priority, w.run_at = j.run_at AS due
FROM transcribe_waiting() w, transcribe_jobs j WHERE j.id = :job;
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
UPDATE transcribe_jobs SET run_at = now() WHERE id = :job;
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT status FROM transcribe_fail(7, ARRAY[(:job, 'server answered with status 500', 'server_error', '1 hour',
    true, false, NULL)::transcribe_failure]);
SELECT status, attempts, finished_at IS NOT NULL AS finished FROM transcribe_jobs WHERE id = :job;
-- a 429 is not charged
SELECT transcribe_retry(:job);
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT status FROM transcribe_fail(7, ARRAY[(:job, 'server answered with status 429', 'rate_limited', '0 s',
    false, false, NULL)::transcribe_failure]);
SELECT status, attempts FROM transcribe_jobs WHERE id = :job;

-- orphans: the third crash ends the job
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT status, crashes FROM transcribe_rescue();
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT status, crashes FROM transcribe_rescue();
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT status, crashes, error_code FROM transcribe_rescue();

-- what is saved is gone on with, or forgotten
SELECT transcribe_enqueue('p', :'path') AS job \gset
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT count(*) FROM pg_temp.save_chunks(7, jsonb_build_array(jsonb_build_object('job_id', :job, 'chunk_no', 0, 'plan', 'plan A',
    'start_s', 0, 'end_s', 10, 'spans', '{0,10}', 'language', 'en', 'loudness_lufs', -21, 'progress', 50)),
    pg_temp.of(:job, 0, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "x"}]'));
SELECT chunk_no, plan, channel, start_s, end_s, language, server, audio_s, loudness_lufs FROM transcribe_saved(ARRAY[:job, 0]::bigint[]);
SELECT count(*) AS not_mine FROM transcribe_start_over(8, ARRAY[:job]);
SELECT count(*) FROM transcribe_saved(ARRAY[:job]::bigint[]);
SELECT count(*) FROM transcribe_start_over(7, ARRAY[:job]);
SELECT count(*) FROM transcribe_saved(ARRAY[:job]::bigint[]);
SELECT count(*) FROM transcribe_chunk_segments WHERE job_id = :job;
SELECT progress FROM transcribe_jobs WHERE id = :job;

-- what a worker holds and has lost
SELECT transcribe_lost(7, ARRAY[:job, 0]::bigint[]);
SELECT transcribe_cancel(:job);
SELECT transcribe_lost(7, ARRAY[:job]::bigint[]) = :job AS lost;
SELECT count(*) AS saved FROM pg_temp.save_chunks(7, jsonb_build_array(jsonb_build_object('job_id', :job, 'chunk_no', 0,
    'plan', 'plan B', 'start_s', 0, 'end_s', 10, 'spans', '{0,10}', 'progress', 50)), '[]');
SELECT count(*) AS completed FROM pg_temp.complete(7, jsonb_build_array(jsonb_build_object('job_id', :job)));

-- requests are noted, whatever becomes of the job
SELECT pg_temp.save_attempts(pg_temp.of(:job, 0, '[{"attempt": 1, "server": "whisper", "started_at": "2026-01-01 00:00:00+00",
    "elapsed_s": 1.5, "audio_s": 30, "sent_bytes": 1000, "http_status": 200, "request_id": "req-1", "usage": {"seconds": 30}},
    {"attempt": 1, "chunk_no": 1, "server": "whisper", "model": "m", "started_at": "2026-01-01 00:00:00+00",
    "elapsed_s": 0.5, "audio_s": 30, "sent_bytes": 0, "error_code": "could_not_connect", "error": "nobody there"}]'));
SELECT pg_temp.save_attempts('[{"job_id": 0, "attempt": 1, "chunk_no": 0, "server": "whisper"}]') AS no_such_job;
SELECT attempt, chunk_no, owner = current_user AS own, server, model, elapsed_s, audio_s, sent_bytes, http_status,
       error_code, error, request_id, usage FROM transcribe_attempts WHERE job_id = :job ORDER BY id;

-- many jobs at once: of two answers for one, both are saved, and what was lost
-- is in nobody's way
DO $$ BEGIN
    PERFORM transcribe_enqueue('b' || n, current_setting('data_directory') || '/PG_VERSION') FROM generate_series(1, 4) n;
END $$;
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
SELECT id AS b1, id + 1 AS b2, id + 2 AS b3, id + 3 AS b4 FROM transcribe_jobs WHERE session_id = 'b1' \gset
SELECT transcribe_cancel(:b2);
SELECT session_id FROM transcribe_transcribing(7, ARRAY[:b1, :b2, :b3, :b4]) held JOIN transcribe_jobs j ON j.id = held ORDER BY 1;
SELECT session_id FROM pg_temp.save_chunks(7, (SELECT jsonb_agg(jsonb_build_object('job_id', job, 'chunk_no', chunk, 'plan', 'plan',
        'start_s', chunk * 10, 'end_s', chunk * 10 + 10, 'spans', spans, 'language', language, 'progress', progress))
        FROM (VALUES (:b1, 0, '{0,10}', 'en', 50), (:b1, 1, '{10,10}', 'en', 99), (:b2, 0, '{0,4,5,6}', 'de', 99),
                     (:b3, 0, '{0,4,5,6}', 'fr', 40)) AS v (job, chunk, spans, language, progress)),
    pg_temp.of(:b1, 0, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "x"}]')
    || pg_temp.of(:b1, 1, '[{"n": 0, "start_s": 10, "end_s": 11, "text": "y"}]')
    || pg_temp.of(:b2, 0, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "lost"}]')
    || pg_temp.of(:b3, 0, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "z"}]')) held JOIN transcribe_jobs j ON j.id = held ORDER BY 1;
SELECT pg_temp.save_attempts(jsonb_agg(jsonb_build_object('job_id', id, 'attempt', 1, 'chunk_no', n, 'server', 'whisper',
    'owner', current_user, 'started_at', now(), 'elapsed_s', 1, 'audio_s', 10, 'sent_bytes', 1) ORDER BY n, id))
FROM unnest(ARRAY[:b1, :b2, :b3]) id, generate_series(0, 1) n;
SELECT j.session_id, status FROM transcribe_fail(7, ARRAY[(:b2, 'lost', 'x', NULL, true, false, NULL),
    (:b3, 'for good', 'y', NULL, true, false, 'whisper'), (:b4, 'for now', 'z', '1 hour', false, true, NULL)]::transcribe_failure[]) f
    JOIN LATERAL (SELECT session_id FROM transcribe_jobs WHERE id = f.job_id) j ON true ORDER BY 1;
SELECT session_id FROM pg_temp.complete(7, (SELECT jsonb_agg(jsonb_build_object('job_id', id, 'language', language, 'trimmed_s', 20))
    FROM unnest(ARRAY[:b1, :b2, :b3], ARRAY['en', NULL]) AS r (id, language))) c JOIN transcribe_jobs j ON j.id = c.job_id;
SELECT session_id, status, progress, attempts, crashes, language, trimmed_s, error, served_by, claimed_by,
       (SELECT array_agg(DISTINCT s.text) FROM transcribe_live_segments s WHERE s.job_id = j.id) AS said,
       (SELECT array_agg(c.spans ORDER BY c.chunk_no) FROM transcribe_chunks c WHERE c.job_id = j.id) AS spans,
       (SELECT array_agg(a.chunk_no ORDER BY a.id) FROM transcribe_attempts a WHERE a.job_id = j.id) AS requests
FROM transcribe_jobs j WHERE starts_with(session_id, 'b') ORDER BY id;
DELETE FROM transcribe_jobs WHERE starts_with(session_id, 'b');

-- what waits stands in groups, which are claimed by time, then by number
SELECT transcribe_enqueue('o1', :'path', priority => 1), transcribe_enqueue('o2', :'path', priority => 2),
       transcribe_enqueue('o3', :'path', priority => 2, run_at => now() - interval '1 day'),
       transcribe_enqueue('o4', :'path', priority => 2, run_at => now() + interval '1 day') \gset ignore_
SELECT server, priority, run_at < now() - interval '23 hours' AS long_due FROM transcribe_waiting();
SELECT session_id FROM transcribe_claim(7, transcribe_queue('whisper', 2, current_user), 1) c JOIN transcribe_jobs j USING (id);
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 2, 'nobody'), 10);
SELECT session_id FROM transcribe_claim(7, transcribe_queue('whisper', 2, current_user), 10) c JOIN transcribe_jobs j USING (id) ORDER BY c.run_at, id;
SELECT server, priority, run_at > now() AS not_yet FROM transcribe_waiting();
-- groups that are known: looked for from their places on, whether anything is left there or not
SELECT starts_with(w.queue, '4 gone ') AS gone, w.priority, j.session_id
FROM transcribe_waiting(ARRAY['4 gone 0 ' || current_user, '7 whisper 1 ' || current_user, '7 whisper 3 ' || current_user],
    '{-infinity,-infinity,-infinity}', '{0,0,0}') w LEFT JOIN transcribe_jobs j USING (id);
SELECT w.priority, j.session_id FROM transcribe_waiting(ARRAY['7 whisper 1 ' || current_user],
    '{infinity}', '{0}') w LEFT JOIN transcribe_jobs j USING (id);

-- jobs of another home stand still until they are adopted
UPDATE transcribe_jobs SET home = 1 WHERE session_id IN ('o1', 'o2');
SELECT priority FROM transcribe_waiting();
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 1, current_user), 10);
SELECT transcribe_adopt();
SELECT priority FROM transcribe_waiting();
SELECT session_id FROM transcribe_claim(7, transcribe_queue('whisper', 1, current_user), 10) c JOIN transcribe_jobs j USING (id) ORDER BY c.run_at, id;

-- a claim reads of a long queue no more than it takes
CREATE FUNCTION pg_temp.buffers(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || query INTO plan;
    RETURN (plan #>> '{0,Plan,Shared Hit Blocks}')::bigint + (plan #>> '{0,Plan,Shared Read Blocks}')::bigint;
END $$;
INSERT INTO transcribe_jobs (session_id, path, server, owner, home)
SELECT 'q' || n, '/recording', 'whisper', current_user, transcribe_home() FROM generate_series(1, 20000) n;
ANALYZE transcribe_jobs;
SELECT pg_temp.buffers($$ SELECT * FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10) $$) < 500 AS few;

-- nor does a look at it read what has been claimed before, though that cannot be removed yet; nor the next claim
BEGIN;
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 19900);
SELECT pg_temp.buffers('SELECT * FROM transcribe_waiting()') > 500 AS many;
SELECT queue, run_at, id FROM transcribe_waiting() WHERE priority = 0 \gset
SELECT format('(ARRAY[%L], ARRAY[%L]::timestamptz[], ''{%s}'')', :'queue', :'run_at', :'id') AS known \gset
SELECT w.priority, w.id = :'id' AS there FROM transcribe_waiting:known w;
SELECT pg_temp.buffers($$ SELECT * FROM transcribe_waiting$$ || :'known') < 50 AS few;
SELECT pg_temp.buffers(format('SELECT * FROM transcribe_claim(7, %L, 10, %L, %s)', :'queue', :'run_at', :'id')) < 500 AS few;
SELECT count(*) FROM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 200);
SELECT pg_temp.buffers('SELECT * FROM transcribe_waiting' || :'known') < 100 AS few;
-- nor do the ends of jobs read what else is running, or has been
SELECT pg_temp.buffers(format('SELECT * FROM transcribe_%s', call)) < 100 AS few
FROM (VALUES ('save_progress(7, ARRAY[(%s, 50)::transcribe_new_progress])'),
             ('complete(7, ARRAY[jsonb_populate_record(NULL::transcribe_completion, ''{"job_id": %s}'')])'),
             ('fail(7, ARRAY[(%s, ''no'', ''no'', NULL, true, false, NULL)::transcribe_failure])')) AS calls (pattern),
     LATERAL (SELECT format(pattern, max(id)) FROM transcribe_jobs WHERE claimed_by = 7) AS c (call);
ROLLBACK;

TRUNCATE transcribe_jobs, transcribe_chunks, transcribe_chunk_segments, transcribe_attempts;
