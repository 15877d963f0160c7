# Settings planted by ALTER DATABASE and ALTER ROLE do not reach the worker.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('settings', 'transcribe.idle_timeout' => '10min');
my $superuser = $node->safe_psql('postgres', 'SELECT current_user');

create_server($node, 'whisper', $faulty->url);
$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA evil;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'evil operator ran as %', current_user; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'evil function ran as %', current_user; END $$;
CREATE FUNCTION evil.trig() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'evil trigger ran as %', current_user; END $$;
CREATE TRIGGER evil BEFORE INSERT OR UPDATE ON transcribe_jobs FOR EACH ROW EXECUTE FUNCTION evil.trig();
CREATE TRIGGER evil BEFORE INSERT ON transcribe_chunks FOR EACH ROW EXECUTE FUNCTION evil.trig();
CREATE TRIGGER evil BEFORE INSERT ON transcribe_chunk_segments FOR EACH ROW EXECUTE FUNCTION evil.trig();
CREATE ROLE nobody;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO nobody;
SQL

# Each would break a claim or a save, or be something worse.
my %planted = (
	search_path => 'evil, pg_catalog',
	role => 'nobody',
	exit_on_error => 'on',
	default_transaction_isolation => 'serializable',
	default_transaction_read_only => 'on',
	default_transaction_deferrable => 'on',
	statement_timeout => '1ms',
	lock_timeout => '1ms',
	idle_in_transaction_session_timeout => '1ms',
	idle_session_timeout => '1ms',
	session_replication_role => 'origin',
	row_security => 'off',
	synchronous_commit => 'remote_apply',
	DateStyle => 'German, DMY',
	IntervalStyle => 'sql_standard',
	TimeZone => 'Pacific/Kiritimati',
	client_encoding => 'LATIN1',
	bytea_output => 'escape',
	standard_conforming_strings => 'off',
	extra_float_digits => '-15',
	plan_cache_mode => 'force_generic_plan',
	work_mem => '64kB');

# Our sessions have settings of their own; what was planted is the worker's
# problem alone.
$ENV{PGOPTIONS} = join(' ', map { "-c $_" } qw(search_path=public role=none
	  statement_timeout=0 lock_timeout=0 idle_session_timeout=0 exit_on_error=off
	  idle_in_transaction_session_timeout=0 default_transaction_read_only=off));
$ENV{PGCLIENTENCODING} = 'UTF8';

# Plant settings of whom, see a job done, and take them away.
my $serial = 0;
sub work_under
{
	my ($whose, $name, %settings) = @_;
	my $session = 'settings ' . ++$serial;
	my $worker = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'";
	my $since = -s $node->logfile;

	$node->safe_psql('template1', join('', map { "ALTER $whose SET $_ = "
			. ($_ eq 'search_path' ? $settings{$_} : "'$settings{$_}'") . ';' } sort keys %settings));

	# What works here from now on has them.
	$node->safe_psql('template1', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
	wait_for($node, $worker, '0');
	$node->safe_psql('postgres', "SELECT transcribe_enqueue('$session', '$audio/austen-0880.wav')");
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$session'", 'completed', "a job completes under $name");
	is($node->safe_psql('postgres', "SELECT min(start_s) > 0.0 AND max(end_s) < 3.0 AND max(end_s) > 2.5 FROM transcribe_segments WHERE session_id = '$session'"),
		't', "$name: times have all their digits");
	my $log = slurp_file($node->logfile, $since);
	unlike($log, qr/ERROR:\s+evil/, "$name: nothing that was planted ran");
	unlike($log, qr/transcribe worker.* ERROR:/, "$name: and nothing went wrong");
	$node->safe_psql('template1', "ALTER $whose RESET ALL");
	return;
}
work_under('DATABASE postgres', 'settings of the database', %planted);
work_under("ROLE $superuser", 'settings of the role', %planted);
work_under("ROLE $superuser IN DATABASE postgres", 'settings of the role in the database', %planted);

# An error is an error, and does not end the worker, which would cost its jobs a
# crash each.
$node->safe_psql('template1', 'ALTER DATABASE postgres SET exit_on_error = on');
create_server($node, 'gated', $faulty->url('gate=error'));
$node->safe_psql('template1', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
$node->safe_psql('postgres', "SELECT transcribe_enqueue('locked', '$audio/austen-0880.wav', server => 'gated')");
$faulty->wait_for_calls(1, 'gate=error');
my $since = -s $node->logfile;
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE transcribe_attempts');
$faulty->release('error');
$node->wait_for_log(qr/canceling statement due to lock timeout/, $since);
$holder->query_safe('COMMIT');
$holder->quit;
wait_for($node, "SELECT status, crashes FROM transcribe_jobs WHERE session_id = 'locked'", 'completed|0', 'an error does not end the worker');
$node->safe_psql('template1', 'ALTER DATABASE postgres RESET ALL');

# Whatever there is that has but a few values, turned round: what nobody thought
# of, and what later versions bring.  Not what only fills the log.
my %turned = map { split /\|/ } split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT name, CASE WHEN vartype = 'bool' THEN CASE boot_val WHEN 'on' THEN 'off' ELSE 'on' END
	ELSE (SELECT v FROM unnest(enumvals) WITH ORDINALITY AS e (v, n) WHERE v <> boot_val ORDER BY n DESC LIMIT 1) END
FROM pg_settings WHERE context IN ('user', 'superuser') AND vartype IN ('bool', 'enum')
	AND name NOT LIKE 'log\_%' AND name NOT LIKE 'trace\_%' AND name NOT LIKE 'debug\_%' AND name NOT LIKE 'transaction\_%' AND name <> 'client_min_messages'
SQL
cmp_ok(scalar(keys %turned), '>', 60, 'there are many settings');
work_under('DATABASE postgres', 'all settings turned round', %turned);

# A session whose user is another: here nothing of ours can be asked before it
# is who it was.
$node->safe_psql('template1', 'ALTER DATABASE postgres SET session_authorization = nobody');
$node->safe_psql('template1', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
$node->safe_psql('postgres', "SET SESSION AUTHORIZATION DEFAULT; SELECT transcribe_enqueue('nobody', '$audio/austen-0880.wav')");
wait_for($node, "SET SESSION AUTHORIZATION DEFAULT; SELECT status FROM transcribe_jobs WHERE session_id = 'nobody'", "SET\ncompleted",
	'a job completes where sessions are of another role');

$node->stop;
$faulty->stop;
done_testing();
