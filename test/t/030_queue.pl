# From the commit of an enqueue to the commit of its result: nothing waits for
# anything it need not wait for, and nothing is held meanwhile.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('queue',
	max_prepared_transactions => 10,
	'transcribe.idle_timeout' => '1s',
	'transcribe.naptime' => '1s',
	'transcribe.notify' => 'all');
my $wav = "$audio/austen-0880.wav";

create_server($node, 'whisper', $faulty->url);

sub query { return $node->safe_psql('postgres', $_[0]) }
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'";

# Creating a server wakes nobody for long.
wait_for($node, $workers, '0', 'no worker stays where there is nothing to do');

# Rolled back: no row, nothing on the wire.
query("BEGIN; SELECT transcribe_enqueue('rolled back', '$wav'); ROLLBACK");
query("BEGIN; SAVEPOINT a; SELECT transcribe_enqueue('rolled back', '$wav'); ROLLBACK TO a;
	SELECT transcribe_enqueue('kept', '$wav'); COMMIT");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'kept'", 'completed',
	'what is committed runs');
is(query("SELECT count(*) FROM transcribe_jobs WHERE session_id = 'rolled back'"), '0',
	'what is rolled back leaves no row');
is(scalar($faulty->log), 1, 'and nothing went out for it');

# From a trigger.
query("CREATE TABLE sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), audio text);
	CREATE FUNCTION enqueue() RETURNS trigger LANGUAGE plpgsql AS
	\$\$ BEGIN PERFORM transcribe_enqueue(NEW.id, NEW.audio); RETURN NULL; END \$\$;
	CREATE TRIGGER enqueue AFTER INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION enqueue()");
query("INSERT INTO sessions (audio) VALUES ('$wav')");
wait_for($node,
	'SELECT count(*) FROM sessions s WHERE transcribe_result(s.id) IS NOT NULL', '1',
	'a trigger enqueues');

# A slow server holds up nobody.
create_server($node, 'slow', $faulty->url('gate=slow'));
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN transcribe');
my $begin = time;
my $slow = query("SELECT transcribe_enqueue('slow', '$wav', server => 'slow')");
cmp_ok(time - $begin, '<', 5, 'enqueueing waits for nobody');
$faulty->wait_for_calls(1, 'gate=slow');
query("SELECT transcribe_enqueue('fast' || n, '$wav') FROM generate_series(1, 2) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id LIKE 'fast%' AND status = 'completed'",
	'2', 'the fast ones complete');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $slow", 'transcribing',
	'while the slow one is still running');
is(query("SELECT status, percent BETWEEN 1 AND 99, message, chunk, chunks, since <= now() FROM transcribe_progress WHERE job_id = $slow"),
	'transcribing|t|waiting for the server|0|1|t', 'which transcribe_progress shows');
is(query($workers), '1', 'one worker carries all jobs of the database');
is(query("SELECT transcribe_enqueue('slow', '$wav')"), $slow, 'the same recording is not enqueued twice');
$faulty->release('slow');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $slow", 'completed', 'then it completes');
like($listener->query_safe('SELECT 1'),
	qr/"transcribe" with payload "\{"job_id": $slow, "status": "completed"\}"/,
	'who listens hears of it');
$listener->quit;

# Cancelling reaches a running request, and a late answer is discarded.
create_server($node, 'hanging', $faulty->url('hang'));
my $cancelled = query("SELECT transcribe_enqueue('cancelled', '$wav', server => 'hanging')");
$faulty->wait_for_calls(1, 'hang');
$begin = time;
is(query("SELECT transcribe_cancel($cancelled)"), 't', 'a running job is cancelled');
my $hung_up;
foreach my $try (1 .. 200)
{
	($hung_up) = grep { $_->{hung_up} } $faulty->log('hang');
	last if $hung_up;
	select(undef, undef, undef, 0.02);
}
ok($hung_up, 'its request ends');
is(query("SELECT status FROM transcribe_jobs WHERE id = $cancelled"), 'cancelled', 'it stays cancelled');
wait_for($node, "SELECT count(*) FROM transcribe_progress", '0', 'and is gone from the progress');
is(query("SELECT transcribe_retry($cancelled)"), 't', 'it can be queued again');
$faulty->wait_for_calls(2, 'hang');
query("SELECT transcribe_cancel($cancelled)");

# A job that is deleted is dropped.
my $deleted = query("SELECT transcribe_enqueue('deleted', '$wav', server => 'hanging')");
$faulty->wait_for_calls(3, 'hang');
query("DELETE FROM transcribe_jobs WHERE id = $deleted; ALTER SERVER hanging OPTIONS (ADD language 'en')");
wait_for($node, "SELECT count(*) FROM transcribe_progress", '0', 'a deleted job is dropped');

# Larger priority first: five jobs wait behind one that holds the server, two
# of them with their recordings read.
create_server($node, 'one', $faulty->url('gate=one'), max_requests => 1);
query("SELECT transcribe_enqueue('p0', '$wav', server => 'one')");
$faulty->wait_for_calls(1, 'gate=one');
query("SELECT transcribe_enqueue('p' || p, '$wav', server => 'one', priority => p,
		options => jsonb_build_object('prompt', 'p' || p)) FROM generate_series(1, 5) p");
