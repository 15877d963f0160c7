# What is seen from outside while jobs run: progress, notifications, what the
# processes say that they do, and statistics.
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
is(scalar(grep { $_->[3] == 0 && $_->[5] ne '' } @live), 0, 'without an answer there is no rate');

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

# What is queued for a server, in lists as well, and what is running.
create_server($node, '"two words"', $faulty->url('gate=gate,tag=held'), hold => 'on');
query("SELECT transcribe_enqueue('list ' || n, '$wav', server => 'gate, \"two words\"', run_at => now() + '1 day') FROM generate_series(1, 3) n");
query("SELECT transcribe_enqueue('held', '$wav', server => '\"two words\"', run_at => now() - interval '1 hour')");
is(query("SELECT server, queued, oldest_wait BETWEEN '1 hour' AND '2 hours', running, under_way FROM transcribe_stats
	WHERE server IN ('gate', 'two words') ORDER BY 1"), "gate|3||3|2\ntwo words|4|t|0|0", 'transcribe_stats has queue and server');
query("SELECT transcribe_cancel(id) FROM transcribe_jobs WHERE status = 'queued'");
$faulty->release('gate');
wait_for_jobs('gate', 'completed');

# Requests of all kinds, whose numbers are those of the tables.
my %kinds = (
	good => [ 'ok,tag=good', 'succeeded' ],
	broken => [ 'status=503', 'server_errors' ],
	limited => [ 'status=429,times=1,header=retry-after-ms:1', 'rate_limited' ],
	keyless => [ 'status=401,times=1', 'unauthorized' ],
	late => [ 'hang', 'timeouts' ],
	lost => [ 'drop', 'connection_errors' ],
	wrong => [ 'status=400', 'refused' ],
	odd => [ 'html', 'bad_responses' ]);
foreach my $kind (sort keys %kinds)
{
	create_server($node, $kind, $faulty->url($kinds{$kind}[0]), max_attempts => 2, retry_interval => '1ms', retry_max_interval => '1ms',
		$kind eq 'late' ? (request_timeout => '300ms', timeout_factor => 0) : ());
	enqueue($kind eq 'good' ? 3 : 1, $kind, $kind eq 'good' ? "$audio/silence-around.wav" : undef);
}
enqueue(1, 'good', "$audio/silent.wav");
wait_for_jobs($_, 'completed', "$_: done") foreach qw(good limited);
wait_for_jobs($_, 'failed', "$_: failed") foreach qw(broken late lost wrong odd);
wait_for($node, "SELECT state FROM transcribe_servers WHERE server = 'keyless'", 'stopped');
query("SELECT transcribe_resume_server('keyless')");
wait_for_jobs('keyless', 'completed', 'keyless: done');
foreach my $kind (sort keys %kinds)
{
	is(query("SELECT $kinds{$kind}[1] > 0,
			$kinds{$kind}[1] + CASE WHEN '$kinds{$kind}[1]' = 'succeeded' THEN 0 ELSE succeeded END = requests
		FROM transcribe_stats WHERE server = '$kind'"), 't|t', "$kind: requests are counted by what became of them");
}
is(query("SELECT count(*), bool_and(s.requests = a.n AND s.succeeded = a.good AND abs(s.audio_s - a.audio) < 0.1
		AND s.sent_bytes = a.bytes AND abs(s.elapsed_s - a.elapsed) < 0.1)
	FROM transcribe_stats s JOIN (SELECT server, count(*) AS n, count(*) FILTER (WHERE error_code IS NULL) AS good,
			sum(audio_s) AS audio, sum(sent_bytes) AS bytes, sum(elapsed_s) AS elapsed
		FROM transcribe_attempts GROUP BY 1) a USING (server)"), '13|t', 'and are those of the tables');
is(query("SELECT count(*), bool_and(s.completed = j.completed AND s.failed = j.failed AND s.retried = j.retried AND abs(s.trimmed_s - j.trimmed) < 0.1)
	FROM transcribe_stats s JOIN (SELECT server, count(*) FILTER (WHERE status = 'completed') AS completed,
			count(*) FILTER (WHERE status = 'failed') AS failed, coalesce(sum(trimmed_s), 0) AS trimmed,
			sum(attempts) FILTER (WHERE status IN ('completed', 'failed')) - count(*) FILTER (WHERE status IN ('completed', 'failed')) AS retried
		FROM transcribe_jobs WHERE status IN ('completed', 'failed') GROUP BY 1) j USING (server)"), '13|t', 'so are the jobs, and what was not sent of them');
is(query("SELECT count(*) FILTER (WHERE retried > 0) > 2, max(trimmed_s) > 5 FROM transcribe_stats"), 't|t', 'of both there are some');
is(query("SELECT p50_s > 0 AND p50_s <= p95_s AND p95_s <= p99_s, p50_s BETWEEN 0.2 AND 2 FROM transcribe_stats WHERE server = 'late'"),
	't|t', 'how long they take is known');
is(query("SELECT bool_and(p99_s BETWEEN 0.8 * slowest AND 1.25 * slowest) FROM transcribe_stats JOIN
	(SELECT server, greatest(max(elapsed_s), 0.001) AS slowest FROM transcribe_attempts GROUP BY 1) a USING (server)
	WHERE slowest > 0.05"), 't', 'to some ten percent');

# Whose numbers.
query("CREATE ROLE stranger; CREATE ROLE guest; GRANT USAGE ON FOREIGN SERVER good TO guest;
	CREATE ROLE monitor; GRANT pg_monitor TO monitor");
is(query("SET ROLE stranger; SELECT count(*) FROM transcribe_stats; SELECT count(*) FROM transcribe_counters()", ['-q']), "0\n0",
	'who may use no server sees none');
is(query("SET ROLE guest; SELECT server, requests > 0 FROM transcribe_stats; SELECT count(*) FROM transcribe_counters()", ['-q']), "good|t\n1",
	'who may use one sees that');
is(query("SET ROLE monitor; SELECT count(*) > 8 FROM transcribe_stats; SELECT count(*) > 8 FROM transcribe_counters()", ['-q']), "t\nt",
	'a monitor sees all');
query('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION transcribe');
is($node->safe_psql('other', 'SET ROLE guest; SELECT count(*) FROM transcribe_workers WHERE datname = $$postgres$$', extra_params => ['-q']), '0',
	'the worker of another database is not for everybody');
is($node->safe_psql('other', 'SET ROLE monitor; SELECT count(*) FROM transcribe_workers WHERE datname = $$postgres$$', extra_params => ['-q']), '1',
	'but for monitors');
is($node->safe_psql('other', 'SELECT count(*) FROM transcribe_counters()'), '0', 'and statistics are of a database');

# Beside very many finished jobs what is queued is counted by the index.
query("INSERT INTO transcribe_jobs (session_id, path, server, owner, status, finished_at, attempts)
	SELECT 'old ' || n, '/old', 'good', 'postgres', 'completed', now(), 1 FROM generate_series(1, 50000) n;
	INSERT INTO transcribe_jobs (session_id, path, server, owner, run_at)
	SELECT 'new ' || n, '/new', 'good', 'postgres', now() + interval '1 day' FROM generate_series(1, 100) n");
query('VACUUM ANALYZE transcribe_jobs');
my $plan = query("EXPLAIN (ANALYZE, BUFFERS, TIMING off, SUMMARY off) SELECT * FROM transcribe_stats");
unlike($plan, qr/Seq Scan on transcribe_jobs/, 'finished jobs are not read');
my ($hit) = $plan =~ /Buffers: shared hit=(\d+)/;
cmp_ok($hit, '<', 1000, 'nor their index entries') or diag($plan);
is(query("SELECT queued FROM transcribe_stats WHERE server = 'good'"), '100', 'and all that waits is counted');

# What the documentation gives to a monitoring system.
my ($doc) = slurp_file('doc/operations.md') =~ /^### Prometheus\n.*?^```sql\n(.*?)^```/ms;
ok($doc, 'the documentation has a query for Prometheus');
like($node->safe_psql('postgres', "SET ROLE monitor; $doc", extra_params => ['-q', '-P', 'tuples_only=off', '-P', 'footer=off']),
	qr/^database\|server\|.*\npostgres\|broken\|/, 'which runs for a monitor');

# Counted anew.
isnt($node->psql('postgres', 'SET ROLE monitor; SELECT transcribe_stats_reset()'), 0, 'not everybody may begin anew');
query('SELECT transcribe_stats_reset()');
is(query("SELECT requests, completed, audio_s, trimmed_s, p50_s, stats_reset > now() - interval '1 minute' FROM transcribe_stats WHERE server = 'good'"),
	'0|0|0|0||t', 'a reset begins anew');

$node->stop;
$faulty->stop;
done_testing();
