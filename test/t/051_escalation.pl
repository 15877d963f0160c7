# What a role may plant around the queue, with all privileges on its tables,
# functions and sequences: none of it runs with rights that are not the role's
# own, shows it what is another's, or stops the work of others.
use strict;
use warnings;

use lib 'test/perl';
use Digest::SHA qw(sha256_hex);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('escalation',
	max_prepared_transactions => 5,
	'transcribe.media_directories' => $audio,
	'transcribe.naptime' => '1s');
my $wav = "$audio/austen-0880.wav";
my $key = 'sk-' . sha256_hex(rand() . $$);

sub query
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

# What a role's session prints, and what its errors are.
sub run_as
{
	my ($role, $sql, %more) = @_;
	my (undef, $stdout, $stderr) = $node->psql($more{db} // 'postgres', $sql,
		on_error_stop => 0, extra_params => [ '-U', $role ]);

	return ($stdout, $stderr);
}

# A canary, which says as whom it is made to sing, in the log also if what made
# it is rolled back.
my $canary = <<'SQL';
CREATE SCHEMA canary;
GRANT USAGE ON SCHEMA canary TO PUBLIC;
CREATE TABLE canary.sung (song text, who name, session name, super text, rolsuper boolean);
GRANT INSERT, SELECT ON canary.sung TO PUBLIC;
CREATE FUNCTION canary.sing(song text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE LOG 'the canary sings % as %', song, current_user;
	INSERT INTO canary.sung SELECT song, current_user, session_user, current_setting('is_superuser'), rolsuper
		FROM pg_roles WHERE rolname = current_user;
	RETURN true;
END $$;
CREATE FUNCTION canary.called(bigint) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SQL
query($canary);
query('CREATE ROLE attacker LOGIN; CREATE ROLE victim LOGIN');
create_server($node, 'whisper', $faulty->url('ok'));
create_server($node, 'gone', $faulty->url('ok,tag=gone'));
create_mapping($node, $_, 'whisper', api_key => $key) foreach ('victim', 'PUBLIC');
query("GRANT USAGE ON FOREIGN SERVER whisper TO victim;
	CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO victim;
	CREATE TABLE app.recordings AS SELECT pg_read_binary_file('$wav') AS audio; GRANT SELECT ON app.recordings TO victim");

# All that an administrator may have given in a hurry.
sub grant_all
{
	my ($db) = @_;

	query("GRANT ALL ON DATABASE $db TO attacker; GRANT ALL ON SCHEMA public TO attacker;
		GRANT ALL ON ALL TABLES IN SCHEMA public TO attacker;
		GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO attacker;
		GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO attacker;
		GRANT ALL ON FOREIGN DATA WRAPPER transcribe TO attacker;
		GRANT ALL ON FOREIGN SERVER whisper TO attacker", $db);
	return;
}

# What the scripts are made of.
my $tools = <<'SQL';
SET client_min_messages = warning;
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.trig() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM canary.sing(TG_NAME);
	IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
		ALTER ROLE attacker SUPERUSER;
	END IF;
	RETURN coalesce(NEW, OLD);
END $$;
CREATE FUNCTION evil.f(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS
	$$ BEGIN RETURN canary.sing('f ' || $1::text); END $$;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN PERFORM canary.sing('eq'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN PERFORM canary.sing('eq'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN PERFORM canary.sing('eq'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS
	$$ BEGIN PERFORM canary.sing('now'); RETURN pg_catalog.now(); END $$;
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
	$$ BEGIN PERFORM canary.sing('clock_timestamp'); RETURN pg_catalog.now(); END $$;
CREATE FUNCTION evil.octet_length(text) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN PERFORM canary.sing('octet_length'); RETURN 1; END $$;
CREATE FUNCTION evil.pg_has_role(oid, text) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN PERFORM canary.sing('pg_has_role'); RETURN true; END $$;
CREATE FUNCTION evil.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS
	$$ BEGIN PERFORM canary.sing('unnest'); END $$;
SQL

# What the attacker calls of the session's functions, with whatever is planted.
my $calls = "SELECT transcribe_cancel(transcribe_enqueue('attack'::text, '$wav'::text, 'whisper'::text, 0, pg_catalog.now(), '{}'::jsonb));
	SELECT transcribe_retry(max(id)) FROM transcribe_jobs; SELECT transcribe_cancel(max(id)) FROM transcribe_jobs;
	SELECT transcribe_retry_failed(); SELECT transcribe_purge(pg_catalog.now(), pg_catalog.now(), 1);
	SELECT transcribe_enqueue('bytes'::text, 'RIFF'::bytea, 'whisper'::text, 0, '2100-01-01'::timestamptz, '{}'::jsonb);
	SELECT transcribe_delete(id) FROM transcribe_jobs; SELECT count(*) FROM transcribe_segments;
	SELECT count(*) FROM transcribe_progress; SELECT count(*) FROM transcribe_servers; SELECT transcribe_result('attack'::text);
	SELECT transcribe_srt('attack'::text); SELECT transcribe_text('attack'::text); SELECT count(*) FROM transcribe_search('the'::text); SELECT transcribe_rename_speaker('attack'::text, 'A'::text, 'B'::text);
	SELECT count(*) FROM transcribe_stats; SELECT count(*) FROM transcribe_workers; SELECT count(*) FROM transcribe_problems;";

# A trigger of a kind on all tables.
sub trigger
{
	my ($name, $when, %more) = @_;

	return ("trigger $name", join('', map { "CREATE " . ($more{constraint} ? 'CONSTRAINT ' : '') . "TRIGGER $name $when ON $_ "
			. ($more{clause} // '') . " EXECUTE FUNCTION evil.trig();" }
		qw(transcribe_jobs transcribe_chunks transcribe_chunk_segments transcribe_attempts transcribe_recordings transcribe_callbacks)), %more);
}

# The scripts: what it is, and what the attacker runs.  "refused": the error
# that it gets.  "fires": what the attacker does itself to have the canary sing,
# which shows that what was planted is alive.
my @scripts = (
	# What runs when rows are written.
	[ trigger('before_row', 'BEFORE INSERT OR UPDATE OR DELETE', clause => 'FOR EACH ROW') ],
	[ trigger('after_row', 'AFTER INSERT OR UPDATE OR DELETE', clause => 'FOR EACH ROW') ],
	[ trigger('before_statement', 'BEFORE INSERT OR UPDATE OR DELETE', clause => 'FOR EACH STATEMENT',
		fires => 'UPDATE transcribe_jobs SET path = path') ],
	[ trigger('after_statement', 'AFTER INSERT OR UPDATE OR DELETE', clause => 'FOR EACH STATEMENT',
		fires => 'DELETE FROM transcribe_chunks') ],
	[ trigger('deferred', 'AFTER INSERT OR UPDATE OR DELETE', clause => 'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW', constraint => 1) ],
	[ trigger('on_truncate', 'BEFORE TRUNCATE', clause => 'FOR EACH STATEMENT') ],
	[ trigger('when_clause', 'BEFORE INSERT OR UPDATE', clause => 'FOR EACH ROW WHEN (evil.f(NEW::text))') ],
	[ trigger('of_column', 'BEFORE UPDATE OF owner', clause => 'FOR EACH ROW') ],
	[ 'a transition table', 'CREATE TRIGGER t AFTER UPDATE ON transcribe_jobs REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION evil.trig()' ],
	[ 'a trigger that keeps others from writing', "CREATE FUNCTION evil.no() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RETURN NULL; END \$\$;
		CREATE TRIGGER no BEFORE INSERT OR UPDATE OR DELETE ON transcribe_jobs FOR EACH ROW EXECUTE FUNCTION evil.no()" ],
	[ 'a trigger that fires always', 'CREATE TRIGGER t BEFORE UPDATE ON transcribe_jobs FOR EACH ROW EXECUTE FUNCTION evil.trig();
		ALTER TABLE transcribe_jobs ENABLE ALWAYS TRIGGER t', refused => qr/must be owner of table/ ],
	[ 'a foreign key that cascades', 'CREATE TABLE evil.fk (job_id bigint REFERENCES transcribe_jobs ON DELETE CASCADE ON UPDATE CASCADE);
		CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON evil.fk FOR EACH ROW EXECUTE FUNCTION evil.trig();
		INSERT INTO evil.fk SELECT id FROM transcribe_jobs', fires => 'INSERT INTO evil.fk VALUES (NULL)' ],
	[ 'a foreign key that restricts, with a cast', "CREATE TYPE evil.id AS (id bigint);
		CREATE FUNCTION evil.to_id(evil.id) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN PERFORM canary.sing('cast'); RETURN (\$1).id; END \$\$;
		CREATE CAST (evil.id AS bigint) WITH FUNCTION evil.to_id(evil.id) AS IMPLICIT;
		CREATE TABLE evil.fk (job_id evil.id); INSERT INTO evil.fk VALUES (ROW(1));
		ALTER TABLE evil.fk ADD FOREIGN KEY (job_id) REFERENCES transcribe_jobs (id) NOT VALID" , fires => 'SELECT pg_catalog.abs(job_id) FROM evil.fk' ],
	[ 'a rule', 'CREATE RULE r AS ON UPDATE TO transcribe_jobs DO ALSO SELECT evil.f(1)', refused => qr/must be owner/ ],
	[ 'a rule in place of a view', 'CREATE RULE "_RETURN" AS ON SELECT TO transcribe_segments DO INSTEAD SELECT 1', refused => qr/must be owner/ ],
	[ 'a policy', 'CREATE POLICY p ON transcribe_jobs USING (evil.f(id))', refused => qr/must be owner/ ],
	[ 'no row security', 'ALTER TABLE transcribe_jobs DISABLE ROW LEVEL SECURITY', refused => qr/must be owner/ ],
	[ 'a column with a default', 'ALTER TABLE transcribe_jobs ADD x boolean DEFAULT evil.f(1)', refused => qr/must be owner/ ],
	[ 'another default', 'ALTER TABLE transcribe_jobs ALTER created_at SET DEFAULT evil.now()', refused => qr/must be owner/ ],
	[ 'a check', 'ALTER TABLE transcribe_jobs ADD CHECK (evil.f(id))', refused => qr/must be owner/ ],
	[ 'an index on an expression', 'CREATE INDEX ON transcribe_jobs (evil.f(path))', refused => qr/must be owner/ ],
	[ 'statistics on an expression', 'CREATE STATISTICS evil.s ON (evil.f(path)), status FROM transcribe_jobs', refused => qr/must be owner/ ],
	[ 'a child', 'CREATE TABLE evil.child () INHERITS (transcribe_jobs)', refused => qr/must be owner/ ],
	[ 'a publication with a filter', 'CREATE PUBLICATION p FOR TABLE transcribe_jobs WHERE (id > 1)', refused => qr/must be owner/ ],
	[ 'an event trigger', 'CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION evil.f()', refused => qr/permission denied/ ],
	[ 'a cast between types of others', 'CREATE FUNCTION evil.c(text) RETURNS bigint LANGUAGE sql AS $$ SELECT 1::bigint $$;
		CREATE CAST (text AS bigint) WITH FUNCTION evil.c(text) AS IMPLICIT', refused => qr/must be owner of type/ ],
	[ 'an operator class', 'CREATE OPERATOR CLASS evil.c DEFAULT FOR TYPE text USING hash AS OPERATOR 1 evil.=(text, text)', refused => qr/must be superuser/ ],

	# What takes the place of something of ours.
	[ 'functions replaced', 'CREATE OR REPLACE FUNCTION transcribe_home() RETURNS bigint LANGUAGE sql AS $$ SELECT 1::bigint $$', refused => qr/must be owner of function/ ],
	[ 'a view replaced', 'CREATE OR REPLACE VIEW transcribe_segments AS SELECT 1', refused => qr/must be owner|cannot change/ ],
	[ 'a member of the extension', 'ALTER EXTENSION transcribe ADD FUNCTION evil.trig()', refused => qr/must be owner of extension/ ],
	[ 'a function of the extension let go', 'ALTER EXTENSION transcribe DROP FUNCTION transcribe_home(); ALTER FUNCTION transcribe_home() RENAME TO x', refused => qr/must be owner/ ],
	[ 'overloads of what the worker calls', join('', map { "CREATE FUNCTION public.$_ RETURNS SETOF bigint LANGUAGE plpgsql AS \$\$ BEGIN PERFORM canary.sing('overload'); END \$\$;" }
		'transcribe_claim(bigint, text, bigint)', 'transcribe_claim(bigint, varchar, integer)',
		'transcribe_rescue(bigint)', 'transcribe_rescue(bigint, anyarray)', 'transcribe_lost(bigint, anyarray)',
		'transcribe_save_attempts(json)', 'transcribe_hold(bigint, anyarray)', 'transcribe_saved(anyarray)',
		'transcribe_transcribing(bigint, integer[])', 'transcribe_waiting(integer DEFAULT 0)', 'transcribe_oldest(VARIADIC text[])',
		'transcribe_home(integer DEFAULT 0)', 'transcribe_is_live(numeric)', 'transcribe_wake(integer DEFAULT 0)',
		'transcribe_claim(bigint, text, integer)', 'transcribe_claim(bigint, text, integer, integer DEFAULT 0)',
		'transcribe_queue(text, integer, name, integer DEFAULT 0)', 'transcribe_queue(varchar, integer, name)', 'transcribe_active(name, text, text, integer DEFAULT 0)',
		'transcribe_hold(bigint, bigint[], integer DEFAULT 0)', 'transcribe_piece(bigint, bigint)', 'transcribe_piece(bigint)',
		'transcribe_forget_recordings(bigint, bigint, bigint)', 'transcribe_forget_recordings(bigint, bigint, integer, integer DEFAULT 0)',
		'transcribe_purge(timestamptz, timestamptz, integer, integer DEFAULT 0)',
		'transcribe_job_result(integer)', 'transcribe_search_vector(varchar, text)', 'transcribe_search_vector(text, varchar)',
		'transcribe_search_config(varchar)', 'transcribe_result(varchar)', 'transcribe_purge(timestamptz, timestamptz)',
		'transcribe_fail(bigint, anyarray)', 'transcribe_complete(bigint, anyarray)', 'transcribe_save_chunks(anyarray)',
		'unnest(public.transcribe_new_chunk[])', 'unnest(public.transcribe_completion[])'), fires => 'SELECT transcribe_result(1::text::varchar)' ],
	[ 'operators and functions in the schema', join('', map { s/evil\./public./gr } $tools =~ /^(CREATE FUNCTION evil\.(?!trig|f\().*?\$\$;\n|CREATE OPERATOR .*?\n)/msg),
		fires => 'SELECT public.octet_length(1::text)' ],
	[ 'the search path', "ALTER ROLE attacker SET search_path = evil, pg_catalog, public; SET search_path = evil, pg_catalog, public; $calls",
		fires => "SET search_path = evil, pg_catalog; SELECT 'a'::text = 'b'::text" ],
	[ 'temporary shadows', "CREATE TEMP TABLE transcribe_jobs (LIKE public.transcribe_jobs); CREATE TEMP TABLE transcribe_chunks (LIKE public.transcribe_chunks);
		CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON pg_temp.transcribe_jobs FOR EACH ROW EXECUTE FUNCTION evil.trig();
		CREATE FUNCTION pg_temp.transcribe_home() RETURNS bigint LANGUAGE plpgsql AS \$\$ BEGIN PERFORM canary.sing('temporary'); RETURN 1; END \$\$;
		CREATE TEMP VIEW pg_roles AS SELECT evil.f(1), 'attacker'::name AS rolname, 10::oid AS oid; SET search_path = pg_temp, pg_catalog, public; " . $calls =~ s/transcribe_(\w+)\(/public.transcribe_$1(/gr,
		fires => "CREATE TEMP TABLE x (i int); CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW EXECUTE FUNCTION evil.trig(); INSERT INTO x VALUES (1)" ],
	[ 'domains in arguments', "CREATE DOMAIN evil.d AS text CHECK (evil.f(VALUE)); CREATE DOMAIN evil.j AS jsonb CHECK (evil.f(VALUE::text));
		SELECT transcribe_enqueue('domain'::evil.d, '$wav'::evil.d, 'whisper'::evil.d, 0, now(), '{}'::evil.j)", fires => "SELECT 'x'::evil.d" ],
	[ 'a caller that an index calls', "CREATE FUNCTION evil.enqueue(text) RETURNS bigint LANGUAGE sql IMMUTABLE AS \$\$ SELECT transcribe_enqueue(\$1, '$wav'::text, 'whisper'::text, 0, now(), '{}'::jsonb) \$\$;
		CREATE TABLE evil.t (x text); INSERT INTO evil.t VALUES ('index'); CREATE INDEX ON evil.t (evil.enqueue(x)); ALTER TABLE evil.t ADD CHECK (evil.f(x))", fires => "INSERT INTO evil.t VALUES ('y')" ],
	[ 'default privileges', 'ALTER DEFAULT PRIVILEGES FOR ROLE victim GRANT ALL ON TABLES TO attacker', refused => qr/must be member|permission denied/ ],

	# Settings.
	[ 'settings of the role', "ALTER ROLE attacker SET transcribe.server = 'whisper'; ALTER ROLE attacker SET session_replication_role = 'replica'",
		refused => qr/permission denied to set parameter/ ],
	[ 'settings of the role that the worker has', "ALTER ROLE " . query('SELECT current_user') . " SET search_path = evil", refused => qr/must be superuser|permission denied/ ],
	[ 'settings of the database', 'ALTER DATABASE postgres SET role = attacker', refused => qr/must be owner of database/ ],
	[ 'settings that are the administrator\'s', "ALTER ROLE attacker SET transcribe.media_directories = '/'", refused => qr/cannot be changed now/ ],

	# What is another's.
	[ 'a leaking function', 'SELECT count(*) FROM transcribe_jobs WHERE evil.f(path || session_id); SELECT count(*) FROM transcribe_segments WHERE evil.f(text);
		SELECT * FROM transcribe_search(\'segment\'::text, max_results => NULL) WHERE evil.f(text); SELECT count(*) FROM transcribe_chunk_segments WHERE evil.f(text); CREATE VIEW evil.v AS SELECT * FROM transcribe_chunk_segments; SELECT * FROM evil.v;
		COPY transcribe_chunk_segments TO STDOUT; SELECT * FROM pg_stats WHERE tablename LIKE \'transcribe%\'', shows => qr/segment 1|victim|$audio/, fires => "SELECT evil.f('leak'::text)" ],
	[ 'reading by the worker\'s functions', "SELECT transcribe_saved(ARRAY(SELECT generate_series(1, 2000)::bigint)); SELECT transcribe_rescue(n) FROM generate_series(1, 3) n;
		SELECT transcribe_claim(1, transcribe_queue('whisper', 0, 'victim'), 10); SELECT transcribe_waiting(); SELECT transcribe_job_result(n) FROM generate_series(1, 2000) n;
		SELECT transcribe_adopt(); SELECT transcribe_live_progress(); SELECT * FROM transcribe_problems; SELECT * FROM transcribe_check(false) WHERE item !~ '^directory';
		SELECT encode(transcribe_piece(n, 0), 'escape') FROM generate_series(1, 2000) n; SELECT encode(data, 'escape') FROM transcribe_recordings", shows => qr/segment 1|victim|$audio|secret/ ],
	[ 'writing by the worker\'s functions', "SELECT transcribe_give_back(claimed_by, ARRAY[id]) FROM transcribe_jobs; SELECT transcribe_start_over(1, ARRAY(SELECT generate_series(1, 2000)::bigint));
		SELECT transcribe_fail(1, ARRAY[(1, 'x', 'x', NULL, true, false, NULL)::transcribe_failure]);
		SELECT transcribe_save_attempts(ARRAY[(1, 'x', 1, 0, 'x', NULL, '2000-01-01', 1, 1, 1, NULL, NULL, NULL, NULL, NULL)::transcribe_new_attempt]);
		SELECT transcribe_complete(1, ARRAY(SELECT jsonb_populate_record(NULL::transcribe_completion, jsonb_build_object('job_id', n)) FROM generate_series(1, 2000) n));
		SELECT transcribe_forget_recordings(1, 2000, 2000); DELETE FROM transcribe_recordings; UPDATE transcribe_recordings SET data = 'x'" ],
	[ 'jobs of another\'s', "INSERT INTO transcribe_jobs (session_id, path, server, owner, home) VALUES ('x', '/etc/passwd', 'whisper', 'victim', transcribe_home())", refused => qr/row-level security/ ],
	[ 'jobs by COPY', "COPY transcribe_jobs (session_id, path, server, owner, home) FROM STDIN;\nx\t/etc/passwd\twhisper\tvictim\t1\n\\.\n", refused => qr/row-level security|COPY FROM not supported/ ],
	[ 'a function as another', "INSERT INTO transcribe_callbacks (job_id, owner, function, function_owner, status) SELECT -1, rolname, 'evil.f(bigint)', 'attacker', 'queued' FROM pg_roles WHERE rolsuper",
		refused => qr/permission denied to write table|row-level security/ ],
	[ 'a function that takes the place of another\'s', "CREATE FUNCTION public.called(bigint) RETURNS boolean LANGUAGE sql AS \$\$ SELECT canary.sing('called') \$\$;
		CREATE FUNCTION evil.called(bigint) RETURNS boolean LANGUAGE sql AS \$\$ SELECT canary.sing('called') \$\$; UPDATE transcribe_callbacks SET function = 'evil.called(bigint)'",
		refused => qr/permission denied to write table/ ],
	[ 'the job of another\'s, to be called back for', 'SELECT transcribe_on_complete(n, \'canary.called\') FROM generate_series(1, 2) n; SELECT transcribe_retry_callback(1)', refused => qr/does not exist/ ],
	[ 'rows gone', 'UPDATE transcribe_jobs SET path = path; DELETE FROM transcribe_jobs; DELETE FROM transcribe_chunk_segments; TRUNCATE transcribe_jobs CASCADE', refused => qr/permission denied to truncate/ ],
	[ 'the jobs of others, one by one', 'SELECT transcribe_delete(n) FROM generate_series(1, 9) n; ' . join('', map { "SELECT transcribe_cancel($_); SELECT transcribe_retry($_); SELECT transcribe_delete($_);" } 1 .. 20) ],
	[ 'keys', "SELECT * FROM pg_user_mappings; SELECT umoptions FROM pg_user_mapping; SELECT * FROM transcribe_check_server('whisper')", shows => qr/$key/ ],
	[ 'another url', "ALTER SERVER whisper OPTIONS (SET url '" . $faulty->url('ok,tag=evil') . "')", refused => qr/must be owner of foreign server/ ],
	[ 'the key of another', "ALTER USER MAPPING FOR victim SERVER whisper OPTIONS (SET api_key 'x')", refused => qr/must be owner of foreign server/ ],
	[ 'a server of the same name', "DROP SERVER whisper CASCADE; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url('ok,tag=evil') . "')", refused => qr/must be owner of foreign server/ ],
	[ 'a server with others\' mappings', "CREATE SERVER evil FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url('ok,tag=evil') . "', model 'm');
		GRANT USAGE ON FOREIGN SERVER evil TO PUBLIC; CREATE USER MAPPING FOR victim SERVER evil; SELECT * FROM transcribe_check_server('evil')" ],
	[ 'a file with a key', "CREATE SERVER evil FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url('ok,tag=evil') . "', model 'm');
		CREATE USER MAPPING FOR attacker SERVER evil OPTIONS (api_key_file '/etc/passwd')", refused => qr/permission denied to set option/ ],
	[ 'the validator', "ALTER FOREIGN DATA WRAPPER transcribe NO VALIDATOR", refused => qr/permission denied/ ],

	# What stands in the way.
	[ 'a lock on all tables', join('', 'BEGIN;', map("LOCK TABLE $_ IN ACCESS EXCLUSIVE MODE;", qw(transcribe_jobs transcribe_chunks transcribe_attempts)), 'COMMIT') ],
	[ 'ids set back', "SELECT count(transcribe_enqueue(('many ' || n)::text, '$wav'::text, 'whisper'::text, n, '2100-01-01'::timestamptz, '{}'::jsonb)) FROM generate_series(1, 30) n;
		SELECT setval('transcribe_jobs_id_seq', min(id) - 1) FROM transcribe_jobs WHERE session_id LIKE 'many%'; SELECT setval('transcribe_attempts_id_seq', 1)" ],
	[ 'ids at their end', "SELECT setval('transcribe_jobs_id_seq', 9223372036854775807); SELECT setval('transcribe_attempts_id_seq', 9223372036854775807)" ],
	[ 'a job with the last id', "SELECT setval('transcribe_jobs_id_seq', 9223372036854775806);
		SELECT transcribe_enqueue('last'::text, '$wav'::text, 'whisper'::text, 0, '2100-01-01'::timestamptz, '{}'::jsonb);
		SELECT transcribe_enqueue('first'::text, '$wav'::text, 'whisper'::text, 0, '2100-01-01'::timestamptz, '{}'::jsonb); SELECT setval('transcribe_jobs_id_seq', 9223372036854775807)" ],
	[ 'the sequence owned', 'ALTER SEQUENCE transcribe_jobs_id_seq MAXVALUE 5', refused => qr/must be owner/ ],
	[ 'signals', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()", refused => qr/permission denied|must be a/ ],
	[ 'a prepared transaction', "BEGIN; SELECT transcribe_enqueue('prepared'::text, '$wav'::text, 'whisper'::text, 0, now(), '{}'::jsonb); PREPARE TRANSACTION 'evil'" ],
	[ 'notifications that are forged', "SELECT pg_notify('transcribe', '{\"job_id\": 1, \"status\": \"failed\"}')" ],
	[ 'very many groups', "SELECT count(transcribe_enqueue(('many ' || n)::text, '$wav'::text, 'whisper'::text, n, '2100-01-01'::timestamptz, '{}'::jsonb)) FROM generate_series(1, 1000) n" ],
	[ 'the extension and its schema', 'DROP EXTENSION transcribe CASCADE; DROP SCHEMA public CASCADE; DROP TABLE transcribe_jobs CASCADE', refused => qr/must be owner/ ],
);

# A role with all privileges on our objects, and nothing planted.
sub clean_up
{
	query("ROLLBACK PREPARED 'evil'") if query("SELECT count(*) FROM pg_prepared_xacts") > 0;
	query('DROP OWNED BY attacker CASCADE; ALTER ROLE attacker NOSUPERUSER; ALTER ROLE attacker RESET ALL; TRUNCATE canary.sung');
	query('SET session_replication_role = replica;' . join('', map { "DELETE FROM $_ WHERE owner = 'attacker';" }
		qw(transcribe_jobs transcribe_chunks transcribe_chunk_segments transcribe_attempts transcribe_recordings transcribe_callbacks)));
	grant_all('postgres');
	run_as('attacker', $tools);
	return;
}

# What others do meanwhile; each of it would have to set off what was planted.
my $serial = 0;
sub work_of_others
{
	my ($name) = @_;
	my $session = 'work ' . ++$serial;
	my $recording = $serial % 2 ? "'$wav'::text" : '(SELECT audio FROM app.recordings)';
	my $enqueue = "SELECT transcribe_enqueue('$session'::text, $recording, 'whisper'::text, 0, now(), '{}'::jsonb);";

	my (undef, $stderr) = run_as('victim', $enqueue);
	is($stderr, '', "$name: another enqueues");
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$session'", 'completed', "$name: and the job completes");

	# A second result that replaces it, a callback, and all else that writes.
	(undef, $stderr) = run_as('victim', $enqueue =~ s/\)\;$/, 'canary.called'::text);/r);
	is($stderr, '', "$name: again");
	wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id = '$session' AND status = 'completed'", '2');
	wait_for($node, "SELECT c.status FROM transcribe_callbacks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE session_id = '$session'", 'completed', "$name: and is called back");
	(my $stdout, $stderr) = run_as('victim', "SELECT count(*) > 0 FROM transcribe_segments WHERE session_id = '$session';
		SELECT transcribe_cancel(transcribe_enqueue('later'::text, '$wav'::text, 'whisper'::text, 0, '2100-01-01'::timestamptz, '{}'::jsonb));
		SELECT transcribe_retry(max(id)) FROM transcribe_jobs WHERE session_id = 'later'; SELECT transcribe_cancel(max(id)) FROM transcribe_jobs WHERE session_id = 'later';
		SELECT count(transcribe_retry_failed()); SELECT transcribe_delete(max(id)) FROM transcribe_jobs WHERE session_id = 'later'; SELECT count(*) >= 0 FROM transcribe_progress");
	is("$stderr$stdout", "t\nt\nt\nt\n1\n\nt", "$name: and works as ever");
	query("SET session_replication_role = replica; UPDATE transcribe_jobs SET home = home + 1 WHERE session_id = '$session'; RESET session_replication_role;
		SELECT transcribe_adopt(); ANALYZE transcribe_jobs; SELECT count(*) FROM transcribe_segments;
		SELECT count(*) FROM transcribe_check(false); SELECT count(*) FROM transcribe_stats");
	return;
}

# Since the log was so long the canary was made to sing as nobody but the attacker.
sub is_silent
{
	my ($name, $since) = @_;
	my %others = map { $_ => 1 } grep { $_ ne 'attacker' } slurp_file($node->logfile, $since) =~ /LOG:  the canary sings .* as (\S+)$/mg;

	is(join(' ', sort keys %others), '', "$name: nothing runs with the rights of another");
	is(query("SELECT (SELECT count(*) FROM canary.sung WHERE who <> 'attacker' OR rolsuper OR super = 'on'), (SELECT rolsuper FROM pg_roles WHERE rolname = 'attacker')"),
		'0|f', "$name: and the attacker is who it was");
	return;
}

# Something of the victim's that is worth reading.
run_as('victim', "SELECT transcribe_enqueue('secret'::text, '$wav'::text, 'whisper'::text, 0, now(), '{}'::jsonb);
	SELECT transcribe_enqueue('stored'::text, 'RIFF secret'::bytea, 'whisper'::text, 0, '2200-01-01'::timestamptz, '{}'::jsonb)");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'secret'", 'completed');

foreach my $script (@scripts)
{
	my ($name, $sql, %more) = @$script;

	clean_up();
	my $since = -s $node->logfile;
	my ($stdout, $error) = run_as('attacker', $sql);
	if ($more{refused})
	{
		like($error, $more{refused}, "$name: refused");
	}
	else
	{
		unlike($error, qr/syntax error/, "$name: planted");
	}
	unlike($stdout . $error . query("SELECT string_agg(song, ' ') FROM canary.sung"), $more{shows}, "$name: shows nothing of others") if $more{shows};
	work_of_others($name);
	is_silent($name, $since);
	if ($more{fires})
	{
		run_as('attacker', $more{fires});
		cmp_ok(query("SELECT count(*) FROM canary.sung WHERE who = 'attacker'"), '>', 0, "$name: is alive");
	}
}
is(query("SELECT string_agg(encode(data, 'escape'), ' ') FROM transcribe_recordings"), 'RIFF secret', 'bytes of others are as they were');
my @stolen = grep { ($_->{key_digest} // '') eq sha256_hex("Bearer $key") } map { $faulty->log($_) } ('ok,tag=evil');
is(scalar(@stolen), 0, 'no key went to a server of the attacker');

# A trigger that comes into being while another waits to write.
clean_up();
my $since = -s $node->logfile;
my $attacker = $node->background_psql('postgres', extra_params => [ '-U', 'attacker' ]);
my $victim = $node->background_psql('postgres', extra_params => [ '-U', 'victim' ]);
$attacker->query_safe('BEGIN; CREATE TRIGGER late BEFORE INSERT OR UPDATE ON transcribe_jobs FOR EACH ROW EXECUTE FUNCTION evil.trig()');
$victim->query_until(qr/^waiting/m, "\\echo waiting\nSELECT transcribe_enqueue('late'::text, '$wav'::text, 'whisper'::text, 0, now(), '{}'::jsonb);\n\\echo written\n");
wait_for($node, 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted');
$attacker->query_safe('COMMIT');
$victim->query_until(qr/^written/m, "\n");
$attacker->quit;
$victim->quit;
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'late'", 'completed', 'a trigger that comes late keeps nobody from writing');
is_silent('a trigger that comes late', $since);
clean_up();

# A job that the attacker refers to, in a transaction without an end.
run_as('attacker', 'CREATE TABLE evil.fk (job_id bigint REFERENCES transcribe_jobs)');
query("SELECT transcribe_hold_server('whisper')");
run_as('victim', "SELECT transcribe_enqueue('referred to'::text, '$wav'::text, 'whisper'::text, 0, now(), '{}'::jsonb)");
my $id = query("SELECT id FROM transcribe_jobs WHERE session_id = 'referred to'");
$attacker = $node->background_psql('postgres', extra_params => [ '-U', 'attacker' ]);
$attacker->query_safe("BEGIN; INSERT INTO evil.fk VALUES ($id)");
query("SELECT transcribe_resume_server('whisper')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'completed', 'a job that is referred to runs');
$attacker->query_safe('COMMIT');
$attacker->quit;
is(query("SELECT transcribe_delete($id)"), '', 'and can be deleted');
clean_up();

# The extension is dropped while a job runs, and the attacker puts functions in
# the place of the worker's; or its schema is dropped, and nothing is there.
sub drop_under_job
{
	my ($db, $schema, $drop) = @_;
	my $scenario = "gate=$db";

	$node->append_conf('postgresql.conf', "transcribe.naptime = '1h'");
	$node->reload;
	query("CREATE DATABASE $db");
	query($canary . "CREATE SCHEMA IF NOT EXISTS $schema; CREATE EXTENSION transcribe SCHEMA $schema;
		CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url($scenario) . "', model 'm', request_timeout '10min');
		SELECT $schema.transcribe_enqueue('running'::text, '$wav'::text);", $db);
	$faulty->wait_for_calls(1, $scenario);

	# Until the answer comes the worker has no reason to look at the database.
	wait_for($node, "SELECT state_change < now() - interval '1500 ms' FROM pg_stat_activity WHERE backend_type = 'transcribe worker' AND datname = '$db'");
	my @signatures = split /\n/, query("SET search_path = pg_catalog; SELECT oid::regprocedure FROM pg_proc
		WHERE proname LIKE 'transcribe%' AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql')", $db);
	query("GRANT ALL ON SCHEMA $schema TO attacker; $drop", $db);
	run_as('attacker', "CREATE FUNCTION $_ RETURNS bigint LANGUAGE plpgsql AS \$\$ BEGIN PERFORM canary.sing('counterfeit'); RETURN 1; END \$\$", db => $db)
		foreach (@signatures);
	$faulty->release($db);
	wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker' AND datname = '$db'", '0', "$db: the worker leaves");
	return;
}
$since = -s $node->logfile;
drop_under_job('dropped', 'public', 'DROP EXTENSION transcribe CASCADE');
cmp_ok(query("SELECT count(*) FROM pg_proc WHERE proowner = 'attacker'::regrole", 'dropped'), '>', 10, 'functions are in the place of those that were dropped');
is_silent('functions in the place of those that were dropped', $since);
drop_under_job('without_schema', 'gone', 'DROP SCHEMA gone CASCADE');

# CREATE EXTENSION in a schema where better matches wait for all that our script
# says.  None is taken.
my @types = ('boolean', 'integer', 'bigint', 'double precision', 'numeric', 'text', 'name', 'timestamptz', 'interval', 'jsonb',
	'bigint[]', 'integer[]', 'text[]', 'name[]', 'double precision[]');
my %names = map { $_ => 1 } slurp_file("$ENV{TESTDIR}/transcribe--1.0.sql") =~ /\b([a-z][a-z_]+)\(/g;
my @names = split /\n/, query("SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN ('"
	. join("', '", keys %names) . "')");
cmp_ok(scalar(@names), '>', 15, 'our script calls functions');
query('CREATE DATABASE minefield');
query($canary . 'GRANT ALL ON SCHEMA public TO attacker; GRANT ALL ON DATABASE minefield TO attacker', 'minefield');
my (undef, $stderr) = run_as('attacker', "SET client_min_messages = warning; DO \$do\$
DECLARE
	l text; r text; f text; o text;
	types text[] := '{" . join(',', map { qq("$_") } @types) . "}';
	mine CONSTANT text := ' LANGUAGE plpgsql AS \$\$ BEGIN PERFORM canary.sing(''mine''); RETURN NULL; END \$\$';
BEGIN
	FOREACH l IN ARRAY types LOOP
		FOREACH f IN ARRAY '{" . join(',', @names) . "}'::text[] LOOP
			EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS double precision', f, l) || mine;
			FOREACH r IN ARRAY '{text,integer,double precision}'::text[] LOOP
				EXECUTE format('CREATE FUNCTION public.%I(%s, %s) RETURNS double precision', f, l, r) || mine;
			END LOOP;
		END LOOP;
		FOREACH r IN ARRAY types LOOP
			FOR o, f IN VALUES ('mine_compares', 'boolean'), ('mine_counts', 'double precision'), ('mine_joins', 'text') LOOP
				EXECUTE format('CREATE FUNCTION public.%I(%s, %s) RETURNS %s', o, l, r, f) || mine;
			END LOOP;
			FOR o, f IN VALUES ('=', 'mine_compares'), ('<>', 'mine_compares'), ('<', 'mine_compares'), ('<=', 'mine_compares'), ('>', 'mine_compares'),
				('>=', 'mine_compares'), ('+', 'mine_counts'), ('-', 'mine_counts'), ('*', 'mine_counts'), ('/', 'mine_counts'), ('||', 'mine_joins') LOOP
				EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.%I)', o, l, r, f);
			END LOOP;
		END LOOP;
	END LOOP;
END \$do\$", db => 'minefield');
is($stderr, '', 'a minefield is laid');
is(query('SELECT (1::double precision * 1::bigint) IS NULL', 'minefield'), 't', 'in which one may step on a mine');
$since = -s $node->logfile;
query("CREATE EXTENSION transcribe; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url('ok,tag=mine') . "', model 'm')", 'minefield');
is(query("SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' needs ' || pg_describe_object(d.refclassid, d.refobjid, 0)
	FROM pg_depend d LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
		LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
	WHERE 'attacker'::regrole IN (p.proowner, o.oprowner) AND d.classid <> 'pg_operator'::regclass", 'minefield'), '',
	'CREATE EXTENSION takes nothing of what others have put into its schema');
query("SELECT transcribe_enqueue('mine'::text, '$wav'::text); SELECT transcribe_enqueue('mine'::text, '$audio/talk.mp3'::text)", 'minefield');
ok($node->poll_query_until('minefield', "SELECT pg_catalog.count(*) = 2::bigint FROM transcribe_jobs WHERE status = 'completed'"), 'and jobs complete in it');
query("SELECT transcribe_result('mine'::text); SELECT transcribe_adopt(); SELECT * FROM transcribe_progress, transcribe_servers; SELECT * FROM transcribe_stats; SELECT * FROM transcribe_workers; SELECT * FROM transcribe_check()", 'minefield');
is_silent('a minefield', $since);

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process/, 'nothing crashed');
$node->stop;
$faulty->stop;
done_testing();
