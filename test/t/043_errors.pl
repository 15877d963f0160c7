# Errors of our own - a full disk, a lock that is held, want of memory - are
# retried and logged.  What a server has answered is paid for: it is not asked
# again.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'this build has no failpoints' if !has_failpoints();

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('errors', restart_after_crash => 'on', 'transcribe.idle_timeout' => '1s');

sub query { return $node->safe_psql('postgres', $_[0]) }
sub worker_pid { return query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'") }

# How often something is in the log since the begin of a case.
my $log_begin;
sub logged
{
	my ($pattern) = @_;
	my $count = () = slurp_file($node->logfile, $log_begin) =~ /$pattern/g;
	return $count;
}

# A job at a server of its own, the name of which it gets.
sub enqueue
{
	my ($name, $scenario) = @_;

	$log_begin = -s $node->logfile;
	create_server($node, $name, $faulty->url("seconds=3,$scenario"), retry_interval => '10ms');
	query("SELECT transcribe_enqueue('$name', '$audio/austen-0880.wav', server => '$name')");
	return;
}

sub completes
{
	my ($name, $counts, $what) = @_;

	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$name'", 'completed',
		"$what: the job completes");
	is(query("SELECT attempts, crashes, (SELECT count(*) FROM transcribe_segments WHERE session_id = '$name') FROM transcribe_jobs WHERE session_id = '$name'"),
		"$counts|2", "$what: attempts, crashes, segments");
	return;
}

# More often than an error that does not pass is put up with.
arm($node, 'save_done', '53100', 2);
arm($node, 'save_half', '53200', 2);
arm($node, 'save_begun', '40001', 2);
enqueue('resources', 'tag=resources');
completes('resources', '1|0', 'the disk is full, memory short, a transaction rolled back');
is(logged(qr/ERROR:  failpoint "save_/), 6, 'each error is in the log');
is(scalar($faulty->log('seconds=3,tag=resources')), 1, 'the server is asked once');

# What nothing says of that it may pass ends the attempt in the end.
arm($node, 'save_done', 'XX000', 5);
enqueue('other', 'tag=other');
completes('other', '2|0', 'an error that comes again and again');
is(scalar($faulty->log('seconds=3,tag=other')), 2, 'the server is asked once in each attempt');

# Where it is the history of the requests that cannot be written, that is left out.
query("ALTER TABLE transcribe_attempts ADD CONSTRAINT no_history CHECK (server <> 'history')");
enqueue('history', 'tag=history');
completes('history', '1|0', 'requests cannot be noted');
is(scalar($faulty->log('seconds=3,tag=history')), 1, 'the server is asked once');
is(query("SELECT count(*) FROM transcribe_attempts WHERE server = 'history'"), 0, 'and that is not in the history');
query('ALTER TABLE transcribe_attempts DROP CONSTRAINT no_history');

# A lock on the jobs.
enqueue('locked', 'gate=locked');
$faulty->wait_for_calls(1, 'seconds=3,gate=locked');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'locked'", 'transcribing');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE transcribe_jobs');
$faulty->release('locked');
ok(wait_until(sub { logged(qr/canceling statement due to lock timeout/) >= 2 }),
	'the table is locked: that is in the log');
$holder->query_safe('COMMIT');
$holder->quit;
completes('locked', '1|0', 'the table was locked');
is(scalar($faulty->log('seconds=3,gate=locked')), 1, 'the server is asked once');

# One job in trouble, and another one that has nothing to do with it.
foreach my $point (qw(agent_start agent_started open chunk_received send response_received response_parsed probe))
{
	my $bystander = "beside_$point";

	enqueue($bystander, "gate=$bystander");
	$faulty->wait_for_calls(1, "seconds=3,gate=$bystander");
	my $worker = worker_pid();
	# The agent runs: to have it started again it must have gone.
	if ($point =~ /^agent/)
	{
		arm($node, $point, '53200');
		kill 'KILL', map { $_->{pid} } grep { $_->{comm} eq 'transcribe_agen' } processes_of(postmaster_pid($node));
		$faulty->wait_for_calls(2, "seconds=3,gate=$bystander");
		ok(!armed($node), "$point: an error happens");
		is(worker_pid(), $worker, "$point: the worker goes on");
		$faulty->release($bystander);
		wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$bystander'", 'completed', "$point: the job completes");
		next;
	}
	arm($node, $point, '53200');
	enqueue("at_$point", "tag=$point");
	completes("at_$point", $point eq 'probe' ? '1|0' : '2|0', "$point: an error");
	ok(wait_until(sub { !armed($node) }), "$point: it has happened");
	is(worker_pid(), $worker, "$point: the worker goes on");
	$faulty->release($bystander);
	completes($bystander, '1|0', "$point: the other job is not concerned");
	is(scalar($faulty->log("seconds=3,gate=$bystander")), 1, "$point: its server is asked once");
}

# A job that crashes its worker whenever it runs ends by the third time.  Each
# crash is counted, since the first claim of a worker is not lost in it.
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'";
wait_for($node, $workers, '0');
arm($node, 'response_received', 'crash', 2);
enqueue('twice', 'tag=twice');
completes('twice', '1|2', 'two crashes');
wait_for($node, $workers, '0');
arm($node, 'response_received', 'crash', 3);
enqueue('thrice', 'tag=thrice');
wait_for($node, "SELECT status, error_code, crashes FROM transcribe_jobs WHERE session_id = 'thrice'", 'failed|crashed|3',
	'three crashes with the job running end it');
is(scalar($faulty->log('seconds=3,tag=thrice')), 3, 'the server is asked once between them');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no panic, no failed assertion');
$node->stop;

# A disk that is full indeed: one of our own, which is part of no other process's
# file system.
SKIP:
{
	my $disk = PostgreSQL::Test::Utils::tempdir();
	my @container = ('unshare', '--user', '--map-current-user', '--keep-caps', '--mount', 'sh', '-c',
		"mount -t tmpfs -o size=1M,mode=700 none $disk && exec \"\$@\"", 'sh');
	skip 'this system gives no mount namespace to ordinary users', 5
	  if system("@container[0 .. 6] '$container[7]' sh true 2>/dev/null") != 0;

	my $postmaster = start_postmaster($node, @container);
	wait_for($node, 'SELECT true', 't', 'the postmaster is up');
	query("CREATE TABLESPACE small LOCATION '$disk'");
	query('ALTER TABLE transcribe_chunk_segments SET TABLESPACE small; TRUNCATE transcribe_chunk_segments');
	$node->psql('postgres', "COPY (SELECT repeat('x', 10000) FROM generate_series(1, 1000)) TO '$disk/filler'");
	enqueue('disk', 'tag=disk');
	ok(wait_until(sub { logged(qr/could not extend file/) >= 2 }),
		'the disk is full: that is in the log');
	query("COPY (SELECT 1) TO '$disk/filler'");
	completes('disk', '1|0', 'the disk was full');
	is(scalar($faulty->log('seconds=3,tag=disk')), 1, 'the server is asked once');
	kill 'INT', $postmaster;
	wait_postmaster($postmaster);
}
$faulty->stop;
done_testing();
