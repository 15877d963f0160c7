# Whatever dies while a job is running, the job completes, once, and only what
# must restart does.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('crash', restart_after_crash => 'on');
my $wav = "$audio/austen-0880.wav";
my $serial = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

# The processes of ours below the postmaster, by name.
sub ours
{
	my ($comm) = @_;
	return grep { $_->{comm} eq $comm } processes_of(postmaster_pid($node));
}

# Whether a process that was found before is still there.
sub is_alive
{
	my ($process) = @_;
	my %now = all_processes();
	my $same = $now{ $process->{pid} };

	return $same && $same->{comm} eq $process->{comm} && $same->{state} ne 'Z';
}

sub worker_pid
{
	return query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
}

# A job whose request is under way, at a gate of its own.
sub start_job
{
	my $name = 'gate' . ++$serial;

	create_server($node, $name, $faulty->url("gate=$name"), retry_interval => '10ms');
	query("SELECT transcribe_enqueue('$name', '$wav', server => '$name')");
	$faulty->wait_for_calls(1, "gate=$name");
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$name'", 'transcribing');
	return $name;
}

# It completes, once.
sub finish_job
{
	my ($name, $what) = @_;

	$faulty->release($name);
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$name'", 'completed',
		"$what: the job completes");
	is(query("SELECT count(*), count(DISTINCT (start_s, text)) = count(*) FROM transcribe_segments WHERE session_id = '$name'"),
		'2|t', "$what: each segment stands there once");
	return;
}

# Here the backends' start is compared: a restarted cluster has a new launcher.
sub launcher_pid
{
	return query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'");
}
my $launcher = launcher_pid();

# The agent.
my $job = start_job();
my @agents = ours('transcribe_agen');
is(scalar(@agents), 1, 'one agent');
my $worker = worker_pid();
kill 'KILL', $agents[0]{pid};
$faulty->wait_for_calls(2, "gate=$job");
finish_job($job, 'kill -9 of the agent');
is(worker_pid(), $worker, 'kill -9 of the agent: the worker goes on');
is(launcher_pid(), $launcher, 'kill -9 of the agent: nothing restarts');
is(query("SELECT attempts, crashes FROM transcribe_jobs WHERE session_id = '$job'"), '1|1',
	'kill -9 of the agent: it is counted as a crash, not as an attempt');

# The template of the media processes, and then its copy that is in the middle
# of a long recording.
my $long = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/long.wav';
system_or_bail('ffmpeg', '-nostdin', '-v', 'error', '-stream_loop', '12', '-i',
	"$audio/talk.mp3", '-ar', '48000', $long);
create_server($node, 'media', $faulty->url('ok,tag=media'), retry_interval => '10ms', chunk_seconds => 3600);
wait_until(sub { ours('transcribe_medi') == 1 });
my ($template) = map { $_->{pid} } ours('transcribe_medi');
query("SELECT transcribe_enqueue('media', '$long', server => 'media')");
wait_for($node, "SELECT count(*) FROM transcribe_progress WHERE percent > 1 AND status = 'preprocessing'", '1',
	'a media child is at work');
wait_until(sub { ours('transcribe_medi') == 2 });
my ($at_work) = grep { $_ != $template } map { $_->{pid} } ours('transcribe_medi');
kill 'KILL', $template;
ok(wait_until(sub { !grep { $_->{pid} == $template } ours('transcribe_medi') }),
	'kill -9 of the template of media processes: the agent takes note of it');
kill 'KILL', $at_work;
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'media'", 'completed',
	'kill -9 of the media child: the job completes');
is(query("SELECT attempts, crashes FROM transcribe_jobs WHERE session_id = 'media'"), '2|0',
	'kill -9 of the media child: it is counted as an attempt');
is(launcher_pid(), $launcher, 'kill -9 of the media child: nothing restarts');

# Of a recording that makes a media process crash no other one shall learn
# where things are in memory.
sub maps { return slurp_file("/proc/$_[0]/maps") =~ /^([0-9a-f]+)-.*libavcodec/m ? $1 : '' }
my $before;
wait_until(sub { ($template) = map { $_->{pid} } ours('transcribe_medi'); $template && ($before = maps($template)) });
query("SELECT transcribe_enqueue('crashes', '$long', server => 'media')");
wait_until(sub { ours('transcribe_medi') == 2 });
kill 'SEGV', grep { $_ != $template } map { $_->{pid} } ours('transcribe_medi');
wait_for($node, "SELECT status, attempts FROM transcribe_jobs WHERE session_id = 'crashes'", 'completed|2',
	'a crash of a media child: the job completes');