wait_for($node, "SELECT count(*) FROM transcribe_progress WHERE message LIKE 'waiting for its turn%'", '2');
$faulty->release('one');
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'one' AND status = 'completed'", '6');
is(join(' ', map { $_->{fields}{prompt}[0] // 'p0' } $faulty->log('gate=one')),
	'p0 p5 p4 p3 p2 p1', 'larger priorities go first');
$begin = time;
query("SELECT transcribe_enqueue('later', '$wav', run_at => now() + '1500 ms')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'later'", 'completed');
cmp_ok(time - $begin, '>', 1.4, 'a job does not start before run_at');
is(query("SELECT started_at >= run_at FROM transcribe_jobs WHERE session_id = 'later'"), 't', 'nor by the clock of the server');

# The worker leaves, and a later job brings it back by its time alone.
query("SELECT transcribe_enqueue('much later', '$wav', run_at => now() + '4 s')");
wait_for($node, $workers, '0', 'an idle worker leaves');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'much later'", 'completed',
	'a due job brings one back');

# PREPARE TRANSACTION: COMMIT PREPARED calls nobody.
wait_for($node, $workers, '0');
query("BEGIN; SELECT transcribe_enqueue('prepared', '$wav'); PREPARE TRANSACTION 'p'");
query("COMMIT PREPARED 'p'");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'prepared'", 'completed',
	'a prepared transaction\'s job runs');

# A row that says it is the worker's, and that the worker knows nothing of, does
# not stand still.
create_server($node, 'witness', $faulty->url('gate=witness'));
my $witness = query("SELECT transcribe_enqueue('witness', '$wav', server => 'witness')");
$faulty->wait_for_calls(1, 'gate=witness');
query("UPDATE transcribe_jobs SET status = 'transcribing',
		claimed_by = (SELECT w.claimed_by FROM transcribe_jobs w WHERE w.id = $witness)
	WHERE session_id = 'prepared'");
query("SELECT transcribe_enqueue('nudge', '$wav')");
wait_for($node, "SELECT status, crashes FROM transcribe_jobs WHERE session_id = 'prepared'", 'completed|1',
	'a job that its worker has lost is taken up again');
$faulty->release('witness');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $witness", 'completed');

# A cancel of the worker's query ends nothing.
create_server($node, 'later', $faulty->url('gate=later'));
query("SELECT transcribe_enqueue('survivor', '$wav', server => 'later')");
$faulty->wait_for_calls(1, 'gate=later');
my $pid = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
query("SELECT pg_cancel_backend($pid)") foreach 1 .. 3;
$faulty->release('later');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'survivor'", 'completed',
	'a cancelled worker goes on');
is(query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'"), $pid, 'as the same process');

# A result that cannot be saved for a while is kept, and costs nothing.
create_server($node, 'locked', $faulty->url('gate=locked'));
query("SELECT transcribe_enqueue('locked', '$wav', server => 'locked')");
$faulty->wait_for_calls(1, 'gate=locked');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'locked'", 'transcribing');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE transcribe_chunks IN ACCESS EXCLUSIVE MODE');
$faulty->release('locked');
ok($node->wait_for_log(qr/canceling statement due to lock timeout/), 'a save that meets a lock gives up');
query("SELECT transcribe_enqueue('unlocked', '$wav')");
$holder->query_safe('COMMIT');
$holder->quit;
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id IN ('locked', 'unlocked') AND status = 'completed' AND attempts = 1",
	'2', 'and is made once the lock is gone');
is(scalar($faulty->log('gate=locked')), 1, 'without asking the server again');

# Answers that come together are saved together; one that cannot be is in no
# other's way.
create_server($node, 'batch', $faulty->url('gate=batch'));
query("SELECT transcribe_enqueue('batch ' || n, '$wav', server => 'batch') FROM generate_series(1, 6) n");
$faulty->wait_for_calls(6, 'gate=batch');
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'batch' AND status = 'transcribing'", '6');
my ($row_locked, $refused) =
  split /\n/, query("SELECT id FROM transcribe_jobs WHERE session_id IN ('batch 2', 'batch 4') ORDER BY id");
query("ALTER TABLE transcribe_chunks ADD CONSTRAINT refused CHECK (job_id <> $refused)");
$holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM transcribe_jobs WHERE id = $row_locked FOR UPDATE");
$faulty->release('batch');
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'batch' AND status = 'completed'", '4',
	'of six answers at once, four are saved');
is(query("SELECT string_agg(session_id || ' ' || status, ', ' ORDER BY id) FROM transcribe_jobs
	WHERE server = 'batch' AND status <> 'completed'"), 'batch 2 transcribing, batch 4 transcribing',
	'while one row is locked and one refused');
$holder->query_safe('COMMIT');
$holder->quit;
query("ALTER TABLE transcribe_chunks DROP CONSTRAINT refused");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'batch' AND status = 'completed' AND attempts = 1", '6',
	'and those two as soon as they can be');
is(query("SELECT count(*) FROM transcribe_live_segments WHERE session_id LIKE 'batch%'"),
	query("SELECT 6 * count(*) FROM transcribe_live_segments WHERE session_id = 'batch 1'"), 'each once');
is(scalar($faulty->log('gate=batch')), 6, 'and no server was asked again');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process|must not wait/, 'nothing went wrong');
$node->stop;
$faulty->stop;
done_testing();
