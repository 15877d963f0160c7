# A function is called when its job has ended: once, as the role that asked, in
# nobody's way, and again if it fails.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('callbacks',
	max_worker_processes => 16,
	restart_after_crash => 'on',
	max_prepared_transactions => 5,
	'transcribe.media_directories' => $audio,
	'transcribe.idle_timeout' => '1s',
	'transcribe.naptime' => '1s');
my $wav = "$audio/austen-0880.wav";
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'transcribe worker'";
my $runners = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe callback'";

sub query
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

sub run_as
{
	my ($role, $sql) = @_;
	my (undef, $stdout, $stderr) = $node->psql('postgres', $sql, on_error_stop => 0,
		extra_params => [ '-U', $role ]);
	return $stdout . $stderr;
}

# Enqueues as a role, with a callback.
sub enqueue
{
	my ($name, $function, %more) = @_;
	my $id = run_as($more{role} // 'alice', "SELECT transcribe_enqueue('$name', '$wav', server => '" . ($more{server} // 'whisper')
		. "', on_complete => '$function')");
	like($id, qr/^\d+$/, "$name is enqueued") or BAIL_OUT('no job');
	return $id;
}

sub wait_for_callback
{
	my ($job, $condition, $test) = @_;
	my $reached = wait_for($node, "SELECT $condition FROM transcribe_callbacks WHERE job_id = $job", 't', $test);

	diag(query("SELECT * FROM transcribe_callbacks WHERE job_id = $job")) if !$reached;
	return $reached;
}

# What callbacks of a name have noted.
sub noted
{
	my ($name) = @_;
	return query("SELECT string_agg(concat_ws(' ', job_id, status, who, session), ', ' ORDER BY n) FROM notes WHERE name = '$name'");
}

create_server($node, 'whisper', $faulty->url);
create_server($node, 'broken', $faulty->url('status=400,tag=broken'));
create_server($node, 'slow', $faulty->url('gate=slow'), request_timeout => '1h');
query(<<'SQL');
CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE deployer;
GRANT USAGE ON FOREIGN SERVER whisper, broken, slow TO alice, bob;
CREATE TABLE notes (n bigint GENERATED ALWAYS AS IDENTITY, name text, job_id bigint, status text, who name, session name);
GRANT INSERT, SELECT ON notes TO PUBLIC;
CREATE TABLE gates (name text PRIMARY KEY);
GRANT SELECT, INSERT, DELETE ON gates TO PUBLIC;
CREATE SCHEMA app AUTHORIZATION deployer;
GRANT USAGE ON SCHEMA app TO alice, bob;
CREATE FUNCTION app.note(job bigint) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO public.notes (name, job_id, status, who, session)
		SELECT 'note', j.id, j.status, current_user, session_user FROM public.transcribe_jobs j WHERE j.id = job $$;
CREATE FUNCTION app.fails(bigint) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO public.notes (name, job_id) VALUES ('fails', $1); RAISE EXCEPTION 'no notes today' USING ERRCODE = 'AB123'; END $$;
CREATE FUNCTION app.waits(bigint) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN
		WHILE EXISTS (SELECT FROM public.gates WHERE name = 'closed') LOOP PERFORM pg_sleep(0.02); END LOOP;
		INSERT INTO public.notes (name, job_id, who) VALUES ('waits', $1, current_user);
	END $$;
CREATE PROCEDURE app.proc(bigint) LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION app.many(bigint) RETURNS SETOF int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION app.secret(bigint) RETURNS void LANGUAGE sql AS $$ SELECT $$;
REVOKE ALL ON FUNCTION app.secret(bigint) FROM PUBLIC;
CREATE FUNCTION app.other(integer) RETURNS void LANGUAGE sql AS $$ SELECT $$;
CREATE FUNCTION app.escapes(bigint) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN
		SET ROLE postgres;
		INSERT INTO public.notes (name, job_id, who, session) VALUES ('escapes', $1, current_user, session_user);
	END $$;
CREATE FUNCTION app.resets(bigint) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN
		RESET SESSION AUTHORIZATION; RESET ROLE;
		INSERT INTO public.notes (name, job_id, who, session) VALUES ('resets', $1, current_user, session_user);
		SET work_mem = '1MB'; CREATE TEMP TABLE left_behind ();
	END $$;
