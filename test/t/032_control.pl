# What is asked of the queue by hand, or by a setting: to try again, to delete,
# to stop, to go on, and to forget.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('control',
	'transcribe.idle_timeout' => '1s',
	'transcribe.naptime' => '1s');
my $wav = "$audio/austen-0880.wav";
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'";

sub query { return $node->safe_psql('postgres', $_[0]) }

# Enqueues so many jobs to a server.
sub enqueue
{
	my ($count, $server, $name) = @_;
	$name //= $server;
	return query("SELECT count(transcribe_enqueue('$name ' || n, '$wav', server => '$server')) FROM generate_series(1, $count) n");
}

# Waits until so many jobs whose session begins so are like that.
sub wait_for_jobs
{
	my ($count, $name, $condition, $test) = @_;
	return wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id LIKE '$name %' AND $condition", $count, $test);
}

# How many there are.
sub count_jobs
{
	my ($name, $condition) = @_;
	return query("SELECT count(*) FROM transcribe_jobs WHERE session_id LIKE '$name %' AND $condition");
}

# Changes a setting for all.
sub set
{
	my ($setting, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET transcribe.$setting = '$value'");
	$node->reload;
	return;
}

# Waits until so many requests of a scenario were hung up on.
sub wait_for_hung_up
{
	my ($count, $scenario, $test) = @_;
	my $hung_up = 0;

	foreach my $try (1 .. 1000)
	{
		$hung_up = grep { $_->{hung_up} } $faulty->log($scenario);
		last if $hung_up == $count;
		select(undef, undef, undef, 0.02);
	}
	return is($hung_up, $count, $test);
}

# Whatever was wrong with a server: its jobs are queued again together.
create_server($node, 'broken', $faulty->url('status=400,tag=broken'), max_attempts => 1);
create_server($node, 'other', $faulty->url('status=400,tag=other'), max_attempts => 1);
enqueue(3, 'broken');
enqueue(2, 'other');
wait_for_jobs(3, 'broken', "status = 'failed'");
wait_for_jobs(2, 'other', "status = 'failed'");
query("ALTER SERVER broken OPTIONS (SET url '" . $faulty->url('ok,tag=broken') . "')");
is(query("SELECT transcribe_retry_failed(server => 'broken')"), '3', 'the failed jobs of a server are queued again');
wait_for_jobs(3, 'broken', "status = 'completed' AND attempts = 1", 'and run');
is(count_jobs('other', "status = 'failed'"), '2', 'those of another are not');
is(query("SELECT transcribe_retry_failed(now(), error_code => 'refused')"), '0', 'nor any that failed before');
is(query("SELECT transcribe_retry_failed(error_code => 'refused')"), '2', 'by what they failed of');
wait_for_jobs(2, 'other', "status = 'failed'", 'and they fail again');

# A job is deleted while it runs: its request ends, and nothing of it is left.
create_server($node, 'hanging', $faulty->url('hang'));
enqueue(1, 'hanging');
$faulty->wait_for_calls(1, 'hang');
query("SELECT transcribe_delete(id) FROM transcribe_jobs WHERE server = 'hanging'");
wait_for_hung_up(1, 'hang', 'the request of a job that is deleted ends');
wait_for($node, 'SELECT count(*) FROM transcribe_progress', '0', 'and the worker has forgotten it');

# So is one of which a part is saved, and another part waits.
create_server($node, 'halfway', $faulty->url('ok,tag=halfway'), max_requests => 1, chunk_seconds => 20, request_interval => '1h');
query("SELECT transcribe_enqueue('halfway', '$audio/talk.mp3', server => 'halfway')");
wait_for($node, "SELECT count(*) FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.server = 'halfway'", '1');

# Those that have ended go as well, with their transcripts.
query('SELECT transcribe_delete(id) FROM transcribe_jobs');
is(query('SELECT (SELECT count(*) FROM transcribe_jobs) + (SELECT count(*) FROM transcribe_chunks)
	+ (SELECT count(*) FROM transcribe_chunk_segments) + (SELECT count(*) FROM transcribe_attempts)'), '0', 'nothing is left of deleted jobs');
wait_for($node, 'SELECT count(*) FROM transcribe_progress', '0', 'and nothing is being done for them');

# A server is held: what runs there ends, what waits stays, also over a restart.
create_server($node, 'gpu', $faulty->url('gate=gpu'), max_requests => 1);
enqueue(8, 'gpu');
$faulty->wait_for_calls(1, 'gate=gpu');
query("SELECT transcribe_hold_server('gpu')");
is(query("SELECT state FROM transcribe_servers WHERE server = 'gpu'"), 'held', 'a server is held');
enqueue(1, 'gpu', 'late');
query("SELECT transcribe_hold_server('broken')");
like(query("SELECT detail || ' ' || hint FROM transcribe_check_server('broken') WHERE step = 'server'"),
	qr/jobs wait because of: it is held .*transcribe_resume_server\('broken'\)/, 'which a check tells');
my $begun = count_jobs('gpu', "status <> 'queued'");
$faulty->release('gpu');
wait_for_jobs($begun, 'gpu', "status = 'completed'", 'jobs that had been claimed end');
wait_for($node, $workers, '0', 'and the worker leaves');
is(count_jobs('gpu', "status = 'queued'"), 8 - $begun, 'the others wait');
$node->restart;
create_server($node, 'cpu', $faulty->url('ok,tag=cpu'));
enqueue(1, 'cpu');
wait_for_jobs(1, 'cpu', "status = 'completed'");
is(query("SELECT state FROM transcribe_servers WHERE server = 'gpu'"), 'held', 'it is held after a restart');
is(scalar($faulty->log('gate=gpu')), $begun, 'and was asked nothing more');
command_like([ 'pg_dump', '--schema-only', $node->connstr('postgres') ], qr/hold 'on'/, 'a dump says so, too');

# The next one of a list takes over, and is the last one then.
enqueue(2, 'gpu, cpu', 'list');
wait_for_jobs(2, 'list', "status = 'completed' AND served_by = 'cpu'", 'another server of a list takes over');
create_server($node, 'failing', $faulty->url('status=500,tag=failing'), retry_interval => '1h', retry_max_interval => '1h');
enqueue(1, 'failing, gpu', 'alone');
wait_for_jobs(1, 'alone', "status = 'queued' AND attempts = 1 AND served_by = 'failing' AND run_at > now()",
	'one whose others are held is not asked again at once');

# Resumed, all at once.
query("SELECT transcribe_resume_server('gpu')");
wait_for_jobs(8, 'gpu', "status = 'completed'", 'after it is resumed all jobs run');
wait_for_jobs(1, 'late', "status = 'completed'");
query("ALTER SERVER gpu OPTIONS (ADD hold 'on')");
enqueue(1, 'gpu', 'by hand');
enqueue(1, 'cpu', 'passing');
wait_for_jobs(1, 'passing', "status = 'completed'");
is(count_jobs('by hand', "status = 'queued'"), '1', 'ALTER SERVER holds a server');
query("ALTER SERVER gpu OPTIONS (SET hold 'off')");
wait_for_jobs(1, 'by hand', "status = 'completed'", 'and lets it go on');

# The cluster is stopped: what runs ends, then nothing is there any more.
create_server($node, 'draining', $faulty->url('gate=draining'), max_requests => 1);
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', "CREATE EXTENSION transcribe; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url('ok,tag=second') . "')");
enqueue(1, 'draining');
enqueue(1, 'hanging');
$faulty->wait_for_calls(1, 'gate=draining');
$faulty->wait_for_calls(2, 'hang');
set('enabled', 'off');
wait_for($node, 'SHOW transcribe.enabled', 'off');
is(enqueue(3, 'draining', 'waiting'), '3', 'enqueueing works as ever');
$node->safe_psql('second', "SELECT transcribe_enqueue('second', '$wav')");
query("SELECT transcribe_cancel(id) FROM transcribe_jobs WHERE server = 'hanging'");
wait_for_hung_up(2, 'hang', 'so does cancelling');
$faulty->release('draining');
wait_for_jobs(1, 'draining', "status = 'completed'", 'what had been begun ends');
wait_for($node, $workers, '0', 'and the worker leaves');
is(count_jobs('waiting', "status = 'queued'"), '3', 'nothing else is begun');
is(scalar($faulty->log('ok,tag=second')), 0, 'nor in another database');
$node->restart;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'"), 'after a restart');
query("SELECT transcribe_enqueue('restarted 1', '$wav', server => 'cpu')");
is(query($workers), '0', 'that is still so');
my $on = query('SELECT now()');
set('enabled', 'on');
wait_for_jobs(3, 'waiting', "status = 'completed'", 'when it may go on it does');
wait_for_jobs(1, 'restarted', "status = 'completed'", 'with all that waits');
is(query("SELECT count(*) FROM transcribe_jobs WHERE status = 'completed' AND started_at < '$on' AND (session_id LIKE 'waiting %' OR session_id LIKE 'restarted %')"),
	'0', 'and nothing began before');
ok($node->poll_query_until('second', "SELECT status = 'completed' FROM transcribe_jobs"), 'in all databases');

# Nothing is removed unless a setting says so; then what has failed goes alone.
query('SELECT transcribe_delete(id) FROM transcribe_jobs');
enqueue(2, 'cpu', 'good');
enqueue(2, 'other', 'bad');
wait_for_jobs(2, 'good', "status = 'completed'");
wait_for_jobs(2, 'bad', "status = 'failed'");
wait_for($node, $workers, '0');
my $attempts = query("SELECT count(*) FROM transcribe_attempts a JOIN transcribe_jobs j ON j.id = a.job_id WHERE j.status = 'completed'");
set('retain_failed', '0');
wait_for_jobs(0, 'bad', 'true', 'failed jobs are removed, without anything to wake a worker');
is(query('SELECT count(*) FROM transcribe_attempts'), $attempts, 'with all that belongs to them');
is(query('SELECT count(DISTINCT session_id) FROM transcribe_segments'), '2', 'transcripts are kept');
set('retain_failed', '-1');

# In batches, those that are old enough.
sub insert_finished
{
	my ($count, $status, $age) = @_;

	query("INSERT INTO transcribe_jobs (session_id, path, server, owner, status, finished_at, home)
		SELECT 'old ' || n, '/old', 'cpu', current_user, '$status', now() - interval '$age', transcribe_home() FROM generate_series(1, $count) n");
	return;
}
insert_finished(1100, 'cancelled', '2 days');
insert_finished(100, 'failed', '2 days');
insert_finished(10, 'failed', '1 hour');
insert_finished(10, 'completed', '2 days');
query("UPDATE transcribe_jobs SET home = home + 1 WHERE id = (SELECT min(id) FROM transcribe_jobs WHERE status = 'cancelled')");
set('retain_failed', '1d');
wait_for_jobs(21, 'old', 'true', 'all that are old enough are removed, batch by batch');
is(count_jobs('old', "status = 'failed'"), '10', 'younger ones are not');
is(count_jobs('old', "status = 'cancelled'"), '1', 'nor is one of another home');

# An idle database is woken when the next one is old enough.
wait_for($node, $workers, '0');
insert_finished(5, 'failed', '23:59:55');
query('SELECT transcribe_wake()');
wait_for_jobs(10, 'old', "status = 'failed'", 'a worker comes for what was not old enough when it looked');
wait_for($node, $workers, '0', 'and leaves');

# Transcripts go if that is asked for, by hand or by a setting.
is(query("SELECT transcribe_purge(completed_before => now() - interval '1 day')"), '10', 'completed jobs are removed by hand');
set('retain_completed', '0');
wait_for_jobs(0, 'good', 'true', 'or by a setting');
is(query('SELECT count(*) FROM transcribe_chunk_segments'), '0', 'with their transcripts');

done_testing();
