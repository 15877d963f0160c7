-- Full-text search: by language, by session, with an index and without, and what others see.

-- languages as servers report them
SELECT language, transcribe_search_config(language) AS config
FROM unnest('{en,english,English,en-US,de,german,pt_BR,nb,nn,nynorsk,flemish,castilian,ja,chinese,klingon,e,"",NULL}'::text[]) language;
-- of PostgreSQL's own configurations each is some language's
SELECT cfgname FROM pg_ts_config WHERE cfgnamespace = 'pg_catalog'::regnamespace AND transcribe_search_config(cfgname)::oid <> oid;

-- a segment keeps its language, as the worker saves it
CREATE FUNCTION pg_temp.transcript(session text, language text, VARIADIC texts text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    job bigint := transcribe_enqueue(session, current_setting('data_directory') || '/PG_VERSION');
BEGIN
    PERFORM transcribe_claim(7, transcribe_queue('whisper', 0, current_user), 10);
    PERFORM transcribe_hold(7, ARRAY[job]);
    PERFORM transcribe_save_chunks(ARRAY[(job, 0, current_user, 'plan', 0, 10, 10, '{0,10}', NULL, NULL, 'whisper', 'm', language)::transcribe_new_chunk]);
    PERFORM transcribe_save_segments(array_agg((job, 0, n, current_user, n, n + 1, t, 'S' || n, NULL, NULL, NULL, NULL, NULL,
                                                language)::transcribe_new_segment))
    FROM unnest(texts) WITH ORDINALITY AS x (t, n);
    PERFORM transcribe_complete(7, ARRAY[jsonb_populate_record(NULL::transcribe_completion,
        jsonb_build_object('job_id', job, 'language', language, 'duration_s', 20))]);
    RETURN job;
END $$;
SELECT pg_temp.transcript('en', 'english', 'The committees were meeting yesterday', 'They met again & agreed', 'Nobody was running') AS en,
       pg_temp.transcript('de', 'de', 'Die Häuser stehen im Meeting', 'Das Haus der Kinder') AS de,
       pg_temp.transcript('asked', 'en', 'Meetings, meetings, meetings') AS asked,
       pg_temp.transcript('translated', 'en', 'the meeting of houses') AS translated,
       pg_temp.transcript('unknown', NULL, 'meeting house') AS unknown \gset
SELECT session_id, s.language FROM transcribe_chunk_segments s JOIN transcribe_jobs j ON j.id = s.job_id WHERE n = 1 ORDER BY j.id;

-- each in its own language; where none is known, as it is written
SELECT session_id, start_s, end_s, speaker, text, headline, rank > 0 AS ranked FROM transcribe_search('meetings');
SELECT session_id, text FROM transcribe_search('meeting') ORDER BY job_id;
SELECT session_id, text FROM transcribe_search('Haus') ORDER BY 1, 2;
SELECT session_id, text FROM transcribe_search('die') ORDER BY 1, 2;
-- as in a web search
SELECT text FROM transcribe_search('"meeting yesterday"');
SELECT text FROM transcribe_search('"yesterday meeting"');
SELECT text FROM transcribe_search('committee or kinder') ORDER BY 1;
SELECT session_id, text FROM transcribe_search('meeting -committee -house') ORDER BY 1, 2;
SELECT count(*) FROM transcribe_search('the');
SELECT count(*) FROM transcribe_search(':*&|!()"<->');
SELECT count(*) FROM transcribe_search(NULL);
-- by another configuration, in one session, so many
SELECT session_id, text FROM transcribe_search('meetings', config => 'simple');
SELECT session_id, text FROM transcribe_search('meetings', config => 'english') ORDER BY job_id;
SELECT text FROM transcribe_search('meeting', session => 'de');
SELECT count(*) FROM transcribe_search('meeting', max_results => 2);
SELECT count(*) FROM transcribe_search('meeting', max_results => NULL);
SELECT transcribe_search('meeting', max_results => -1);

-- names are those that speakers were given
SELECT transcribe_rename_speaker('en', 'S1', 'Ann');
SELECT speaker FROM transcribe_search('committee');

-- only of what is completed, and not replaced
UPDATE transcribe_jobs SET status = 'transcribing' WHERE id = :en;
SELECT count(*) FROM transcribe_search('committee');
UPDATE transcribe_jobs SET status = 'completed', replaced_by = :de WHERE id = :en;
SELECT count(*) FROM transcribe_search('committee');
UPDATE transcribe_jobs SET replaced_by = NULL WHERE id = :en;
SELECT count(*) FROM transcribe_search('committee');

-- many, of two roles
CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
CREATE ROLE regress_team;
GRANT regress_team TO regress_bob;
INSERT INTO transcribe_jobs (session_id, path, server, owner, status, finished_at)
SELECT 'many' || n, '/recording', 'whisper', CASE n % 2 WHEN 0 THEN 'regress_alice' ELSE 'regress_team' END, 'completed', now() FROM generate_series(1, 100) n;
INSERT INTO transcribe_chunk_segments (job_id, chunk_no, n, owner, start_s, end_s, text, language)
SELECT j.id, 0, n, j.owner, n, n + 1, format('number%s of %s talking', n, j.session_id), 'english'
FROM transcribe_jobs j, generate_series(1, 50) n WHERE starts_with(j.session_id, 'many');
ANALYZE transcribe_jobs, transcribe_chunk_segments;
CREATE TABLE found (who text, indexed boolean, query text, job_id bigint, start_s float8, headline text, rank real);
GRANT ALL ON found TO PUBLIC;
CREATE FUNCTION pg_temp.search_as(who name, indexed boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', who);
    INSERT INTO found SELECT current_user, indexed, q, f.job_id, f.start_s, f.headline, f.rank
    FROM unnest(ARRAY['number7', 'talk', 'talks -number7', 'many9 number9', 'meeting', 'secret or number3', '"number8 of many8"']) q,
         transcribe_search(q, max_results => NULL) f;
    RESET ROLE;
END $$;
SELECT rolname AS me FROM pg_roles WHERE rolname = current_user \gset
SELECT pg_temp.search_as(r, false) FROM unnest(ARRAY[:'me', 'regress_alice', 'regress_bob']) r;
SELECT replace(who, :'me', 'superuser') AS who, query, count(*) FROM found GROUP BY 1, 2 ORDER BY 2, 1;
-- each sees its own, and its groups'
SELECT count(*) FROM found JOIN transcribe_jobs j ON j.id = job_id
WHERE (who = 'regress_alice' AND j.owner <> 'regress_alice') OR (who = 'regress_bob' AND j.owner <> 'regress_team');

-- with an index the same is found, by it
CREATE INDEX transcribe_search_index ON transcribe_chunk_segments USING gin (transcribe_search_vector(language, text));
ANALYZE transcribe_chunk_segments;
BEGIN;
SELECT pg_temp.search_as(r, true) FROM unnest(ARRAY[:'me', 'regress_alice', 'regress_bob']) r;
SELECT pg_stat_get_xact_numscans('transcribe_search_index'::regclass) >= 3 AS index_used;
COMMIT;
SELECT count(*) AS only_without FROM (SELECT who, query, job_id, start_s, headline, rank FROM found WHERE NOT indexed
    EXCEPT SELECT who, query, job_id, start_s, headline, rank FROM found WHERE indexed) x;
SELECT count(*) AS only_with FROM (SELECT who, query, job_id, start_s, headline, rank FROM found WHERE indexed
    EXCEPT SELECT who, query, job_id, start_s, headline, rank FROM found WHERE NOT indexed) x;
-- what a role can plant is not run, and shows nothing
GRANT CREATE ON DATABASE contrib_regression TO regress_alice;
SET ROLE regress_alice;
CREATE SCHEMA regress_evil;
CREATE FUNCTION regress_evil.leak(tsvector, tsquery) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
    RAISE NOTICE 'leaked %', $1;
    RETURN true;
END $$;
CREATE OPERATOR regress_evil.@@ (LEFTARG = tsvector, RIGHTARG = tsquery, FUNCTION = regress_evil.leak);
CREATE FUNCTION regress_evil.leak(name, name) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
    RAISE NOTICE 'leaked %', $1;
    RETURN true;
END $$;
CREATE OPERATOR regress_evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = regress_evil.leak);
SET search_path = regress_evil, pg_catalog, public;
SELECT count(*), count(*) FILTER (WHERE session_id ~ '[13579]$') AS of_others FROM transcribe_search('number7', max_results => NULL);
SELECT count(*) FROM transcribe_search('number7', config => 'pg_catalog.english', session => 'many1');
RESET search_path;
RESET ROLE;
DROP SCHEMA regress_evil CASCADE;
REVOKE CREATE ON DATABASE contrib_regression FROM regress_alice;
-- nor does it go around a right that was revoked
REVOKE SELECT ON transcribe_chunk_segments FROM PUBLIC;
SET ROLE regress_alice;
SELECT count(*) FROM transcribe_search('number7');
RESET ROLE;
GRANT SELECT ON transcribe_chunk_segments TO PUBLIC;
-- who is above row security is here, too; a role that is gone is nobody's
UPDATE transcribe_jobs SET owner = 'regress_gone' WHERE session_id = 'many1';
UPDATE transcribe_chunk_segments SET owner = 'regress_gone' WHERE job_id = (SELECT id FROM transcribe_jobs WHERE session_id = 'many1');
SELECT count(*) FROM transcribe_search('number7', session => 'many1');
SET ROLE regress_bob;
SELECT count(*) FROM transcribe_search('number7', session => 'many1');
RESET ROLE;
ALTER ROLE regress_bob BYPASSRLS;
SET ROLE regress_bob;
SELECT count(*) FROM transcribe_search('number7', session => 'many1');
RESET ROLE;

-- no text is too much for the index, or for a search
UPDATE transcribe_chunk_segments SET text = (SELECT string_agg('word' || n, ' ') FROM generate_series(1, 200000) n) || repeat(' ' || repeat('x', 3000), 100)
WHERE job_id = (SELECT id FROM transcribe_jobs WHERE session_id = 'many2') AND n = 1;
SELECT session_id, length(text) > 1000000 AS long FROM transcribe_search('word77');
DROP INDEX transcribe_search_index;
SELECT session_id, length(text) > 1000000 AS long FROM transcribe_search('word77');

DROP TABLE found;
TRUNCATE transcribe_jobs, transcribe_chunks, transcribe_chunk_segments;
DROP ROLE regress_alice, regress_bob, regress_team;
