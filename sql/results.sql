-- The worker's functions, called by hand, and what readers see of it.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset
SELECT transcribe_enqueue('s', :'path') AS job \gset
SELECT transcribe_result('s') IS NULL AS none_yet, transcribe_job_result(:job) IS NULL AS none_either;

-- nobody is alive under this number, but the claim does not ask
SELECT id = :job AS claimed, status FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT count(*) FROM transcribe_claim(8, 'whisper', current_user, 0, 10);
SELECT count(*) AS not_mine FROM transcribe_transcribing(8, ARRAY[:job]);
SELECT count(*) AS mine FROM transcribe_transcribing(7, ARRAY[:job]);

-- segments name their chunk
CREATE FUNCTION pg_temp.of(job bigint, chunk integer, segments jsonb) RETURNS jsonb
RETURN (SELECT jsonb_agg(jsonb_build_object('job_id', job, 'chunk_no', chunk) || s)
        FROM jsonb_array_elements(segments) s);
-- an answer is saved as the worker does it: what it holds is locked first
CREATE FUNCTION pg_temp.save_chunks(incarnation bigint, job_ids bigint[], chunk_nos integer[], plans text[], start_s float8[],
    end_s float8[], audio_s float8[], spans text[], servers text[], models text[], languages text[], progress integer[],
    segments jsonb, channels integer[] DEFAULT NULL, loudness_lufs float8[] DEFAULT NULL) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE mine bigint[] := ARRAY(SELECT h.job_id FROM transcribe_hold(incarnation, job_ids) h WHERE held);
BEGIN
    PERFORM transcribe_save_chunks(array_agg(job), array_agg(current_user::text), array_agg(chunk), array_agg(plan), array_agg(a),
                                   array_agg(b), array_agg(audio), array_agg(span), array_agg(channel), array_agg(lufs),
                                   array_agg(server), array_agg(model), array_agg(language))
    FROM unnest(job_ids, chunk_nos, plans, start_s, end_s, audio_s, spans, channels, loudness_lufs, servers, models, languages)
         AS g (job, chunk, plan, a, b, audio, span, channel, lufs, server, model, language)
    WHERE job = ANY (mine);
    PERFORM transcribe_save_segments(array_agg(job_id), array_agg(current_user::text), array_agg(chunk_no), array_agg(n), array_agg(s.start_s),
                                     array_agg(s.end_s), array_agg(text), array_agg(speaker), array_agg(channel_of), array_agg(avg_logprob),
                                     array_agg(compression_ratio), array_agg(no_speech_prob), array_agg(words))
    FROM jsonb_populate_recordset(NULL::transcribe_chunk_segments, segments) s
         LEFT JOIN unnest(job_ids, chunk_nos, channels) AS c (job_id, chunk_no, channel_of) USING (job_id, chunk_no)
    WHERE job_id = ANY (mine);
    PERFORM transcribe_save_progress(incarnation, array_agg(job), array_agg(percent))
    FROM (SELECT job, max(percent) AS percent FROM unnest(job_ids, save_chunks.progress) AS g (job, percent) GROUP BY job) AS moved;
    RETURN QUERY SELECT unnest(mine);
