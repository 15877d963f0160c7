
# Long recordings: their chunks are under way together, and their text comes
# together again, whole and in order.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('long');
my $wav = "$audio/austen-0880.wav";
my $talk = "$audio/talk.mp3";

sub query { return $node->safe_psql('postgres', $_[0]) }

# Enqueue a recording at a server that has the session's name.
sub enqueue
{
	my ($session, $path) = @_;
	return query("SELECT transcribe_enqueue('$session', '$path', server => '$session')");
}

# Whether the chunks of a job account for all of the recording, once, and each
# segment lies in its chunk, in the order of the recording.
sub is_whole
{
	my ($id, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(query("SELECT bool_and(abs(start_s - before) < 0.001) FROM (SELECT start_s,
			lag(end_s, 1, 0::float8) OVER (ORDER BY start_s) AS before FROM transcribe_chunks WHERE job_id = $id) c"),
		't', "$name: the chunks follow upon each other");
	is(query("SELECT count(*) = max(segment_no) AND bool_and(start_s >= before AND end_s >= start_s)
			FROM (SELECT *, lag(end_s, 1, 0::float8) OVER (ORDER BY segment_no) - 0.001 AS before
				FROM transcribe_segments WHERE job_id = $id) s"),
		't', "$name: the segments are numbered in order, and none overlaps another");
	is(query("SELECT count(*) FROM transcribe_chunk_segments s JOIN transcribe_chunks c USING (job_id, chunk_no)
			WHERE job_id = $id AND NOT (s.start_s >= c.start_s AND s.end_s <= c.end_s + 0.001)"),
		'0', "$name: each lies in its chunk");
	return;
}

# As many chunks are under way as the server allows, and one is ahead.
create_server($node, 'wide', $faulty->url('gate=wide'), chunk_seconds => 10, max_requests => 4);
my $id = enqueue('wide', $talk);
ok($faulty->wait_for_calls(4, 'gate=wide'), 'four chunks of one recording are under way');
wait_for($node, "SELECT chunks FROM transcribe_progress WHERE job_id = $id", '5', 'a fifth waits');
is(scalar($faulty->log('gate=wide')), 4, 'the server is asked for no more than it allows');
$faulty->release('wide');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'completed', 'it completes');
is(scalar($faulty->log('gate=wide')), query("SELECT count(*) FROM transcribe_chunks WHERE job_id = $id"),
	'with one request for each chunk');
is_whole($id, 'at the same time');

# The first answer comes last.
create_server($node, 'late', $faulty->url('gate=late,times=1'), chunk_seconds => 10, max_requests => 4);
$id = enqueue('late', $talk);
wait_for($node, "SELECT count(*) > 5 AND min(start_s) > 1 FROM transcribe_live_segments WHERE job_id = $id", 't',
	'what was answered is saved, whatever came before it');
is(query("SELECT count(*) FROM transcribe_chunks WHERE job_id = $id AND chunk_no = 0"), '0', 'but for the first chunk');
$faulty->release('late');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'completed', 'and with that it completes');
is_whole($id, 'out of order');

# A long recording takes no more of a server than others leave to it.
create_server($node, 'shared', $faulty->url('gate=shared'), chunk_seconds => 10, max_requests => 2);
$id = enqueue('shared', $talk);
$faulty->wait_for_calls(2, 'gate=shared');
my $job = "server => 'shared', options => jsonb_build_object('prompt', s))";
query("SELECT transcribe_enqueue(s, '$wav', $job FROM unnest(ARRAY['short']) s");
query("SELECT transcribe_enqueue(s, '$wav', priority => 1, $job FROM unnest(ARRAY['urgent']) s");
wait_for($node, "SELECT count(*) FROM transcribe_progress WHERE session_id <> 'shared' AND message LIKE 'waiting for its turn%'",
	'2', 'others wait for their turn');
$faulty->release('shared');
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'shared' AND status = 'completed'", '3');
is(join(', ', map { $_->{fields}{prompt}[0] // 'long' } ($faulty->log('gate=shared'))[ 2 .. 3 ]),
	'urgent, short', 'which comes before the other chunks of a long recording, the larger priority first');

# Wherever a recording is cut, each segment is there once, in order: the server
# numbers those of a chunk from 1, and lets the last one go on behind its end.
my $pauses = PostgreSQL::Test::Utils::tempdir_short() . '/pauses.wav';
system_or_bail('ffmpeg', '-nostdin', '-v', 'error', '-stream_loop', '4', '-i', "$audio/silence-inside.wav",
	'-c', 'copy', $pauses);
srand(7);
foreach my $round (1 .. 4)
{
	my $seconds = 5 + int(rand(25));
	my $name = "seams$round";

	create_server($node, $name, $faulty->url("overrun=17,tag=$name"), chunk_seconds => $seconds, max_requests => 3);
	$id = enqueue($name, $round % 2 ? $talk : $pauses);
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'completed');
	is_whole($id, "chunks of $seconds s");
	is(query("SELECT count(*) FILTER (WHERE n NOT IN (1, before + 1)),
			count(*) FILTER (WHERE n = 1) - (SELECT count(*) FROM transcribe_chunks WHERE job_id = $id)
		FROM (SELECT n, lag(n, 1, 0) OVER (ORDER BY segment_no) AS before
			FROM (SELECT segment_no, substr(text, 9)::int AS n FROM transcribe_segments WHERE job_id = $id) s) s"),
		'0|0', "chunks of $seconds s: no segment is lost, doubled or out of order");
}

# A server that takes less than its options promise: what it accepts it hears
# once, and what it refuses is cut smaller.
sub cut_smaller
{
	my ($scenario, $path, %options) = @_;
	my $name = 'server' . query('SELECT count(*) FROM pg_foreign_server');

	create_server($node, $name, $faulty->url("$scenario,tag=$name"), max_attempts => 1, %options);
	$id = enqueue($name, $path);
	wait_for($node, "SELECT status IN ('completed', 'failed') FROM transcribe_jobs WHERE id = $id");
	my @calls = $faulty->log("$scenario,tag=$name");
	return $name, [ grep { $_->{status} == 200 } @calls ], [ grep { $_->{status} != 200 } @calls ];
}
foreach my $case (
	[ 'max-seconds=20', 20, 2 ],
	# The first chunk has half a minute.
	[ 'max-seconds=35', 35, 2 ],
	[ 'max-bytes=200000', 25, 2 ],
	# No number is named: half, and half again.
	[ 'status=413,times=2', 60, 1 ])
{
	my ($scenario, $most, $requests) = @$case;
	my ($name, $accepted, $refused) = cut_smaller($scenario, $talk, max_requests => $requests, chunk_seconds => 60);

	is(query("SELECT status, attempts, crashes FROM transcribe_jobs WHERE id = $id"), 'completed|1|0',
		"$scenario: it completes, in one attempt");
	is(scalar(@$accepted), query("SELECT count(*) FROM transcribe_chunks WHERE job_id = $id"),
		"$scenario: each piece is sent once, with success");
	cmp_ok(scalar(@$refused), '<=', 3, "$scenario: few are refused");
	cmp_ok(scalar(@$refused), '>', 0, "$scenario: but some are");
	cmp_ok(query("SELECT max(audio_s) FROM transcribe_chunks WHERE job_id = $id"), '<=', $most,
		"$scenario: chunks are as small as they must be");
	is_whole($id, $scenario);

	# The next job knows.
	next if $scenario =~ /times/;
	my $next = query("SELECT transcribe_enqueue('again', '$talk', server => '$name')");
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $next", 'completed');
	is(scalar(grep { $_->{status} != 200 } $faulty->log("$scenario,tag=$name")), scalar(@$refused),
		"$scenario: the next job is cut smaller at once");
}

# The smallest chunk is refused: nothing would help.
my ($name, $accepted, $refused) = cut_smaller('status=413,message=because', $talk, chunk_seconds => 20);
is(query("SELECT status, attempts, error_code, error LIKE '%413: because%' FROM transcribe_jobs WHERE id = $id"),
	'failed|1|too_large_for_server|t', 'a server that takes nothing at all fails the job');
cmp_ok(scalar(@$refused), '<', 20, 'after a few tries');

$node->stop;
$faulty->stop;
done_testing();
