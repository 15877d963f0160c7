# Where the postmaster is the first process of a container, orphans of ours
# become its children, and one that dies of a signal would restart the
# cluster.  None does.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @container = container();
plan skip_all => 'this system gives no process namespace to ordinary users' if !@container;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('pid1', restart_after_crash => 'on');

create_server($node, 'whisper', $faulty->url('gate=pid1'), retry_interval => '10ms');
$node->stop;

# The postmaster itself is what unshare starts.
my $pid = start_postmaster($node, @container);
wait_for($node, 'SELECT true', 't', 'the postmaster is up');

sub query { return $node->safe_psql('postgres', $_[0]) }

# Descendants of unshare, as they are numbered out here.
sub ours
{
	my ($comm) = @_;
	return map { $_->{pid} } grep { $_->{comm} eq $comm } processes_of($pid);
}
my ($postmaster) = ours('postgres');
like(slurp_file("/proc/$postmaster/status"), qr/^NSpid:\s+\d+\s+1$/m, 'and is process 1');

# Wait until a number of requests have come.
my $requests = 0;
sub next_request
{
	$requests++;
	return $faulty->wait_for_calls($requests, 'gate=pid1');
}

my $launcher = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'");
my $job = query("SELECT transcribe_enqueue('s', '$audio/austen-0880.wav')");
next_request();

# The agent: its media children are orphans for a moment.
kill 'KILL', ours('transcribe_agen');
ok(next_request(), 'kill -9 of the agent: the job is taken up again');
# The template of media processes.
kill 'KILL', ours('transcribe_medi');
# The worker, told to go: agent and media child end with it.
my $worker = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
query("SELECT pg_terminate_backend($worker)");
ok(next_request(), 'terminating the worker: the job is taken up again');
# A stopped agent cannot leave by itself.
kill 'STOP', ours('transcribe_agen');
$worker = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
query("SELECT pg_terminate_backend($worker)");
ok(next_request(), 'terminating the worker of a stopped agent: likewise');
is(query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'"), $launcher,
	'nothing has restarted');

$faulty->release('pid1');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $job", 'completed', 'the job completes');
is(query("SELECT count(*) FROM transcribe_segments WHERE job_id = $job"), '2', 'once');

# The worker killed: that restarts the cluster, once and not again.
$faulty->reset;
$job = query("SELECT transcribe_enqueue('t', '$audio/austen-0880.wav')");
$requests = 0;
next_request();
my ($worker_outside) = grep { slurp_file("/proc/$_/cmdline") =~ /transcribe worker/ } ours('postgres');
kill 'KILL', $worker_outside;
ok(next_request(), 'kill -9 of the worker: the job is taken up again');
$faulty->release('pid1');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $job", 'completed', 'and completes');
my $log = slurp_file($node->logfile);
my $restarts = () = $log =~ /all server processes terminated; reinitializing/g;
is($restarts, 1, 'the cluster restarted for the killed worker alone');

kill 'INT', $postmaster;
wait_postmaster($pid);
$faulty->stop;
done_testing();
