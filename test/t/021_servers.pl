
# A server is asked no more than it allows, and one that does not work, or not
# for us, is left alone by all jobs; the next of a list takes over.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('servers');
my $wav = "$audio/austen-0880.wav";

# Enqueues so many jobs as a role, or as ourselves.
sub enqueue
{
	my ($count, $server, %more) = @_;
	my $role = $more{role} ? "SET ROLE $more{role};" : '';
	my $name = $more{name} // $server;
	my $priority = $more{priority} // 0;

	return $node->safe_psql('postgres', "$role SELECT count(transcribe_enqueue('$name ' || n, '$wav',
		server => '$server', priority => $priority)) FROM generate_series(1, $count) n");
}

# What the jobs whose session begins so are like, each once.
sub jobs
{
	my ($name, $columns) = @_;
	return $node->safe_psql('postgres',
		"SELECT DISTINCT $columns FROM transcribe_jobs WHERE session_id LIKE '$name %' ORDER BY 1");
}

sub wait_for_jobs
{
	my ($count, $name, $condition, $test) = @_;
	return wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id LIKE '$name %' AND $condition", $count, $test);
}

sub server_state
{
	my ($server, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM transcribe_servers WHERE server = '$server'");
}

# For a long pause jobs go back to the queue, and are not claimed before it is
# over; those that come meanwhile are not even tried.
create_server($node, 'away', $faulty->url('status=429,retry-after=900,tag=away'), max_requests => 1);
enqueue(3, 'away');
wait_for_jobs(3, 'away', "status = 'queued'", 'a long pause: the jobs wait in the queue');
wait_for($node, "SELECT state || ' ' || error_code FROM transcribe_servers WHERE server = 'away'", 'paused rate_limited',
	'the server is shown as paused');
is(server_state('away', "retry_at BETWEEN now() + '14 min' AND now() + '16 min', error ~ 'asks for a pause of 9'"), 't|t',
	'and until when');
enqueue(2, 'away', name => 'later');
create_server($node, 'good', $faulty->url('ok,tag=good'));
enqueue(1, 'good');
wait_for_jobs(1, 'good', "status = 'completed'", 'another server is served meanwhile');
is(jobs('later', 'status, attempts, error'), 'queued|0|', 'a job that comes meanwhile waits');
is(scalar($faulty->log('status=429,retry-after=900,tag=away')), 1, 'one request was sent in all');
is(jobs('away', 'attempts'), '0', 'at no cost');

# OpenAI's and Groq's headers, where there is no Retry-After.
create_server($node, 'reset', $faulty->url('status=429,header=x-ratelimit-reset-requests:6m0s,tag=reset'));
enqueue(1, 'reset');
wait_for($node, "SELECT state FROM transcribe_servers WHERE server = 'reset'", 'paused');
is(server_state('reset', "retry_at BETWEEN now() + '5 min' AND now() + '7 min'"), 't', 'x-ratelimit-reset-requests is believed');

# What refuses the key, or has used up its account, is not asked again by any
# job, until something is done about it; the jobs wait, and it is said why.
my $serial = 0;
foreach my $case (
	[ 'status=401,message=because', 'key_missing', 'because' ],
	[ 'status=403,message=because', 'key_missing', 'because' ],
	[ 'status=429,code=credit_balance_exhausted,message=pay', 'quota_exhausted', 'pay' ])
{
	my ($scenario, $code, $words) = @$case;
	my $name = 'stopped' . ++$serial;
	my $calls = "$scenario,tag=$name";

	create_server($node, $name, $faulty->url($calls), max_requests => 1, retry_interval => '10ms');
	enqueue(3, $name);
	wait_for($node, "SELECT state || ' ' || error_code FROM transcribe_servers WHERE server = '$name'", "stopped $code",
		"$scenario: the server is stopped");
	wait_for_jobs(3, $name, "status = 'queued'", "$scenario: the jobs wait");
	like(server_state($name, 'error'), qr/$words/, "$scenario: in the server's words");
	cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM transcribe_jobs WHERE session_id LIKE '$name %' AND error_code = '$code' AND error ~ '$words'"),
		'>=', 1, "$scenario: the row of the job that met it says so");
	is(jobs($name, 'attempts'), '0', "$scenario: at no cost");
	is(scalar($faulty->log($calls)), 1, "$scenario: one request was sent");

	# Tried again at once, with one request, if somebody says so.
	$node->safe_psql('postgres', "SELECT transcribe_resume_server('$name')");
	$faulty->wait_for_calls(2, $calls);
	wait_for($node, "SELECT state FROM transcribe_servers WHERE server = '$name'", 'stopped');
	wait_for_jobs(3, $name, "status = 'queued'");
	is(scalar($faulty->log($calls)), 2, "$scenario: transcribe_resume_server tries once more");

	# And when the server is altered.
	$node->safe_psql('postgres', "ALTER SERVER $name OPTIONS (SET url '" . $faulty->url("ok,tag=$name") . "')");
	wait_for_jobs(3, $name, "status = 'completed' AND error IS NULL", "$scenario: altering the server lets them go on");
	is(server_state($name, 'state'), 'available', "$scenario: and it is available");
}

