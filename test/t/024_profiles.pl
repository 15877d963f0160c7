# What is sent to each kind of server.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Encode qw(encode_utf8);
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('profiles');
my $wav = "$audio/austen-0880.wav";
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
		fields => 'language=auto max_len=100000 response_format=verbose_json split_on_word=true timestamp_granularities[]=segment' });
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
	[ 'whisper.cpp', 'inference', 'language=de max_len=100000 response_format=verbose_json split_on_word=true translate=true' ])
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
		extra_fields => '{"max_len": null, "split_on_word": [], "timestamp_granularities[]": null, "a": "1", "a": "2"}'));
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

# Known models that give no times are asked for json at once.
foreach my $known ([ 'openai', 'gpt-4o-transcribe' ], [ 'openai', 'gpt-4o-mini-transcribe-2025-12-15' ],
	[ 'openai', 'gpt-transcribe' ], [ 'azure', 'gpt-4o-transcribe' ])
{
	my ($profile, $model) = @$known;
	my @calls = calls(run_job(profile => $profile, model => $model, scenario => 'json-only'));

	is_deeply([ map { "$_->{status} $_->{fields}{response_format}[0]" } @calls ], ['200 json'],
		"$model at $profile: is asked for json");
}
($call) = calls(run_job(profile => 'openai', model => 'whisper-1', scenario => 'json-only',
		job_options => '{"model": "gpt-4o-transcribe"}'));
is($call->{fields}{response_format}[0], 'json', 'what counts is the job\'s model');
($call) = calls(run_job(profile => 'openai', model => 'gpt-4o-transcribe-diarize', scenario => 'speaker', prompt => 'x'));
is(fields($call), 'chunking_strategy=auto response_format=diarized_json',
	'models that tell speakers apart have a format of their own');

$node->stop;
$faulty->stop;
done_testing();
