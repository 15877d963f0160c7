-- Speakers' names, and what is said at a time.
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

-- the examples of the documentation: a talk of two
SELECT pg_temp.transcript('talk', '[
    {"start_s": 0.2, "end_s": 3.1, "text": "Good morning, and welcome to the programme.", "speaker": "SPEAKER_00"},
    {"start_s": 3.4, "end_s": 6.0, "text": "Our guest today has measured how long people wait.", "speaker": "SPEAKER_00"},
    {"start_s": 6.8, "end_s": 19.0, "text": "Thank you. It began with a simple question: why does the time in front of a lift seem so much longer than the time inside, although it is not?", "speaker": "SPEAKER_01"},
    {"start_s": 21.5, "end_s": 23.0, "text": "R&D <asked> that?", "speaker": "SPEAKER_00"}]') AS talk \gset
SELECT transcribe_rename_speaker('talk', 'SPEAKER_00', 'Host'), transcribe_rename_speaker('talk', 'SPEAKER_01', 'Dr Liu');
SELECT transcribe_text('talk');
SELECT transcribe_srt('talk') LIKE '%Dr Liu: %' AS srt, transcribe_vtt('talk') LIKE '%<v Dr Liu>%' AS vtt,
       transcribe_json('talk') #>> '{segments,2,speaker}' AS json, transcribe_result('talk') #>> '{segments,2,speaker}' AS result;
SELECT * FROM transcribe_at('talk', 10);
SELECT segment_no, said, start_s, end_s, speaker FROM transcribe_at('talk', 20, neighbours => 1);

-- a name is not the label: that one is kept, and comes back
SELECT segment_no, speaker FROM transcribe_segments WHERE session_id = 'talk' ORDER BY 1;
SELECT n, speaker, speaker_name FROM transcribe_chunk_segments WHERE job_id = :talk ORDER BY n;
SELECT speaker FROM transcribe_live_segments WHERE session_id = 'talk' AND segment_no = 1;
SELECT transcribe_rename_speaker('talk', 'Dr Liu', 'Host') AS merged, transcribe_rename_speaker('talk', 'SPEAKER_01', 'x') AS by_label,
       transcribe_rename_speaker('talk', 'Host', NULL) AS given_back, transcribe_rename_speaker('no such', 'Host', 'x') AS no_session,
       transcribe_rename_speaker('talk', NULL, 'x') AS nobody;
SELECT segment_no, speaker FROM transcribe_segments WHERE session_id = 'talk' ORDER BY 1;

-- what is no name
SELECT transcribe_rename_speaker('talk', 'SPEAKER_00', ' ');
\set VERBOSITY sqlstate
SELECT transcribe_rename_speaker('talk', 'SPEAKER_00', E'a\nb');
SELECT transcribe_rename_speaker('talk', 'SPEAKER_00', repeat('x', 1025));
\set VERBOSITY default

-- keys of other types
UPDATE transcribe_jobs SET session_id = '17' WHERE id = :talk;
SELECT transcribe_rename_speaker(17, 'SPEAKER_01', 'Ann'), (SELECT speaker FROM transcribe_at(17, 10));
UPDATE transcribe_jobs SET session_id = '4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001' WHERE id = :talk;
SELECT transcribe_rename_speaker('4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001'::uuid, 'Ann', 'Bea') AS renamed,
       (SELECT speaker FROM transcribe_at('4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001'::uuid, 10)) AS before, (SELECT speaker FROM transcribe_job_at(:talk, 10)) AS job;
UPDATE transcribe_jobs SET session_id = 'talk' WHERE id = :talk;

-- channels are called by their number until they have a name; one recording of several
SELECT pg_temp.transcript('call', '[{"start_s": 0, "end_s": 4, "text": "Hello?", "channel": 0}, {"start_s": 3, "end_s": 5, "text": "Hello!", "channel": 1}]') AS call \gset
SELECT pg_temp.transcript('call', '[{"start_s": 0, "end_s": 4, "text": "Once more?", "channel": 1}]') AS other \gset
SELECT transcribe_rename_speaker('call', 'Channel 1', 'Agent', job_id => :call) AS one, transcribe_rename_speaker('call', 'Channel 0', 'x', job_id => :other) AS none,
       transcribe_rename_speaker('call', 'Channel 0', 'x', job_id => :talk) AS elsewhere;
SELECT transcribe_job_text(:call), transcribe_job_text(:other);
SELECT transcribe_rename_speaker('call', 'Channel 1', 'Agent'), transcribe_rename_speaker('call', 'Agent', 'Operator') AS both;

-- at a time: before all, at the very begin and end, between, beyond; two at once
SELECT t, (SELECT string_agg(segment_no || CASE WHEN said THEN '!' ELSE '' END, ' ') FROM transcribe_at('talk', t)) AS said,
       (SELECT string_agg(segment_no || CASE WHEN said THEN '!' ELSE '' END, ' ') FROM transcribe_at('talk', t, 1)) AS one,
       (SELECT count(*) FROM transcribe_at('talk', t, 2147483647)) AS all
FROM unnest(ARRAY[-1, 0.2, 3.1, 3.2, 3.4, 20, 23, 1e300, 'nan', NULL]::float8[]) t;
SELECT channel, text, said FROM transcribe_job_at(:call, 3.5);
SELECT count(*) FROM transcribe_at('none', 1);
SELECT count(*) FROM transcribe_at('talk', 1, -1);

-- whose they are: the others see and rename nothing
CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
CREATE ROLE regress_team;
GRANT regress_team TO regress_bob;
SELECT pg_temp.transcript('private', '[{"start_s": 0, "end_s": 1, "text": "secret", "speaker": "A"}]', owner => 'regress_team') IS NOT NULL AS made;
SET ROLE regress_alice;
SELECT (SELECT count(*) FROM transcribe_at('private', 0)) AS at, transcribe_rename_speaker('private', 'A', 'B');
SET ROLE regress_bob;
SELECT (SELECT count(*) FROM transcribe_at('private', 0)) AS at, transcribe_rename_speaker('private', 'A', 'B');
SELECT transcribe_text('private');
RESET ROLE;

-- a run that replaces the result has the labels of its own
SELECT pg_temp.transcript('private', '[{"start_s": 0, "end_s": 1, "text": "again", "speaker": "A"}]', owner => 'regress_team') AS second \gset
UPDATE transcribe_jobs SET replaced_by = :second WHERE session_id = 'private' AND id <> :second;
SELECT transcribe_text('private');
SELECT transcribe_rename_speaker('private', 'B', 'C') AS of_the_replaced;

-- a trigger that somebody was allowed to put there does not run
CREATE FUNCTION pg_temp.steal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ran as %', current_user;
END $$;
CREATE TRIGGER steal BEFORE UPDATE ON transcribe_chunk_segments FOR EACH ROW EXECUTE FUNCTION pg_temp.steal();
SELECT transcribe_rename_speaker('private', 'A', 'C');
DROP TRIGGER steal ON transcribe_chunk_segments;

TRUNCATE transcribe_jobs, transcribe_chunk_segments;
DROP ROLE regress_alice, regress_bob, regress_team;
