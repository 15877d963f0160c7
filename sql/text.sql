-- Transcripts as text, subtitles and JSON.
CREATE FUNCTION pg_temp.transcript(session text, segments jsonb, duration float8 DEFAULT 60, owner name DEFAULT current_user) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO transcribe_jobs (session_id, path, server, owner, status, finished_at, language, duration_s)
    VALUES (session, '/recording', 'whisper', owner, 'completed', clock_timestamp(), 'english', duration);
    INSERT INTO transcribe_chunk_segments (job_id, chunk_no, n, owner, start_s, end_s, text, speaker, channel, avg_logprob, words)
    SELECT (SELECT max(id) FROM transcribe_jobs), 0, n, owner, start_s, end_s, text, speaker, channel, avg_logprob, words
    FROM ROWS FROM (jsonb_to_recordset(segments) AS (start_s float8, end_s float8, text text, speaker text,
                    channel int, avg_logprob float8, words jsonb)) WITH ORDINALITY
         AS s (start_s, end_s, text, speaker, channel, avg_logprob, words, n);
    SELECT max(id) FROM transcribe_jobs;
$$;

-- nothing there, nothing said, nothing yet
SELECT transcribe_text('none') IS NULL AS text, transcribe_srt('none') IS NULL AS srt, transcribe_vtt('none') IS NULL AS vtt,
       transcribe_json('none') IS NULL AS json, transcribe_newest_job('none') IS NULL AS job, transcribe_job_text(NULL) IS NULL AS of_null;
SELECT pg_temp.transcript('silent', '[]') AS job \gset
SELECT transcribe_text('silent') = '' AS text, transcribe_srt('silent') = '' AS srt, transcribe_vtt('silent') = E'WEBVTT\n' AS vtt, transcribe_json('silent');
UPDATE transcribe_jobs SET status = 'transcribing' WHERE id = :job;
SELECT transcribe_text('silent') IS NULL AS text, transcribe_job_vtt(:job) IS NULL AS vtt, transcribe_job_json(:job) IS NULL AS json;
DELETE FROM transcribe_jobs WHERE id = :job;

-- the examples of the documentation: a talk of two
SELECT pg_temp.transcript('talk', '[
    {"start_s": 0.2, "end_s": 3.1, "text": "Good morning, and welcome to the programme.", "speaker": "SPEAKER_00"},
    {"start_s": 3.4, "end_s": 6.0, "text": "Our guest today has measured how long people wait.", "speaker": "SPEAKER_00"},
    {"start_s": 6.8, "end_s": 19.0, "text": "Thank you. It began with a simple question: why does the time in front of a lift seem so much longer than the time inside, although it is not?", "speaker": "SPEAKER_01"},
    {"start_s": 21.5, "end_s": 23.0, "text": "R&D <asked> that?", "speaker": "SPEAKER_00"}]') AS talk \gset
