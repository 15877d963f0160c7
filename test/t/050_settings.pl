# Settings planted by ALTER DATABASE and ALTER ROLE do not reach the worker.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('settings');

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
SQL

# Each would break a claim or a save, or be something worse.
my %planted = (
	search_path => 'evil, pg_catalog',
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
	bytea_output => 'escape',
	standard_conforming_strings => 'off',
	extra_float_digits => '-15',
	plan_cache_mode => 'force_generic_plan',
	work_mem => '64kB');
foreach my $name (sort keys %planted)
{
	my $value = $name eq 'search_path' ? $planted{$name} : "'$planted{$name}'";
	$node->safe_psql('template1', "ALTER DATABASE postgres SET $name = $value");
}

# Our sessions have settings of their own; what was planted is the worker's
# problem alone.
$ENV{PGOPTIONS} = join(' ', map { "-c $_" } qw(search_path=public
	  statement_timeout=0 lock_timeout=0 idle_session_timeout=0
	  idle_in_transaction_session_timeout=0 default_transaction_read_only=off));

$node->safe_psql('postgres', "SELECT transcribe_enqueue('s', '$audio/austen-0880.wav')");
wait_for($node, 'SELECT status FROM transcribe_jobs', 'completed',
	'a job completes under hostile settings');
unlike(slurp_file($node->logfile), qr/ERROR:\s+evil/, 'nothing that was planted ran');
is($node->safe_psql('postgres',
		"SELECT min(start_s) > 0.0 AND max(end_s) < 3.0 AND max(end_s) > 2.5 FROM transcribe_segments"),
	't', 'times have all their digits');

$node->stop;
$faulty->stop;
done_testing();