CREATE FUNCTION app.clean(bigint) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO public.notes (name, job_id, status) VALUES ('clean', $1, current_setting('work_mem') || (pg_catalog.to_regclass('left_behind') IS NULL)) $$;
SQL
query("ALTER FUNCTION app.$_(bigint) OWNER TO deployer") foreach qw(note fails waits);

# As the role that asked, once, after whatever end.
my $job = enqueue('completes', 'app.note');
wait_for_callback($job, "status = 'completed'", 'a function is called when its job has completed');
is(noted('note'), "$job completed alice alice", 'once, as the role that asked');
is(query("SELECT owner, function, function_owner, attempts, error, claimed_by FROM transcribe_callbacks"), 'alice|app.note(bigint)|deployer|1||', 'its row says so');
query('TRUNCATE notes');
$job = enqueue('fails', 'app.note(bigint)', server => 'broken', role => 'bob');
wait_for_callback($job, "status = 'completed'", 'and when it has failed');
is(noted('note'), "$job failed bob bob", 'as another role');
query('TRUNCATE notes');
$job = enqueue('is cancelled', 'app.note', server => 'slow');
is(query("SELECT status FROM transcribe_callbacks WHERE job_id = $job"), 'waiting', 'until then it waits');
run_as('alice', "SELECT transcribe_cancel($job)");
wait_for_callback($job, "status = 'completed'", 'and when it was cancelled');
is(noted('note'), "$job cancelled alice alice", 'once');
query('TRUNCATE notes');
run_as('alice', "SELECT transcribe_retry($job)");
is(query("SELECT status FROM transcribe_callbacks WHERE job_id = $job"), 'waiting', 'and again after transcribe_retry');
$faulty->release('slow');
wait_for_callback($job, "status = 'completed' AND started_at > (SELECT finished_at FROM transcribe_jobs WHERE id = $job)", 'again when it has ended again');
is(noted('note'), "$job completed alice alice", 'once');
query('TRUNCATE notes');
run_as('alice', "SELECT transcribe_on_complete($job, 'app.note')") =~ /has a callback already/ or fail('two callbacks');
run_as('alice', "BEGIN; SELECT transcribe_enqueue('rolled back', '$wav', on_complete => 'app.note'); ROLLBACK");
is(query("SELECT count(*) FROM transcribe_callbacks c WHERE NOT EXISTS (SELECT FROM transcribe_jobs j WHERE j.id = c.job_id)"), '0', 'nothing is left of a transaction that was rolled back');

