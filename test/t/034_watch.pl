# What is seen from outside while jobs run: progress, notifications, what the
# processes say that they do.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('watch', 'transcribe.idle_timeout' => '1h');
my $wav = "$audio/austen-0880.wav";
my ($version) = $node->safe_psql('postgres', 'SHOW server_version_num') =~ /^(\d\d)/;

sub query { return $node->safe_psql('postgres', $_[0], extra_params => $_[1] // []) }

# Enqueues so many jobs to a server.
sub enqueue
{
	my ($count, $server, $path) = @_;
	$path //= $wav;
	return query("SELECT count(transcribe_enqueue('$server ' || n, '$path', server => '$server')) FROM generate_series(1, $count) n");
}

# Waits until all jobs of a server are like that.
sub wait_for_jobs
{
	my ($server, $status, $test) = @_;
	return wait_for($node, "SELECT bool_and(status = '$status') FROM transcribe_jobs WHERE server = '$server'", 't', $test);
}

# A recording of many chunks, seen again and again until it is done.
create_server($node, 'chunks', $faulty->url('delay=0.3'), max_requests => 1, chunk_seconds => 10);
my $job = query("SELECT transcribe_enqueue('chunks', '$audio/talk.mp3', server => 'chunks')");
my (@rows, @live);
while (!@rows || $rows[-1][0] ne 'completed')
{
	push @rows, [ split /\|/, query("SELECT status, progress, (SELECT count(*) FROM transcribe_chunks WHERE job_id = $job)
		FROM transcribe_jobs WHERE id = $job") ];
	my $seen = query("SELECT percent, chunk, chunks, done_s, total_s, rate, extract(epoch FROM eta)
		FROM transcribe_progress WHERE job_id = $job");
	push @live, [ split /\|/, $seen, -1 ] if $seen ne '';
}
my %saved = map { $_->[2] => 1 } @rows;
cmp_ok(scalar(keys %saved), '>', 3, 'a recording is seen while its chunks are saved');
my @moved = grep { $rows[$_][2] > $rows[ $_ - 1 ][2] } 1 .. $#rows;
is(scalar(grep { $rows[$_][1] <= $rows[ $_ - 1 ][1] } @moved), 0, 'each one moves the progress of its row');
is(scalar(grep { $rows[$_][1] < $rows[ $_ - 1 ][1] } 1 .. $#rows), 0, 'which never goes back');
is($rows[-1][1], '100', 'and ends at 100');
my @answered = grep { $_->[1] > 0 } @live;
is(scalar(grep { !($_->[3] > 0 && $_->[3] <= $_->[4] && $_->[5] > 0 && $_->[6] ne '') } @answered), 0,
	'live progress has seconds done, a rate, and the time that is left');
cmp_ok(scalar(@answered), '>', 2, 'more than once');
my ($duration) = query("SELECT duration_s FROM transcribe_jobs WHERE id = $job");
is(scalar(grep { abs($_->[4] - $duration) > 1 } @answered), 0, 'of the seconds that the recording has');
is(scalar(grep { $live[$_][3] < $live[ $_ - 1 ][3] } 1 .. $#live), 0, 'and the seconds never become fewer');
is(scalar(grep { $_->[1] == 0 && $_->[5] ne '' } @live), 0, 'without an answer there is no rate');

# Notifications, as the setting says: of a job that is tried twice, and whose first
# attempt takes long enough to be seen transcribing.
my %expected = (off => qr/^$/, final => qr/^completed$/, all => qr/^transcribing queued (transcribing )?completed$/);
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN transcribe');
foreach my $setting (qw(off final all))
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET transcribe.notify = '$setting'");
	$node->reload;
	ok($node->poll_query_until('postgres', "SELECT current_setting('transcribe.notify') = '$setting'"), "notify is $setting");
	# A session that has it was started when the worker had been told.
	create_server($node, "n_$setting", $faulty->url("status=500,times=1,delay=0.4,tag=$setting"), retry_interval => '1ms');
	enqueue(1, "n_$setting");
	wait_for_jobs("n_$setting", 'completed');
	my $job = query("SELECT id FROM transcribe_jobs WHERE server = 'n_$setting'");
	my @heard;
	for (my $end = 0; !$end;)
	{
		my $said = $listener->query_safe("NOTIFY transcribe, '{\"job_id\": 0, \"status\": \"end\"}'; SELECT 1");
		push @heard, $said =~ /payload "\{"job_id": $job, "status": "(\w+)"\}"/g;
		# What is announced is so in a transaction of its own, after the row says so.
		$end = $setting eq 'off' || grep { $_ eq 'completed' } @heard;
	}
	like("@heard", $expected{$setting}, "with notify = $setting that is announced");
}
$listener->quit;

# What the processes say.
create_server($node, 'gate', $faulty->url('gate=gate'), max_requests => 2);
enqueue(3, 'gate');
$faulty->wait_for_calls(2, 'gate=gate');
my $activity = "FROM pg_stat_activity WHERE backend_type = 'transcribe worker'";
wait_for($node, "SELECT query $activity AND state = 'idle'", 'jobs: 3, recordings being read: 0, requests under way: 2',
	'pg_stat_activity says what the worker has in hand');
is(query("SELECT application_name, datname $activity"), 'transcribe worker: postgres|postgres', 'and whose it is');
wait_for($node, "SELECT application_name, query FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'",
	'transcribe launcher|workers: 1 of 4, databases that wait for one: 0', 'and what the launcher has');
my ($event, $launcher_event) = $version >= 17 ? ('TranscribeWorkerMain', 'TranscribeLauncherMain') : ('Extension', 'Extension');
wait_for($node, "SELECT wait_event_type, wait_event $activity AND wait_event IS NOT NULL", "Extension|$event", 'what it waits for is named');
wait_for($node, "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'", $launcher_event,
	'and what the launcher waits for');

# The worker's row.
my ($pid) = query("SELECT pid $activity");
is(query("SELECT w.pid, datname, datid = d.oid, launched_at < now(), state, jobs, recordings, requests, held_bytes > 0
	FROM transcribe_workers w JOIN pg_database d USING (datname)"), "$pid|postgres|t|t|working|3|0|2|t",
	'transcribe_workers has the worker');
my %processes = all_processes();
is($processes{ query('SELECT agent_pid FROM transcribe_workers') }{ppid}, $pid, 'and its agent');

query("CREATE ROLE guest; CREATE ROLE monitor; GRANT pg_monitor TO monitor");
query('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION transcribe');
is($node->safe_psql('other', 'SET ROLE guest; SELECT count(*) FROM transcribe_workers WHERE datname = $$postgres$$', extra_params => ['-q']), '0',
	'the worker of another database is not for everybody');
is($node->safe_psql('other', 'SET ROLE monitor; SELECT count(*) FROM transcribe_workers WHERE datname = $$postgres$$', extra_params => ['-q']), '1',
	'but for monitors');

$faulty->release('gate');
wait_for_jobs('gate', 'completed');
$node->stop;
$faulty->stop;
done_testing();
