# What is sent to a server, and what becomes of its answers, good and bad.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Encode qw(encode_utf8);
use Test::More;
use Time::HiRes qw(time);

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('requests', 'transcribe.max_response' => '2MB');
my $wav = "$audio/austen-0880.wav";
my $serial = 0;

# Enqueue one job at a server of its own that plays a scenario; wait until it
# has ended; return its id.
sub run_scenario
{
	my ($scenario, %more) = @_;
	my $name = 'server' . ++$serial;
	my $options = delete $more{job_options} // '{}';

	create_server($node, $name, $faulty->url("$scenario,tag=$name"),
		retry_interval => '10ms', max_attempts => 3, %more);
	my $id = $node->safe_psql('postgres',
		"SELECT transcribe_enqueue('$name', '$wav', server => '$name', options => '$options')");
	wait_for($node,
		"SELECT status IN ('completed', 'failed') FROM transcribe_jobs WHERE id = $id");
	return $id;
}

sub calls
{
	my ($id) = @_;
	my $name = $node->safe_psql('postgres',
		"SELECT server FROM transcribe_jobs WHERE id = $id");

	return grep { $_->{scenario} =~ /,tag=$name$/ } $faulty->log;
}

sub job
{
	my ($id, $columns) = @_;
	return $node->safe_psql('postgres',
		"SELECT $columns FROM transcribe_jobs WHERE id = $id");
}

# Options reach the form, the job's before the server's.
my $id = run_scenario('ok', language => 'de', prompt => 'of the server',
	temperature => '0.1', model => 'base',
	job_options => '{"language": "en", "prompt": "Grüße", "temperature": 0.5, "words": true}');
my ($call) = calls($id);
is(job($id, 'status, attempts, language'), 'completed|1|english', 'a good answer completes the job');
is($call->{fields}{language}[0], 'en', 'the job\'s language');
is(encode_utf8($call->{fields}{prompt}[0]), 'Grüße', 'the job\'s prompt, in UTF-8');
is($call->{fields}{temperature}[0], '0.5', 'the job\'s temperature');
is($call->{fields}{model}[0], 'base', 'the server\'s model');
is_deeply($call->{fields}{'timestamp_granularities[]'}, [ 'segment', 'word' ],
	'words are asked for');
is($node->safe_psql('postgres',
		"SELECT bool_and(jsonb_array_length(words) > 0) FROM transcribe_segments WHERE job_id = $id"),
	't', 'and stand with their segments');
ok(!$call->{key}, 'no key goes out where there is none');

$id = run_scenario('ok', job_options => '{"translate": true, "language": "de", "model": "other"}');
($call) = calls($id);
is($call->{call}, 'audio/translations', 'a translation is asked for at its own path');
ok(!exists $call->{fields}{language}, 'without a language');
is($call->{fields}{model}[0], 'other', 'with the job\'s model');

# Each request is noted.
$id = run_scenario('status=500,times=1,header=x-request-id:req-7');
is($node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', attempt, chunk_no, server = 'server$serial', model, http_status, error_code), ', ' ORDER BY id)
	FROM transcribe_attempts WHERE job_id = $id"), '1 0 t whisper-1 500 server_error, 2 0 t whisper-1 200',
	'transcribe_attempts has the requests of a job');
