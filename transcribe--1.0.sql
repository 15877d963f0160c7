/* transcribe--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION transcribe" to load this file. \quit

-- Others may have put functions and operators into the schema, which match
-- better than those that are meant, and would be run by the worker.  So every
-- function is qualified, and operands have exactly the types of an operator of
-- pg_catalog, which comes first.  (unnest() of several arrays is syntax, and must
-- not be qualified.)

CREATE FUNCTION transcribe_require_library(version text) RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_require_library(text) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_require_library(text) IS
'raises an error, with advice, unless the loaded library is of this version at least; the begin of each script of the extension';
SELECT transcribe_require_library('1.0');

-- ---------------------------------------------------------------------
-- What this process and this database are.  In C, because the answers are
-- in shared memory or known to the process.
-- ---------------------------------------------------------------------

CREATE FUNCTION transcribe_preload_check() RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_preload_check() FROM PUBLIC;
COMMENT ON FUNCTION transcribe_preload_check() IS
'whether the server has loaded transcribe at its start; warns with the line to set if it has not';

CREATE FUNCTION transcribe_home_of(lot bigint) RETURNS bigint
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_home_of(bigint) IS
'what transcribe_home returns, made of a number drawn by lot and of this database';

-- The number is in the body of a function, because that is neither dumped nor
-- replicated, so that what comes from elsewhere has another home; but pg_upgrade
-- takes it along.  No later script may replace the function.
DO $$
BEGIN
    EXECUTE pg_catalog.format(
        'CREATE FUNCTION transcribe_home() RETURNS bigint '
        'LANGUAGE sql STABLE PARALLEL SAFE '
        'RETURN transcribe_home_of(%L::bigint)',
        pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::text, 0));
END $$;
COMMENT ON FUNCTION transcribe_home() IS
'identity of this database: jobs of another home stand still';

CREATE FUNCTION transcribe_incarnations() RETURNS SETOF bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_incarnations() FROM PUBLIC;
COMMENT ON FUNCTION transcribe_incarnations() IS
'the numbers under which workers that are running claim jobs';

-- The worker reads the bodies of its functions, and calls in them would be found
-- by name: whoever may create in this schema could make another function of the
-- name, and calls ambiguous.  There is but one view of a name.
CREATE VIEW transcribe_here AS SELECT transcribe_home() AS home;
COMMENT ON VIEW transcribe_here IS 'transcribe_home(), for the worker';
COMMENT ON COLUMN transcribe_here.home IS 'identity of this database';
CREATE VIEW transcribe_live AS
    SELECT i.incarnation FROM transcribe_incarnations() AS i (incarnation);
COMMENT ON VIEW transcribe_live IS 'transcribe_incarnations(), for the worker';
COMMENT ON COLUMN transcribe_live.incarnation IS 'as in transcribe_jobs.claimed_by';

CREATE FUNCTION transcribe_wake() RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_wake() FROM PUBLIC;
COMMENT ON FUNCTION transcribe_wake() IS
'have the worker look at this database''s queue once the transaction has committed';

CREATE FUNCTION transcribe_queue(server text, priority integer, owner name) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_queue(text, integer, name) IS
'transcribe_jobs.queue: another text for each server (or list of servers), priority and owner';

CREATE FUNCTION transcribe_active(owner name, session_id text, path text) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_active(name, text, text) IS
'another text for each owner, session and path, of which one job may be active';

CREATE FUNCTION transcribe_refuse_truncate() RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_refuse_truncate() FROM PUBLIC;
COMMENT ON FUNCTION transcribe_refuse_truncate() IS
'refuses TRUNCATE to all but the table''s owner, because row security does not apply to it';

CREATE FUNCTION transcribe_refuse_write() RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_refuse_write() FROM PUBLIC;
COMMENT ON FUNCTION transcribe_refuse_write() IS
'refuses to write a table to all but its owner, also where row security does not apply';

-- ---------------------------------------------------------------------
-- Tables
--
-- Nobody writes them but the functions below.  The owner of a row is a
-- role's name, not its OID: a dump restores where the role is missing, and
-- a reused OID shows nothing to a stranger.  Tables that are written with each job
-- have no CHECK constraints: each statement would read them from text.
-- ---------------------------------------------------------------------

CREATE TABLE transcribe_jobs (
    id            bigint GENERATED ALWAYS AS IDENTITY (CYCLE) PRIMARY KEY,
    session_id    text NOT NULL,
    path          text NOT NULL,
    server        text NOT NULL,
    owner         name NOT NULL,
    status        text NOT NULL DEFAULT 'queued',
    progress      integer NOT NULL DEFAULT 0,
    priority      integer NOT NULL DEFAULT 0,
    run_at        timestamptz NOT NULL DEFAULT pg_catalog.now(),
    attempts      integer NOT NULL DEFAULT 0,
    max_attempts  integer NOT NULL DEFAULT 5,
    crashes       integer NOT NULL DEFAULT 0,
    options       jsonb NOT NULL DEFAULT '{}',
    language      text,
    duration_s    double precision,
    speech_s      double precision,
    trimmed_s     double precision,
    source_format text,
    sample_rate   integer,
    channels      integer,
    loudness_lufs double precision,
    damaged       text,
    missing_s     double precision,
    error         text,
    error_code    text,
    served_by     text,
    created_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at    timestamptz,
    finished_at   timestamptz,
    claimed_by    bigint,
    replaced_by   bigint,
    home          bigint NOT NULL DEFAULT transcribe_home(),
    queue         text COLLATE pg_catalog."C" NOT NULL
                  GENERATED ALWAYS AS (transcribe_queue(server, priority, owner)) STORED,
    -- One active job per owner, session and path.  A hash, because a path
    -- may be longer than a B-tree entry.
    CONSTRAINT transcribe_jobs_one_active
        EXCLUDE USING hash (transcribe_active(owner, session_id, path) WITH =)
        WHERE (status IN ('queued', 'preprocessing', 'transcribing'))
) WITH (fillfactor = 70,
        autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 500);

-- Jobs that are alike in all that decides when their turn comes stand together,
-- so that neither one who has enqueued very many nor a server that has no room
-- is in the way of what else is waiting.  One column for them and not three,
-- because a scan knows where to end by one only.
CREATE INDEX transcribe_jobs_queued
    ON transcribe_jobs (home, queue, run_at, id)
    WHERE status = 'queued';
CREATE INDEX transcribe_jobs_running ON transcribe_jobs (id)
    WHERE status IN ('preprocessing', 'transcribing');
-- By what became of them, and when: to retry what has failed since, or to purge
-- what is old.
CREATE INDEX transcribe_jobs_finished ON transcribe_jobs (home, status, finished_at)
    WHERE finished_at IS NOT NULL;
CREATE INDEX transcribe_jobs_session ON transcribe_jobs (session_id, id);

COMMENT ON TABLE transcribe_jobs IS
'one row for each recording to transcribe: the queue and its history; written by transcribe_* functions only';
COMMENT ON COLUMN transcribe_jobs.id IS 'the job''s number, as transcribe_enqueue returns it';
COMMENT ON COLUMN transcribe_jobs.session_id IS 'the application''s key, as text; at most 1024 bytes';
COMMENT ON COLUMN transcribe_jobs.path IS 'absolute path of the recording on the database server; or bytea: and a hash, or large_object: and its number';
COMMENT ON COLUMN transcribe_jobs.server IS 'foreign server that the job goes to; of several, separated by commas, the first that is usable and has room';
COMMENT ON COLUMN transcribe_jobs.owner IS 'name of the role that enqueued it, whose rights and key are used';
COMMENT ON COLUMN transcribe_jobs.status IS 'queued, preprocessing, transcribing, completed, failed or cancelled';
COMMENT ON COLUMN transcribe_jobs.progress IS 'percent done, by seconds of audio; moves when a chunk is saved';
COMMENT ON COLUMN transcribe_jobs.priority IS 'larger runs first';
COMMENT ON COLUMN transcribe_jobs.run_at IS 'not to be started before; moved forward by a retry';
COMMENT ON COLUMN transcribe_jobs.attempts IS 'attempts that ended by the fault of the file or the server, or in success; interruptions are not counted';
COMMENT ON COLUMN transcribe_jobs.max_attempts IS 'attempts after which the job fails for good; from the job''s option max_attempts, else the server''s, when enqueued';
COMMENT ON COLUMN transcribe_jobs.crashes IS 'times that a worker or its agent died while the job was running; it fails at the third';
COMMENT ON COLUMN transcribe_jobs.options IS 'the job''s own options: language, prompt, temperature, model, words, translate, channels, max_attempts';
COMMENT ON COLUMN transcribe_jobs.language IS 'as the server reported it: a name or a code';
COMMENT ON COLUMN transcribe_jobs.duration_s IS 'seconds of the recording, as decoded';
COMMENT ON COLUMN transcribe_jobs.speech_s IS 'seconds that were sent, after silence was removed; of all channels together, where they are transcribed apart';
COMMENT ON COLUMN transcribe_jobs.trimmed_s IS 'seconds that were not sent because they were silent, or said on another channel as well';
COMMENT ON COLUMN transcribe_jobs.source_format IS 'container and codec of the recording, by FFmpeg''s names: mov/aac';
COMMENT ON COLUMN transcribe_jobs.sample_rate IS 'samples per second of the recording';
COMMENT ON COLUMN transcribe_jobs.channels IS 'channels of the recording';
COMMENT ON COLUMN transcribe_jobs.loudness_lufs IS 'loudness of what was sent, before correction, in LUFS by EBU R128; NULL if nothing was';
COMMENT ON COLUMN transcribe_jobs.missing_s IS 'seconds that the container announces and the file does not have; NULL when none, or not known';
COMMENT ON COLUMN transcribe_jobs.damaged IS 'what could not be decoded of the recording; NULL when all could';
COMMENT ON COLUMN transcribe_jobs.error IS 'why the job failed, or why the last attempt did';
COMMENT ON COLUMN transcribe_jobs.error_code IS 'the same as a stable word; listed in the documentation';
COMMENT ON COLUMN transcribe_jobs.served_by IS 'foreign server that the last attempt went to';
COMMENT ON COLUMN transcribe_jobs.created_at IS 'when it was enqueued';
COMMENT ON COLUMN transcribe_jobs.started_at IS 'when it was first claimed by a worker';
COMMENT ON COLUMN transcribe_jobs.finished_at IS 'when it completed, failed or was cancelled';
COMMENT ON COLUMN transcribe_jobs.claimed_by IS 'incarnation of the worker that has it';
COMMENT ON COLUMN transcribe_jobs.replaced_by IS 'the later job of the same owner, session and path whose result replaced this one''s';
COMMENT ON COLUMN transcribe_jobs.home IS 'the database it was enqueued in; elsewhere it stands still until transcribe_adopt()';
COMMENT ON COLUMN transcribe_jobs.queue IS 'another text for each server (or list of servers), priority and owner: among queued jobs with the same one the turn comes by run_at and id';

CREATE TABLE transcribe_chunks (
    job_id        bigint NOT NULL,
    chunk_no      integer NOT NULL,
    owner         text NOT NULL,
    plan          text NOT NULL,
    start_s       double precision NOT NULL,
    end_s         double precision NOT NULL,
    audio_s       double precision NOT NULL,
    spans         double precision[] NOT NULL,
    channel       integer,
    loudness_lufs double precision,
    server        text NOT NULL,
    model         text,
    language      text,
    saved_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (job_id, chunk_no)
);
COMMENT ON TABLE transcribe_chunks IS
'one row for each part of a recording whose answer is saved; an interrupted job sends only the others again';
COMMENT ON COLUMN transcribe_chunks.job_id IS 'transcribe_jobs.id';
COMMENT ON COLUMN transcribe_chunks.chunk_no IS 'number of the chunk in its job, from 0, in the order of being cut';
COMMENT ON COLUMN transcribe_chunks.owner IS 'as in transcribe_jobs, for row security';
COMMENT ON COLUMN transcribe_chunks.plan IS 'the file''s identity, and a hash of the options that its text depends on; another plan starts over';
COMMENT ON COLUMN transcribe_chunks.start_s IS 'second of the recording from which the chunk accounts for it';
COMMENT ON COLUMN transcribe_chunks.end_s IS 'second of the recording up to which it does';
COMMENT ON COLUMN transcribe_chunks.audio_s IS 'seconds of audio in the chunk, silence removed';
COMMENT ON COLUMN transcribe_chunks.spans IS 'start and length of each stretch of the recording in it, in seconds, flat';
COMMENT ON COLUMN transcribe_chunks.channel IS 'channel of the recording, from 0, where channels are transcribed apart; NULL where they are mixed';
COMMENT ON COLUMN transcribe_chunks.loudness_lufs IS 'loudness of its audio before correction, in LUFS by EBU R128';
COMMENT ON COLUMN transcribe_chunks.server IS 'foreign server that answered';
COMMENT ON COLUMN transcribe_chunks.model IS 'model that was asked for';
COMMENT ON COLUMN transcribe_chunks.language IS 'language that the server reported';
COMMENT ON COLUMN transcribe_chunks.saved_at IS 'when the answer was saved';

CREATE TABLE transcribe_chunk_segments (
    job_id            bigint NOT NULL,
    chunk_no          integer NOT NULL,
    n                 integer NOT NULL,
    owner             text NOT NULL,
    start_s           double precision NOT NULL,
    end_s             double precision NOT NULL,
    text              text NOT NULL,
    speaker           text,
    channel           integer,
    avg_logprob       double precision,
    compression_ratio double precision,
    no_speech_prob    double precision,
    words             jsonb,
    language          text,
    speaker_name      text,
    PRIMARY KEY (job_id, chunk_no, n)
);
COMMENT ON TABLE transcribe_chunk_segments IS
'segments as they were saved, chunk by chunk; read them through transcribe_segments or transcribe_live_segments';
COMMENT ON COLUMN transcribe_chunk_segments.job_id IS 'transcribe_jobs.id';
COMMENT ON COLUMN transcribe_chunk_segments.chunk_no IS 'transcribe_chunks.chunk_no';
COMMENT ON COLUMN transcribe_chunk_segments.n IS 'position in the chunk, from 0';
COMMENT ON COLUMN transcribe_chunk_segments.owner IS 'as in transcribe_jobs, for row security';
COMMENT ON COLUMN transcribe_chunk_segments.start_s IS 'where it begins in the recording, in seconds';
COMMENT ON COLUMN transcribe_chunk_segments.end_s IS 'where it ends in the recording, in seconds';
COMMENT ON COLUMN transcribe_chunk_segments.text IS 'what was said';
COMMENT ON COLUMN transcribe_chunk_segments.speaker IS 'the server''s label of the speaker, if it gave one';
COMMENT ON COLUMN transcribe_chunk_segments.channel IS 'channel of the recording, from 0, where channels are transcribed apart; NULL where they are mixed';
COMMENT ON COLUMN transcribe_chunk_segments.avg_logprob IS 'mean log probability of its tokens, if the server gave it';
COMMENT ON COLUMN transcribe_chunk_segments.compression_ratio IS 'compression ratio of its text, if the server gave it; above 2.4 it is likely a loop';
COMMENT ON COLUMN transcribe_chunk_segments.no_speech_prob IS 'probability that nothing was said, if the server gave it';
COMMENT ON COLUMN transcribe_chunk_segments.words IS 'array of {"word", "start", "end"} in seconds of the recording, if asked for';
COMMENT ON COLUMN transcribe_chunk_segments.language IS 'language of the text: as the server reported it, else as the job asked for it; en of a translation; for transcribe_search';
COMMENT ON COLUMN transcribe_chunk_segments.speaker_name IS 'name that transcribe_rename_speaker has given, and readers see in place of the label; NULL if none';

CREATE TABLE transcribe_attempts (
    job_id      bigint NOT NULL,
    id          bigint GENERATED ALWAYS AS IDENTITY (CYCLE),
    owner       text NOT NULL,
    attempt     integer NOT NULL,
    chunk_no    integer NOT NULL,
    server      text NOT NULL,
    model       text,
    started_at  timestamptz NOT NULL,
    elapsed_s   double precision NOT NULL,
    audio_s     double precision NOT NULL,
    sent_bytes  bigint NOT NULL,
    http_status integer,
    error_code  text,
    error       text,
    request_id  text,
    usage       jsonb,
    PRIMARY KEY (job_id, id)
);
COMMENT ON TABLE transcribe_attempts IS
'one row for each request that was made for a job and has ended; written with the job''s next change';
COMMENT ON COLUMN transcribe_attempts.job_id IS 'transcribe_jobs.id';
COMMENT ON COLUMN transcribe_attempts.id IS 'number of the request, larger for a later one';
COMMENT ON COLUMN transcribe_attempts.owner IS 'as in transcribe_jobs, for row security';
COMMENT ON COLUMN transcribe_attempts.attempt IS 'number of the job''s attempt, from 1; several requests belong to one';
COMMENT ON COLUMN transcribe_attempts.chunk_no IS 'transcribe_chunks.chunk_no, if the answer was saved';
COMMENT ON COLUMN transcribe_attempts.server IS 'foreign server that was asked';
COMMENT ON COLUMN transcribe_attempts.model IS 'model that was asked for';
COMMENT ON COLUMN transcribe_attempts.started_at IS 'when the request started';
COMMENT ON COLUMN transcribe_attempts.elapsed_s IS 'seconds that it took';
COMMENT ON COLUMN transcribe_attempts.audio_s IS 'seconds of audio in it';
COMMENT ON COLUMN transcribe_attempts.sent_bytes IS 'bytes that were sent of it';
COMMENT ON COLUMN transcribe_attempts.http_status IS 'status of the answer; NULL if none came';
COMMENT ON COLUMN transcribe_attempts.error_code IS 'what was wrong with it, as in transcribe_jobs; NULL if the answer was good';
COMMENT ON COLUMN transcribe_attempts.error IS 'the same as a sentence';
COMMENT ON COLUMN transcribe_attempts.request_id IS 'the server''s name for the request, if it gave one';
COMMENT ON COLUMN transcribe_attempts.usage IS 'what the server says that it counts: tokens or seconds';

-- What is to be done after a job, with the rights of a role.  So a row is as good
-- as that role's word: nobody may write one, not even who is exempt from row
-- security, but the functions, which note who called them.
CREATE TABLE transcribe_callbacks (
    job_id         bigint PRIMARY KEY,
    owner          name NOT NULL,
    function       text NOT NULL,
    function_owner name NOT NULL,
    status         text NOT NULL DEFAULT 'waiting'
                   CHECK (status IN ('waiting', 'queued', 'running', 'completed',
                                     'failed')),
    attempts       integer NOT NULL DEFAULT 0,
    max_attempts   integer NOT NULL DEFAULT 5 CHECK (max_attempts > 0),
    run_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    error          text,
    error_code     text,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at     timestamptz,
    finished_at    timestamptz,
    claimed_by     bigint,
    home           bigint NOT NULL DEFAULT transcribe_home()
) WITH (fillfactor = 70,
        autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 500);
CREATE INDEX transcribe_callbacks_queued
    ON transcribe_callbacks (home, owner, run_at, job_id)
    WHERE status = 'queued';
CREATE INDEX transcribe_callbacks_running ON transcribe_callbacks (job_id)
    WHERE status = 'running';
COMMENT ON TABLE transcribe_callbacks IS
'one row for each function that is to be called when a job has ended, and what became of it';
COMMENT ON COLUMN transcribe_callbacks.job_id IS 'transcribe_jobs.id, and the function''s argument';
COMMENT ON COLUMN transcribe_callbacks.owner IS 'role that asked for it, as which it runs';
COMMENT ON COLUMN transcribe_callbacks.function IS 'the function, with its schema and argument';
COMMENT ON COLUMN transcribe_callbacks.function_owner IS 'role that owned the function when it was asked for; that of another is not called';
COMMENT ON COLUMN transcribe_callbacks.status IS 'waiting for the end of the job, queued, running, completed or failed';
COMMENT ON COLUMN transcribe_callbacks.attempts IS 'calls that have begun since the job ended';
COMMENT ON COLUMN transcribe_callbacks.max_attempts IS 'calls after which it fails for good';
COMMENT ON COLUMN transcribe_callbacks.run_at IS 'not to be called before; moved forward by a retry';
COMMENT ON COLUMN transcribe_callbacks.error IS 'why the last call failed';
COMMENT ON COLUMN transcribe_callbacks.error_code IS 'the same as SQLSTATE';
COMMENT ON COLUMN transcribe_callbacks.created_at IS 'when it was asked for';
COMMENT ON COLUMN transcribe_callbacks.started_at IS 'when the last call began';
COMMENT ON COLUMN transcribe_callbacks.finished_at IS 'when it completed or failed';
COMMENT ON COLUMN transcribe_callbacks.claimed_by IS 'number of the process that calls it';
COMMENT ON COLUMN transcribe_callbacks.home IS 'the database it was asked for in; elsewhere it stands still until transcribe_adopt()';

-- Queue and transcripts are users' data: pg_dump takes them along.
SELECT pg_catalog.pg_extension_config_dump('transcribe_jobs', '');
SELECT pg_catalog.pg_extension_config_dump('transcribe_jobs_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('transcribe_chunks', '');
SELECT pg_catalog.pg_extension_config_dump('transcribe_chunk_segments', '');
SELECT pg_catalog.pg_extension_config_dump('transcribe_attempts', '');
SELECT pg_catalog.pg_extension_config_dump('transcribe_attempts_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('transcribe_callbacks', '');

CREATE TRIGGER transcribe_refuse_truncate BEFORE TRUNCATE ON transcribe_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION transcribe_refuse_truncate();
CREATE TRIGGER transcribe_refuse_truncate BEFORE TRUNCATE ON transcribe_chunks
    FOR EACH STATEMENT EXECUTE FUNCTION transcribe_refuse_truncate();
CREATE TRIGGER transcribe_refuse_truncate BEFORE TRUNCATE ON transcribe_chunk_segments
    FOR EACH STATEMENT EXECUTE FUNCTION transcribe_refuse_truncate();
CREATE TRIGGER transcribe_refuse_truncate BEFORE TRUNCATE ON transcribe_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION transcribe_refuse_truncate();
CREATE TRIGGER transcribe_refuse_truncate BEFORE TRUNCATE ON transcribe_callbacks
    FOR EACH STATEMENT EXECUTE FUNCTION transcribe_refuse_truncate();
CREATE TRIGGER transcribe_refuse_write BEFORE INSERT OR UPDATE OR DELETE ON transcribe_callbacks
    FOR EACH STATEMENT EXECUTE FUNCTION transcribe_refuse_write();

-- A role sees the rows of every role whose rights it has.  The list of names
-- is computed once per query, and a name that is gone raises nothing.
ALTER TABLE transcribe_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE transcribe_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE transcribe_chunk_segments ENABLE ROW LEVEL SECURITY;
ALTER TABLE transcribe_attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE transcribe_callbacks ENABLE ROW LEVEL SECURITY;

CREATE POLICY transcribe_owner ON transcribe_jobs FOR SELECT
    USING (owner = ANY (ARRAY(SELECT r.rolname FROM pg_catalog.pg_roles r
                              WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))));
CREATE POLICY transcribe_owner ON transcribe_chunks FOR SELECT
    USING (owner = ANY (ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
                              WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))));
CREATE POLICY transcribe_owner ON transcribe_chunk_segments FOR SELECT
    USING (owner = ANY (ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
                              WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))));
CREATE POLICY transcribe_owner ON transcribe_attempts FOR SELECT
    USING (owner = ANY (ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
                              WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))));
CREATE POLICY transcribe_owner ON transcribe_callbacks FOR SELECT
    USING (owner = ANY (ARRAY(SELECT r.rolname FROM pg_catalog.pg_roles r
                              WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))));
COMMENT ON POLICY transcribe_owner ON transcribe_jobs IS
'rows of the roles whose rights the reader has';
COMMENT ON POLICY transcribe_owner ON transcribe_chunks IS
'rows of the roles whose rights the reader has';
COMMENT ON POLICY transcribe_owner ON transcribe_chunk_segments IS
'rows of the roles whose rights the reader has';
COMMENT ON POLICY transcribe_owner ON transcribe_attempts IS
'rows of the roles whose rights the reader has';
COMMENT ON POLICY transcribe_owner ON transcribe_callbacks IS
'rows of the roles whose rights the reader has';

GRANT SELECT ON transcribe_jobs, transcribe_chunks, transcribe_chunk_segments,
    transcribe_attempts, transcribe_callbacks TO PUBLIC;
-- pg_dump by a role that may read all rows needs the sequences as well.
GRANT SELECT ON SEQUENCE transcribe_jobs_id_seq, transcribe_attempts_id_seq TO PUBLIC;

-- Recordings that were given as bytes.  They go when they are not needed any more:
-- with the job, or when it has completed.
CREATE TABLE transcribe_recordings (
    job_id   bigint NOT NULL,
    piece_no integer NOT NULL CHECK (piece_no >= 0),
    owner    text NOT NULL,
    data     bytea NOT NULL,
    PRIMARY KEY (job_id, piece_no)
);
-- Audio is compressed already, as far as it can be.
ALTER TABLE transcribe_recordings ALTER data SET STORAGE EXTERNAL;
COMMENT ON TABLE transcribe_recordings IS
'recordings that were enqueued as bytes, in pieces; removed when their job has completed';
COMMENT ON COLUMN transcribe_recordings.job_id IS 'transcribe_jobs.id';
COMMENT ON COLUMN transcribe_recordings.piece_no IS 'position of the piece in the recording, from 0';
COMMENT ON COLUMN transcribe_recordings.owner IS 'as in transcribe_jobs, for row security';
COMMENT ON COLUMN transcribe_recordings.data IS 'bytes of the recording, 1 MB but in the last piece';
SELECT pg_catalog.pg_extension_config_dump('transcribe_recordings', '');
CREATE TRIGGER transcribe_refuse_truncate BEFORE TRUNCATE ON transcribe_recordings
    FOR EACH STATEMENT EXECUTE FUNCTION transcribe_refuse_truncate();
ALTER TABLE transcribe_recordings ENABLE ROW LEVEL SECURITY;
CREATE POLICY transcribe_owner ON transcribe_recordings FOR SELECT
    USING (owner = ANY (ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
                              WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))));
COMMENT ON POLICY transcribe_owner ON transcribe_recordings IS
'rows of the roles whose rights the reader has';
GRANT SELECT ON transcribe_recordings TO PUBLIC;

-- ---------------------------------------------------------------------
-- Enqueueing and steering.  In C, running with the rights of the caller
-- until they are checked, then with those of the tables' owner.
-- ---------------------------------------------------------------------

CREATE FUNCTION transcribe_enqueue(
    session_id text, path text, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_enqueue(text, text, text, integer, timestamptz, jsonb, text) IS
'queue a recording for transcription; returns the job''s id, or that of the active job of the same owner, session and path';

CREATE FUNCTION transcribe_enqueue(
    session_id uuid, path text, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'transcribe_enqueue_uuid';
COMMENT ON FUNCTION transcribe_enqueue(uuid, text, text, integer, timestamptz, jsonb, text) IS
'queue a recording for transcription, for a session known by a uuid';

CREATE FUNCTION transcribe_enqueue(
    session_id bigint, path text, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'transcribe_enqueue_bigint';
COMMENT ON FUNCTION transcribe_enqueue(bigint, text, text, integer, timestamptz, jsonb, text) IS
'queue a recording for transcription, for a session known by a number';

-- Recordings that are no files.  What has no type of its own stays a path, since
-- text is preferred to bytea and oid.
CREATE FUNCTION transcribe_enqueue(
    session_id text, audio bytea, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'transcribe_enqueue_bytea';
COMMENT ON FUNCTION transcribe_enqueue(text, bytea, text, integer, timestamptz, jsonb, text) IS
'queue a recording that is given as bytes, which are stored until it is transcribed';

CREATE FUNCTION transcribe_enqueue(
    session_id text, large_object oid, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'transcribe_enqueue_large_object';
COMMENT ON FUNCTION transcribe_enqueue(text, oid, text, integer, timestamptz, jsonb, text) IS
'queue a recording that is a large object, which is read when the job runs';

CREATE FUNCTION transcribe_enqueue(
    session_id uuid, audio bytea, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT transcribe_enqueue(transcribe_enqueue.session_id::text,
        transcribe_enqueue.audio, transcribe_enqueue.server,
        transcribe_enqueue.priority, transcribe_enqueue.run_at,
        transcribe_enqueue.options, transcribe_enqueue.on_complete);
END;
COMMENT ON FUNCTION transcribe_enqueue(uuid, bytea, text, integer, timestamptz, jsonb, text) IS
'queue a recording that is given as bytes, for a session known by a uuid';

CREATE FUNCTION transcribe_enqueue(
    session_id bigint, audio bytea, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT transcribe_enqueue(transcribe_enqueue.session_id::text,
        transcribe_enqueue.audio, transcribe_enqueue.server,
        transcribe_enqueue.priority, transcribe_enqueue.run_at,
        transcribe_enqueue.options, transcribe_enqueue.on_complete);
END;
COMMENT ON FUNCTION transcribe_enqueue(bigint, bytea, text, integer, timestamptz, jsonb, text) IS
'queue a recording that is given as bytes, for a session known by a number';

CREATE FUNCTION transcribe_enqueue(
    session_id uuid, large_object oid, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT transcribe_enqueue(transcribe_enqueue.session_id::text,
        transcribe_enqueue.large_object, transcribe_enqueue.server,
        transcribe_enqueue.priority, transcribe_enqueue.run_at,
        transcribe_enqueue.options, transcribe_enqueue.on_complete);
END;
COMMENT ON FUNCTION transcribe_enqueue(uuid, oid, text, integer, timestamptz, jsonb, text) IS
'queue a recording that is a large object, for a session known by a uuid';

CREATE FUNCTION transcribe_enqueue(
    session_id bigint, large_object oid, server text DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT pg_catalog.now(),
    options jsonb DEFAULT '{}', on_complete text DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT transcribe_enqueue(transcribe_enqueue.session_id::text,
        transcribe_enqueue.large_object, transcribe_enqueue.server,
        transcribe_enqueue.priority, transcribe_enqueue.run_at,
        transcribe_enqueue.options, transcribe_enqueue.on_complete);
END;
COMMENT ON FUNCTION transcribe_enqueue(bigint, oid, text, integer, timestamptz, jsonb, text) IS
'queue a recording that is a large object, for a session known by a number';

CREATE FUNCTION transcribe_enqueue_trigger() RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_enqueue_trigger() IS
'for triggers AFTER INSERT OR UPDATE, for each row: queues the recording that the row names; arguments: session column, path column, and server, priority, options, prefix';

CREATE PROCEDURE transcribe_backfill(
    relation regclass, session_column text, path_column text,
    server text DEFAULT NULL, priority integer DEFAULT -10,
    options jsonb DEFAULT '{}', prefix text DEFAULT '',
    batch_size integer DEFAULT 1000, INOUT enqueued bigint DEFAULT 0,
    INOUT skipped bigint DEFAULT 0, INOUT refused bigint DEFAULT 0)
LANGUAGE C
AS 'MODULE_PATHNAME';
COMMENT ON PROCEDURE transcribe_backfill(regclass, text, text, text, integer, jsonb, text, integer, bigint, bigint, bigint) IS
'queue the recordings that a table holds and that have no job yet, a batch in each transaction; may be called again to go on';

CREATE FUNCTION transcribe_cancel(job_id bigint) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_cancel(bigint) IS
'cancel a job that is queued or running; false if it had already ended';

CREATE FUNCTION transcribe_retry(job_id bigint) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_retry(bigint) IS
'queue a failed or cancelled job again, with its attempts set back; false if it is active or completed';

CREATE FUNCTION transcribe_retry_failed(
    since timestamptz DEFAULT '-infinity', server text DEFAULT NULL,
    error_code text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_retry_failed(timestamptz, text, text) IS
'queue all jobs again that have failed since then, at that server, by that error; returns how many';

CREATE FUNCTION transcribe_delete(job_id bigint) RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_delete(bigint) IS
'remove a job in any status, with its segments, chunks and attempts; one that is running is dropped';

CREATE FUNCTION transcribe_purge(
    failed_before timestamptz DEFAULT NULL,
    completed_before timestamptz DEFAULT NULL, max_jobs integer DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_purge(timestamptz, timestamptz, integer) IS
'remove jobs that failed or were cancelled before the one time, or completed before the other, with all that belongs to them; returns how many';

CREATE FUNCTION transcribe_on_complete(job_id bigint, function text) RETURNS bigint
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_on_complete(bigint, text) IS
'have a function called with the job''s id, as the caller, in the background, when the job has completed, failed or been cancelled; returns the job''s id';

CREATE FUNCTION transcribe_retry_callback(job_id bigint) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_retry_callback(bigint) IS
'call the function of a job at once that has failed or waits for its next attempt, with its attempts set back; false if there is none such';

-- Called by a superuser: triggers that others have put on the table stay off.
CREATE FUNCTION transcribe_adopt() RETURNS bigint
LANGUAGE sql VOLATILE
SET session_replication_role = replica
BEGIN ATOMIC
    SELECT transcribe_wake();
    -- Logical replication leaves sequences where they are.
    SELECT pg_catalog.setval('transcribe_jobs_id_seq', pg_catalog.max(j.id))
    FROM transcribe_jobs j
    HAVING pg_catalog.max(j.id) > (SELECT q.last_value FROM transcribe_jobs_id_seq q);
    SELECT pg_catalog.setval('transcribe_attempts_id_seq', pg_catalog.max(a.id))
    FROM transcribe_attempts a
    HAVING pg_catalog.max(a.id) > (SELECT q.last_value FROM transcribe_attempts_id_seq q);
    UPDATE transcribe_callbacks c
    SET home = transcribe_home(),
        status = CASE c.status WHEN 'running' THEN 'queued' ELSE c.status END,
        claimed_by = NULL
    WHERE c.home <> transcribe_home();
    WITH adopted AS (
        UPDATE transcribe_jobs j
        SET home = transcribe_home(),
            status = CASE WHEN j.status IN ('preprocessing', 'transcribing')
                          THEN 'queued' ELSE j.status END,
            claimed_by = NULL
        WHERE j.home <> transcribe_home()
        RETURNING j.id)
    SELECT pg_catalog.count(*) FROM adopted;
END;
REVOKE ALL ON FUNCTION transcribe_adopt() FROM PUBLIC;
COMMENT ON FUNCTION transcribe_adopt() IS
'make the jobs that came with a restored dump or a copied database run here; returns how many';

-- ---------------------------------------------------------------------
-- Reading
-- ---------------------------------------------------------------------

CREATE VIEW transcribe_segments WITH (security_invoker = true) AS
SELECT s.job_id,
       j.session_id,
       pg_catalog.row_number() OVER (PARTITION BY s.job_id, j.session_id
                          ORDER BY s.start_s, s.chunk_no, s.n)::integer AS segment_no,
       s.start_s, s.end_s, s.text,
       COALESCE(s.speaker_name, s.speaker) AS speaker, s.channel,
       s.avg_logprob, s.compression_ratio, s.no_speech_prob, s.words
FROM transcribe_jobs j
JOIN transcribe_chunk_segments s ON s.job_id = j.id
WHERE j.status = 'completed' AND j.replaced_by IS NULL;
COMMENT ON VIEW transcribe_segments IS
'what was said, in segments, of completed jobs; a job that was run again shows its newest result only';
COMMENT ON COLUMN transcribe_segments.job_id IS 'transcribe_jobs.id';
COMMENT ON COLUMN transcribe_segments.session_id IS 'the application''s key';
COMMENT ON COLUMN transcribe_segments.segment_no IS 'position in the recording, from 1';
COMMENT ON COLUMN transcribe_segments.start_s IS 'where it begins in the recording, in seconds';
COMMENT ON COLUMN transcribe_segments.end_s IS 'where it ends in the recording, in seconds';
COMMENT ON COLUMN transcribe_segments.text IS 'what was said';
COMMENT ON COLUMN transcribe_segments.speaker IS 'the speaker: the name that transcribe_rename_speaker has given, else the server''s label, if it gave one';
COMMENT ON COLUMN transcribe_segments.channel IS 'channel of the recording, from 0, where channels are transcribed apart; NULL where they are mixed';
COMMENT ON COLUMN transcribe_segments.avg_logprob IS 'mean log probability of its tokens, if the server gave it';
COMMENT ON COLUMN transcribe_segments.compression_ratio IS 'compression ratio of its text, if the server gave it';
COMMENT ON COLUMN transcribe_segments.no_speech_prob IS 'probability that nothing was said, if the server gave it';
COMMENT ON COLUMN transcribe_segments.words IS 'array of {"word", "start", "end"} in seconds of the recording, if asked for';

CREATE VIEW transcribe_live_segments WITH (security_invoker = true) AS
SELECT s.job_id,
       j.session_id,
       j.status,
       pg_catalog.row_number() OVER (PARTITION BY s.job_id, j.session_id
                          ORDER BY s.start_s, s.chunk_no, s.n)::integer AS segment_no,
       s.start_s, s.end_s, s.text,
       COALESCE(s.speaker_name, s.speaker) AS speaker, s.channel,
       s.avg_logprob, s.compression_ratio, s.no_speech_prob, s.words
FROM transcribe_jobs j
JOIN transcribe_chunk_segments s ON s.job_id = j.id;
COMMENT ON VIEW transcribe_live_segments IS
'segments that have arrived so far, of jobs in any status; numbers may still shift';
COMMENT ON COLUMN transcribe_live_segments.job_id IS 'transcribe_jobs.id';
COMMENT ON COLUMN transcribe_live_segments.session_id IS 'the application''s key';
COMMENT ON COLUMN transcribe_live_segments.status IS 'the job''s status';
COMMENT ON COLUMN transcribe_live_segments.segment_no IS 'position among those that have arrived, from 1';
COMMENT ON COLUMN transcribe_live_segments.start_s IS 'where it begins in the recording, in seconds';
COMMENT ON COLUMN transcribe_live_segments.end_s IS 'where it ends in the recording, in seconds';
COMMENT ON COLUMN transcribe_live_segments.text IS 'what was said';
COMMENT ON COLUMN transcribe_live_segments.speaker IS 'the speaker: the name that transcribe_rename_speaker has given, else the server''s label, if it gave one';
COMMENT ON COLUMN transcribe_live_segments.channel IS 'channel of the recording, from 0, where channels are transcribed apart; NULL where they are mixed';
COMMENT ON COLUMN transcribe_live_segments.avg_logprob IS 'mean log probability of its tokens, if the server gave it';
COMMENT ON COLUMN transcribe_live_segments.compression_ratio IS 'compression ratio of its text, if the server gave it';
COMMENT ON COLUMN transcribe_live_segments.no_speech_prob IS 'probability that nothing was said, if the server gave it';
COMMENT ON COLUMN transcribe_live_segments.words IS 'array of {"word", "start", "end"} in seconds of the recording, if asked for';

GRANT SELECT ON transcribe_segments, transcribe_live_segments TO PUBLIC;

CREATE FUNCTION transcribe_job_result(job_id bigint) RETURNS jsonb
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
        'segments', COALESCE((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                                  'start', s.start_s, 'end', s.end_s, 'text', s.text,
                                  'speaker', s.speaker, 'channel', s.channel,
                                  'words', s.words))
                              ORDER BY s.segment_no)
                              FROM transcribe_segments s WHERE s.job_id = j.id),
                             '[]'::jsonb),
        'full_text', COALESCE((SELECT pg_catalog.string_agg(s.text, ' ' ORDER BY s.segment_no)
                               FROM transcribe_segments s WHERE s.job_id = j.id), ''),
        'language', j.language,
        'duration', j.duration_s)
    FROM transcribe_jobs j
    WHERE j.id = transcribe_job_result.job_id
      AND j.status = 'completed' AND j.replaced_by IS NULL;
END;
COMMENT ON FUNCTION transcribe_job_result(bigint) IS
'a completed job''s transcript as {"segments": [{"start", "end", "text", ...}], "full_text", "language", "duration"}; NULL if there is none';

CREATE FUNCTION transcribe_newest_job(session_id text) RETURNS bigint
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT j.id FROM transcribe_jobs j
    WHERE j.session_id = transcribe_newest_job.session_id
      AND j.status = 'completed' AND j.replaced_by IS NULL
    ORDER BY j.finished_at DESC, j.id DESC
    LIMIT 1;
END;
COMMENT ON FUNCTION transcribe_newest_job(text) IS
'the session''s job that completed last, of those that the caller may see; NULL if there is none';

CREATE FUNCTION transcribe_result(session_id text) RETURNS jsonb
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT transcribe_job_result(transcribe_newest_job(transcribe_result.session_id));
END;
COMMENT ON FUNCTION transcribe_result(text) IS
'transcript of the session''s job that completed last; NULL if there is none';

CREATE FUNCTION transcribe_result(session_id uuid) RETURNS jsonb
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT transcribe_result(transcribe_result.session_id::text);
END;
COMMENT ON FUNCTION transcribe_result(uuid) IS
'transcript of the session''s job that completed last; NULL if there is none';

CREATE FUNCTION transcribe_result(session_id bigint) RETURNS jsonb
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT transcribe_result(transcribe_result.session_id::text);
END;
COMMENT ON FUNCTION transcribe_result(bigint) IS
'transcript of the session''s job that completed last; NULL if there is none';

CREATE FUNCTION transcribe_live_progress(
    OUT job_id bigint, OUT status text, OUT percent double precision,
    OUT message text, OUT chunk integer, OUT chunks integer,
    OUT done_s double precision, OUT total_s double precision,
    OUT rate double precision, OUT eta interval, OUT since timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_live_progress() IS
'what the workers of this database are doing with the jobs that the caller may see; read it through transcribe_progress';

CREATE VIEW transcribe_progress WITH (security_invoker = true) AS
SELECT p.job_id, j.session_id, p.status, p.percent, p.message,
       p.chunk, p.chunks, p.done_s, p.total_s, p.rate, p.eta, p.since
FROM transcribe_live_progress() p
JOIN transcribe_jobs j ON j.id = p.job_id;
COMMENT ON VIEW transcribe_progress IS
'running jobs, live from shared memory; empty on a standby';
COMMENT ON COLUMN transcribe_progress.job_id IS 'transcribe_jobs.id';
COMMENT ON COLUMN transcribe_progress.session_id IS 'the application''s key';
COMMENT ON COLUMN transcribe_progress.status IS 'preprocessing or transcribing';
COMMENT ON COLUMN transcribe_progress.percent IS 'done so far, 0 to 100, by seconds of audio';
COMMENT ON COLUMN transcribe_progress.message IS 'what is being done or waited for';
COMMENT ON COLUMN transcribe_progress.chunk IS 'chunks saved so far';
COMMENT ON COLUMN transcribe_progress.chunks IS 'chunks known so far; grows while the recording is being read';
COMMENT ON COLUMN transcribe_progress.done_s IS 'seconds of the recording that are answered, or were silent';
COMMENT ON COLUMN transcribe_progress.total_s IS 'seconds of the recording; NULL as long as they are not known';
COMMENT ON COLUMN transcribe_progress.rate IS 'seconds of the recording that are answered in a second, since it was opened; NULL before the first answer';
COMMENT ON COLUMN transcribe_progress.eta IS 'time left, at this rate';
COMMENT ON COLUMN transcribe_progress.since IS 'when the present step began';
GRANT SELECT ON transcribe_progress TO PUBLIC;

-- ---------------------------------------------------------------------
-- Transcripts as people and other programs read them: text, subtitles, JSON.
-- Functions in SQL read the segments as the caller, the library formats them.
-- ---------------------------------------------------------------------

CREATE FUNCTION transcribe_readable(
    start_s double precision[], end_s double precision[], texts text[],
    speakers text[], paragraph_pause_s double precision)
RETURNS text
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_readable(double precision[], double precision[],
    text[], text[], double precision) IS
'what transcribe_job_text returns, made of segments that are given';

CREATE FUNCTION transcribe_subtitles(
    format text, start_s double precision[], end_s double precision[],
    texts text[], speakers text[], channels integer[], words jsonb[],
    max_line_width integer, max_line_count integer,
    max_duration_s double precision)
RETURNS text
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_subtitles(text, double precision[],
    double precision[], text[], text[], integer[], jsonb[], integer, integer,
    double precision) IS
'what transcribe_job_srt and transcribe_job_vtt return (format srt or vtt), made of segments that are given';

CREATE FUNCTION transcribe_job_text(
    job_id bigint, speakers boolean DEFAULT true,
    paragraph_pause_s double precision DEFAULT 2)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_readable(s.start_s, s.end_s, s.texts, s.speakers,
                               transcribe_job_text.paragraph_pause_s)
    FROM transcribe_jobs j CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(s.start_s ORDER BY s.segment_no) AS start_s,
               pg_catalog.array_agg(s.end_s ORDER BY s.segment_no) AS end_s,
               pg_catalog.array_agg(s.text ORDER BY s.segment_no) AS texts,
               pg_catalog.array_agg(
                   CASE WHEN transcribe_job_text.speakers IS NOT FALSE
                        THEN COALESCE(s.speaker, CASE WHEN s.several
                                                 THEN 'Channel ' || s.channel::text END) END
                   ORDER BY s.segment_no) AS speakers
        FROM (SELECT s.*, pg_catalog.min(s.channel) OVER () <> pg_catalog.max(s.channel) OVER () AS several
              FROM transcribe_segments s WHERE s.job_id = j.id) s) s
    WHERE j.id = transcribe_job_text.job_id
      AND j.status = 'completed' AND j.replaced_by IS NULL;
END;
COMMENT ON FUNCTION transcribe_job_text(bigint, boolean, double precision) IS
'a completed job''s transcript as text: a line for each change of speaker, else paragraphs; NULL if there is none';

CREATE FUNCTION transcribe_job_srt(
    job_id bigint, speakers boolean DEFAULT true,
    max_line_width integer DEFAULT 42, max_line_count integer DEFAULT 2,
    max_duration_s double precision DEFAULT 7)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_subtitles('srt', s.start_s, s.end_s, s.texts, s.speakers,
                                s.channels, s.words,
                                transcribe_job_srt.max_line_width,
                                transcribe_job_srt.max_line_count,
                                transcribe_job_srt.max_duration_s)
    FROM transcribe_jobs j CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(s.start_s ORDER BY s.segment_no) AS start_s,
               pg_catalog.array_agg(s.end_s ORDER BY s.segment_no) AS end_s,
               pg_catalog.array_agg(s.text ORDER BY s.segment_no) AS texts,
               pg_catalog.array_agg(
                   CASE WHEN transcribe_job_srt.speakers IS NOT FALSE
                        THEN COALESCE(s.speaker, CASE WHEN s.several
                                                 THEN 'Channel ' || s.channel::text END) END
                   ORDER BY s.segment_no) AS speakers,
               pg_catalog.array_agg(s.channel ORDER BY s.segment_no) AS channels,
               pg_catalog.array_agg(s.words ORDER BY s.segment_no) AS words
        FROM (SELECT s.*, pg_catalog.min(s.channel) OVER () <> pg_catalog.max(s.channel) OVER () AS several
              FROM transcribe_segments s WHERE s.job_id = j.id) s) s
    WHERE j.id = transcribe_job_srt.job_id
      AND j.status = 'completed' AND j.replaced_by IS NULL;
END;
COMMENT ON FUNCTION transcribe_job_srt(bigint, boolean, integer, integer, double precision) IS
'a completed job''s transcript as subtitles in SRT; NULL if there is none';

CREATE FUNCTION transcribe_job_vtt(
    job_id bigint, speakers boolean DEFAULT true,
    max_line_width integer DEFAULT 42, max_line_count integer DEFAULT 2,
    max_duration_s double precision DEFAULT 7)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_subtitles('vtt', s.start_s, s.end_s, s.texts, s.speakers,
                                s.channels, s.words,
                                transcribe_job_vtt.max_line_width,
                                transcribe_job_vtt.max_line_count,
                                transcribe_job_vtt.max_duration_s)
    FROM transcribe_jobs j CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(s.start_s ORDER BY s.segment_no) AS start_s,
               pg_catalog.array_agg(s.end_s ORDER BY s.segment_no) AS end_s,
               pg_catalog.array_agg(s.text ORDER BY s.segment_no) AS texts,
               pg_catalog.array_agg(
                   CASE WHEN transcribe_job_vtt.speakers IS NOT FALSE
                        THEN COALESCE(s.speaker, CASE WHEN s.several
                                                 THEN 'Channel ' || s.channel::text END) END
                   ORDER BY s.segment_no) AS speakers,
               pg_catalog.array_agg(s.channel ORDER BY s.segment_no) AS channels,
               pg_catalog.array_agg(s.words ORDER BY s.segment_no) AS words
        FROM (SELECT s.*, pg_catalog.min(s.channel) OVER () <> pg_catalog.max(s.channel) OVER () AS several
              FROM transcribe_segments s WHERE s.job_id = j.id) s) s
    WHERE j.id = transcribe_job_vtt.job_id
      AND j.status = 'completed' AND j.replaced_by IS NULL;
END;
COMMENT ON FUNCTION transcribe_job_vtt(bigint, boolean, integer, integer, double precision) IS
'a completed job''s transcript as subtitles in WebVTT; NULL if there is none';

CREATE FUNCTION transcribe_job_json(job_id bigint) RETURNS jsonb
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
               'task', CASE WHEN j.options ->> 'translate' = 'true'
                            THEN 'translate' ELSE 'transcribe' END,
               'language', j.language,
               'duration', j.duration_s,
               'text', COALESCE(s.text, ''),
               'segments', COALESCE(s.segments, '[]'::jsonb))
           || CASE WHEN w.words IS NULL THEN '{}'::jsonb
                   ELSE pg_catalog.jsonb_build_object('words', w.words) END
    FROM transcribe_jobs j
    CROSS JOIN LATERAL (
        SELECT pg_catalog.string_agg(s.text, ' ' ORDER BY s.segment_no) AS text,
               pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                   'id', s.segment_no - 1, 'seek', 0, 'start', s.start_s, 'end', s.end_s,
                   'text', s.text, 'tokens', '[]'::jsonb,
                   'temperature', COALESCE(j.options -> 'temperature', '0'::jsonb),
                   'avg_logprob', s.avg_logprob, 'compression_ratio', s.compression_ratio,
                   'no_speech_prob', s.no_speech_prob, 'speaker', s.speaker,
                   'channel', s.channel, 'words', s.words))
                   ORDER BY s.segment_no) AS segments
        FROM transcribe_segments s WHERE s.job_id = j.id) s
    CROSS JOIN LATERAL (
        SELECT pg_catalog.jsonb_agg(w.word ORDER BY s.segment_no, w.n) AS words
        FROM transcribe_segments s
        CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(s.words)
            WITH ORDINALITY AS w (word, n)
        WHERE s.job_id = j.id) w
    WHERE j.id = transcribe_job_json.job_id
      AND j.status = 'completed' AND j.replaced_by IS NULL;
END;
COMMENT ON FUNCTION transcribe_job_json(bigint) IS
'a completed job''s transcript as the document that OpenAI''s API calls verbose_json; NULL if there is none';

CREATE FUNCTION transcribe_text(
    session_id text, speakers boolean DEFAULT true,
    paragraph_pause_s double precision DEFAULT 2)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_job_text(transcribe_newest_job(transcribe_text.session_id),
        transcribe_text.speakers,
        transcribe_text.paragraph_pause_s);
END;
COMMENT ON FUNCTION transcribe_text(text, boolean, double precision) IS
'transcript of the session''s job that completed last, as text; NULL if there is none';

CREATE FUNCTION transcribe_text(
    session_id uuid, speakers boolean DEFAULT true,
    paragraph_pause_s double precision DEFAULT 2)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_text(transcribe_text.session_id::text,
        transcribe_text.speakers,
        transcribe_text.paragraph_pause_s);
END;
COMMENT ON FUNCTION transcribe_text(uuid, boolean, double precision) IS
'transcript of the session''s job that completed last, as text; NULL if there is none';

CREATE FUNCTION transcribe_text(
    session_id bigint, speakers boolean DEFAULT true,
    paragraph_pause_s double precision DEFAULT 2)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_text(transcribe_text.session_id::text,
        transcribe_text.speakers,
        transcribe_text.paragraph_pause_s);
END;
COMMENT ON FUNCTION transcribe_text(bigint, boolean, double precision) IS
'transcript of the session''s job that completed last, as text; NULL if there is none';

CREATE FUNCTION transcribe_srt(
    session_id text, speakers boolean DEFAULT true,
    max_line_width integer DEFAULT 42, max_line_count integer DEFAULT 2,
    max_duration_s double precision DEFAULT 7)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_job_srt(transcribe_newest_job(transcribe_srt.session_id),
        transcribe_srt.speakers,
        transcribe_srt.max_line_width,
        transcribe_srt.max_line_count,
        transcribe_srt.max_duration_s);
END;
COMMENT ON FUNCTION transcribe_srt(text, boolean, integer, integer, double precision) IS
'transcript of the session''s job that completed last, as subtitles in SRT; NULL if there is none';

CREATE FUNCTION transcribe_srt(
    session_id uuid, speakers boolean DEFAULT true,
    max_line_width integer DEFAULT 42, max_line_count integer DEFAULT 2,
    max_duration_s double precision DEFAULT 7)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_srt(transcribe_srt.session_id::text,
        transcribe_srt.speakers,
        transcribe_srt.max_line_width,
        transcribe_srt.max_line_count,
        transcribe_srt.max_duration_s);
END;
COMMENT ON FUNCTION transcribe_srt(uuid, boolean, integer, integer, double precision) IS
'transcript of the session''s job that completed last, as subtitles in SRT; NULL if there is none';

CREATE FUNCTION transcribe_srt(
    session_id bigint, speakers boolean DEFAULT true,
    max_line_width integer DEFAULT 42, max_line_count integer DEFAULT 2,
    max_duration_s double precision DEFAULT 7)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_srt(transcribe_srt.session_id::text,
        transcribe_srt.speakers,
        transcribe_srt.max_line_width,
        transcribe_srt.max_line_count,
        transcribe_srt.max_duration_s);
END;
COMMENT ON FUNCTION transcribe_srt(bigint, boolean, integer, integer, double precision) IS
'transcript of the session''s job that completed last, as subtitles in SRT; NULL if there is none';

CREATE FUNCTION transcribe_vtt(
    session_id text, speakers boolean DEFAULT true,
    max_line_width integer DEFAULT 42, max_line_count integer DEFAULT 2,
    max_duration_s double precision DEFAULT 7)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_job_vtt(transcribe_newest_job(transcribe_vtt.session_id),
        transcribe_vtt.speakers,
        transcribe_vtt.max_line_width,
        transcribe_vtt.max_line_count,
        transcribe_vtt.max_duration_s);
END;
COMMENT ON FUNCTION transcribe_vtt(text, boolean, integer, integer, double precision) IS
'transcript of the session''s job that completed last, as subtitles in WebVTT; NULL if there is none';

CREATE FUNCTION transcribe_vtt(
    session_id uuid, speakers boolean DEFAULT true,
    max_line_width integer DEFAULT 42, max_line_count integer DEFAULT 2,
    max_duration_s double precision DEFAULT 7)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_vtt(transcribe_vtt.session_id::text,
        transcribe_vtt.speakers,
        transcribe_vtt.max_line_width,
        transcribe_vtt.max_line_count,
        transcribe_vtt.max_duration_s);
END;
COMMENT ON FUNCTION transcribe_vtt(uuid, boolean, integer, integer, double precision) IS
'transcript of the session''s job that completed last, as subtitles in WebVTT; NULL if there is none';

CREATE FUNCTION transcribe_vtt(
    session_id bigint, speakers boolean DEFAULT true,
    max_line_width integer DEFAULT 42, max_line_count integer DEFAULT 2,
    max_duration_s double precision DEFAULT 7)
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT transcribe_vtt(transcribe_vtt.session_id::text,
        transcribe_vtt.speakers,
        transcribe_vtt.max_line_width,
        transcribe_vtt.max_line_count,
        transcribe_vtt.max_duration_s);
END;
COMMENT ON FUNCTION transcribe_vtt(bigint, boolean, integer, integer, double precision) IS
'transcript of the session''s job that completed last, as subtitles in WebVTT; NULL if there is none';

CREATE FUNCTION transcribe_json(session_id text) RETURNS jsonb
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT transcribe_job_json(transcribe_newest_job(transcribe_json.session_id));
END;
COMMENT ON FUNCTION transcribe_json(text) IS
'transcript of the session''s job that completed last, as OpenAI''s verbose_json; NULL if there is none';

CREATE FUNCTION transcribe_json(session_id uuid) RETURNS jsonb
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT transcribe_json(transcribe_json.session_id::text);
END;
COMMENT ON FUNCTION transcribe_json(uuid) IS
'transcript of the session''s job that completed last, as OpenAI''s verbose_json; NULL if there is none';

CREATE FUNCTION transcribe_json(session_id bigint) RETURNS jsonb
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT transcribe_json(transcribe_json.session_id::text);
END;
COMMENT ON FUNCTION transcribe_json(bigint) IS
'transcript of the session''s job that completed last, as OpenAI''s verbose_json; NULL if there is none';

CREATE FUNCTION transcribe_rename_speaker(
    session_id text, old_name text, new_name text, job_id bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_rename_speaker(text, text, text, bigint) IS
'call a speaker otherwise in the session''s transcripts, or in that of one job; NULL gives the server''s label back; returns how many segments';

CREATE FUNCTION transcribe_rename_speaker(
    session_id uuid, old_name text, new_name text, job_id bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT transcribe_rename_speaker(
        transcribe_rename_speaker.session_id::text, transcribe_rename_speaker.old_name,
        transcribe_rename_speaker.new_name, transcribe_rename_speaker.job_id);
END;
COMMENT ON FUNCTION transcribe_rename_speaker(uuid, text, text, bigint) IS
'call a speaker otherwise in the session''s transcripts, or in that of one job';

CREATE FUNCTION transcribe_rename_speaker(
    session_id bigint, old_name text, new_name text, job_id bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT transcribe_rename_speaker(
        transcribe_rename_speaker.session_id::text, transcribe_rename_speaker.old_name,
        transcribe_rename_speaker.new_name, transcribe_rename_speaker.job_id);
END;
COMMENT ON FUNCTION transcribe_rename_speaker(bigint, text, text, bigint) IS
'call a speaker otherwise in the session''s transcripts, or in that of one job';

CREATE FUNCTION transcribe_job_at(
    job_id bigint, seconds double precision, neighbours integer DEFAULT 0,
    OUT segment_no integer, OUT said boolean, OUT start_s double precision,
    OUT end_s double precision, OUT speaker text, OUT channel integer, OUT text text)
RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH s AS (
        SELECT s.segment_no, s.start_s, s.end_s, s.speaker, s.channel, s.text,
               s.start_s <= transcribe_job_at.seconds
               AND (transcribe_job_at.seconds < s.end_s
                    OR s.start_s = transcribe_job_at.seconds) AS said
        FROM transcribe_segments s WHERE s.job_id = transcribe_job_at.job_id),
    -- Between segments: after the last that has begun, before the next.
    place AS (
        SELECT COALESCE(pg_catalog.min(s.segment_no) FILTER (WHERE s.said),
                        pg_catalog.count(*) FILTER (
                            WHERE s.start_s <= transcribe_job_at.seconds)::integer + 1) AS first,
               COALESCE(pg_catalog.max(s.segment_no) FILTER (WHERE s.said),
                        pg_catalog.count(*) FILTER (
                            WHERE s.start_s <= transcribe_job_at.seconds)::integer) AS last,
               GREATEST(COALESCE(transcribe_job_at.neighbours, 0), 0)::bigint AS more
        FROM s)
    SELECT s.segment_no, s.said, s.start_s, s.end_s, s.speaker, s.channel, s.text
    FROM s, place
    WHERE s.said
       OR (s.segment_no::bigint >= place.first::bigint - place.more
           AND s.segment_no::bigint < place.first::bigint)
       OR (s.segment_no::bigint > place.last::bigint
           AND s.segment_no::bigint <= place.last::bigint + place.more)
    ORDER BY s.segment_no;
END;
COMMENT ON FUNCTION transcribe_job_at(bigint, double precision, integer) IS
'what is being said at that second of a completed job''s recording, and as many segments before and after as neighbours';

CREATE FUNCTION transcribe_at(
    session_id text, seconds double precision, neighbours integer DEFAULT 0,
    OUT segment_no integer, OUT said boolean, OUT start_s double precision,
    OUT end_s double precision, OUT speaker text, OUT channel integer, OUT text text)
RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT a.segment_no, a.said, a.start_s, a.end_s, a.speaker, a.channel, a.text
    FROM transcribe_job_at(transcribe_newest_job(transcribe_at.session_id),
        transcribe_at.seconds, transcribe_at.neighbours) a;
END;
COMMENT ON FUNCTION transcribe_at(text, double precision, integer) IS
'what is being said at that second, in the transcript of the session''s job that completed last';

CREATE FUNCTION transcribe_at(
    session_id uuid, seconds double precision, neighbours integer DEFAULT 0,
    OUT segment_no integer, OUT said boolean, OUT start_s double precision,
    OUT end_s double precision, OUT speaker text, OUT channel integer, OUT text text)
RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT a.segment_no, a.said, a.start_s, a.end_s, a.speaker, a.channel, a.text
    FROM transcribe_at(transcribe_at.session_id::text,
        transcribe_at.seconds, transcribe_at.neighbours) a;
END;
COMMENT ON FUNCTION transcribe_at(uuid, double precision, integer) IS
'what is being said at that second, in the transcript of the session''s job that completed last';

CREATE FUNCTION transcribe_at(
    session_id bigint, seconds double precision, neighbours integer DEFAULT 0,
    OUT segment_no integer, OUT said boolean, OUT start_s double precision,
    OUT end_s double precision, OUT speaker text, OUT channel integer, OUT text text)
RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT a.segment_no, a.said, a.start_s, a.end_s, a.speaker, a.channel, a.text
    FROM transcribe_at(transcribe_at.session_id::text,
        transcribe_at.seconds, transcribe_at.neighbours) a;
END;
COMMENT ON FUNCTION transcribe_at(bigint, double precision, integer) IS
'what is being said at that second, in the transcript of the session''s job that completed last';

-- Search.  The vector is what an index may be made on (doc/operations.md): so it
-- depends on nothing but the row, and is small enough to be stored whatever the
-- text is.
CREATE FUNCTION transcribe_search_config(language text) RETURNS regconfig
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_search_config(text) IS
'the text search configuration for a language, given by name or code; simple where PostgreSQL has none';

CREATE FUNCTION transcribe_search_vector(language text, said text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.to_tsvector(transcribe_search_config(language), pg_catalog.left(said, 32768));
COMMENT ON FUNCTION transcribe_search_vector(text, text) IS
'what transcribe_search looks at of a segment, for an index';

CREATE FUNCTION transcribe_search(
    query text, session text DEFAULT NULL, config regconfig DEFAULT NULL,
    max_results integer DEFAULT 20, OUT job_id bigint, OUT session_id text,
    OUT start_s double precision, OUT end_s double precision, OUT speaker text,
    OUT channel integer, OUT text text, OUT headline text, OUT rank real)
RETURNS SETOF record
LANGUAGE C STABLE PARALLEL UNSAFE ROWS 20 COST 10000
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_search(text, text, regconfig, integer) IS
'segments of completed jobs that match a query as of a web search, of those that the caller may see, the best first';

-- ---------------------------------------------------------------------
-- Waiting.  Procedures, because they end the caller's transaction.
-- ---------------------------------------------------------------------

CREATE PROCEDURE transcribe_wait(job_id bigint, timeout interval DEFAULT NULL)
LANGUAGE C
AS 'MODULE_PATHNAME';
COMMENT ON PROCEDURE transcribe_wait(bigint, interval) IS
'wait until a job has completed, failed or been cancelled; outside of transaction blocks';

CREATE PROCEDURE transcribe_wait(job_ids bigint[], timeout interval DEFAULT NULL)
LANGUAGE C
AS 'MODULE_PATHNAME', 'transcribe_wait_all';
COMMENT ON PROCEDURE transcribe_wait(bigint[], interval) IS
'wait until all of the jobs have completed, failed or been cancelled; outside of transaction blocks';

CREATE PROCEDURE transcribe_file(
    path text, INOUT result jsonb DEFAULT NULL, server text DEFAULT NULL,
    options jsonb DEFAULT '{}', timeout interval DEFAULT NULL)
LANGUAGE C
AS 'MODULE_PATHNAME';
COMMENT ON PROCEDURE transcribe_file(text, jsonb, text, jsonb, interval) IS
'queue a recording, wait, and hand back its transcript as transcribe_job_result does; an error if it fails; outside of transaction blocks';

-- ---------------------------------------------------------------------
-- Servers
-- ---------------------------------------------------------------------

CREATE FUNCTION transcribe_validator(options text[], catalog oid) RETURNS void
LANGUAGE C STRICT
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_validator(text[], oid) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_validator(text[], oid) IS
'checks the options of servers and user mappings of the foreign-data wrapper transcribe';

CREATE FUNCTION transcribe_hold_server(server text) RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_hold_server(text) IS
'begin no more jobs at a server, until transcribe_resume_server; for the server''s owner';

CREATE FUNCTION transcribe_resume_server(server text) RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_resume_server(text) IS
'ask a server again at once that is held, paused, stopped or unreachable; for the server''s owner';

CREATE FUNCTION transcribe_closures(
    OUT serverid oid, OUT role text, OUT state text, OUT error_code text,
    OUT error text, OUT since timestamptz, OUT retry_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_closures() IS
'which servers that the caller may use are not asked for a while; read it through transcribe_servers';

CREATE FOREIGN DATA WRAPPER transcribe
    NO HANDLER VALIDATOR transcribe_validator;
COMMENT ON FOREIGN DATA WRAPPER transcribe IS
'Whisper servers: OpenAI''s audio API or any server that speaks it';

CREATE VIEW transcribe_servers WITH (security_invoker = true) AS
SELECT s.srvname::text AS server, c.role,
       CASE WHEN 'hold=on' = ANY (s.srvoptions) THEN 'held'
            ELSE COALESCE(c.state, 'available') END AS state,
       c.error_code, c.error, c.since, c.retry_at
FROM pg_catalog.pg_foreign_server s
JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
LEFT JOIN transcribe_closures() c
    ON c.serverid = s.oid AND ('hold=on' = ANY (s.srvoptions)) IS NOT TRUE
WHERE w.fdwname = 'transcribe'
  AND pg_catalog.has_server_privilege(s.oid, 'USAGE');
COMMENT ON VIEW transcribe_servers IS
'servers that the reader may use, and whether they are asked at present';
COMMENT ON COLUMN transcribe_servers.server IS 'name of the foreign server';
COMMENT ON COLUMN transcribe_servers.role IS 'role whose user mapping gives the key that is refused, or public; NULL: there is none, or all keys are meant';
COMMENT ON COLUMN transcribe_servers.state IS 'available; held by hand; paused, as it asked for; stopped, because it refuses the key or wants to be paid; unreachable, after failures in a row';
COMMENT ON COLUMN transcribe_servers.error_code IS 'why it is not available, as a word; see transcribe_jobs.error_code';
COMMENT ON COLUMN transcribe_servers.error IS 'the same as a sentence';
COMMENT ON COLUMN transcribe_servers.since IS 'since when';
COMMENT ON COLUMN transcribe_servers.retry_at IS 'when it is asked again, if there is a job for it';
GRANT SELECT ON transcribe_servers TO PUBLIC;

CREATE FUNCTION transcribe_check_server(
    INOUT server text DEFAULT NULL, OUT step text, OUT ok boolean,
    OUT detail text, OUT hint text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_check_server(text) IS
'send a spoken sentence to a server, and tell what was found on the way, step by step, with advice for the step that fails; waits for the answer';

CREATE FUNCTION transcribe_setup(
    url text DEFAULT NULL, model text DEFAULT NULL,
    api_key_file text DEFAULT NULL, INOUT server text DEFAULT 'whisper',
    profile text DEFAULT NULL, options jsonb DEFAULT '{}',
    OUT step text, OUT ok boolean, OUT detail text, OUT hint text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_setup(text, text, text, text, text, jsonb) IS
'create a server, and a user mapping for PUBLIC if a file with a key is named, and check the server as transcribe_check_server does';

-- ---------------------------------------------------------------------
-- Watching
-- ---------------------------------------------------------------------

CREATE FUNCTION transcribe_server_names(servers text) RETURNS text[]
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_server_names(text) IS
'the names in a list of servers, as transcribe_jobs.server may be one';

CREATE FUNCTION transcribe_counters(
    OUT serverid oid, OUT running integer, OUT under_way integer,
    OUT requests bigint, OUT succeeded bigint, OUT rate_limited bigint,
    OUT unauthorized bigint, OUT server_errors bigint, OUT timeouts bigint,
    OUT connection_errors bigint, OUT refused bigint, OUT bad_responses bigint,
    OUT other_errors bigint, OUT completed bigint, OUT failed bigint,
    OUT retried bigint, OUT audio_s double precision, OUT sent_bytes bigint,
    OUT elapsed_s double precision, OUT trimmed_s double precision,
    OUT p50_s double precision, OUT p95_s double precision,
    OUT p99_s double precision, OUT stats_reset timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_counters() IS
'what was counted of the servers that the caller may use, or may read the statistics of; read it through transcribe_stats';

-- Not an invoker's view: how many jobs wait for a server concerns whoever may
-- use it, whoever has enqueued them.  What is queued is found group by group, as
-- transcribe_waiting does, and of a group no more is counted than that.
CREATE VIEW transcribe_stats WITH (security_barrier = true) AS
WITH RECURSIVE groups AS (
    (SELECT j.queue, j.server, j.run_at
     FROM transcribe_jobs j
     WHERE j.status = 'queued' AND j.home = (SELECT h.home FROM transcribe_here h)
     ORDER BY j.queue, j.run_at, j.id
     LIMIT 1)
    UNION ALL
    SELECT n.* FROM groups g CROSS JOIN LATERAL (
        SELECT j.queue, j.server, j.run_at
        FROM transcribe_jobs j
        WHERE j.status = 'queued' AND j.home = (SELECT h.home FROM transcribe_here h)
          AND j.queue > g.queue
        ORDER BY j.queue, j.run_at, j.id
        LIMIT 1) n),
waiting AS (
    SELECT names.server, pg_catalog.sum(counted.jobs)::bigint AS jobs,
           pg_catalog.min(g.run_at) AS oldest
    FROM groups g
    CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) AS jobs
        FROM (SELECT 1 FROM transcribe_jobs j
              WHERE j.status = 'queued' AND j.home = (SELECT h.home FROM transcribe_here h)
                AND j.queue = g.queue
              LIMIT 100000) first) counted
    CROSS JOIN LATERAL pg_catalog.unnest(transcribe_server_names(g.server)) AS names (server)
    GROUP BY names.server)
SELECT s.srvname::text AS server,
       COALESCE(w.jobs, 0::bigint) AS queued,
       CASE WHEN w.oldest <= pg_catalog.clock_timestamp()
            THEN pg_catalog.clock_timestamp() - w.oldest END AS oldest_wait,
       COALESCE(c.running, 0) AS running,
       COALESCE(c.under_way, 0) AS under_way,
       COALESCE(c.requests, 0::bigint) AS requests,
       COALESCE(c.succeeded, 0::bigint) AS succeeded,
       COALESCE(c.rate_limited, 0::bigint) AS rate_limited,
       COALESCE(c.unauthorized, 0::bigint) AS unauthorized,
       COALESCE(c.server_errors, 0::bigint) AS server_errors,
       COALESCE(c.timeouts, 0::bigint) AS timeouts,
       COALESCE(c.connection_errors, 0::bigint) AS connection_errors,
       COALESCE(c.refused, 0::bigint) AS refused,
       COALESCE(c.bad_responses, 0::bigint) AS bad_responses,
       COALESCE(c.other_errors, 0::bigint) AS other_errors,
       COALESCE(c.completed, 0::bigint) AS completed,
       COALESCE(c.failed, 0::bigint) AS failed,
       COALESCE(c.retried, 0::bigint) AS retried,
       COALESCE(c.audio_s, 0::double precision) AS audio_s,
       COALESCE(c.sent_bytes, 0::bigint) AS sent_bytes,
       COALESCE(c.elapsed_s, 0::double precision) AS elapsed_s,
       COALESCE(c.trimmed_s, 0::double precision) AS trimmed_s,
       c.p50_s, c.p95_s, c.p99_s, c.stats_reset
FROM pg_catalog.pg_foreign_server s
JOIN pg_catalog.pg_foreign_data_wrapper f ON f.oid = s.srvfdw
LEFT JOIN transcribe_counters() c ON c.serverid = s.oid
LEFT JOIN waiting w ON w.server = s.srvname::text
WHERE f.fdwname = 'transcribe'
  AND (pg_catalog.has_server_privilege(s.oid, 'USAGE')
       OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'));
COMMENT ON VIEW transcribe_stats IS
'what waits for each server and goes on there, and what has been counted of it since stats_reset; of servers that the reader may use, or of all for members of pg_read_all_stats';
COMMENT ON COLUMN transcribe_stats.server IS 'name of the foreign server';
COMMENT ON COLUMN transcribe_stats.queued IS 'jobs that are queued and may go there, due or not; one that names several servers counts at each; of one owner and priority up to 100000 are counted';
COMMENT ON COLUMN transcribe_stats.oldest_wait IS 'how long the first of them has been due; NULL if none is';
COMMENT ON COLUMN transcribe_stats.running IS 'jobs that are running for it';
COMMENT ON COLUMN transcribe_stats.under_way IS 'requests that are under way';
COMMENT ON COLUMN transcribe_stats.requests IS 'requests that have ended';
COMMENT ON COLUMN transcribe_stats.succeeded IS 'of these, answered well';
COMMENT ON COLUMN transcribe_stats.rate_limited IS 'of these, answered by asking for a pause';
COMMENT ON COLUMN transcribe_stats.unauthorized IS 'of these, refused for the key or the account';
COMMENT ON COLUMN transcribe_stats.server_errors IS 'of these, answered by 409, or 500 and above';
COMMENT ON COLUMN transcribe_stats.timeouts IS 'of these, not answered in time';
COMMENT ON COLUMN transcribe_stats.connection_errors IS 'of these, without a connection, or with one that was lost';
COMMENT ON COLUMN transcribe_stats.refused IS 'of these, refused by any other status';
COMMENT ON COLUMN transcribe_stats.bad_responses IS 'of these, answered by what is no transcript';
COMMENT ON COLUMN transcribe_stats.other_errors IS 'of these, ended by what is no fault of the server';
COMMENT ON COLUMN transcribe_stats.completed IS 'jobs that completed there';
COMMENT ON COLUMN transcribe_stats.failed IS 'jobs that failed for good';
COMMENT ON COLUMN transcribe_stats.retried IS 'attempts at jobs that failed and are repeated';
COMMENT ON COLUMN transcribe_stats.audio_s IS 'seconds of audio that were sent, all requests together';
COMMENT ON COLUMN transcribe_stats.sent_bytes IS 'bytes that were sent';
COMMENT ON COLUMN transcribe_stats.elapsed_s IS 'seconds that all requests took';
COMMENT ON COLUMN transcribe_stats.trimmed_s IS 'seconds of recordings that were not sent, and so not paid for, because they were silent, or said on another channel as well';
COMMENT ON COLUMN transcribe_stats.p50_s IS 'seconds that half of the requests took at most, to some ten percent';
COMMENT ON COLUMN transcribe_stats.p95_s IS 'the same of 95 percent';
COMMENT ON COLUMN transcribe_stats.p99_s IS 'the same of 99 percent';
COMMENT ON COLUMN transcribe_stats.stats_reset IS 'since when it is counted; NULL: there was nothing yet';
GRANT SELECT ON transcribe_stats TO PUBLIC;

CREATE FUNCTION transcribe_stats_reset() RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_stats_reset() FROM PUBLIC;
COMMENT ON FUNCTION transcribe_stats_reset() IS
'begin anew to count for transcribe_stats, in this database';

CREATE FUNCTION transcribe_running_workers(
    OUT pid integer, OUT datid oid, OUT launched_at timestamptz,
    OUT state text, OUT jobs integer, OUT recordings integer,
    OUT requests integer, OUT held_bytes bigint, OUT agent_pid integer)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION transcribe_running_workers() IS
'workers of this database, and for members of pg_read_all_stats of all; read it through transcribe_workers';

CREATE VIEW transcribe_workers WITH (security_invoker = true) AS
SELECT w.pid, w.datid, d.datname, w.launched_at, w.state, w.jobs, w.recordings,
       w.requests, w.held_bytes, w.agent_pid
FROM transcribe_running_workers() w
LEFT JOIN pg_catalog.pg_database d ON d.oid = w.datid;
COMMENT ON VIEW transcribe_workers IS
'workers that are running: that of this database, and for members of pg_read_all_stats all';
COMMENT ON COLUMN transcribe_workers.pid IS 'process of the worker, as in pg_stat_activity; NULL: it is being started';
COMMENT ON COLUMN transcribe_workers.datid IS 'database that it serves';
COMMENT ON COLUMN transcribe_workers.datname IS 'name of that';
COMMENT ON COLUMN transcribe_workers.launched_at IS 'when the launcher started it';
COMMENT ON COLUMN transcribe_workers.state IS 'starting; visiting: looks whether there are jobs; working; idle; giving way: ends what is under way, to make room for another database';
COMMENT ON COLUMN transcribe_workers.jobs IS 'jobs that it carries';
COMMENT ON COLUMN transcribe_workers.recordings IS 'recordings that are being read';
COMMENT ON COLUMN transcribe_workers.requests IS 'requests that are under way';
COMMENT ON COLUMN transcribe_workers.held_bytes IS 'memory of its agent that holds audio which is to be sent';
COMMENT ON COLUMN transcribe_workers.agent_pid IS 'process of its agent; NULL: there is none';
GRANT SELECT ON transcribe_workers TO PUBLIC;

-- What is queued is found as in transcribe_stats, but as the reader.
CREATE VIEW transcribe_problems WITH (security_invoker = true) AS
WITH RECURSIVE groups AS (
    (SELECT j.queue, j.server, j.run_at
     FROM transcribe_jobs j
     WHERE j.status = 'queued' AND j.home = transcribe_home()
     ORDER BY j.queue, j.run_at, j.id
     LIMIT 1)
    UNION ALL
    SELECT n.* FROM groups g CROSS JOIN LATERAL (
        SELECT j.queue, j.server, j.run_at
        FROM transcribe_jobs j
        WHERE j.status = 'queued' AND j.home = transcribe_home()
          AND j.queue > g.queue
        ORDER BY j.queue, j.run_at, j.id
        LIMIT 1) n),
-- For each server, or list, that jobs wait for: whether any of it is there, and
-- may be asked.
waiting AS (
    SELECT g.server, pg_catalog.min(g.run_at) AS oldest
    FROM groups g
    WHERE g.run_at <= pg_catalog.clock_timestamp()
    GROUP BY g.server),
listed AS (
    SELECT w.server, w.oldest, names.name, s.oid IS NOT NULL AS there, v.state, v.error
    FROM waiting w
    CROSS JOIN LATERAL pg_catalog.unnest(transcribe_server_names(w.server)) AS names (name)
    LEFT JOIN (SELECT f.oid, f.srvname FROM pg_catalog.pg_foreign_server f
               JOIN pg_catalog.pg_foreign_data_wrapper d ON d.oid = f.srvfdw
               WHERE d.fdwname = 'transcribe') s ON s.srvname::text = names.name
    LEFT JOIN transcribe_servers v ON v.server = names.name),
seen AS (
    SELECT l.server, pg_catalog.min(l.oldest) AS oldest,
           pg_catalog.bool_or(l.there) AS there,
           pg_catalog.bool_or(l.there AND COALESCE(l.state, 'available') = 'available') AS available,
           pg_catalog.bool_or(l.there AND l.state = 'paused') AS paused,
           pg_catalog.min(l.name) FILTER (WHERE l.there) AS name,
           pg_catalog.min(l.name) AS missing,
           pg_catalog.string_agg(DISTINCT l.name || ' is ' || l.state || COALESCE(': ' || l.error, ''), '; ') AS why
    FROM listed l
    GROUP BY l.server),
failed AS (
    SELECT j.id, j.error_code, j.error, j.finished_at
    FROM transcribe_jobs j
    WHERE j.home = transcribe_home() AND j.status = 'failed'
      AND j.finished_at > pg_catalog.now() - '1 day'::interval
    ORDER BY j.finished_at DESC
    LIMIT 1000),
completed AS (
    SELECT pg_catalog.count(*) AS jobs
    FROM (SELECT 1 FROM transcribe_jobs j
          WHERE j.home = transcribe_home() AND j.status = 'completed'
            AND j.finished_at > pg_catalog.now() - '1 day'::interval
          ORDER BY j.finished_at DESC
          LIMIT 1000) first)
SELECT 'home' AS item, false AS ok,
       pg_catalog.format('%s queued jobs were enqueued in another database, and stand still',
                         CASE WHEN pg_catalog.count(*) < 2000 THEN pg_catalog.count(*)::text
                              ELSE 'more than 1000' END) AS detail,
       'SELECT transcribe_adopt(); has them run here. If they are to run there alone, delete or cancel them.' AS hint
FROM ((SELECT 1 FROM transcribe_jobs j
       WHERE j.status = 'queued' AND j.home < transcribe_home()
       LIMIT 1000)
      UNION ALL
      (SELECT 1 FROM transcribe_jobs j
       WHERE j.status = 'queued' AND j.home > transcribe_home()
       LIMIT 1000)) other
HAVING pg_catalog.count(*) > 0
UNION ALL
SELECT 'queue ' || s.server,
       CASE WHEN s.available OR s.paused THEN NULL ELSE false END,
       pg_catalog.format(CASE WHEN NOT s.there THEN 'jobs wait since %s for a server that does not exist'
                              WHEN s.available THEN 'jobs wait since %s, though the server is available'
                              ELSE 'jobs wait since %s because %s' END,
                         pg_catalog.date_trunc('second', s.oldest), s.why),
       CASE WHEN NOT s.there
            THEN pg_catalog.format('CREATE SERVER %I FOREIGN DATA WRAPPER transcribe OPTIONS (url ''...''); or they fail when their turn comes.', s.missing)
            WHEN s.available
            THEN 'SELECT * FROM transcribe_stats; SELECT * FROM transcribe_workers; show what is going on.'
            ELSE pg_catalog.format('SELECT * FROM transcribe_check_server(%L); when that is good: SELECT transcribe_resume_server(%L);', s.name, s.name) END
FROM seen s
WHERE NOT s.available OR s.oldest < pg_catalog.clock_timestamp() - '10 minutes'::interval
UNION ALL
(SELECT 'failures ' || f.error_code,
        CASE WHEN (SELECT pg_catalog.count(*) FROM failed) > (SELECT c.jobs FROM completed c) THEN false END,
        pg_catalog.format('%s jobs failed so during the last day, the last at %s: %s',
                          pg_catalog.count(*), pg_catalog.date_trunc('second', pg_catalog.max(f.finished_at)),
                          (pg_catalog.array_agg(f.error ORDER BY f.finished_at DESC))[1]),
        pg_catalog.format('When that is put right: SELECT transcribe_retry_failed(error_code => %L);', f.error_code)
 FROM failed f
 GROUP BY f.error_code
 ORDER BY pg_catalog.count(*) DESC, f.error_code
 LIMIT 5)
UNION ALL
(SELECT 'prepared ' || x.gid, NULL::boolean,
       pg_catalog.format('a transaction is prepared since %s; jobs that it enqueued, or locks, wait for its end',
                         pg_catalog.date_trunc('second', x.prepared)),
       pg_catalog.format('COMMIT PREPARED %L; or ROLLBACK PREPARED %L;', x.gid, x.gid)
FROM pg_catalog.pg_prepared_xacts x
WHERE x.database = pg_catalog.current_database()
 ORDER BY x.prepared
 LIMIT 5);
COMMENT ON VIEW transcribe_problems IS
'what stands in the way of the jobs that the reader may see; empty if nothing does';
COMMENT ON COLUMN transcribe_problems.item IS 'what it is about: home, queue, failures or prepared, and which';
COMMENT ON COLUMN transcribe_problems.ok IS 'false if it keeps jobs from completing, NULL if it is worth knowing';
COMMENT ON COLUMN transcribe_problems.detail IS 'what is the matter';
COMMENT ON COLUMN transcribe_problems.hint IS 'what to type';
GRANT SELECT ON transcribe_problems TO PUBLIC;

CREATE FUNCTION transcribe_check(
    servers boolean DEFAULT true, OUT item text, OUT ok boolean,
    OUT detail text, OUT hint text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION transcribe_check(boolean) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_check(boolean) IS
'whether all is there that jobs need, with advice for what is not: library, launcher, workers, programs, sandbox, directories, keys, servers, jobs; unless told not to, sends a spoken sentence to each server';

-- ---------------------------------------------------------------------
-- The worker's side of the queue
--
-- The doors between states, each one statement and one short transaction.
-- Every save is fenced by the incarnation that claimed the job: a result
-- whose claim was lost changes nothing.
-- ---------------------------------------------------------------------

CREATE FUNCTION transcribe_rescue(
    incarnation bigint DEFAULT NULL, held bigint[] DEFAULT '{}')
RETURNS SETOF transcribe_jobs
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    UPDATE transcribe_jobs j
    SET crashes = j.crashes + 1,
        claimed_by = NULL,
        status = CASE WHEN j.crashes + 1 >= 3 THEN 'failed' ELSE 'queued' END,
        error = CASE WHEN j.crashes + 1 >= 3
                     THEN 'the job was running in three crashes' ELSE j.error END,
        error_code = CASE WHEN j.crashes + 1 >= 3
                          THEN 'crashed' ELSE j.error_code END,
        finished_at = CASE WHEN j.crashes + 1 >= 3 THEN pg_catalog.clock_timestamp() END
    WHERE j.status IN ('preprocessing', 'transcribing')
      AND j.home = (SELECT h.home FROM transcribe_here h)
      AND (NOT EXISTS (SELECT FROM transcribe_live l
                       WHERE l.incarnation = j.claimed_by)
           OR (j.claimed_by = transcribe_rescue.incarnation
               AND j.id NOT IN (SELECT pg_catalog.unnest(transcribe_rescue.held))))
    RETURNING j.*;
END;
REVOKE ALL ON FUNCTION transcribe_rescue(bigint, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_rescue(bigint, bigint[]) IS
'give back to the queue the jobs whose worker is gone without having done so, and those that the worker of this incarnation should hold and does not; the third time they fail';

CREATE FUNCTION transcribe_waiting(
    queues text[] DEFAULT '{}', run_ats timestamptz[] DEFAULT '{}',
    ids bigint[] DEFAULT '{}', OUT queue text, OUT server text, OUT owner name,
    OUT priority integer, OUT run_at timestamptz, OUT id bigint)
RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
    -- One look into the index for each group that is known, from its place on,
    -- and one for each of those that stand between them, from group to group.
    WITH RECURSIVE known AS (
        SELECT k.queue COLLATE pg_catalog."C" AS queue, k.run_at, k.id, k.n,
               pg_catalog.lead(k.queue) OVER (ORDER BY k.n) COLLATE pg_catalog."C" AS until
        FROM (SELECT * FROM unnest(transcribe_waiting.queues,
                                   transcribe_waiting.run_ats,
                                   transcribe_waiting.ids)
                  WITH ORDINALITY AS g (queue, run_at, id, n)
              UNION ALL
              SELECT '', NULL, NULL, 0) AS k),
    others AS (
        SELECT k.queue, NULL::text AS server, NULL::name AS owner,
               NULL::integer AS priority, NULL::timestamptz AS run_at,
               NULL::bigint AS id, k.until
        FROM known k
        UNION ALL
        SELECT n.*, o.until
        FROM others o CROSS JOIN LATERAL (
            (SELECT j.queue,
                    j.server, j.owner, j.priority, j.run_at, j.id
             FROM transcribe_jobs j
             WHERE o.until IS NULL
               AND j.status = 'queued' AND j.home = (SELECT h.home FROM transcribe_here h)
               AND j.queue > o.queue
             ORDER BY j.queue,
                      j.run_at, j.id
             LIMIT 1)
            UNION ALL
            (SELECT j.queue,
                    j.server, j.owner, j.priority, j.run_at, j.id
             FROM transcribe_jobs j
             WHERE o.until IS NOT NULL
               AND j.status = 'queued' AND j.home = (SELECT h.home FROM transcribe_here h)
               AND j.queue > o.queue
               AND j.queue < o.until
             ORDER BY j.queue,
                      j.run_at, j.id
             LIMIT 1)) n)
    SELECT k.queue, n.server, n.owner, n.priority, n.run_at, n.id
    FROM known k LEFT JOIN LATERAL (
        SELECT j.server, j.owner, j.priority, j.run_at, j.id
        FROM transcribe_jobs j
        WHERE j.status = 'queued' AND j.home = (SELECT h.home FROM transcribe_here h)
          AND j.queue = k.queue
          AND (j.run_at, j.id) >= (k.run_at, k.id)
        ORDER BY j.run_at, j.id
        LIMIT 1) n ON true
    WHERE k.n > 0
    UNION ALL
    SELECT o.queue, o.server, o.owner, o.priority, o.run_at, o.id
    FROM others o
    WHERE o.id IS NOT NULL
    ORDER BY 1;
END;
REVOKE ALL ON FUNCTION transcribe_waiting(text[], timestamptz[], bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_waiting(text[], timestamptz[], bigint[]) IS
'what is queued, in groups of one server (or list of servers), owner and priority, with the first job of each; of groups that are known, in this order, nothing is read that stands before the given places, and those that are empty now are returned as well';

CREATE FUNCTION transcribe_claim(
    incarnation bigint, queue text, room integer,
    since timestamptz DEFAULT '-infinity', since_id bigint DEFAULT 0,
    OUT id bigint, OUT path text, OUT server text, OUT owner name, OUT run_at timestamptz,
    OUT attempts integer, OUT max_attempts integer, OUT progress integer,
    OUT options jsonb, OUT served_by text, OUT error_code text)
RETURNS SETOF record
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    -- An array, because the planner takes a limit that it does not know for a
    -- tenth of all that waits, and would join that by reading the whole table.
    -- Of places, because what is locked stays where it is.
    UPDATE transcribe_jobs j
    SET status = 'preprocessing',
        claimed_by = transcribe_claim.incarnation,
        started_at = COALESCE(j.started_at, pg_catalog.clock_timestamp())
    WHERE j.ctid = ANY (ARRAY(
        SELECT q.ctid FROM transcribe_jobs q
        WHERE q.status = 'queued' AND q.home = (SELECT h.home FROM transcribe_here h)
          AND q.queue = transcribe_claim.queue
          AND q.run_at <= pg_catalog.now()
          AND (q.run_at, q.id) >= (transcribe_claim.since, transcribe_claim.since_id)
        ORDER BY q.run_at, q.id
        LIMIT transcribe_claim.room
        FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING j.id, j.path, j.server, j.owner, j.run_at, j.attempts, j.max_attempts,
              j.progress, j.options, j.served_by, j.error_code;
END;
REVOKE ALL ON FUNCTION transcribe_claim(bigint, text, integer, timestamptz, bigint) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_claim(bigint, text, integer, timestamptz, bigint) IS
'take up to so many due jobs of a group, the first by run_at, then id, for the worker of this incarnation; returned in no order';

CREATE FUNCTION transcribe_oldest(
    OUT failed timestamptz, OUT completed timestamptz)
RETURNS record
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT least((SELECT pg_catalog.min(j.finished_at) FROM transcribe_jobs j
                  WHERE j.home = (SELECT h.home FROM transcribe_here h) AND j.status = 'failed'),
                 (SELECT pg_catalog.min(j.finished_at) FROM transcribe_jobs j
                  WHERE j.home = (SELECT h.home FROM transcribe_here h) AND j.status = 'cancelled')),
           (SELECT pg_catalog.min(j.finished_at) FROM transcribe_jobs j
            WHERE j.home = (SELECT h.home FROM transcribe_here h) AND j.status = 'completed');
END;
REVOKE ALL ON FUNCTION transcribe_oldest() FROM PUBLIC;
COMMENT ON FUNCTION transcribe_oldest() IS
'when the first of the jobs ended that failed or were cancelled, and of those that completed';

CREATE FUNCTION transcribe_lost(incarnation bigint, job_ids bigint[])
RETURNS SETOF bigint
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT held.id FROM pg_catalog.unnest(transcribe_lost.job_ids) AS held (id)
    WHERE held.id NOT IN (SELECT j.id FROM transcribe_jobs j
                          WHERE j.id = ANY (transcribe_lost.job_ids)
                            AND j.claimed_by = transcribe_lost.incarnation
                            AND j.status IN ('preprocessing', 'transcribing'));
END;
REVOKE ALL ON FUNCTION transcribe_lost(bigint, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_lost(bigint, bigint[]) IS
'which of the jobs that a worker holds are no longer its own: cancelled, or deleted';

CREATE FUNCTION transcribe_give_back(incarnation bigint, job_ids bigint[])
RETURNS bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH given AS (
        UPDATE transcribe_jobs j
        SET status = 'queued', claimed_by = NULL
        WHERE j.id = ANY (transcribe_give_back.job_ids)
          AND j.claimed_by = transcribe_give_back.incarnation
          AND j.status IN ('preprocessing', 'transcribing')
        RETURNING j.id)
    SELECT pg_catalog.count(*) FROM given;
END;
REVOKE ALL ON FUNCTION transcribe_give_back(bigint, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_give_back(bigint, bigint[]) IS
'return jobs to the queue at no charge, as at a shutdown';

CREATE FUNCTION transcribe_saved(
    job_ids bigint[], OUT job_id bigint, OUT chunk_no integer, OUT plan text,
    OUT channel integer, OUT start_s double precision, OUT end_s double precision,
    OUT language text, OUT server text, OUT audio_s double precision,
    OUT loudness_lufs double precision)
RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.job_id, c.chunk_no, c.plan, c.channel, c.start_s, c.end_s, c.language,
           c.server, c.audio_s, c.loudness_lufs
    FROM transcribe_chunks c
    WHERE c.job_id = ANY (transcribe_saved.job_ids)
    ORDER BY c.job_id, c.channel, c.start_s;
END;
REVOKE ALL ON FUNCTION transcribe_saved(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_saved(bigint[]) IS
'what earlier attempts of the jobs have saved';

-- Each of the following takes the jobs of one turn of the worker together, as numbers
-- or as rows.  Those who write into the jobs' own rows return the jobs whose claim
-- holds.  Those who write beside them rely on its having been found to: by the
-- statement that completes the jobs, or by transcribe_hold.  What these two say holds
-- until the transaction ends, since the rows are locked.  Those that join rows by id
-- say what a status is not, so that transcribe_jobs_running cannot be taken for it:
-- under an old snapshot that is as long as all that has run since.
--
-- The rows have types of their own: no table may be altered whose row type a
-- function's body uses.

CREATE FUNCTION transcribe_hold(
    incarnation bigint, job_ids bigint[], OUT job_id bigint, OUT held boolean)
RETURNS SETOF record
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT j.id, (j.claimed_by = transcribe_hold.incarnation) IS TRUE
                 AND j.status IN ('preprocessing', 'transcribing')
    FROM transcribe_jobs j
    WHERE j.id = ANY (transcribe_hold.job_ids)
    ORDER BY j.id
    FOR NO KEY UPDATE;
END;
REVOKE ALL ON FUNCTION transcribe_hold(bigint, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_hold(bigint, bigint[]) IS
'lock jobs until the transaction ends, and say of each whether the claim holds; of those that are deleted nothing is returned';

CREATE FUNCTION transcribe_start_over(incarnation bigint, job_ids bigint[])
RETURNS SETOF bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH mine AS (
        UPDATE transcribe_jobs j
        SET progress = 0
        WHERE j.id = ANY (transcribe_start_over.job_ids)
          AND j.claimed_by = transcribe_start_over.incarnation
          AND j.status IN ('preprocessing', 'transcribing')
        RETURNING j.id),
    stale AS (
        DELETE FROM transcribe_chunks c USING mine
        WHERE c.job_id = mine.id),
    stale_segments AS (
        DELETE FROM transcribe_chunk_segments s USING mine
        WHERE s.job_id = mine.id)
    SELECT mine.id FROM mine;
END;
REVOKE ALL ON FUNCTION transcribe_start_over(bigint, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_start_over(bigint, bigint[]) IS
'forget what earlier attempts have saved, because it is of another recording or of other options; returns the jobs whose claim holds';

CREATE FUNCTION transcribe_transcribing(incarnation bigint, job_ids bigint[])
RETURNS SETOF bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    UPDATE transcribe_jobs j
    SET status = 'transcribing'
    WHERE j.id = ANY (transcribe_transcribing.job_ids)
      AND j.claimed_by = transcribe_transcribing.incarnation
      AND j.status = 'preprocessing'
    RETURNING j.id;
END;
REVOKE ALL ON FUNCTION transcribe_transcribing(bigint, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_transcribing(bigint, bigint[]) IS
'the first requests of the jobs are under way; returns those whose claim holds';

CREATE TYPE transcribe_new_chunk AS (
    job_id        bigint,
    chunk_no      integer,
    owner         text,
    plan          text,
    start_s       double precision,
    end_s         double precision,
    audio_s       double precision,
    spans         double precision[],
    channel       integer,
    loudness_lufs double precision,
    server        text,
    model         text,
    language      text
);
COMMENT ON TYPE transcribe_new_chunk IS
'an answer for a chunk of a recording, for transcribe_save_chunks; columns as in transcribe_chunks';

CREATE FUNCTION transcribe_save_chunks(chunks transcribe_new_chunk[]) RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    INSERT INTO transcribe_chunks (job_id, chunk_no, owner, plan, start_s, end_s,
                                   audio_s, spans, channel, loudness_lufs, server,
                                   model, language)
    SELECT g.*
    FROM pg_catalog.unnest(transcribe_save_chunks.chunks) AS g;
END;
REVOKE ALL ON FUNCTION transcribe_save_chunks(transcribe_new_chunk[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_save_chunks(transcribe_new_chunk[]) IS
'save answers for chunks of jobs whose rows are locked';

CREATE TYPE transcribe_new_segment AS (
    job_id            bigint,
    chunk_no          integer,
    n                 integer,
    owner             text,
    start_s           double precision,
    end_s             double precision,
    text              text,
    speaker           text,
    channel           integer,
    avg_logprob       double precision,
    compression_ratio double precision,
    no_speech_prob    double precision,
    words             jsonb,
    language          text
);
COMMENT ON TYPE transcribe_new_segment IS
'a segment of an answer, for transcribe_save_segments; columns as in transcribe_chunk_segments';

CREATE FUNCTION transcribe_save_segments(segments transcribe_new_segment[])
RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    INSERT INTO transcribe_chunk_segments (job_id, chunk_no, n, owner, start_s,
                                           end_s, text, speaker, channel,
                                           avg_logprob, compression_ratio,
                                           no_speech_prob, words, language)
    SELECT g.*
    FROM pg_catalog.unnest(transcribe_save_segments.segments) AS g;
END;
REVOKE ALL ON FUNCTION transcribe_save_segments(transcribe_new_segment[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_save_segments(transcribe_new_segment[]) IS
'save the segments of chunks of jobs whose rows are locked';

CREATE TYPE transcribe_new_progress AS (
    job_id   bigint,
    progress integer
);
COMMENT ON TYPE transcribe_new_progress IS
'how far a job is, in percent, for transcribe_save_progress';

CREATE FUNCTION transcribe_save_progress(
    incarnation bigint, progress transcribe_new_progress[])
RETURNS SETOF bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    UPDATE transcribe_jobs j
    SET progress = g.progress
    FROM pg_catalog.unnest(transcribe_save_progress.progress) AS g
    WHERE j.id = g.job_id
      AND j.claimed_by = transcribe_save_progress.incarnation
      AND j.status NOT IN ('queued', 'completed', 'failed', 'cancelled')
      AND j.progress < g.progress
    RETURNING j.id;
END;
REVOKE ALL ON FUNCTION transcribe_save_progress(bigint, transcribe_new_progress[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_save_progress(bigint, transcribe_new_progress[]) IS
'note how far jobs are; one that is farther already stays there';

CREATE TYPE transcribe_new_attempt AS (
    job_id      bigint,
    owner       text,
    attempt     integer,
    chunk_no    integer,
    server      text,
    model       text,
    started_at  timestamptz,
    elapsed_s   double precision,
    audio_s     double precision,
    sent_bytes  bigint,
    http_status integer,
    error_code  text,
    error       text,
    request_id  text,
    usage       jsonb
);
COMMENT ON TYPE transcribe_new_attempt IS
'a request that has ended, for transcribe_save_attempts; columns as in transcribe_attempts';

CREATE FUNCTION transcribe_save_attempts(attempts transcribe_new_attempt[]) RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    INSERT INTO transcribe_attempts (job_id, owner, attempt, chunk_no, server,
                                     model, started_at, elapsed_s, audio_s,
                                     sent_bytes, http_status, error_code, error,
                                     request_id, usage)
    SELECT g.*
    FROM pg_catalog.unnest(transcribe_save_attempts.attempts) AS g;
END;
REVOKE ALL ON FUNCTION transcribe_save_attempts(transcribe_new_attempt[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_save_attempts(transcribe_new_attempt[]) IS
'note requests that have ended, in their order, of jobs whose rows are locked, whatever came of their claims meanwhile';

CREATE TYPE transcribe_completion AS (
    job_id        bigint,
    language      text,
    duration_s    double precision,
    speech_s      double precision,
    trimmed_s     double precision,
    loudness_lufs double precision,
    damaged       text,
    missing_s     double precision,
    source_format text,
    sample_rate   integer,
    channels      integer,
    served_by     text
);
COMMENT ON TYPE transcribe_completion IS
'what is known of a job that completes, for transcribe_complete; columns as in transcribe_jobs; served_by is the server that was asked, or NULL';

CREATE FUNCTION transcribe_complete(
    incarnation bigint, completions transcribe_completion[],
    OUT job_id bigint, OUT replaces boolean)
RETURNS SETOF record
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    UPDATE transcribe_jobs j
    SET status = 'completed', progress = 100, claimed_by = NULL,
        attempts = j.attempts + 1, error = NULL, error_code = NULL,
        language = g.language,
        duration_s = g.duration_s,
        speech_s = g.speech_s,
        trimmed_s = g.trimmed_s,
        damaged = g.damaged,
        missing_s = g.missing_s,
        loudness_lufs = g.loudness_lufs,
        source_format = g.source_format,
        sample_rate = g.sample_rate,
        channels = g.channels,
        served_by = COALESCE(g.served_by, j.served_by),
        finished_at = pg_catalog.clock_timestamp()
    FROM pg_catalog.unnest(transcribe_complete.completions) AS g
    WHERE j.id = g.job_id
      AND j.claimed_by = transcribe_complete.incarnation
      AND j.status NOT IN ('queued', 'completed', 'failed', 'cancelled')
    RETURNING j.id, EXISTS (
        SELECT FROM transcribe_jobs o
        WHERE o.session_id = j.session_id AND o.owner = j.owner
          AND o.path = j.path AND o.id <> j.id
          AND o.status = 'completed' AND o.replaced_by IS NULL);
END;
REVOKE ALL ON FUNCTION transcribe_complete(bigint, transcribe_completion[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_complete(bigint, transcribe_completion[]) IS
'complete jobs all of whose chunks are saved, or will be before the transaction ends; returns those whose claim holds, and whether there is an older result to replace';

CREATE FUNCTION transcribe_replaced(job_ids bigint[]) RETURNS SETOF bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH replaced AS (
        UPDATE transcribe_jobs o
        SET replaced_by = n.id
        FROM transcribe_jobs n
        WHERE n.id = ANY (transcribe_replaced.job_ids) AND n.status = 'completed'
          AND o.session_id = n.session_id AND o.owner = n.owner
          AND o.path = n.path AND o.id <> n.id
          AND o.status = 'completed' AND o.replaced_by IS NULL
        RETURNING o.id),
    old_segments AS (
        DELETE FROM transcribe_chunk_segments s USING replaced
        WHERE s.job_id = replaced.id),
    old_chunks AS (
        DELETE FROM transcribe_chunks c USING replaced
        WHERE c.job_id = replaced.id)
    SELECT replaced.id FROM replaced;
END;
REVOKE ALL ON FUNCTION transcribe_replaced(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_replaced(bigint[]) IS
'have the results of jobs that have just completed replace the older ones of the same owner, session and path; returns the jobs whose results are gone';

CREATE FUNCTION transcribe_piece(job_id bigint, piece_no integer) RETURNS bytea
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT r.data FROM transcribe_recordings r
    WHERE r.job_id = transcribe_piece.job_id
      AND r.piece_no = transcribe_piece.piece_no;
END;
REVOKE ALL ON FUNCTION transcribe_piece(bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_piece(bigint, integer) IS
'a piece of a recording that was given as bytes; NULL behind the last';

CREATE FUNCTION transcribe_forget_recordings(
    first_job bigint, last_job bigint, max_pieces integer)
RETURNS bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH gone AS (
        DELETE FROM transcribe_recordings r
        WHERE r.ctid = ANY (ARRAY(
            SELECT q.ctid
            FROM transcribe_recordings q JOIN transcribe_jobs j ON j.id = q.job_id
            WHERE q.job_id >= transcribe_forget_recordings.first_job
              AND q.job_id <= transcribe_forget_recordings.last_job
              AND j.status = 'completed'
            LIMIT transcribe_forget_recordings.max_pieces
            FOR UPDATE OF q SKIP LOCKED))
        RETURNING r.piece_no)
    SELECT pg_catalog.count(*) FROM gone;
END;
REVOKE ALL ON FUNCTION transcribe_forget_recordings(bigint, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_forget_recordings(bigint, bigint, integer) IS
'remove some of the bytes of jobs that have completed, of a range of jobs; returns how many pieces';

CREATE TYPE transcribe_failure AS (
    job_id     bigint,
    error      text,
    error_code text,
    retry_in   interval,
    charged    boolean,
    crashed    boolean,
    served_by  text
);
COMMENT ON TYPE transcribe_failure IS
'how an attempt at a job has failed, for transcribe_fail: retry_in is NULL where it is not to be tried again; charged and crashed say whether it counts as an attempt and as a crash; served_by is the server that was asked, or NULL';

CREATE FUNCTION transcribe_fail(
    incarnation bigint, failures transcribe_failure[],
    OUT job_id bigint, OUT status text)
RETURNS SETOF record
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH verdict AS (
        SELECT j.id, g.error, g.error_code, g.retry_in, g.charged, g.crashed,
               g.served_by,
               g.retry_in IS NULL
               OR j.attempts + g.charged::integer >= j.max_attempts
               OR j.crashes + g.crashed::integer >= 3 AS final
        FROM pg_catalog.unnest(transcribe_fail.failures) AS g
             JOIN transcribe_jobs j ON j.id = g.job_id
        WHERE j.claimed_by = transcribe_fail.incarnation
          AND j.status NOT IN ('queued', 'completed', 'failed', 'cancelled')
        FOR NO KEY UPDATE OF j)
    UPDATE transcribe_jobs j
    SET status = CASE WHEN v.final THEN 'failed' ELSE 'queued' END,
        attempts = j.attempts + v.charged::integer,
        crashes = j.crashes + v.crashed::integer,
        error = v.error,
        error_code = v.error_code,
        served_by = COALESCE(v.served_by, j.served_by),
        run_at = CASE WHEN v.final THEN j.run_at
                      ELSE pg_catalog.clock_timestamp() + v.retry_in END,
        finished_at = CASE WHEN v.final THEN pg_catalog.clock_timestamp() END,
        claimed_by = NULL
    FROM verdict v
    WHERE j.id = v.id
    RETURNING j.id, j.status;
END;
REVOKE ALL ON FUNCTION transcribe_fail(bigint, transcribe_failure[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_fail(bigint, transcribe_failure[]) IS
'end attempts that failed: queued again after retry_in, or failed if that is NULL or no attempt is left; returns the jobs whose claim held';

-- By a statement that comes after the one which has ended the jobs: whoever asks
-- for a function locks the job's row, and is seen once that lock is had.
CREATE FUNCTION transcribe_ended(job_ids bigint[]) RETURNS SETOF bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    UPDATE transcribe_callbacks c
    SET status = 'queued', attempts = 0, error = NULL, error_code = NULL,
        run_at = pg_catalog.clock_timestamp(), started_at = NULL,
        finished_at = NULL, claimed_by = NULL
    WHERE c.job_id = ANY (transcribe_ended.job_ids)
    RETURNING c.job_id;
END;
REVOKE ALL ON FUNCTION transcribe_ended(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION transcribe_ended(bigint[]) IS
'have the functions called that were asked for with jobs which have ended';

SELECT transcribe_preload_check();