\pset format unaligned
\pset tuples_only on
SELECT transcribe_text('talk');
SELECT transcribe_text('talk', speakers => false);
SELECT transcribe_srt('talk');
SELECT transcribe_vtt('talk', max_line_width => 32);
SELECT transcribe_srt('talk', speakers => false, max_line_width => 0, max_duration_s => 0);
SELECT jsonb_pretty(transcribe_json('talk') #- '{segments,2}' #- '{segments,1}');

-- by job, and by keys of other types
SELECT transcribe_text('talk') = transcribe_job_text(:talk) AS text, transcribe_srt('talk') = transcribe_job_srt(:talk) AS srt,
       transcribe_vtt('talk') = transcribe_job_vtt(:talk) AS vtt, transcribe_json('talk') = transcribe_job_json(:talk) AS json;
UPDATE transcribe_jobs SET session_id = '17' WHERE id = :talk;
SELECT transcribe_text(17) = transcribe_job_text(:talk), transcribe_srt(17, max_line_count => 1) = transcribe_job_srt(:talk, max_line_count => 1),
       transcribe_vtt(17) = transcribe_job_vtt(:talk), transcribe_json(17) = transcribe_job_json(:talk);
UPDATE transcribe_jobs SET session_id = '4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001' WHERE id = :talk;
SELECT '4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001'::uuid AS uuid \gset
SELECT transcribe_text(:'uuid'::uuid) = transcribe_job_text(:talk), transcribe_srt(:'uuid'::uuid) = transcribe_job_srt(:talk),
       transcribe_vtt(:'uuid'::uuid, max_duration_s => 2) = transcribe_job_vtt(:talk, max_duration_s => 2),
       transcribe_json(:'uuid'::uuid) = transcribe_job_json(:talk);
UPDATE transcribe_jobs SET session_id = 'talk' WHERE id = :talk;

-- arguments out of range

\set SHOW_CONTEXT never
DO $$
DECLARE call text; hint text;
BEGIN
    FOREACH call IN ARRAY ARRAY['transcribe_srt(''talk'', max_line_width => -1)', 'transcribe_srt(''talk'', max_line_width => 1001)',
        'transcribe_vtt(''talk'', max_line_count => 0)', 'transcribe_vtt(''talk'', max_duration_s => -1)',
        'transcribe_vtt(''talk'', max_duration_s => ''nan'')', 'transcribe_text(''talk'', paragraph_pause_s => -1)']
    LOOP
        BEGIN
            EXECUTE 'SELECT ' || call;
            RAISE NOTICE '% raised nothing', call;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
            RAISE NOTICE '% % (%)', SQLSTATE, SQLERRM, hint;
        END;
    END LOOP;
END $$;
\set VERBOSITY default
SELECT transcribe_srt('talk', NULL, NULL, NULL, NULL) = transcribe_srt('talk') AS null_is_the_default;
SELECT transcribe_subtitles('srt', ARRAY[1.0, 2.0], ARRAY[2.0], ARRAY['a', 'b'], NULL, NULL, NULL, 42, 2, 7);

-- paragraphs: by pauses, and by sentences where there is no pause for long
SELECT pg_temp.transcript('paragraphs', '[{"start_s": 0, "end_s": 1, "text": "One."}, {"start_s": 1.5, "end_s": 2, "text": " Two.\n"},
    {"start_s": 5, "end_s": 6, "text": "A new one."}, {"start_s": 6, "end_s": 7, "text": "今日は"}, {"start_s": 7, "end_s": 8, "text": "晴れです。"},
    {"start_s": 8, "end_s": 9, "text": "오늘은"}, {"start_s": 9, "end_s": 10, "text": "맑음"}]') IS NOT NULL;
SELECT transcribe_text('paragraphs');
SELECT transcribe_text('paragraphs', paragraph_pause_s => 'infinity');
SELECT pg_temp.transcript('long', (SELECT jsonb_agg(jsonb_build_object('start_s', n, 'end_s', n + 1, 'text', 'Word ' || n || CASE n % 3 WHEN 0 THEN '.' ELSE '' END))
                          FROM generate_series(1, 200) n)) IS NOT NULL;
SELECT n, length(p), right(p, 12) FROM regexp_split_to_table(transcribe_text('long'), E'\n\n') WITH ORDINALITY AS p (p, n);

-- words say when the parts of a long segment are said, also where they are written otherwise
SELECT pg_temp.transcript('words', '[{"start_s": 0, "end_s": 20, "text": "We have got 20 of them, haven''t we? And then there were none.", "words": [
    {"word": "We", "start": 0, "end": 1}, {"word": "have", "start": 1, "end": 1.5}, {"word": "got", "start": 1.5, "end": 2},
    {"word": "twenty", "start": 2, "end": 3}, {"word": "of", "start": 3, "end": 4}, {"word": "them", "start": 4, "end": 5},
    {"word": "haven''t", "start": 5, "end": 5.2}, {"word": "we", "start": 5.2, "end": 5.5}, {"word": "And", "start": 16, "end": 17},
    {"word": "then", "start": 17, "end": 18}, {"word": "there", "start": 18, "end": 18.5}, {"word": "were", "start": 18.5, "end": 19},
    {"word": "none", "start": 19, "end": 20}, {"word": 7}, "odd", null]}]') IS NOT NULL;
SELECT transcribe_srt('words');
SELECT jsonb_array_length(transcribe_json('words') -> 'words'), transcribe_json('words') -> 'words' -> 8, transcribe_json('words') #> '{segments,0,words,8}';

-- channels are called by their number, if there are several
SELECT pg_temp.transcript('alone', '[{"start_s": 0, "end_s": 4, "text": "Hello?", "channel": 0}]') IS NOT NULL;
SELECT transcribe_text('alone'), transcribe_vtt('alone');
SELECT pg_temp.transcript('call', '[{"start_s": 0, "end_s": 4, "text": "Hello?", "channel": 0}, {"start_s": 3, "end_s": 5, "text": "Hello!", "channel": 1}]') AS call \gset
SELECT transcribe_text('call');
SELECT transcribe_vtt('call');
\pset tuples_only off
\pset format aligned

-- whose they are: others see nothing
CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
CREATE ROLE regress_team;
GRANT regress_team TO regress_bob;
SELECT pg_temp.transcript('private', '[{"start_s": 0, "end_s": 1, "text": "secret", "speaker": "A"}]', owner => 'regress_team') IS NOT NULL AS made;
SET ROLE regress_alice;
SELECT transcribe_text('private'), transcribe_srt('private'), transcribe_vtt('private'), transcribe_json('private'),
       transcribe_newest_job('private');
SET ROLE regress_bob;
SELECT transcribe_text('private');
RESET ROLE;

-- the newest is that which completed last, and was not replaced
SELECT pg_temp.transcript('private', '[{"start_s": 0, "end_s": 1, "text": "again", "speaker": "A"}]', owner => 'regress_team') AS second \gset
SELECT transcribe_text('private');
UPDATE transcribe_jobs SET replaced_by = 1 WHERE id = :second;
SELECT transcribe_text('private'), transcribe_job_text(:second) IS NULL AS gone;

TRUNCATE transcribe_jobs, transcribe_chunk_segments;
DROP ROLE regress_alice, regress_bob, regress_team;
