
# An interrupted job goes on with what is not saved, and with nothing else,
# even if the server's options have changed meanwhile; of another recording it
# starts over.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('resume', restart_after_crash => 'on');
my $dir = PostgreSQL::Test::Utils::tempdir_short();

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# Something of the chunks of a session's job.
sub chunks
{
	my ($session, $columns) = @_;

	return query("SELECT $columns FROM transcribe_chunks c
		JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = '$session'");
}

# Start a job of several chunks, one after the other, let the cluster crash
# when some of them are saved, and start it without workers.
sub interrupt
{
	my ($session, %options) = @_;

	system_or_bail('cp', "$audio/talk.mp3", "$dir/$session.mp3");
	create_server($node, $session, $faulty->url("ok,tag=$session"),
		chunk_seconds => 20, max_requests => 1, request_interval => '300ms', %options);
	query("SELECT transcribe_enqueue('$session', '$dir/$session.mp3', server => '$session')");
	wait_for($node, "SELECT count(*) >= 3 FROM transcribe_chunks c
		JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = '$session'");
	$node->stop('immediate');
	$node->append_conf('postgresql.conf', 'transcribe.max_workers = 0');
	$node->start;
	query("UPDATE transcribe_jobs SET crashes = 0");
	return;
}

sub go_on
{
	my ($session) = @_;

	$node->append_conf('postgresql.conf', 'transcribe.max_workers = 4');
	$node->restart;
	return wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$session'",
		'completed', "$session: it completes");
}

# Whether the chunks follow upon each other without a hole or an overlap.
my $contiguous = "bool_and(abs(start_s - before) < 0.001) FROM (SELECT start_s,
	lag(end_s, 1, 0::float8) OVER (PARTITION BY c.channel ORDER BY c.start_s) AS before";

# The server's chunks become shorter, and of what was saved the beginning is
# lost: what is left stays, and the rest is cut anew around it.
interrupt('shorter');
query("ALTER SERVER shorter OPTIONS (SET chunk_seconds '7', SET request_interval '0')");
query("DELETE FROM transcribe_chunk_segments WHERE chunk_no = 0");
query("DELETE FROM transcribe_chunks WHERE chunk_no = 0");
my $saved = chunks('shorter', 'count(*)');
my $calls = scalar($faulty->log('ok,tag=shorter'));
query("CREATE TABLE kept AS SELECT * FROM transcribe_chunks");
go_on('shorter');
is(query("SELECT count(*) FROM kept JOIN transcribe_chunks c USING (job_id, chunk_no, start_s, end_s, plan, saved_at)"),
	$saved, 'what was saved stays');
is(query("SELECT $contiguous FROM transcribe_chunks c) s"), 't',
	'all chunks account for all of the recording, once');
cmp_ok(query("SELECT max(audio_s) FROM transcribe_chunks c WHERE NOT EXISTS (SELECT FROM kept k WHERE k.chunk_no = c.chunk_no)"),
	'<=', 7, 'what is cut now is cut by the new options');
is(scalar($faulty->log('ok,tag=shorter')) - $calls, chunks('shorter', 'count(*)') - $saved,
	'only what was not saved is sent');
is(query("SELECT bool_and(start_s >= before) FROM (SELECT start_s, lag(start_s, 1, 0::float8) OVER (ORDER BY segment_no) AS before
	FROM transcribe_segments WHERE session_id = 'shorter') s"),
	't', 'segments are in the order of the recording');
is(query("SELECT abs(j.speech_s - (SELECT sum(audio_s) FROM transcribe_chunks)) < 0.001 AND j.loudness_lufs < -10
	FROM transcribe_jobs j WHERE session_id = 'shorter'"),
	't', 'the row tells of all chunks');

# All was saved but for the end of the job.
interrupt('finished');
query("UPDATE transcribe_chunks c SET end_s = 10000 FROM transcribe_jobs j
	WHERE j.id = c.job_id AND j.session_id = 'finished' AND c.chunk_no = 2");
$calls = scalar($faulty->log('ok,tag=finished'));
go_on('finished');
is(scalar($faulty->log('ok,tag=finished')), $calls, 'nothing is sent if all is saved');

# Channels apart: each goes on by itself.
system_or_bail('ffmpeg', '-v', 'error', '-i', "$audio/talk.mp3",
	'-af', 'asplit[a][b];[b]adelay=4s:all=1[c];[a][c]join=inputs=2:channel_layout=stereo',
	"$dir/stereo.wav");
create_server($node, 'stereo', $faulty->url('ok,tag=stereo'), chunk_seconds => 20,
	max_requests => 1, request_interval => '300ms', channels => 'split');
query("SELECT transcribe_enqueue('stereo', '$dir/stereo.wav', server => 'stereo')");
wait_for($node, "SELECT count(*) >= 3 FROM transcribe_chunks WHERE channel IS NOT NULL");
$node->stop('immediate');
$node->start;
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'stereo'", 'completed',
	'channels: it completes');
cmp_ok(scalar($faulty->log('ok,tag=stereo')), '<=', chunks('stereo', 'count(*)') + 1,
	'channels: only what was not saved is sent');
is(query("SELECT $contiguous FROM transcribe_chunks c WHERE channel IS NOT NULL) s"), 't',
	'channels: each is whole');

# The file is another one.
interrupt('changed');
system_or_bail('cp', "$audio/talk.mp3", "$dir/changed.mp3");
my $before = chunks('changed', 'min(plan)');
go_on('changed');
is(chunks('changed', 'count(DISTINCT plan)'), '1', 'another file starts over');
isnt(chunks('changed', 'min(plan)'), $before, 'by a plan of its own');
is(chunks('changed', 'min(chunk_no)'), '0', 'from the first chunk');

# An option that the text depends on is another one: of the server, too.
foreach my $change (
	[ 'model', "ALTER SERVER model OPTIONS (SET model 'other')" ],
	[ 'prompt', "ALTER SERVER prompt OPTIONS (ADD prompt 'names')" ],
	[ 'words', "UPDATE transcribe_jobs SET options = '{\"words\": true}' WHERE session_id = 'words'" ])
{
	my ($name, $sql) = @$change;

	interrupt($name);
	query($sql);
	$calls = scalar($faulty->log("ok,tag=$name"));
	go_on($name);
	is(scalar($faulty->log("ok,tag=$name")) - $calls, chunks($name, 'count(*)'),
		"another $name starts over");
	is(chunks($name, 'count(DISTINCT plan)'), '1', "$name: by one plan");
}

# The job goes to another server by now: what the first has made stays, as long
# as that has its options.
foreach my $stays (1, 0)
{
	my $name = $stays ? 'moves' : 'stale';

	interrupt($name);
	create_server($node, "${name}_to", $faulty->url("ok,tag=${name}_to"), chunk_seconds => 20, model => 'other');
	query("UPDATE transcribe_jobs SET server = '${name}_to' WHERE session_id = '$name'");
	query("ALTER SERVER $name OPTIONS (SET model 'another')") if !$stays;
	$saved = chunks($name, 'count(*)');
	go_on($name);
	is(scalar($faulty->log("ok,tag=${name}_to")), chunks($name, 'count(*)') - ($stays ? $saved : 0),
		$stays ? 'at another server only what was not saved is sent' :
		  'unless the first server has other options by now');
	is(chunks($name, "string_agg(DISTINCT c.server, ' ' ORDER BY c.server)"),
		$stays ? 'moves moves_to' : 'stale_to', 'each chunk says which server made it');
}

# Three hours, interrupted in every way there is: at the end each chunk has been
# answered once, but for those that were under way.
my $hours = "$dir/hours.mp3";
system_or_bail('ffmpeg', '-nostdin', '-v', 'error', '-stream_loop', '80', '-i', "$audio/talk.mp3",
	'-t', '10800', '-c', 'copy', $hours);
my $scenario = 'seconds=600,delay=0.2,tag=hours';
create_server($node, 'hours', $faulty->url($scenario), chunk_seconds => 600, max_requests => 2,
	request_interval => '300ms', retry_interval => '100ms', max_attempts => 1000);
my $id = query("SELECT transcribe_enqueue('hours', '$hours', server => 'hours')");

# Wait for so many saved chunks; returns how many there are.
sub saved_chunks
{
	my ($least) = @_;

	wait_for($node, "SELECT count(*) >= $least FROM transcribe_chunks WHERE job_id = $id");
	return chunks('hours', 'count(*)');
}

saved_chunks(5);
$node->stop('fast');
$node->start;
saved_chunks(10);
my $worker = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
kill 'KILL', $worker;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker"),
	'the cluster restarts after a worker was killed');
saved_chunks(16);
my $port = $faulty->port;
my $outage = grep { $_->{status} } $faulty->log($scenario);
$faulty->stop;
wait_for($node, "SELECT attempts > 0 AND error_code IN ('could_not_connect', 'connection_lost') FROM transcribe_jobs WHERE id = $id",
	't', 'then the server is gone');
$saved = chunks('hours', 'count(*)');
$faulty = start_faulty('--port', $port);
wait_for($node, "SELECT status, crashes FROM transcribe_jobs WHERE id = $id", 'completed|1', 'three hours complete');
my $chunks = chunks('hours', 'count(*)');
is(scalar($faulty->log($scenario)), $chunks - $saved, 'after the outage only what was not saved is sent');
cmp_ok($outage, '<=', $saved + 2 * 3, 'before it no more than was under way is sent again');
is(query("SELECT $contiguous FROM transcribe_chunks c WHERE job_id = $id) s"), 't', 'three hours are whole');

$node->stop;
$faulty->stop;
done_testing();