ok(wait_until(sub { my @left = ours('transcribe_medi'); @left == 1 && $left[0]{pid} != $template }),
	'a crash of a media child: there is a new template');
isnt(maps((ours('transcribe_medi'))[0]{pid}), $before, 'a crash of a media child: which lies elsewhere in memory');
is(worker_pid(), $worker, 'kill -9 of the media child: the worker goes on');
ok(wait_until(sub { !grep { $_->{state} eq 'Z' } processes_of(postmaster_pid($node)) }), 'no zombie is left');

# The worker told to go: its claims are given back, and another takes them.
$job = start_job();
$worker = worker_pid();
query("SELECT pg_terminate_backend($worker)");
$faulty->wait_for_calls(2, "gate=$job");
isnt(worker_pid(), $worker, 'terminating the worker: another takes its place');
finish_job($job, 'terminating the worker');
is(query("SELECT attempts, crashes FROM transcribe_jobs WHERE session_id = '$job'"), '1|0',
	'terminating the worker: it costs nothing');
is(launcher_pid(), $launcher, 'terminating the worker: nothing restarts');

# The worker killed: the postmaster restarts all, and the job is an orphan.
$job = start_job();
$worker = worker_pid();
@agents = ours('transcribe_agen');
kill 'KILL', $worker;
wait_for($node, "SELECT pid <> $launcher FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'");
my $ready = time;
$faulty->wait_for_calls(2, "gate=$job");
cmp_ok(time - $ready, '<', 5, 'kill -9 of the worker: the job is taken up again');
ok(!is_alive($agents[0]), 'kill -9 of the worker: its agent is gone');
finish_job($job, 'kill -9 of the worker');
# A claim commits asynchronously: a crash may undo it, and then has no witness.
is(query("SELECT crashes <= 1 AND attempts = 1 FROM transcribe_jobs WHERE session_id = '$job'"), 't',
	'kill -9 of the worker: it is counted as a crash at most');

# The launcher told to go comes back, and wakes up as before.
$launcher = launcher_pid();
query("SELECT pg_terminate_backend($launcher)");
wait_for($node, "SELECT pid <> $launcher FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'", 't',
	'the launcher comes back');
$job = start_job();
finish_job($job, 'terminating the launcher');

# Immediate shutdown.
$job = start_job();
my @before = grep { $_->{comm} =~ /^transcribe_/ } processes_of(postmaster_pid($node));
$node->stop('immediate');
ok(wait_until(sub { !grep { is_alive($_) } @before }), 'immediate shutdown: no process is left behind');
$node->start;
$faulty->wait_for_calls(2, "gate=$job");
finish_job($job, 'immediate shutdown');

# Fast shutdown, with a request that hangs.
$job = start_job();
@before = grep { $_->{comm} =~ /^transcribe_/ } processes_of(postmaster_pid($node));
is(scalar(grep { $_->{comm} eq 'transcribe_agen' } @before), 1, 'an agent is there');
my $begin = time;
$node->stop('fast');
my $took = time - $begin;
cmp_ok($took, '<', 1, 'fast shutdown with a hanging request takes less than a second');
is(scalar(grep { is_alive($_) } @before), 0,
	'fast shutdown: no process is left behind');
$node->start;
$faulty->wait_for_calls(2, "gate=$job");
finish_job($job, 'fast shutdown');
is(query("SELECT attempts, crashes FROM transcribe_jobs WHERE session_id = '$job'"), '1|0',
	'fast shutdown: it costs nothing');

# Chunks that were saved before a crash are not sent again.
create_server($node, 'chunks', $faulty->url('ok,tag=chunks'),
	chunk_seconds => 20, max_requests => 1, request_interval => '300ms');
query("SELECT transcribe_enqueue('chunks', '$audio/talk.mp3', server => 'chunks')");
wait_for($node, "SELECT count(*) >= 3 FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = 'chunks'");
$node->stop('immediate');
$node->start;
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'chunks'", 'completed',
	'a recording of several chunks completes after a crash');
my $chunks = query("SELECT count(*) FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = 'chunks'");
cmp_ok(scalar($faulty->log('ok,tag=chunks')), '<=', $chunks + 1, 'only what was not saved is sent again');
is(query("SELECT count(*) = count(DISTINCT segment_no) AND count(*) = count(DISTINCT start_s) FROM transcribe_segments WHERE session_id = 'chunks'"),
	't', 'and no segment is there twice');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no panic, no failed assertion');
$node->stop;
$faulty->stop;
done_testing();
