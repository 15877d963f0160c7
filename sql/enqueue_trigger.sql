-- Rows of a table go into the queue by a trigger.
SELECT current_setting('data_directory') || '/PG_VERSION' AS path,
       current_setting('data_directory') || '/postgresql.conf' AS other_path \gset
CREATE VIEW queued AS
    SELECT session_id, replace(path, current_setting('data_directory'), '') AS path,
           server, priority, options FROM transcribe_jobs ORDER BY id;

CREATE TABLE calls (id int PRIMARY KEY, audio_path text, note text);
CREATE TRIGGER enqueue AFTER INSERT OR UPDATE OF audio_path ON calls
    FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger('id', 'audio_path');
INSERT INTO calls VALUES (1, :'path'), (2, NULL), (3, :'path');
SELECT * FROM queued;
-- what is set later is enqueued then; what stays as it is, is not enqueued again
UPDATE calls SET audio_path = :'path' WHERE id = 2;
SELECT count(transcribe_cancel(id)) FROM transcribe_jobs;
UPDATE calls SET audio_path = audio_path, note = 'x';
UPDATE calls SET audio_path = NULL WHERE id = 2;
UPDATE calls SET audio_path = :'other_path' WHERE id = 3;
UPDATE calls SET note = 'y';
DELETE FROM calls;
SELECT * FROM queued;
TRUNCATE transcribe_jobs;

-- all that can be given
CREATE SERVER second FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9');
DROP TRIGGER enqueue ON calls;
CREATE TRIGGER enqueue AFTER INSERT ON calls FOR EACH ROW
    EXECUTE FUNCTION transcribe_enqueue_trigger('id', 'audio_path', 'second, whisper', 'priority=3',
                                                'options={"language": "de"}', 'prefix=call-');
INSERT INTO calls VALUES (1, :'path');
DROP TRIGGER enqueue ON calls;
CREATE TRIGGER enqueue AFTER INSERT ON calls FOR EACH ROW
    EXECUTE FUNCTION transcribe_enqueue_trigger('id', 'audio_path', 'priority=4', 'server=second');
INSERT INTO calls VALUES (2, :'path');
SELECT * FROM queued;
TRUNCATE transcribe_jobs;

-- what cannot be enqueued is an error of the statement
INSERT INTO calls VALUES (3, '/no/such/file.wav');
SELECT count(*) FROM calls WHERE id = 3;
ALTER TABLE calls RENAME audio_path TO recording;
INSERT INTO calls VALUES (3, :'path');
DROP TABLE calls;

-- partitions, a key of another type, a path that is generated, a domain
CREATE DOMAIN audio AS varchar(1000);
CREATE TABLE parts (day date, id uuid, name audio,
    path audio GENERATED ALWAYS AS ('/' || name) STORED) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_2 (path audio GENERATED ALWAYS AS ('/' || name) STORED, name audio, gone int, id uuid, day date);
ALTER TABLE parts_2 DROP gone;
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TRIGGER enqueue AFTER INSERT OR UPDATE ON parts
    FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger('id', 'path', 'whisper');
INSERT INTO parts VALUES ('2026-01-05', '4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d001', substr(:'path', 2)),
                         ('2026-02-05', '4b1f2e0a-7c1d-4e57-9f39-b1f0a7c5d002', substr(:'path', 2));
SELECT * FROM queued;
TRUNCATE transcribe_jobs;
DROP TABLE parts;
DROP DOMAIN audio;

-- wrong use
SELECT transcribe_enqueue_trigger();
CREATE TABLE wrong (id int, path text, n int, padded char(100));
\set SHOW_CONTEXT never
CREATE FUNCTION try(definition text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE TRIGGER wrong ' || definition;
    INSERT INTO wrong VALUES (1, '/x', 1, '/x');
    DELETE FROM wrong;
    DROP TRIGGER wrong ON wrong;
END $$;
SELECT try('BEFORE INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, path)');
SELECT try('AFTER INSERT ON wrong FOR EACH STATEMENT EXECUTE FUNCTION transcribe_enqueue_trigger(id, path)');
SELECT try('AFTER DELETE ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, path)');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id)');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, no_such)');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(ctid, path)');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, n)');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, padded)');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, path, whisper, whisper)');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, path, no_such_server)');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, path, ''priority=high'')');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, path, ''options={"lang": "en"}'')');
SELECT try('AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger(id, path)');
DROP TABLE wrong;
DROP FUNCTION try(text);
\set SHOW_CONTEXT errors

-- as the role that makes the change
CREATE ROLE regress_writer;
CREATE TABLE shared (id int, path text);
GRANT INSERT ON shared TO regress_writer;
CREATE TRIGGER enqueue AFTER INSERT ON shared
    FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger('id', 'path');
SET ROLE regress_writer;
INSERT INTO shared VALUES (1, :'path');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER whisper TO regress_writer;
GRANT pg_read_server_files TO regress_writer;
SET ROLE regress_writer;
INSERT INTO shared VALUES (1, :'path');
RESET ROLE;
SELECT session_id, owner FROM transcribe_jobs;
DROP TABLE shared;
REVOKE USAGE ON FOREIGN SERVER whisper FROM regress_writer;
DROP ROLE regress_writer;
TRUNCATE transcribe_jobs;
DROP SERVER second;
DROP VIEW queued;