is($node->safe_psql('postgres', "SELECT request_id, error, audio_s > 1, sent_bytes > 10000, elapsed_s > 0, started_at BETWEEN now() - interval '1 min' AND now()
	FROM transcribe_attempts WHERE job_id = $id ORDER BY id LIMIT 1"),
	'req-7|server answered with status 500: scripted status 500|t|t|t|t', 'with what was sent and said');

# Other formats of audio.
foreach my $format ([ 'flac', 'audio.flac', 'audio/flac' ], [ 'wav', 'audio.wav', 'audio/wav' ], [ 'opus', 'audio.ogg', 'audio/ogg' ])
{
	$id = run_scenario('ok', audio_format => $format->[0]);
	($call) = calls($id);
	is("$call->{file_name} $call->{content_type}", "$format->[1] $format->[2]",
		"$format->[0] goes out as such");
}

# Answers without segments become one.
foreach my $scenario ('text-only', 'plain')
{
	$id = run_scenario($scenario, response_format => $scenario eq 'plain' ? 'text' : 'json');
	is($node->safe_psql('postgres',
			"SELECT count(*), min(start_s) < 0.3, max(end_s) > 2.5, bool_and(text LIKE 'segment%') FROM transcribe_segments WHERE job_id = $id"),
		'1|t|t|t', "$scenario: one segment from begin to end");
}

# A model that gives nothing but json is asked for that, once it has said so.
$id = run_scenario('json-only');
is(job($id, 'status, attempts'), 'completed|1', 'a model that refuses verbose_json is asked for json');
is_deeply([ map { $_->{fields}{response_format}[0] } calls($id) ], [ 'verbose_json', 'json' ],
	'in the second request');
my $server = job($id, 'server');
$id = $node->safe_psql('postgres', "SELECT transcribe_enqueue('again', '$wav', server => '$server')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'completed');
is(scalar(calls($id)), 3, 'and then at once');
create_server($node, 'plain', $faulty->url('json-only,delay=0.3,tag=plain'));
$node->safe_psql('postgres',
	"SELECT transcribe_enqueue('plain' || n, '$wav', server => 'plain') FROM generate_series(1, 4) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'plain' AND status = 'completed' AND attempts = 1",
	'4', 'also where several requests were under way');

# A text in lines is one line.
$id = run_scenario('text-only,lines,seconds=5', response_format => 'json');
is($node->safe_psql('postgres', "SELECT text FROM transcribe_segments WHERE job_id = $id"),
	'segment 1 segment 2 segment 3', 'a text comes in one line');

# Words: where they are parts of words, and where nobody asked for them.
$id = run_scenario('tokens', job_options => '{"words": true}');
is($node->safe_psql('postgres', "SELECT string_agg(w ->> 'word', ' ') FROM transcribe_segments s, jsonb_array_elements(s.words) w WHERE job_id = $id AND segment_no = 1"),
	'segment 1', 'tokens become words');
is($node->safe_psql('postgres', "SELECT words -> 0 ->> 'end' = words -> 1 ->> 'start' FROM transcribe_segments WHERE job_id = $id AND segment_no = 1"),
	't', 'with the times of all their parts');
$id = run_scenario('tokens');
is($node->safe_psql('postgres', "SELECT count(words) FROM transcribe_segments WHERE job_id = $id"),
	'0', 'words that nobody asked for are not kept');

# Speakers.
$id = run_scenario('speaker');
is($node->safe_psql('postgres', "SELECT bool_and(speaker <> '') FROM transcribe_segments WHERE job_id = $id"),
	't', 'speakers are kept');

# Text that cannot be stored becomes text that can.
foreach my $scenario ('nul', 'bad-utf8')
{
	$id = run_scenario($scenario);
	is(job($id, 'status'), 'completed', "$scenario completes");
	is($node->safe_psql('postgres',
			"SELECT count(*) > 0 FROM transcribe_segments WHERE job_id = $id AND text LIKE '%' || U&'\\FFFD' || '%'"),
		't', "$scenario: what cannot be kept is marked");
}

# A database of another encoding: texts go out as UTF-8, and come back as far
# as the encoding goes.
$node->safe_psql('postgres', "CREATE DATABASE latin1 ENCODING LATIN1 LOCALE 'C' TEMPLATE template0");
$node->safe_psql('latin1', "CREATE EXTENSION transcribe; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe
	OPTIONS (url '" . $faulty->url('nul,language=français,tag=latin1') . "', model 'm', prompt 'of the server');
	SET client_encoding = 'UTF8';
	SELECT transcribe_enqueue('s', '$wav', options => '{\"prompt\": \"Grüße\"}')");
ok($node->poll_query_until('latin1', "SELECT status = 'completed' FROM transcribe_jobs"),
	'a LATIN1 database works');
($call) = grep { $_->{scenario} =~ /tag=latin1/ } $faulty->log;
is(encode_utf8($call->{fields}{prompt}[0]), 'Grüße', 'its prompt goes out in UTF-8');
is($node->safe_psql('latin1', "SET client_encoding = 'UTF8'; SELECT language FROM transcribe_jobs"), 'français',
	'the answer is converted');
is($node->safe_psql('latin1', "SELECT count(*) > 0 FROM transcribe_segments WHERE text LIKE '%?%'"), 't',
	'what the encoding lacks becomes a question mark');

# What passes is tried again.
foreach my $scenario ('status=500', 'status=502', 'status=503', 'status=408', 'status=409',
	'drop', 'cut', 'html', 'empty', 'truncated', 'garbage', 'deep')
{
	$id = run_scenario("$scenario,times=2");
	is(job($id, 'status, error'), 'completed|', "$scenario: the third try completes");
	is(scalar(calls($id)), 3, "$scenario: three calls");
}

# 429 is nobody's fault.
$id = run_scenario('status=429,times=5');
is(job($id, 'status, attempts'), 'completed|1', '429 is not charged');
is($node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE error_code = 'rate_limited' AND attempt = 1), count(*) FILTER (WHERE error_code IS NULL)
	FROM transcribe_attempts WHERE job_id = $id"), '5|1', 'each is noted as a request of one attempt');
my $begin = time;
$id = run_scenario('status=429,retry-after=1,times=1');
cmp_ok(time - $begin, '>', 1, 'Retry-After is waited for');
is(job($id, 'status'), 'completed', 'and then the job completes');

# It holds for all jobs of the server, and a short one ends no attempt: what
# was prepared is sent again.
create_server($node, 'busy', $faulty->url('status=429,retry-after=2,times=1,tag=busy'), max_requests => 1);
$node->safe_psql('postgres', "SELECT transcribe_enqueue('busy ' || n, '$wav', 'busy') FROM generate_series(1, 3) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'busy' AND status = 'completed'", '3',
	'jobs complete after a pause that their server has asked for');
my ($refused, @later) = sort { $a->{start} <=> $b->{start} } $faulty->log('status=429,retry-after=2,times=1,tag=busy');
is(scalar(@later), 3, 'one request was refused');
cmp_ok($later[0]{start} - $refused->{start}, '>', 1.9, 'and no job sent another before the pause was over');
is($node->safe_psql('postgres', "SELECT sum(attempts), count(error) FROM transcribe_jobs WHERE server = 'busy'"), '3|0',
	'no attempt was ended by it');
$id = run_scenario('status=503,retry-after=1,times=1', max_attempts => 1);
is(job($id, 'status, attempts'), 'completed|1', '503 with Retry-After is a pause as well');

# What does not pass is not tried again, and the server's words are told.
foreach my $refusal (
	[ 400, 'refused' ], [ 404, 'not_found_at_server' ], [ 413, 'too_large_for_server' ],
	[ 415, 'refused_audio' ], [ 422, 'refused' ])
{
	my ($status, $code) = @$refusal;

	$id = run_scenario("status=$status,message=because");
	is(job($id, 'status, attempts, error_code'), "failed|1|$code", "$status is final");
	like(job($id, 'error'), qr/status $status: because/, "$status: the server's own words");
	is(scalar(calls($id)), 1, "$status: one call");
}
$id = run_scenario('redirect');
is(job($id, 'status, error_code'), 'failed|bad_response', 'a redirect is not followed');

# At most max_attempts calls.
$id = run_scenario('status=500');
is(job($id, 'status, attempts, error_code'), 'failed|3|server_error', 'it fails after max_attempts');
is(scalar(calls($id)), 3, 'with as many calls');

# Bounded in size and time.
$id = run_scenario('endless');
is(job($id, 'status, error_code'), 'failed|response_too_large', 'an endless answer is cut off');
$id = run_scenario('hang', request_timeout => '300ms', timeout_factor => 0, max_attempts => 2);
is(job($id, 'status, attempts, error_code'), 'failed|2|timeout', 'a server that never answers is given up');
like(job($id, 'error'), qr/timeout after 0\.3/, 'the message says after how long');
$id = run_scenario('drip=1', request_timeout => '300ms', timeout_factor => 0, max_attempts => 1);
is(job($id, 'status, error_code'), 'failed|timeout', 'nor does one that drips get longer');
$id = run_scenario('hang', request_timeout => '200ms', timeout_factor => 0.2, max_attempts => 1);
my ($after) = job($id, 'error') =~ /timeout after ([\d.]+)/;
cmp_ok($after, '>=', 0.6, 'a request with three seconds of audio may take longer, by timeout_factor');
cmp_ok($after, '<', 5, 'but not for ever');

# Nobody there.
create_server($node, 'nobody', 'http://127.0.0.1:1/v1', retry_interval => '10ms', max_attempts => 2);
$id = $node->safe_psql('postgres', "SELECT transcribe_enqueue('nobody', '$wav', server => 'nobody')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'failed');
is(job($id, 'error_code, attempts'), 'could_not_connect|2', 'a server that is not there is tried again, then given up');
create_server($node, 'nowhere', 'http://no-such-host.invalid/v1', retry_interval => '10ms', max_attempts => 1);
$id = $node->safe_psql('postgres', "SELECT transcribe_enqueue('nowhere', '$wav', server => 'nowhere')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'failed');
is(job($id, 'error_code'), 'could_not_resolve', 'a host that does not exist says so');
is($node->safe_psql('postgres', "SELECT http_status IS NULL, error_code, sent_bytes FROM transcribe_attempts WHERE job_id = $id"),
	't|could_not_resolve|0', 'a request that got no answer is noted, too');

# A key does not leave this machine in clear text: nothing is sent at all.
create_server($node, 'elsewhere', 'http://192.0.2.1:9/v1', retry_interval => '10ms');
$node->safe_psql('postgres', "CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (api_key 'sk-clear')");
$id = $node->safe_psql('postgres', "SELECT transcribe_enqueue('elsewhere', '$wav', server => 'elsewhere')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'failed');
is(job($id, 'error_code, attempts'), 'insecure_key|1', 'a key is not sent over http to another machine');
like(job($id, 'error'), qr/host 192\.0\.2\.1 port 9 in clear text/, 'the message says where it would have gone');

# Keys: the owner's, else PUBLIC's; from a file, read when it is needed.
create_server($node, 'keyed', $faulty->url('key=sk-right'), max_attempts => 1);
sub keyed
{
	$id = $node->safe_psql('postgres', "SELECT transcribe_enqueue('keyed', '$wav', server => 'keyed')");
	wait_for($node, "SELECT status IN ('completed', 'failed') OR error IS NOT NULL FROM transcribe_jobs WHERE id = $id");
	return job($id, 'status, error_code');
}
is(keyed(), 'queued|key_missing', 'without a mapping the refusal says that there is no key');
my $waiting = $id;
create_mapping($node, 'PUBLIC', 'keyed', api_key => 'sk-right');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $waiting", 'completed',
	'what waited for a key goes on when there is one');
is(keyed(), 'completed|', 'PUBLIC\'s key is used');
create_mapping($node, 'CURRENT_USER', 'keyed', api_key => 'sk-wrong');
is(keyed(), 'queued|unauthorized', 'the owner\'s comes first');
$node->safe_psql('postgres', "SELECT transcribe_cancel($id)");
my $key_file = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/key';
append_to_file($key_file, "sk-right\n");
chmod 0644, $key_file;
$node->safe_psql('postgres', "ALTER USER MAPPING FOR CURRENT_USER SERVER keyed OPTIONS (DROP api_key, ADD api_key_file '$key_file')");
is(keyed(), 'queued|key_missing', 'a file that others may read holds no key');
chmod 0600, $key_file;
$node->safe_psql('postgres', "SELECT transcribe_resume_server('keyed')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'completed', 'one that only the server\'s user may read does');
unlink $key_file;
is(keyed(), 'queued|key_missing', 'one that is gone does not');
$node->safe_psql('postgres', "SELECT transcribe_cancel($id)");
is(scalar(grep { /sk-(right|wrong)/ && !/statement: / } split /\n/, slurp_file($node->logfile)), 0,
	'no key is in the log, but for the statements that set it');

# No faster than the server wants.
create_server($node, 'slow', $faulty->url('ok,tag=slow'), request_interval => '200ms');
$node->safe_psql('postgres',
	"SELECT transcribe_enqueue('slow' || n, '$wav', server => 'slow') FROM generate_series(1, 4) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'slow' AND status = 'completed'", '4');
my @starts = map { $_->{start} } $faulty->log('ok,tag=slow');
my $least = 1e9;
foreach my $n (1 .. $#starts)
{
	my $gap = $starts[$n] - $starts[ $n - 1 ];
	$least = $gap if $gap < $least;
}
cmp_ok($least, '>', 0.15, 'request_interval lies between starts');

# No more at once than it wants.
create_server($node, 'narrow', $faulty->url('gate=narrow'), max_requests => 2);
$node->safe_psql('postgres',
	"SELECT transcribe_enqueue('narrow' || n, '$wav', server => 'narrow') FROM generate_series(1, 5) n");
$faulty->wait_for_calls(2, 'gate=narrow');
wait_for($node, "SELECT count(*) FROM transcribe_progress WHERE message LIKE 'waiting for its turn%'", '2',
	'those that are ready, as many as are read at a time, wait for their turn');
is(scalar($faulty->log('gate=narrow')), 2, 'max_requests are under way');
$faulty->release('narrow');
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'narrow' AND status = 'completed'", '5',
	'and all complete');

is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker' AND datname = 'postgres'"),
	'1', 'one worker did all that');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process/, 'nothing crashed');

$node->stop;
$faulty->stop;
done_testing();