END $$;
-- so is what was asked of servers, whether the claim holds or not
CREATE FUNCTION pg_temp.save_attempts(attempts jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE there bigint[] := ARRAY(SELECT h.job_id FROM transcribe_hold(7, ARRAY(SELECT (a ->> 'job_id')::bigint
                                                                            FROM jsonb_array_elements(attempts) a)) h);
BEGIN
    PERFORM transcribe_save_attempts(array_agg(job_id), array_agg(current_user::text), array_agg(attempt), array_agg(chunk_no),
        array_agg(server), array_agg(model), array_agg(started_at), array_agg(elapsed_s), array_agg(audio_s), array_agg(sent_bytes),
        array_agg(http_status), array_agg(error_code), array_agg(error), array_agg(request_id), array_agg(usage))
    FROM jsonb_populate_recordset(NULL::transcribe_attempts, attempts)
    WHERE job_id = ANY (there);
    RETURN (SELECT count(*) FROM jsonb_populate_recordset(NULL::transcribe_attempts, attempts) WHERE job_id = ANY (there));
END $$;
SELECT count(*) FROM pg_temp.save_chunks(7, ARRAY[:job], ARRAY[1], ARRAY['plan'], ARRAY[10], ARRAY[20], ARRAY[10],
    ARRAY['{10,10}'], ARRAY['whisper'], ARRAY['m'], ARRAY['english'], ARRAY[60],
    pg_temp.of(:job, 1, '[{"n": 0, "start_s": 10, "end_s": 12.5, "text": "third", "speaker": "B"}]'),
    channels => ARRAY[1], loudness_lufs => ARRAY[-30]);
SELECT count(*) AS not_mine FROM pg_temp.save_chunks(8, ARRAY[:job], ARRAY[0], ARRAY['plan'], ARRAY[0], ARRAY[10],
    ARRAY[10], ARRAY['{0,10}'], ARRAY['whisper'], ARRAY['m'], ARRAY['english'], ARRAY[90], '[]');
SELECT count(*) AS too_early FROM transcribe_complete(7, ARRAY[:job], ARRAY[2], ARRAY['english'], ARRAY[20]);
SELECT count(*) FROM pg_temp.save_chunks(7, ARRAY[:job], ARRAY[0], ARRAY['plan'], ARRAY[0], ARRAY[10], ARRAY[10],
    ARRAY['{0,10}'], ARRAY['whisper'], ARRAY['m'], ARRAY['english'], ARRAY[90], pg_temp.of(:job, 0,
    '[{"n": 0, "start_s": 0, "end_s": 1.5, "text": "first", "avg_logprob": -0.25, "compression_ratio": 1.5, "no_speech_prob": 0.01},
      {"n": 1, "start_s": 1.5, "end_s": 3, "text": "second", "words": [{"word": "second", "start": 1.5, "end": 3}]}]'),
    channels => ARRAY[0], loudness_lufs => ARRAY[-20]);
-- arrived, but not yet a result
SELECT segment_no, text, status FROM transcribe_live_segments WHERE session_id = 's' ORDER BY segment_no;
SELECT count(*) FROM transcribe_segments;
SELECT progress FROM transcribe_jobs WHERE id = :job;

SELECT count(*) AS not_mine FROM transcribe_complete(8, ARRAY[:job], ARRAY[2], ARRAY['english'], ARRAY[20]);
SELECT count(*) FROM transcribe_complete(7, ARRAY[:job], ARRAY[2], ARRAY['english'], ARRAY[20]);
SELECT status, progress, attempts, language, duration_s, speech_s, trimmed_s,
       round(loudness_lufs::numeric, 2) AS loudness_lufs, claimed_by FROM transcribe_jobs WHERE id = :job;
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
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT count(*) FROM transcribe_segments WHERE session_id = 's';
SELECT job_id = :second AS completed, replaces FROM transcribe_complete(7, ARRAY[:second], ARRAY[0], NULL, ARRAY[20]);
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
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT transcribe_give_back(7, ARRAY[:job]::bigint[]);
SELECT status, attempts, claimed_by FROM transcribe_jobs WHERE id = :job;
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT status FROM transcribe_fail(7, ARRAY[:job], ARRAY['server answered with status 500'], ARRAY['server_error'],
    ARRAY['1 hour'::interval], ARRAY[true], ARRAY[false]);
SELECT status, attempts, run_at > now() + '59 min' AS later, error, error_code FROM transcribe_jobs WHERE id = :job;
SELECT w.server, w.owner = current_user AS own, w.priority, w.run_at = j.run_at AS due
FROM transcribe_waiting() w, transcribe_jobs j WHERE j.id = :job;
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
UPDATE transcribe_jobs SET run_at = now() WHERE id = :job;
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT status FROM transcribe_fail(7, ARRAY[:job], ARRAY['server answered with status 500'], ARRAY['server_error'],
    ARRAY['1 hour'::interval], ARRAY[true], ARRAY[false]);
SELECT status, attempts, finished_at IS NOT NULL AS finished FROM transcribe_jobs WHERE id = :job;
-- a 429 is not charged
SELECT transcribe_retry(:job);
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT status FROM transcribe_fail(7, ARRAY[:job], ARRAY['server answered with status 429'], ARRAY['rate_limited'],
    ARRAY['0 s'::interval], ARRAY[false], ARRAY[false]);
SELECT status, attempts FROM transcribe_jobs WHERE id = :job;

-- orphans: the third crash ends the job
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT status, crashes FROM transcribe_rescue();
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT status, crashes FROM transcribe_rescue();
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT status, crashes, error_code FROM transcribe_rescue();

-- what is saved is gone on with, or forgotten
SELECT transcribe_enqueue('p', :'path') AS job \gset
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT count(*) FROM pg_temp.save_chunks(7, ARRAY[:job], ARRAY[0], ARRAY['plan A'], ARRAY[0], ARRAY[10], ARRAY[10],
    ARRAY['{0,10}'], ARRAY['whisper'], ARRAY['m'], ARRAY['en'], ARRAY[50],
    pg_temp.of(:job, 0, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "x"}]'));
SELECT chunk_no, plan, channel, start_s, end_s, language FROM transcribe_saved(ARRAY[:job, 0]::bigint[]);
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
SELECT count(*) AS saved FROM pg_temp.save_chunks(7, ARRAY[:job], ARRAY[0], ARRAY['plan B'], ARRAY[0], ARRAY[10],
    ARRAY[10], ARRAY['{0,10}'], ARRAY['whisper'], ARRAY['m'], ARRAY['en'], ARRAY[50], '[]');
SELECT count(*) AS completed FROM transcribe_complete(7, ARRAY[:job], ARRAY[0], ARRAY['en'], ARRAY[10]);

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
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT id AS b1, id + 1 AS b2, id + 2 AS b3, id + 3 AS b4 FROM transcribe_jobs WHERE session_id = 'b1' \gset
SELECT transcribe_cancel(:b2);
SELECT session_id FROM transcribe_transcribing(7, ARRAY[:b1, :b2, :b3, :b4]) held JOIN transcribe_jobs j ON j.id = held ORDER BY 1;
SELECT session_id FROM pg_temp.save_chunks(7, ARRAY[:b1, :b1, :b2, :b3], ARRAY[0, 1, 0, 0], array_fill('plan'::text, '{4}'),
    ARRAY[0, 10, 0, 0], ARRAY[10, 20, 10, 10], array_fill(10, '{4}'), ARRAY['{0,10}', '{10,10}', '{0,4,5,6}', '{0,4,5,6}'],
    array_fill('whisper'::text, '{4}'), NULL, ARRAY['en', 'en', 'de', 'fr'], ARRAY[50, 99, 99, 40],
    pg_temp.of(:b1, 0, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "x"}]')
    || pg_temp.of(:b1, 1, '[{"n": 0, "start_s": 10, "end_s": 11, "text": "y"}]')
    || pg_temp.of(:b2, 0, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "lost"}]')
    || pg_temp.of(:b3, 0, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "z"}]')) held JOIN transcribe_jobs j ON j.id = held ORDER BY 1;