# One role's key is not another's.
$node->safe_psql('postgres', "CREATE ROLE alice; CREATE ROLE bob; GRANT pg_read_server_files TO alice, bob");
create_server($node, 'keyed', $faulty->url('key=sk-right,tag=keyed'));
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER keyed TO alice, bob');
create_mapping($node, 'PUBLIC', 'keyed', api_key => 'sk-right');
create_mapping($node, 'alice', 'keyed', api_key => 'sk-wrong');
enqueue(2, 'keyed', role => 'alice', name => 'alice');
wait_for($node, "SELECT role || ' ' || state || ' ' || error_code FROM transcribe_servers WHERE server = 'keyed'",
	'alice stopped unauthorized', 'a refused key stops the requests that carry it');
enqueue(2, 'keyed', role => 'bob', name => 'bob');
wait_for_jobs(2, 'bob', "status = 'completed'", 'and no others');
is(jobs('alice', 'status'), 'queued', 'those wait');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR alice SERVER keyed OPTIONS (SET api_key 'sk-right')");
wait_for_jobs(2, 'alice', "status = 'completed'", 'until the key is changed');

# A server's own advice about trying again comes before what its status means.
create_server($node, 'final', $faulty->url('status=500,header=x-should-retry:false,tag=final'));
enqueue(1, 'final');
wait_for_jobs(1, 'final', "status = 'failed' AND attempts = 1", 'x-should-retry: false is obeyed');
create_server($node, 'again', $faulty->url('status=400,header=x-should-retry:true,times=1,tag=again'), retry_interval => '10ms');
enqueue(1, 'again');
wait_for_jobs(1, 'again', "status = 'completed' AND attempts = 2", 'x-should-retry: true is obeyed');

# A server that fails over and over is left alone; a single request finds out
# whether it is well again.
create_server($node, 'broken', $faulty->url('status=500,times=8,tag=broken'),
	max_attempts => 20, retry_interval => '500ms', retry_max_interval => '500ms', max_requests => 5);
enqueue(5, 'broken');
wait_for($node, "SELECT state || ' ' || error_code FROM transcribe_servers WHERE server = 'broken'", 'unreachable server_error',
	'after failures in a row the server is left alone');
