# Recordings that stand in the database: bytes and large objects are transcribed
# as files are, by roles that may read no file, and nothing of them is left where
# it does not belong.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $transcripts = transcripts();
my $whisper = start_whisper();
my $faulty = start_faulty();
my $node = start_cluster('stored', restart_after_crash => 'on', 'transcribe.idle_timeout' => '1min');
my $wav = "$audio/austen-0880.wav";

sub query { return $node->safe_psql('postgres', $_[0]) }

# Files of recordings that have a name.
sub temporary_files { return glob($node->data_dir . '/base/pgsql_tmp/*') }

# Enqueue the bytes of a file; returns the job's id.
sub enqueue_bytes
{
	my ($session, $file, $server) = @_;
	return query("SELECT transcribe_enqueue('$session', pg_read_binary_file('$file'), server => '$server')");
}

# Real speech, a real Whisper, and a role that may read no file.
create_server($node, 'whisper', $whisper->url, model => 'tiny.en', request_timeout => '10min');
create_server($node, 'faulty', $faulty->url);
my ($number) = split /\n/, query("CREATE ROLE app; GRANT USAGE ON FOREIGN SERVER whisper TO app;
	CREATE TABLE uploads (id int, audio bytea, object oid);
	GRANT ALL ON uploads TO app;
	INSERT INTO uploads VALUES (1, pg_read_binary_file('$wav'), lo_import('$audio/austen-0870.mp3'));
	DO \$\$ BEGIN EXECUTE 'ALTER LARGE OBJECT ' || (SELECT object FROM uploads) || ' OWNER TO app'; END \$\$;
	SELECT object FROM uploads");
query("SET ROLE app; SELECT transcribe_enqueue('bytes', audio), transcribe_enqueue('object', object) FROM uploads");
wait_for($node, "SELECT bool_and(status = 'completed') FROM transcribe_jobs", 't',
	'bytes and a large object are transcribed');
foreach my $job ([ 'bytes', 'austen-0880.wav' ], [ 'object', 'austen-0870.mp3' ])
{
	my ($session, $file) = @$job;
	my $said = query("SELECT transcribe_result('$session') ->> 'full_text'");
	my $rate = word_error_rate($transcripts->{$file}, $said);

	cmp_ok($rate, '<', 0.5, "$session: the words are those of $file ($rate)") or diag($said);
}
wait_for($node, 'SELECT count(*) FROM transcribe_recordings', '0', 'bytes go when their job has completed');
is(query("SELECT count(*) FROM pg_largeobject_metadata"), '1', 'a large object is its owner\'s, and stays');
is(scalar(() = temporary_files()), 0, 'no temporary file is left');

# The session's next recording of the same bytes replaces it.
enqueue_bytes('again', $wav, 'faulty');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'again'", 'completed');
enqueue_bytes('again', $wav, 'faulty');
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id = 'again' AND status = 'completed'", '2');
is(query("SELECT count(*) FROM transcribe_jobs WHERE session_id = 'again' AND replaced_by IS NULL"), '1',
	'the same bytes again replace the older result');

# What happens to a large object before its job runs.
sub held
{
	my ($session, $change) = @_;

	my $object = query("SELECT lo_import('$wav')");
	query("SELECT transcribe_hold_server('whisper'); ALTER LARGE OBJECT $object OWNER TO app;
		SET ROLE app; SELECT transcribe_enqueue('$session', $object); RESET ROLE;
		$change $object" . ($change =~ /\($/ ? ')' : ' OWNER TO postgres'));
	query("SELECT transcribe_resume_server('whisper')");
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$session'", 'failed');
	return query("SELECT error_code, replace(error, '$object', 'N'), attempts FROM transcribe_jobs WHERE session_id = '$session'");
}
is(held('unlinked', 'SELECT lo_unlink('), 'not_found|large object N does not exist any more|1',
	'one that is gone fails its job');
is(held('taken away', 'ALTER LARGE OBJECT'), 'permission_denied|role "app" may not read large object N|1',
	'so does one that its owner may not read any more');

# What is no recording, and what is too large by now.
my $text = query("SELECT transcribe_enqueue('text', 'no audio'::bytea, server => 'faulty')");
wait_for($node, "SELECT status, error_code FROM transcribe_jobs WHERE id = $text", 'failed|not_audio', 'bytes that are no recording');
is(query("SELECT count(*) FROM transcribe_recordings WHERE job_id = $text"), '1', 'they stay for a retry');
is(query("SELECT transcribe_retry($text)"), 't');
wait_for($node, "SELECT status, attempts FROM transcribe_jobs WHERE id = $text", 'failed|1');
query("SELECT transcribe_delete($text)");
is(query("SELECT count(*) FROM transcribe_recordings"), '0', 'and go with the job');
query("SELECT transcribe_hold_server('faulty')");
my $large = query("SELECT transcribe_enqueue('large', pg_read_binary_file('$wav') || convert_to(repeat('x', 1048576), 'UTF8'), server => 'faulty')");
$node->append_conf('postgresql.conf', 'transcribe.max_file_size = 1');
$node->reload;
isnt($node->psql('postgres', "SELECT transcribe_enqueue('larger', convert_to(repeat('x', 1048577), 'UTF8'))"), 0, 'there is a limit');
query("SELECT transcribe_resume_server('faulty')");
wait_for($node, "SELECT status, error_code FROM transcribe_jobs WHERE id = $large", 'failed|file_too_large', 'that counts when it runs, too');
$node->append_conf('postgresql.conf', 'transcribe.max_file_size = 4096');
$node->reload;

# An attempt that is cut short by a crash goes on with what is not saved.
create_server($node, 'slow', $faulty->url('ok,tag=slow'),
	chunk_seconds => 20, max_requests => 1, request_interval => '300ms');
my %talks = (talk => "pg_read_binary_file('$audio/talk.mp3')", 'talk object' => "lo_import('$audio/talk.mp3')");
foreach my $talk (sort keys %talks)
{
	my $id = query("SELECT transcribe_enqueue('$talk', $talks{$talk}, server => 'slow')");

	wait_for($node, "SELECT count(*) >= 3 FROM transcribe_chunks WHERE job_id = $id");
	is(scalar(() = temporary_files()), 0, "$talk: once it is open, its file has no name");
	$node->stop('immediate');
	$node->start;
	wait_for($node, "SELECT status, crashes FROM transcribe_jobs WHERE id = $id", 'completed|1', "$talk: it completes after a crash");
	cmp_ok(query("SELECT count(*) - (SELECT count(*) FROM transcribe_chunks WHERE job_id = $id) FROM transcribe_attempts WHERE job_id = $id"),
		'<=', 1, "$talk: what was saved was not sent again");
}
# Other bytes in the same large object start it over.
my $changed = query("SELECT lo_import('$audio/talk.mp3')");
my $over = query("SELECT transcribe_enqueue('changed', $changed, server => 'slow')");
wait_for($node, "SELECT count(*) >= 3 FROM transcribe_chunks WHERE job_id = $over");
query("SELECT transcribe_hold_server('slow')");
$node->restart;
query("SELECT lo_put($changed, 0, pg_read_binary_file('$audio/austen-0870.mp3')), lo_truncate(lo_open($changed, 131072), length(pg_read_binary_file('$audio/austen-0870.mp3')));
	SELECT transcribe_resume_server('slow')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $over", 'completed');
cmp_ok(query("SELECT max(end_s) FROM transcribe_chunks WHERE job_id = $over"), '<', 20, 'a large object that was changed starts over');

# A cancelled job's bytes stay for a retry.
create_server($node, 'hanging', $faulty->url('hang'));
my $cancelled = enqueue_bytes('cancelled', $wav, 'hanging');
$faulty->wait_for_calls(1, 'hang');
query("SELECT transcribe_cancel($cancelled)");
query("ALTER SERVER hanging OPTIONS (SET url '" . $faulty->url('ok') . "')");
query("SELECT transcribe_retry($cancelled)");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $cancelled", 'completed', 'a cancelled job can be retried');

# A job that is cancelled while its recording is brought leaves no file.
SKIP:
{
	skip 'this build has no failpoints' if !has_failpoints();

	arm($node, 'piece_brought', 'stop');
	my $id = enqueue_bytes('half', $wav, 'faulty');
	my @stopped;
	ok(wait_until(sub { @stopped = grep { $_->{state} eq 'T' } processes_of(postmaster_pid($node)) }), 'the worker stands still');
	is(scalar(() = temporary_files()), 1, 'there is a temporary file');
	query("SELECT transcribe_cancel($id)");
	kill 'CONT', $stopped[0]{pid};
	ok(wait_until(sub { !temporary_files() }), 'which goes when the job is cancelled');
	query("SELECT transcribe_delete($id)");
}

# More recordings than may be read at once, of many pieces, between small ones.
query("ALTER SYSTEM SET transcribe.media_processes = 2; SELECT pg_reload_conf()");
query("CREATE TABLE wide AS SELECT n, pg_read_binary_file('$wav') || decode(repeat('00', 6000000), 'hex') AS audio FROM generate_series(1, 4) n");
query("SELECT transcribe_enqueue('wide ' || n, audio, server => 'faulty') FROM wide;
	SELECT transcribe_enqueue('small ' || n, '$wav', server => 'faulty') FROM generate_series(1, 4) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id ~ '^(wide|small)' AND status = 'completed'", '8', 'all complete');
wait_for($node, 'SELECT count(DISTINCT job_id) FROM transcribe_recordings', '1', 'and only what has failed keeps its bytes');

# A dump takes bytes along, and a copy can use them.
query("SELECT transcribe_delete($large); ALTER SERVER faulty OPTIONS (ADD retry_interval '10ms', ADD max_attempts '1000');
	SELECT transcribe_hold_server('faulty')");
my $dumped = enqueue_bytes('dumped', $wav, 'faulty');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '--format=custom', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
query('CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
$node->safe_psql('copy', "SELECT transcribe_adopt(); SELECT transcribe_resume_server('faulty')");
ok($node->poll_query_until('copy', "SELECT status = 'completed' FROM transcribe_jobs WHERE id = $dumped"), 'a restored job has its bytes');

# No room for a temporary file: it is tried again, like all that is no fault of
# the recording.
query("ALTER SYSTEM SET temp_file_limit = '64kB'; SELECT pg_reload_conf()");
query("SELECT transcribe_resume_server('faulty')");
wait_for($node, "SELECT attempts > 0 AND error_code IN ('internal_error', 'io_error') FROM transcribe_jobs WHERE id = $dumped", 't', 'no room: it fails for now');
query("ALTER SYSTEM RESET temp_file_limit; SELECT pg_reload_conf()");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $dumped", 'completed', 'and completes when there is some');

wait_for($node, 'SELECT count(*) FROM transcribe_recordings', '0', 'nothing is left in the table');
is(scalar(() = temporary_files()), 0, 'nor in files');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|WARNING: .* leak/, 'no panic, no failed assertion, no leak');

$node->stop;
done_testing();