# What a server names is called after its jobs, whatever way they came, unless the job names another.
query('TRUNCATE notes');
create_server($node, 'noting', $faulty->url('ok,tag=noting'), on_complete => 'app.note');
query("GRANT USAGE ON FOREIGN SERVER noting TO alice; CREATE TABLE calls (id int, path text); GRANT INSERT ON calls TO alice;
	CREATE TRIGGER t AFTER INSERT ON calls FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger('id', 'path', 'noting')");
$job = run_as('alice', "SELECT transcribe_enqueue('of the server', '$wav', server => 'noting')");
wait_for_callback($job, "status = 'completed' AND owner = 'alice'", 'a server names a function for its jobs');
run_as('alice', "INSERT INTO calls VALUES (1, '$wav')");
wait_for($node, "SELECT string_agg(status, ',' ORDER BY job_id) FROM transcribe_callbacks WHERE owner = 'alice' AND job_id >= $job", 'completed,completed', 'by a trigger, too');
$job = enqueue('another function', 'app.clean', server => 'noting');
wait_for_callback($job, "status = 'completed' AND function = 'app.clean(bigint)'", 'the job may name another');
query('REVOKE EXECUTE ON FUNCTION app.note(bigint) FROM PUBLIC');
like(run_as('alice', "SELECT transcribe_enqueue('not allowed', '$wav', server => 'noting')"), qr/permission denied for function/, 'which its owner must be allowed to call');
query('GRANT EXECUTE ON FUNCTION app.note(bigint) TO PUBLIC; DROP TABLE calls; TRUNCATE notes');
$job = run_as('alice', "SELECT transcribe_on_complete(transcribe_enqueue('later', '$wav'), 'app.note')");
wait_for_callback($job, "status = 'completed'", 'one may be asked for later');
$job = run_as('alice', "SELECT transcribe_enqueue('ended', '$wav')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $job", 'completed');
run_as('alice', "SELECT transcribe_on_complete($job, 'app.note')");
wait_for_callback($job, "status = 'completed'", 'and when the job has ended already');
$job = query("SELECT transcribe_enqueue(gen_random_uuid(), pg_read_binary_file('$wav'), on_complete => 'app.note')");
wait_for_callback($job, "status = 'completed'", 'whatever the recording is given as');
like(run_as('bob', "SELECT transcribe_on_complete($job, 'app.note')"), qr/job $job does not exist/, 'not for the job of another');
is(run_as('bob', "SELECT count(*) FROM transcribe_callbacks WHERE owner <> 'bob'"), '0', 'nor are those of others seen');
wait_for($node, $workers, '0', 'the worker leaves when all is done');

# Wrong ones are refused at once.
foreach my $wrong ([ 'app.missing', qr/function app.missing with one argument of type bigint does not exist/ ], [ 'app.other', qr/does not exist/ ],
	[ 'app.other(integer)', qr/must have one argument of type bigint/ ], [ 'app.proc', qr/is not a plain function|does not exist/ ],
	[ 'app.many', qr/is not a plain function/ ], [ 'app.secret', qr/permission denied for function.*\nHINT:  GRANT EXECUTE ON FUNCTION app.secret\(bigint\) TO alice;/ ])
{
	like(run_as('alice', "SELECT transcribe_enqueue('wrong', '$wav', on_complete => '$wrong->[0]')"), $wrong->[1], "$wrong->[0] is refused");
}

# One that fails is called again, with what it wrote undone, then has failed.
$job = enqueue('fails', 'app.fails');
wait_for_callback($job, "status = 'queued' AND attempts = 1 AND run_at > started_at AND error = 'no notes today' AND error_code = 'AB123'", 'one that fails says why');
query("UPDATE transcribe_callbacks SET max_attempts = 2 WHERE job_id = $job");
is(run_as('alice', "SELECT transcribe_retry_callback($job)"), 't', 'it may be called at once');
wait_for_callback($job, "status = 'failed' AND attempts = 2", 'it has failed when no attempt is left');
is(query("SELECT status FROM transcribe_jobs WHERE id = $job"), 'completed', 'which is nothing to its job');
is(noted('fails'), '', 'what it wrote is undone');
ok($node->wait_for_log(qr/callback app.fails\(bigint\) of transcription job $job failed: no notes today/), 'the log says so');
query("CREATE OR REPLACE FUNCTION app.fails(bigint) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO public.notes (name, job_id) VALUES ('fails', \$1) \$\$");
is(run_as('bob', "SELECT transcribe_retry_callback($job)") =~ /does not exist/, 1, 'another may not call it');
is(run_as('alice', "SELECT transcribe_retry_callback($job)"), 't', 'it may be called again');
wait_for_callback($job, "status = 'completed' AND error IS NULL AND attempts = 1");
is(noted('fails'), $job, 'and then it is called');
is(run_as('alice', "SELECT transcribe_retry_callback($job)"), 'f', 'but no more once it has completed');

# It gains nothing, and leaves nothing.
$job = enqueue('escapes', 'app.escapes');
wait_for_callback($job, "error LIKE 'permission denied to set role%' OR error LIKE '%postgres%does not exist%'", 'it cannot become another role');
$job = enqueue('resets', 'app.resets');
my $next = enqueue('is clean', 'app.clean');
wait_for_callback($job, "status = 'completed'");
is(noted('resets'), "$job alice alice", 'nor is there one to go back to');
wait_for_callback($next, "status = 'completed'");
is(query("SELECT status FROM notes WHERE name = 'clean'"), query('SHOW work_mem') . 'true', 'the next one finds nothing of it');

# A slow one is in nobody's way: not of jobs, nor of other roles.
query("INSERT INTO gates VALUES ('closed')");
my @slow = map { enqueue("slow $_", 'app.waits') } 1 .. 2;
wait_for($node, $runners, '2', 'two run at the same time');
push @slow, enqueue('slow 3', 'app.waits');
wait_for($node, "SELECT status FROM transcribe_callbacks WHERE job_id = $slow[2]", 'queued', 'and no more than may');
$job = run_as('bob', "SELECT transcribe_enqueue('beside', '$wav')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $job", 'completed', 'jobs go on beside them');
is(query("SELECT count(*) FROM transcribe_callbacks WHERE status = 'running'"), '2', 'which are still running');
like(query("SELECT query FROM pg_stat_activity WHERE backend_type = 'transcribe callback' LIMIT 1"), qr/^app.waits\(bigint\) for transcription job \d+$/, 'which is to be seen');
is(query("SELECT string_agg(DISTINCT usename, ' ') FROM pg_stat_activity WHERE backend_type = 'transcribe callback'"), 'alice', 'as the role');

# A runner is killed by hand: that costs an attempt.
my $killed = query("SELECT min(job_id) FROM transcribe_callbacks WHERE status = 'running'");
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe callback' AND query LIKE '%job $killed'");
wait_for_callback($killed, "status = 'queued' AND attempts = 1 AND error_code = '57P01'", 'one that was terminated is called again later');
query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe callback'");
wait_for($node, "SELECT count(*) > 0 FROM transcribe_callbacks WHERE error_code = '57014'", 't', 'so is one that was cancelled');

# A shutdown costs nothing, nor does a crash more than an attempt.
wait_for($node, "SELECT count(*) > 0 FROM transcribe_callbacks WHERE status = 'running'");
my $running = query("SELECT string_agg(job_id || ' ' || attempts, ', ' ORDER BY job_id) FROM transcribe_callbacks WHERE status = 'running'");
query("ALTER SYSTEM SET transcribe.enabled = off");
$node->stop('fast');
$node->start;
is(query("SELECT string_agg(job_id || ' ' || attempts + 1, ', ' ORDER BY job_id) FROM transcribe_callbacks WHERE status = 'queued' AND run_at <= started_at"), $running, 'a shutdown costs nothing');
is(query($runners), '0', 'while nothing is enabled nothing is called');
query("DELETE FROM gates");
query("ALTER SYSTEM RESET transcribe.enabled");
$node->reload;
query("SELECT transcribe_retry_callback(job_id) FROM transcribe_callbacks WHERE status = 'queued'");
foreach my $slow (@slow)
{
	wait_for_callback($slow, "status = 'completed'", "callback $slow completes in the end");
}
is(query("SELECT count(*), count(DISTINCT job_id) FROM notes WHERE name = 'waits'"), '3|3', 'each once');

query("INSERT INTO gates VALUES ('closed')");
$job = enqueue('crash', 'app.waits');
wait_for_callback($job, "status = 'running'");
my $runner = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe callback'");
kill 'KILL', $runner;
ok(wait_until(sub { !grep { $_->{pid} == $runner } processes_of(postmaster_pid($node)) }));
wait_for_callback($job, "attempts >= 1 AND error_code = '57P01'", 'a crash costs an attempt');
query("DELETE FROM gates; SELECT transcribe_retry_callback($job)");
wait_for_callback($job, "status = 'completed'", 'and it is called again');

# Too slow.
query("INSERT INTO gates VALUES ('closed'); ALTER SYSTEM SET transcribe.callback_timeout = '1s'");
$node->reload;
$job = enqueue('too slow', 'app.waits');
wait_for_callback($job, "error_code = '57014' AND error LIKE '%statement timeout'", 'one that takes too long is broken off');
query("DELETE FROM gates; ALTER SYSTEM RESET transcribe.callback_timeout");
$node->reload;
run_as('alice', "SELECT transcribe_delete($job)");
is(query("SELECT count(*) FROM transcribe_callbacks WHERE job_id = $job"), '0', 'it goes with its job');

# The job is deleted, or has changed, while its function is called.
query("INSERT INTO gates VALUES ('closed'); TRUNCATE notes");
$job = enqueue('deleted', 'app.waits');
wait_for_callback($job, "status = 'running'");
run_as('alice', "SELECT transcribe_delete($job)");
query("DELETE FROM gates");
ok($node->wait_for_log(qr/transcription job $job has changed while its callback ran/), 'a job is deleted meanwhile');
is(noted('waits'), '', 'and what its function wrote is undone');

# What is gone or revoked before it is called.
query("ALTER SYSTEM SET transcribe.enabled = off");
$node->reload;
query("CREATE ROLE gone LOGIN; CREATE ROLE no_login LOGIN; GRANT USAGE ON FOREIGN SERVER slow TO gone, no_login; GRANT USAGE ON SCHEMA app TO gone, no_login;
	CREATE FUNCTION app.dropped(bigint) RETURNS void LANGUAGE sql AS \$\$ SELECT \$\$;
	CREATE FUNCTION app.replaced(bigint) RETURNS void LANGUAGE sql AS \$\$ SELECT \$\$;
	CREATE FUNCTION app.revoked(bigint) RETURNS void LANGUAGE sql AS \$\$ SELECT \$\$");
my %gone = map { $_ => enqueue("$_", "app.$_", server => 'slow') } qw(dropped replaced revoked);
$gone{$_} = enqueue($_, 'app.note', server => 'slow', role => $_) foreach qw(gone no_login);
query("DROP FUNCTION app.dropped(bigint); DROP FUNCTION app.replaced(bigint); REVOKE ALL ON FUNCTION app.revoked(bigint) FROM PUBLIC;
	GRANT ALL ON SCHEMA app TO bob; ALTER ROLE no_login NOLOGIN;
	SELECT transcribe_cancel(job_id) FROM transcribe_callbacks WHERE status = 'waiting'");
run_as('bob', "CREATE FUNCTION app.replaced(bigint) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO public.notes (name, who) VALUES ('replaced', current_user) \$\$");
query('DROP OWNED BY gone; DROP ROLE gone');
query("SELECT transcribe_purge(now() + interval '1 day', now() + interval '1 day')");
is(query('SELECT count(*) FROM transcribe_jobs WHERE id IN (' . join(', ', values %gone) . ')'), '5', 'no job is purged for which a function is to be called');
query('ALTER SYSTEM RESET transcribe.enabled');
$node->reload;
wait_for_callback($gone{dropped}, "error_code = '42883' AND error LIKE '%app.dropped(bigint)%does not exist'", 'a function that was dropped');
wait_for_callback($gone{replaced}, "error_code = '42501' AND error LIKE '%is owned by another role than when it was asked for'", 'one that is another\'s by now is not called');
wait_for_callback($gone{revoked}, "error_code = '42501' AND error LIKE 'permission denied for function%'", 'nor one that may not be called any more');
wait_for_callback($gone{gone}, "status = 'failed' AND error = 'role \"gone\" does not exist'", 'nor one of a role that is gone');
wait_for_callback($gone{no_login}, $node->pg_version >= 17 ? "status = 'completed'" : "status = 'failed' AND error_code = '28000'", 'a role that may not log in');
is(noted('replaced'), '', 'nothing of what was put into the place was called');
query("SELECT transcribe_delete(job_id) FROM transcribe_callbacks WHERE status IN ('queued', 'failed')");

# Prepared transactions tell nobody.
query("BEGIN; SELECT transcribe_enqueue('prepared', '$wav', on_complete => 'app.note'); PREPARE TRANSACTION 'p'");
query("COMMIT PREPARED 'p'");
wait_for($node, "SELECT c.status FROM transcribe_callbacks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = 'prepared'", 'completed',
	'one that was prepared');

# DDL on the database does not wait for one that runs.
query('CREATE ROLE db_owner LOGIN CREATEDB; CREATE DATABASE other OWNER db_owner');
query("CREATE EXTENSION transcribe; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url . "', model 'm');
	CREATE FUNCTION sleeps(bigint) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep(3600); END \$\$;", 'other');

# A superuser's function takes nothing that the database's owner has planted.
query("SET ROLE db_owner; CREATE SCHEMA evil; CREATE TABLE evil.sung (who name);
	CREATE FUNCTION evil.notes_of(bigint) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO evil.sung VALUES (current_user) \$\$;
	CREATE FUNCTION public.notes_of(bigint) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO evil.sung VALUES (current_user) \$\$;
	ALTER DATABASE other SET search_path = evil, public", 'other');
query("SET search_path = public; CREATE FUNCTION calls(bigint) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM notes_of(\$1); END \$\$;
	SELECT transcribe_enqueue('planted'::text, '$wav'::text, on_complete => 'public.calls')", 'other');
ok($node->poll_query_until('other', "SELECT error_code = '42883' FROM public.transcribe_callbacks WHERE function = 'public.calls(bigint)'"),
	'what a superuser asks for does not follow the search_path of another\'s database');
is(query('SELECT count(*) FROM evil.sung', 'other'), '0', 'nothing planted has run');
query("ALTER DATABASE other RESET search_path; SELECT public.transcribe_delete(job_id) FROM public.transcribe_callbacks", 'other');

foreach my $ddl ('ALTER DATABASE other RENAME TO another', 'DROP DATABASE another')
{
	my $db = $ddl =~ /^ALTER/ ? 'other' : 'another';

	query("SELECT transcribe_enqueue('$ddl', '$wav', on_complete => 'sleeps')", $db) if $db eq 'other';
	ok($node->poll_query_until($db, "SELECT count(*) = 1 FROM transcribe_callbacks WHERE status = 'running'"));
	my (undef, undef, $stderr) = $node->psql('template1', $ddl, extra_params => [ '-U', 'db_owner' ]);
	is($stderr, '', $ddl);
}
is(query($runners), '0', 'it has ended with its database');

# A copy stands still until it is adopted.
query("SELECT transcribe_hold_server('whisper')");
$job = enqueue('copied', 'app.note');
query('CREATE DATABASE copy TEMPLATE postgres');
query("SELECT transcribe_resume_server('whisper')");
wait_for_callback($job, "status = 'completed'");
query("SELECT transcribe_resume_server('whisper'); SELECT transcribe_enqueue('here', '$wav')", 'copy');
ok($node->poll_query_until('copy', "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = 'here'"));
is(query("SELECT status FROM transcribe_callbacks WHERE job_id = $job", 'copy'), 'waiting', 'in a copy it waits');
query('SELECT transcribe_adopt()', 'copy');
ok($node->poll_query_until('copy', "SELECT status = 'completed' FROM transcribe_callbacks WHERE job_id = $job"), 'until it is adopted');

# Nobody may write what a role has asked for but the functions.
query("CREATE ROLE attacker LOGIN BYPASSRLS; GRANT ALL ON ALL TABLES IN SCHEMA public TO attacker; GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO attacker;
	GRANT ALL ON SCHEMA public, app TO attacker; GRANT USAGE ON FOREIGN SERVER whisper TO attacker");
run_as('attacker', "CREATE FUNCTION app.evil(bigint) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO public.notes (name, who) VALUES ('evil', current_user) \$\$;
	CREATE FUNCTION app.turn() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN NEW.owner := 'postgres'; INSERT INTO public.notes (name, who) VALUES ('evil', current_user); RETURN NEW; END \$\$");
my $superuser = query('SELECT current_user');
like(run_as('attacker', "INSERT INTO transcribe_callbacks (job_id, owner, function, function_owner, status) VALUES (-1, '$superuser', 'app.evil(bigint)', 'attacker', 'queued')"),
	qr/permission denied to write table "transcribe_callbacks"/, 'a row cannot be forged, even without row security');
like(run_as('attacker', "UPDATE transcribe_callbacks SET owner = '$superuser', status = 'queued'"), qr/permission denied to write table/, 'nor changed');
like(run_as('attacker', "DELETE FROM transcribe_callbacks"), qr/permission denied to write table/, 'nor deleted');
like(run_as('attacker', "TRUNCATE transcribe_callbacks"), qr/permission denied to truncate table/, 'nor all of them');
like(run_as('attacker', "COPY transcribe_callbacks (job_id, owner, function, function_owner) FROM stdin;\n-1\t$superuser\tx\tx\n\\.\n"), qr/permission denied to write table/, 'nor copied in');
is(run_as('attacker', "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON transcribe_callbacks FOR EACH ROW EXECUTE FUNCTION app.turn()"), '', 'a trigger is put on the table');
$job = enqueue('attacked', 'app.note');
wait_for_callback($job, "status = 'completed' AND owner = 'alice'", 'which changes nothing');
$job = enqueue('attacks', 'app.evil', role => 'attacker');
wait_for_callback($job, "status = 'completed'");
is(query("SELECT string_agg(who, ' ') FROM notes WHERE name = 'evil'"), 'attacker', 'one that the attacker asks for runs as the attacker');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'nothing crashed');
$node->stop;
$faulty->stop;
done_testing();