wait_for_jobs(5, 'broken', "status = 'completed'", 'it is tried again by itself');
is(server_state('broken', 'state'), 'available', 'and is available when it works');
my @calls = sort { $a->{start} <=> $b->{start} } $faulty->log('status=500,times=8,tag=broken');
my @probes = grep { $_->{status} == 500 } @calls[ 5 .. $#calls ];
is(scalar(@probes), 3, 'as many requests found that it still failed as it took');
is(scalar(grep { $probes[$_]{start} - $probes[ $_ - 1 ]{end} < 0.4 } 1 .. $#probes), 0, 'one at a time, with pauses');

# So is one that is not there, and its jobs end as the attempts do.
create_server($node, 'gone', 'http://127.0.0.1:1/v1', max_attempts => 2, retry_interval => '10ms', retry_max_interval => '20ms');
enqueue(4, 'gone');
wait_for_jobs(4, 'gone', "status = 'failed' AND error_code = 'could_not_connect' AND attempts = 2", 'its jobs fail after max_attempts');
is(server_state('gone', 'state'), 'unreachable', 'a server that is not there is unreachable');

# requests_per_minute: the first ones at once, more a minute later.
create_server($node, 'metered', $faulty->url('ok,tag=metered'), requests_per_minute => 2);
enqueue(3, 'metered');
wait_for_jobs(2, 'metered', "status = 'completed'");
wait_for($node, "SELECT count(*) FROM transcribe_progress WHERE session_id LIKE 'metered %' AND message ~ 'waiting for its turn'", '1',
	'requests_per_minute holds up the third request');
is(scalar($faulty->log('ok,tag=metered')), 2, 'and two were sent');

# A server that is full holds up its own jobs only, however many they are: they
# do not even take places in the worker.
create_server($node, 'narrow', $faulty->url('gate=narrow'), max_requests => 1);
enqueue(40, 'narrow', priority => 10);
$faulty->wait_for_calls(1, 'gate=narrow');
enqueue(1, 'good', name => 'passing');
wait_for_jobs(1, 'passing', "status = 'completed'", 'a full server is not in the way of another');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM transcribe_jobs WHERE session_id LIKE 'narrow %' AND status <> 'queued'"),
	'<=', 3, 'few of its jobs are taken from the queue');
$faulty->release('narrow');
wait_for_jobs(40, 'narrow', "status = 'completed'", 'and all are in the end');

# Who has enqueued many does not keep another waiting.
create_server($node, 'shared', $faulty->url('gate=shared,tag=shared'), max_requests => 1);
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER shared TO alice, bob');
enqueue(60, 'shared', role => 'alice', name => 'many');
$faulty->wait_for_calls(1, 'gate=shared,tag=shared');
enqueue(3, 'shared', role => 'bob', name => 'few');
$faulty->release('shared');
wait_for_jobs(3, 'few', "status = 'completed'");
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM transcribe_jobs m, (SELECT max(started_at) AS last FROM transcribe_jobs WHERE session_id LIKE 'few %') f
	WHERE m.session_id LIKE 'many %' AND m.started_at < f.last"), '<', 20, 'owners take turns');
wait_for_jobs(60, 'many', "status = 'completed'");

# A list: the first that has room, else the next.
create_server($node, 'gpu', $faulty->url('gate=gpu'), max_requests => 2);
create_server($node, 'cpu', $faulty->url('ok,tag=cpu'), max_requests => 2);
enqueue(6, 'gpu, cpu', name => 'list');
wait_for_jobs(4, 'list', "status = 'completed' AND served_by = 'cpu'", 'what the first server has no room for goes to the second');
$faulty->release('gpu');
wait_for_jobs(2, 'list', "status = 'completed' AND served_by = 'gpu'", 'the rest is done by the first');
is($node->safe_psql('postgres', "SELECT bool_and(c.server = j.served_by) FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id
	WHERE j.session_id LIKE 'list %'"), 't', 'each chunk says who answered');

# A job that failed by a server's fault goes to the next one at once.
foreach my $fault ('status=500', 'status=404', 'status=401', 'html', 'status=429,retry-after=600', 'drop')
{
	my $name = 'bad' . ++$serial;

	create_server($node, $name, $faulty->url("$fault,tag=$name"), retry_interval => '1h');
	enqueue(2, "$name, cpu", name => $name);
	wait_for_jobs(2, $name, "status = 'completed' AND served_by = 'cpu'", "$fault: the next server takes over");
}

# And round again, with pauses, to the last attempt.
create_server($node, 'bad_a', $faulty->url('status=500,tag=bad_a'), max_attempts => 4, retry_interval => '10ms');
create_server($node, 'bad_b', $faulty->url('status=500,tag=bad_b'), retry_interval => '10ms');
enqueue(1, 'bad_a, bad_b', name => 'round');
wait_for_jobs(1, 'round', "status = 'failed' AND attempts = 4 AND served_by = 'bad_b'", 'all servers of a list are tried in turn');
is_deeply([ map { scalar($faulty->log("status=500,tag=$_")) } 'bad_a', 'bad_b' ], [ 2, 2 ], 'each as often');

# What no server would take is not passed round.
create_server($node, 'refusing', $faulty->url('status=400,message=no'));
enqueue(1, 'refusing, cpu', name => 'refused');
wait_for_jobs(1, 'refused', "status = 'failed' AND error_code = 'refused'", 'what the job is refused for stays refused');

# A server that may not be used any more is passed over; when all may not, the
# job says so.
$node->safe_psql('postgres', 'ALTER SYSTEM SET transcribe.max_workers = 0');
$node->restart;
enqueue(1, 'gpu, cpu', name => 'dropped');
enqueue(1, 'gpu, good', name => 'dropped_both');
$node->safe_psql('postgres', 'DROP SERVER gpu; DROP SERVER good');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET transcribe.max_workers');
$node->restart;
wait_for_jobs(1, 'dropped', "status = 'completed' AND served_by = 'cpu'", 'a server that is gone is passed over');
wait_for_jobs(1, 'dropped_both', "status = 'failed' AND error_code = 'server_missing'", 'if all are gone the job fails');

$node->stop;
$faulty->stop;
done_testing();