SELECT pg_temp.save_attempts(jsonb_agg(jsonb_build_object('job_id', id, 'attempt', 1, 'chunk_no', n, 'server', 'whisper',
    'started_at', now(), 'elapsed_s', 1, 'audio_s', 10, 'sent_bytes', 1) ORDER BY n, id))
FROM unnest(ARRAY[:b1, :b2, :b3]) id, generate_series(0, 1) n;
SELECT j.session_id, status FROM transcribe_fail(7, ARRAY[:b2, :b3, :b4], ARRAY['lost', 'for good', 'for now'], ARRAY['x', 'y', 'z'],
    ARRAY[NULL, NULL, '1 hour'::interval], ARRAY[true, true, false], ARRAY[false, false, true], ARRAY[NULL, 'whisper']) f
    JOIN LATERAL (SELECT session_id FROM transcribe_jobs WHERE id = f.job_id) j ON true ORDER BY 1;
SELECT session_id FROM transcribe_complete(7, ARRAY[:b1, :b2, :b3], ARRAY[2, 0, 1], ARRAY['en', NULL], ARRAY[20, 20, 20],
    streams => ARRAY[2, 1, 1]) c JOIN transcribe_jobs j ON j.id = c.job_id;
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
SELECT session_id FROM transcribe_claim(7, 'whisper', current_user, 2, 1);
SELECT session_id FROM transcribe_claim(7, 'whisper', 'nobody', 2, 10);
SELECT session_id FROM transcribe_claim(7, 'whisper', current_user, 2, 10) ORDER BY run_at, id;
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
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 1, 10);
SELECT transcribe_adopt();
SELECT priority FROM transcribe_waiting();
SELECT session_id FROM transcribe_claim(7, 'whisper', current_user, 1, 10) ORDER BY run_at, id;

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
SELECT pg_temp.buffers($$ SELECT * FROM transcribe_claim(7, 'whisper', current_user, 0, 10) $$) < 500 AS few;

-- nor does a look at it read what has been claimed before, though that cannot be removed yet; nor the next claim
BEGIN;
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 19900);
SELECT pg_temp.buffers('SELECT * FROM transcribe_waiting()') > 500 AS many;
SELECT queue, run_at, id FROM transcribe_waiting() WHERE priority = 0 \gset
SELECT format('(ARRAY[%L], ARRAY[%L]::timestamptz[], ''{%s}'')', :'queue', :'run_at', :'id') AS known \gset
SELECT w.priority, w.id = :'id' AS there FROM transcribe_waiting:known w;
SELECT pg_temp.buffers($$ SELECT * FROM transcribe_waiting$$ || :'known') < 50 AS few;
SELECT pg_temp.buffers(format('SELECT * FROM transcribe_claim(7, ''whisper'', current_user, 0, 10, %L, %s)', :'run_at', :'id')) < 500 AS few;
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 200);
SELECT pg_temp.buffers('SELECT * FROM transcribe_waiting' || :'known') < 100 AS few;
ROLLBACK;

TRUNCATE transcribe_jobs, transcribe_chunks, transcribe_chunk_segments, transcribe_attempts;
