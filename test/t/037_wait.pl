# Who waits for jobs is woken by their end, whatever ends them, costs nothing
# meanwhile, and can be stopped at once.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('waiting', init => { allows_streaming => 1 }, max_connections => 100);
my $wav = "$audio/austen-0880.wav";

create_server($node, 'whisper', $faulty->url);
create_server($node, 'slow', $faulty->url('gate=slow'), request_timeout => '1h');
create_server($node, 'broken', $faulty->url('status=400,tag=broken'));

sub query { return $node->safe_psql('postgres', $_[0]) }

sub enqueue
{
	my ($server, $name) = @_;
	return query("SELECT transcribe_enqueue('" . ($name // $server) . "', '$wav', server => '$server')");
}

# Sessions that wait: a hash of the command's name, its process and its output.
sub start_waiting
{
	my ($command, %more) = @_;
	my %session = (out => '', err => '');

	$session{run} = IPC::Run::start(
		[ 'psql', '-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '-d',
			($more{node} // $node)->connstr('postgres') . ' application_name=' . ($more{name} // 'waiter'), '-c', $command ],
		'<', \'', '>', \$session{out}, '2>', \$session{err});
	return \%session;
}

# What such a session has said at its end.
sub said
{
	my ($session) = @_;
	$session->{run}->finish;
	return $session->{out} . $session->{err};
}

# Sessions of that name that are asleep, and what they hold.
my $asleep = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active' AND wait_event_type = 'Extension'";
my $holding = "SELECT string_agg(DISTINCT concat_ws(' ', 'holds', a.backend_xmin, a.backend_xid, l.locktype, l.mode), ', ')
	FROM pg_stat_activity a LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype <> 'virtualxid'
	WHERE a.application_name = 'waiter'";

sub wait_asleep { return wait_for($node, $asleep, $_[0], $_[1]) }

# Who is asleep holds nothing; between two looks, which take a moment each.
sub is_light
{
	my ($test) = @_;
	return wait_for($node, $holding, 'holds', $test);
}

# One file, from the call to the transcript.
my $result = query("CALL transcribe_file('$wav')");
my $job = query('SELECT max(id) FROM transcribe_jobs');
is($result, query("SELECT transcribe_job_result($job)"), 'a call hands back the transcript');
like($result, qr/"full_text"/, 'as a dictionary');
query("CREATE TABLE kept (result jsonb);
	DO \$\$ DECLARE r jsonb; BEGIN CALL transcribe_file('$wav', r, 'whisper', '{\"language\": \"en\"}'); INSERT INTO kept VALUES (r); END \$\$");
like(query('SELECT result FROM kept'), qr/"full_text"/, 'a block of code may call, too');
is(query("SELECT options FROM transcribe_jobs ORDER BY id DESC LIMIT 1"), '{"language": "en"}', 'with options');

my (undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nCALL transcribe_file('$wav', server => 'broken')");
$job = query('SELECT max(id) FROM transcribe_jobs');
my $reason = query("SELECT error FROM transcribe_jobs WHERE id = $job");
like($error, qr/ERROR:  38000: could not transcribe audio file: \Q$reason\E\nDETAIL:  Transcription job $job is failed, error code "refused"\./,
	'a job that fails is an error');

# Asleep, at no cost, until the end.
$job = enqueue('slow');
my $waiter = start_waiting("CALL transcribe_wait($job)");
my $file = start_waiting("CALL transcribe_file('$wav', server => 'slow')");
$faulty->wait_for_calls(2, 'gate=slow');
wait_asleep(2, 'both sleep');
is_light('and hold no snapshot, transaction or lock');
query('CREATE TABLE filled AS SELECT 1; DROP TABLE filled; VACUUM');
$faulty->release('slow');
is(said($waiter), "CALL\n", 'one is woken by the end of its job');
like(said($file), qr/^\{.*"full_text"/, 'and so is the other');
is(query("SELECT status FROM transcribe_jobs WHERE id = $job"), 'completed', 'which has ended');

# Told, and not found by looking now and then: a look every five seconds would
# take a hundred seconds and more for so many.
my $begin = time;
query("CALL transcribe_file('$wav')") foreach 1 .. 25;
cmp_ok(time - $begin, '<', 60, 'a waiter is told when its job ends');

# What else ends a job.
$faulty->reset;
$job = enqueue('slow');
$waiter = start_waiting("CALL transcribe_wait($job)");
$file = start_waiting("CALL transcribe_file('$wav', server => 'slow')");
wait_asleep(2);
query("SELECT transcribe_cancel(id) FROM transcribe_jobs WHERE status IN ('queued', 'preprocessing', 'transcribing')");
is(said($waiter), "CALL\n", 'cancelling ends a wait');
like(said($file), qr/ERROR:  38000: transcription was cancelled\nDETAIL:  Transcription job \d+ was cancelled\./, 'which is an error where a transcript is due');
$job = enqueue('slow', 'deleted');
$waiter = start_waiting("CALL transcribe_wait($job)");
wait_asleep(1);
query("SELECT transcribe_delete($job)");
like(said($waiter), qr/ERROR:  P0002: transcription job $job does not exist/, 'deleting it is an error');
$job = enqueue('slow', 'by hand');
$waiter = start_waiting("CALL transcribe_wait($job)");
wait_asleep(1);
query("UPDATE transcribe_jobs SET status = 'cancelled', claimed_by = NULL WHERE id = $job");
is(said($waiter), "CALL\n", 'what ends without telling anybody is found');

# Several.
my @jobs = (enqueue('whisper', 'a'), enqueue('broken', 'b'), enqueue('slow', 'c'));
$waiter = start_waiting("CALL transcribe_wait(ARRAY[" . join(', ', reverse @jobs) . "])");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE id IN ($jobs[0], $jobs[1]) AND status IN ('completed', 'failed')", '2');
wait_asleep(1, 'who waits for several waits for the last');
$faulty->release('slow');
is(said($waiter), "CALL\n", 'and is woken then');

# It is stopped at once, in every way, and the job goes on.
$faulty->reset;
$job = enqueue('slow', 'stopped');
my %ways = (
	cancel => [ "CALL transcribe_wait($job)", qr/57014: canceling statement due to user request.*waiting for transcription job $job/s ],
	terminate => [ "CALL transcribe_wait($job)", qr/57P01: terminating connection/ ],
	timeout => [ "CALL transcribe_wait($job, '100ms')",
		qr/57014: transcribe_wait has reached its timeout\nDETAIL:  Transcription job $job has not ended, and goes on\.\nHINT:  CALL transcribe_wait\($job\) waits again/ ],
	'statement_timeout' => [ "CALL transcribe_wait(ARRAY[$job])", qr/57014: canceling statement due to statement timeout/ ]);
foreach my $way (sort keys %ways)
{
	my ($command, $expected) = @{ $ways{$way} };

	query("ALTER DATABASE postgres SET statement_timeout = '200ms'") if $way eq 'statement_timeout';
	$waiter = start_waiting($command);
	$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET statement_timeout') if $way eq 'statement_timeout'
	  && wait_until(sub { $waiter->{run}->pump_nb; !$waiter->{run}->pumpable });
	if ($way =~ /^(cancel|terminate)$/)
	{
		wait_asleep(1);
		query("SELECT pg_${way}_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'");
	}
	like(said($waiter), $expected, "it ends by $way");
	is(query("SELECT status IN ('preprocessing', 'transcribing', 'queued') FROM transcribe_jobs WHERE id = $job"), 't', 'and the job goes on');
}
$file = start_waiting("CALL transcribe_file('$wav', server => 'slow', timeout => '100ms')");
like(said($file), qr/57014: transcribe_file has reached its timeout/, 'so does the other');
$job = query('SELECT max(id) FROM transcribe_jobs');
$waiter = start_waiting("CALL transcribe_wait($job)");
wait_asleep(1);

# The worker is ended while somebody waits, and another one does the job.
$faulty->wait_for_calls(2, 'gate=slow');
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
$faulty->wait_for_calls(4, 'gate=slow');
$faulty->release('slow');
is(said($waiter), "CALL\n", 'another worker does the job, and the wait ends');

# Very many at once.
$faulty->reset;
query("SELECT count(transcribe_enqueue('many ' || n, '$wav', server => 'slow')) FROM generate_series(1, 50) n");
my @waiters = map { start_waiting("CALL transcribe_wait($_)") } split /\n/, query("SELECT id FROM transcribe_jobs WHERE session_id LIKE 'many %'");
wait_asleep(50, 'fifty wait');
is_light('and hold nothing');
$faulty->release('slow');
is(join('', map { said($_) } @waiters), "CALL\n" x 50, 'and all are woken');

# On a standby one may wait for what the primary does.
$faulty->reset;
$node->backup('standby');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'standby', has_streaming => 1);
$standby->start;
$job = enqueue('slow', 'elsewhere');
$node->wait_for_catchup($standby);
(undef, undef, $error) = $standby->psql('postgres', "CALL transcribe_file('$wav')");
like($error, qr/cannot execute transcribe_enqueue\(\) during recovery/, 'a standby takes no jobs');
$waiter = start_waiting("CALL transcribe_wait($job)", node => $standby);
$standby->poll_query_until('postgres', $asleep, '1');
$faulty->release('slow');
is(said($waiter), "CALL\n", 'but one may wait there for those of the primary');
$standby->stop;

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process/, 'nothing crashed');
$node->stop;
$faulty->stop;
done_testing();
