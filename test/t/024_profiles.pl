# What is sent to each kind of server, and models that give no times.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Encode qw(encode_utf8);
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('profiles');
my $wav = "$audio/austen-0880.wav";
my $talk = "$audio/talk.mp3";
my $serial = 0;

# Enqueue one job at a server of its own; wait until it has ended, or waits for
# another key; return its id.  %more are options of the server, but for path, options and scenario.
sub run_job
{
	my (%more) = @_;
	my $name = 'server' . ++$serial;
	my $scenario = (delete $more{scenario} // 'ok') . ",tag=$name";
	my $file = delete $more{file} // $wav;
	my $options = (delete $more{job_options} // '{}') =~ s/'/''/gr;
	my $key = delete $more{key};

	# So that no profile lets us wait for a minute.
	$more{requests_per_minute} //= 0;
	my $url = $faulty->url($scenario) . (delete $more{below} // '');

	create_server($node, $name, $url, retry_interval => '10ms', max_attempts => 2, %more);
	create_mapping($node, 'PUBLIC', $name, api_key => $key) if defined $key;
	my $id = $node->safe_psql('postgres',
		"SELECT transcribe_enqueue('$name', '$file', server => '$name', options => '$options')");
	wait_for($node,
		"SELECT status IN ('completed', 'failed') OR error_code = 'unauthorized' FROM transcribe_jobs WHERE id = $id");
	return $id;
}

# The calls of a job, oldest first.
sub calls
{
	my ($id) = @_;
	my $name = job($id, 'server');

	my @calls = sort { $a->{start} <=> $b->{start} }
	  grep { $_->{scenario} =~ /,tag=$name$/ } $faulty->log;

	return @calls;
}

sub job
{
	my ($id, $columns) = @_;
	return $node->safe_psql('postgres',
		"SELECT $columns FROM transcribe_jobs WHERE id = $id");
}

sub segments
{
	my ($id, $columns) = @_;
	return $node->safe_psql('postgres',
		"SELECT $columns FROM transcribe_segments WHERE job_id = $id");
}

# The fields of a call, without the model, as name=value.
sub fields
{
	my ($call) = @_;
	my $fields = $call->{fields};

	return join(' ', map { my $name = $_; map { "$name=$_" } @{ $fields->{$name} } }
		grep { $_ ne 'model' } sort keys %$fields);
}

# What each profile sends: path, query, fields, content type.
my %plain = (path => 'audio/transcriptions', query => '', type => 'audio/mpeg',
	fields => 'response_format=verbose_json timestamp_granularities[]=segment');
my %sends = (
	generic => {%plain},
	openai => {%plain},
	groq => {%plain},
	vllm => {%plain},
	localai => {%plain},
	azure => {
		%plain,
		path => 'openai/deployments/my%20whisper/audio/transcriptions',
		query => 'api-version=2025-03-01-preview' },
	speaches => {
		%plain,
		fields => 'response_format=verbose_json timestamp_granularities[]=segment without_timestamps=false' },
	'whisper.cpp' => {
		path => 'inference', query => '', type => 'audio/wav',
		fields => 'language=auto max_len=100000 no_language_probabilities=true response_format=verbose_json split_on_word=true timestamp_granularities[]=segment' });
foreach my $profile (sort keys %sends)
{
	my $id = run_job(profile => $profile, model => 'my whisper');
	my ($call) = calls($id);

	is(job($id, 'status, error'), 'completed|', "$profile: a job completes");
	is_deeply({ path => $call->{call} =~ s/ /%20/r, query => $call->{query},
			type => $call->{content_type}, fields => fields($call) },
		$sends{$profile}, "$profile: what is sent");
	is($call->{fields}{model}[0], 'my whisper', "$profile: with the model");
}

# Translations: at a path of their own, without a language, or by a field.
foreach my $profile ([ 'openai', 'audio/translations', 'response_format=verbose_json' ],
	[ 'localai', 'audio/transcriptions', 'language=de response_format=verbose_json translate=true' ],
	[ 'whisper.cpp', 'inference', 'language=de max_len=100000 no_language_probabilities=true response_format=verbose_json split_on_word=true translate=true' ])
{
	my ($name, $path, $fields) = @$profile;
	my ($call) = calls(run_job(profile => $name,
			job_options => '{"translate": true, "language": "de"}'));

	is("$call->{call} " . fields($call), "$path $fields", "$name: a translation");
}

# Options come before the profile; what is there already is not doubled.
my ($call) = calls(run_job(profile => 'azure', model => 'x', path => '/v9/{model}/{model}/asr',
		api_version => '2024-10-21', audio_format => 'flac'));
is("$call->{call}?$call->{query} $call->{content_type}", 'v9/x/x/asr?api-version=2024-10-21 audio/flac',
	'options come before what the profile says');
($call) = calls(run_job(profile => 'whisper.cpp', below => '/inference/', language => 'de'));
is("$call->{call} $call->{fields}{language}[0]", 'inference de', 'a path in the URL is not doubled');
($call) = calls(run_job(profile => 'azure', model => 'w', below => '/openai/deployments/w/audio/transcriptions'));
is($call->{call}, 'openai/deployments/w/audio/transcriptions', 'nor is a whole one');
my $id = run_job(profile => 'azure', model => 'w', job_options => '{"model": "a/b?c&ü"}');
($call) = calls($id);
is(encode_utf8($call->{call}), 'openai/deployments/a/b?c&ü/audio/transcriptions', 'the job\'s model is in the path');
is($call->{query}, 'api-version=2025-03-01-preview', 'and cannot leave it');
$id = run_job(profile => 'azure', model => 'w', job_options => '{"model": ".."}');
is(job($id, 'error_code') . scalar(calls($id)), 'bad_url0', 'nor go up in it');

# A path that needs a model, and none.
$node->safe_psql('postgres', "CREATE SERVER nameless FOREIGN DATA WRAPPER transcribe OPTIONS (profile 'azure', url '"
	  . $faulty->url('ok,tag=nameless') . "')");
$node->safe_psql('postgres', "SELECT transcribe_enqueue('nameless', '$wav', 'nameless')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE server = 'nameless'", 'failed');
is($node->safe_psql('postgres', "SELECT error_code, error FROM transcribe_jobs WHERE server = 'nameless'"),
	'bad_url|the path at server "nameless" needs a model, and neither the server nor the job names one',
	'a path that needs a model fails without one');

# Keys: in which header.
foreach my $case ([ 'azure', 'api-key=sk-azure' ], [ 'openai', 'key=sk-azure' ])
{
	my ($profile, $scenario) = @$case;

	is(job(run_job(profile => $profile, scenario => $scenario, key => 'sk-azure'), 'status'),
		'completed', "$profile: the key is in its header");
	is(job(run_job(profile => $profile, scenario => $scenario, key => 'sk-other'), 'error_code'),
		'unauthorized', "$profile: and it is the key");
}
is(job(run_job(profile => 'azure', auth_header => 'Authorization: Bearer', scenario => 'key=token', key => 'token'), 'status'),
	'completed', 'another header may be named');
is(scalar(grep { $_->{query} =~ /sk-/ || $_->{call} =~ /sk-/ } $faulty->log), 0, 'no key is in a URL');

# Limits: what is allowed in a minute goes out at once, and no more.
create_server($node, 'few', $faulty->url('ok,tag=few'), profile => 'azure');
$node->safe_psql('postgres', "SELECT transcribe_enqueue('few' || n, '$wav', 'few') FROM generate_series(1, 5) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'few' AND status = 'completed'", '3',
	'azure: three requests are sent');
is(scalar($faulty->log('ok,tag=few')), 3, 'azure: the others wait for the next minute');
$node->safe_psql('postgres', "SELECT transcribe_cancel(id) FROM transcribe_jobs WHERE server = 'few'");

# Further fields replace those of the profile, and ours.
($call) = calls(run_job(profile => 'speaches',
		extra_fields => '{"without_timestamps": true, "hotwords": "Jane \"Bennet\"", "temperature2": 0.50, "tags[]": ["a", 1, false]}'));
is(fields($call), 'hotwords=Jane "Bennet" response_format=verbose_json tags[]=a tags[]=1 tags[]=false temperature2=0.50 timestamp_granularities[]=segment without_timestamps=true',
	'further fields are sent as they are written');
($call) = calls(run_job(profile => 'whisper.cpp',
		extra_fields => '{"max_len": null, "split_on_word": [], "no_language_probabilities": null, "timestamp_granularities[]": null, "a": "1", "a": "2"}'));
is(fields($call), 'a=2 language=auto response_format=verbose_json', 'null keeps a field back');

# A prompt that the server would refuse.
my $prompt = join(' ', map { sprintf 'größe%04d', $_ } 1 .. 200);
($call) = calls(run_job(profile => 'groq', job_options => qq({"prompt": "$prompt"})));
my $sent = $call->{fields}{prompt}[0];
cmp_ok(length $sent, '<=', 896, 'a prompt is no longer than the server takes');
cmp_ok(length $sent, '>', 880, 'nor much shorter');
is(encode_utf8($sent), substr($prompt, -length encode_utf8($sent)), 'its end is sent');
like($sent, qr/^gr/, 'from a word on');
($call) = calls(run_job(job_options => qq({"prompt": "$prompt"})));
is(encode_utf8($call->{fields}{prompt}[0]), $prompt, 'elsewhere all of it is sent');

# Models that give no times: known ones are asked for json at once, and a
# chunk is short enough to be a segment.
my @model = ([ 'openai', 'gpt-4o-transcribe' ], [ 'openai', 'gpt-4o-mini-transcribe-2025-12-15' ],
	[ 'openai', 'gpt-transcribe' ], [ 'azure', 'gpt-4o-transcribe' ]);
foreach my $known (@model)
{
	my ($profile, $model) = @$known;
	my $id = run_job(profile => $profile, model => $model, scenario => 'json-only', file => $talk);
	my @calls = calls($id);

	is(job($id, 'status, attempts'), 'completed|1', "$model at $profile: completes");
	is(scalar(grep { $_->{status} != 200 } @calls), 0, "$model at $profile: nothing is refused");
	is(segments($id, "count(*) > 4, count(*) = " . @calls . ", max(end_s - start_s) <= 31"), 't|t|t',
		"$model at $profile: a segment for each chunk of half a minute");
}

# Their segments lie one after the other and account for the whole talk.
$id = run_job(profile => 'openai', model => 'gpt-4o-transcribe', scenario => 'text-only', file => $talk);
is($node->safe_psql('postgres',
		"SELECT min(start_s) < 1, max(end_s) > (SELECT duration_s - 2 FROM transcribe_jobs WHERE id = $id),
		 bool_and(start_s < end_s), sum(end_s - start_s) > 100
		 FROM transcribe_segments WHERE job_id = $id"),
	't|t|t|t', 'segments of text alone have the times of their chunks');
is($node->safe_psql('postgres',
		"SELECT count(*) FROM transcribe_segments a JOIN transcribe_segments b USING (job_id)
		 WHERE a.job_id = $id AND a.segment_no < b.segment_no AND a.end_s > b.start_s + 0.001"),
	'0', 'and do not overlap');
$id = run_job(profile => 'openai', model => 'gpt-4o-transcribe', scenario => 'text-only', file => $talk, chunk_seconds => 60);
cmp_ok(scalar(calls($id)), '<=', 4, 'chunk_seconds comes before that');
$id = run_job(profile => 'openai', model => 'whisper-1', file => $talk);
is(scalar(calls($id)), 1, 'other models of the profile get long chunks');
$id = run_job(response_format => 'json', scenario => 'text-only', file => $talk);
is(segments($id, 'count(*) > 4'), 't', 'a server that is asked for text alone gets short chunks');

# One that turns out to refuse times: the recording is cut again, at no cost.
$id = run_job(scenario => 'json-only', file => $talk);
is(job($id, 'status, attempts, error'), 'completed|1|', 'a model that refuses to give times is learnt');
is(scalar(grep { $_->{status} == 400 } calls($id)), 1, 'by one request that it refuses');
is(segments($id, 'count(*) > 4, max(end_s - start_s) <= 31'), 't|t', 'and the recording is cut shorter');

# One that just gives none: what was paid for is kept, the rest is cut shorter.
my $long = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/long.mp3';
append_to_file("$long.list", "file '$talk'\n" x 9);
system_or_bail('ffmpeg', '-nostdin', '-v', 'error', '-f', 'concat', '-safe', 0, '-i', "$long.list", '-c', 'copy', $long);
$id = run_job(scenario => 'text-only,seconds=4', file => $long);
is(job($id, 'status, attempts, error'), 'completed|1|', 'a model that gives no times is learnt, too');
is($node->safe_psql('postgres',
		"SELECT count(*) > 30, count(*) FILTER (WHERE audio_s > 30.01), bool_and(chunk_no = 0 OR audio_s <= 30.01)
		 FROM transcribe_chunks WHERE job_id = $id"),
	't|1|t', 'all but the chunk that was answered are short');
is(scalar(calls($id)), $node->safe_psql('postgres', "SELECT count(*) FROM transcribe_chunks WHERE job_id = $id"),
	'and none was sent twice');
is($node->safe_psql('postgres',
		"SELECT count(*) FROM (SELECT start_s - lag(end_s, 1, 0::float8) OVER (ORDER BY start_s) AS gap
		 FROM transcribe_chunks WHERE job_id = $id) g WHERE abs(gap) > 0.01"),
	'0', 'together they are the whole recording');
my $server = job($id, 'server');
$id = $node->safe_psql('postgres', "SELECT transcribe_enqueue('again', '$talk', server => '$server')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'completed');
is(segments($id, 'count(*) > 4'), 't', 'the next recording is cut right away');

# What the profile knows is of the model that the job asks for.
($call) = calls(run_job(profile => 'openai', model => 'whisper-1', scenario => 'json-only',
		job_options => '{"model": "gpt-4o-transcribe"}'));
is($call->{fields}{response_format}[0], 'json', 'what counts is the job\'s model');
($call) = calls(run_job(profile => 'openai', model => 'gpt-4o-transcribe-diarize', scenario => 'speaker', prompt => 'x'));
is(fields($call), 'chunking_strategy=auto response_format=diarized_json',
	'models that tell speakers apart have a format of their own');

$node->stop;
$faulty->stop;
done_testing();
