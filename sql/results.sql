-- The worker's functions, called by hand, and what readers see of it.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path \gset
SELECT transcribe_enqueue('s', :'path') AS job \gset
SELECT transcribe_result('s') IS NULL AS none_yet, transcribe_job_result(:job) IS NULL AS none_either;

-- nobody is alive under this number, but the claim does not ask
SELECT id = :job AS claimed, status FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT count(*) FROM transcribe_claim(8, 'whisper', current_user, 0, 10);
SELECT transcribe_transcribing(8, :job) AS not_mine, transcribe_transcribing(7, :job) AS mine;

SELECT transcribe_save_chunk(7, :job, 1, 'plan', 10, 20, 10, '{10,10}', 'm', 'english', 60,
    '[{"n": 0, "start_s": 10, "end_s": 12.5, "text": "third", "speaker": "B"}]',
    channel => 1, loudness_lufs => -30);
SELECT transcribe_save_chunk(8, :job, 0, 'plan', 0, 10, 10, '{0,10}', 'm', 'english', 90, '[]') AS not_mine;
SELECT transcribe_complete(7, :job, 2, 'english', 20) AS too_early;
SELECT transcribe_save_chunk(7, :job, 0, 'plan', 0, 10, 10, '{0,10}', 'm', 'english', 90,
    '[{"n": 0, "start_s": 0, "end_s": 1.5, "text": "first", "avg_logprob": -0.25, "compression_ratio": 1.5, "no_speech_prob": 0.01},
      {"n": 1, "start_s": 1.5, "end_s": 3, "text": "second", "words": [{"word": "second", "start": 1.5, "end": 3}]}]',
    channel => 0, loudness_lufs => -20);
-- arrived, but not yet a result
SELECT segment_no, text, status FROM transcribe_live_segments WHERE session_id = 's' ORDER BY segment_no;
SELECT count(*) FROM transcribe_segments;
SELECT progress FROM transcribe_jobs WHERE id = :job;

SELECT transcribe_complete(8, :job, 2, 'english', 20) AS not_mine;
SELECT transcribe_complete(7, :job, 2, 'english', 20);
SELECT status, progress, attempts, language, duration_s, speech_s, trimmed_s,
       round(loudness_lufs::numeric, 2) AS loudness_lufs, claimed_by FROM transcribe_jobs WHERE id = :job;
SELECT session_id, segment_no, start_s, end_s, text, speaker, channel, avg_logprob,
       compression_ratio, no_speech_prob, words
FROM transcribe_segments WHERE session_id = 's' ORDER BY segment_no;
SELECT jsonb_pretty(transcribe_result('s'));
SELECT transcribe_result('s') = transcribe_job_result(:job) AS same;
-- a session is found by its index, whatever else is there
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM transcribe_segments WHERE session_id = 's' ORDER BY start_s;
RESET enable_seqscan;

-- a second run of the same recording replaces the first, once it completes
SELECT transcribe_enqueue('s', :'path') AS second \gset
SELECT :second > :job AS new_job;
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT count(*) FROM transcribe_segments WHERE session_id = 's';
SELECT transcribe_complete(7, :second, 0, NULL, 20);
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
SELECT transcribe_fail(7, :job, 'server answered with status 500', 'server_error', '1 hour', true, false);
SELECT status, attempts, run_at > now() + '59 min' AS later, error, error_code FROM transcribe_jobs WHERE id = :job;
SELECT w.server, w.owner = current_user AS own, w.priority, w.run_at = j.run_at AS due
FROM transcribe_waiting() w, transcribe_jobs j WHERE j.id = :job;
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
UPDATE transcribe_jobs SET run_at = now() WHERE id = :job;
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT transcribe_fail(7, :job, 'server answered with status 500', 'server_error', '1 hour', true, false);
SELECT status, attempts, finished_at IS NOT NULL AS finished FROM transcribe_jobs WHERE id = :job;
-- a 429 is not charged
SELECT transcribe_retry(:job);
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 0, 10);
SELECT transcribe_fail(7, :job, 'server answered with status 429', 'rate_limited', '0 s', false, false);
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
SELECT transcribe_save_chunk(7, :job, 0, 'plan A', 0, 10, 10, '{0,10}', 'm', 'en', 50, '[{"n": 0, "start_s": 0, "end_s": 1, "text": "x"}]');
SELECT chunk_no, plan, channel, start_s, end_s, language FROM transcribe_saved(ARRAY[:job, 0]::bigint[]);
SELECT transcribe_start_over(8, :job) AS not_mine;
SELECT count(*) FROM transcribe_saved(ARRAY[:job]::bigint[]);
SELECT transcribe_start_over(7, :job);
SELECT count(*) FROM transcribe_saved(ARRAY[:job]::bigint[]);
SELECT count(*) FROM transcribe_chunk_segments WHERE job_id = :job;
SELECT progress FROM transcribe_jobs WHERE id = :job;

-- what a worker holds and has lost
SELECT transcribe_lost(7, ARRAY[:job, 0]::bigint[]);
SELECT transcribe_cancel(:job);
SELECT transcribe_lost(7, ARRAY[:job]::bigint[]) = :job AS lost;
SELECT transcribe_save_chunk(7, :job, 0, 'plan B', 0, 10, 10, '{0,10}', 'm', 'en', 50, '[]') AS discarded;
SELECT transcribe_complete(7, :job, 0, 'en', 10) AS discarded;

-- requests are noted, whatever becomes of the job
SELECT transcribe_save_attempts(:job, '[{"attempt": 1, "chunk_no": 0, "server": "whisper", "started_at": "2026-01-01 00:00:00+00",
    "elapsed_s": 1.5, "audio_s": 30, "sent_bytes": 1000, "http_status": 200, "request_id": "req-1", "usage": {"seconds": 30}},
    {"attempt": 1, "chunk_no": 1, "server": "whisper", "model": "m", "started_at": "2026-01-01 00:00:00+00",
    "elapsed_s": 0.5, "audio_s": 30, "sent_bytes": 0, "error_code": "could_not_connect", "error": "nobody there"}]');
SELECT transcribe_save_attempts(0, '[{"attempt": 1, "chunk_no": 0, "server": "whisper"}]') AS no_such_job;
SELECT attempt, chunk_no, owner = current_user AS own, server, model, elapsed_s, audio_s, sent_bytes, http_status,
       error_code, error, request_id, usage FROM transcribe_attempts WHERE job_id = :job ORDER BY id;

-- what waits stands in groups, which are claimed by time, then by number
SELECT transcribe_enqueue('o1', :'path', priority => 1), transcribe_enqueue('o2', :'path', priority => 2),
       transcribe_enqueue('o3', :'path', priority => 2, run_at => now() - interval '1 day'),
       transcribe_enqueue('o4', :'path', priority => 2, run_at => now() + interval '1 day') \gset ignore_
SELECT server, priority, run_at < now() - interval '23 hours' AS long_due FROM transcribe_waiting();
SELECT session_id FROM transcribe_claim(7, 'whisper', current_user, 2, 1);
SELECT session_id FROM transcribe_claim(7, 'whisper', 'nobody', 2, 10);
SELECT session_id FROM transcribe_claim(7, 'whisper', current_user, 2, 10);
SELECT server, priority, run_at > now() AS not_yet FROM transcribe_waiting();
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM transcribe_waiting();
RESET enable_seqscan;

-- jobs of another home stand still until they are adopted
UPDATE transcribe_jobs SET home = 1 WHERE session_id IN ('o1', 'o2');
SELECT priority FROM transcribe_waiting();
SELECT count(*) FROM transcribe_claim(7, 'whisper', current_user, 1, 10);
SELECT transcribe_adopt();
SELECT priority FROM transcribe_waiting();
SELECT session_id FROM transcribe_claim(7, 'whisper', current_user, 1, 10);

TRUNCATE transcribe_jobs, transcribe_chunks, transcribe_chunk_segments, transcribe_attempts;
