# Any recording becomes rows, its times are those of the user's file, and what
# is no recording says why.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use JSON::PP ();
use List::Util ();
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('media');

create_server($node, 'whisper', $faulty->url);

sub enqueue
{
	my ($session, $path, %more) = @_;
	my $quoted = $path =~ s/'/''/gr;
	my $options = $more{options} // '{}';

	return $node->safe_psql('postgres',
		"SELECT transcribe_enqueue('$session', '$quoted', options => '$options')");
}

sub job
{
	my ($session, $columns) = @_;
	return $node->safe_psql('postgres',
		"SELECT $columns FROM transcribe_jobs WHERE session_id = '$session' ORDER BY id DESC LIMIT 1");
}

# Seconds of a file, as FFmpeg's own tool tells them.
sub seconds_of
{
	my ($path) = @_;

	open(my $probe, '-|', 'ffprobe', '-v', 'quiet', '-of', 'csv=p=0',
		'-show_entries', 'format=duration', $path)
	  or die "could not run ffprobe: $!";
	my $seconds = <$probe>;
	close $probe;
	return $seconds;
}

# Every container and shape, all at once.
my @files = (
	'austen-0870.wav', 'austen-0870.mp3', 'austen-0890.m4a',
	'austen-0920.flac', 'austen-0930.mp4', 'stereo-8k.wav',
	"odd name's \"ünïcode\" 😀.wav");
enqueue("any $_", "$audio/$files[$_]") foreach 0 .. $#files;
wait_for($node,
	"SELECT count(*) FROM transcribe_jobs WHERE status = 'completed'",
	scalar(@files), 'any container, rate and name completes');
foreach my $n (0 .. $#files)
{
	my $real = seconds_of("$audio/$files[$n]");
	my $found = job("any $n", 'duration_s');

	cmp_ok(abs($found - $real), '<', 0.15, "the duration of $files[$n] is right")
	  or diag("$found instead of $real");
}
is($node->safe_psql('postgres',
		"SELECT count(DISTINCT session_id) FROM transcribe_segments WHERE text LIKE 'segment %'"),
	scalar(@files), 'segments stand in the view');

# What reached the server.
my ($call) = $faulty->log('ok');
is($call->{file_field}, 'file', 'the part is called file');
is($call->{file_name}, 'audio.mp3', 'it has a name that servers accept');
is($call->{content_type}, 'audio/mpeg', 'and its content type');
is($call->{fields}{response_format}[0], 'verbose_json', 'segments are asked for');
is_deeply($call->{fields}{'timestamp_granularities[]'}, ['segment'],
	'granularity is an array of parts');

# Silence in front shifts nothing: 5 s of it before the sentence.
enqueue('around', "$audio/silence-around.wav");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'around'", 'completed');
my ($first, $last, $speech, $duration) = split /\|/, $node->safe_psql('postgres',
	"SELECT min(start_s), max(end_s), min(speech_s), min(duration_s)
	 FROM transcribe_segments s JOIN transcribe_jobs j ON j.id = s.job_id WHERE s.session_id = 'around'");
cmp_ok($first, '>', 4.5, 'silence in front is not transcribed');
cmp_ok($first, '<', 5.4, 'times are those of the recording');
cmp_ok($last, '<', $duration - 2, 'nor is silence behind');
cmp_ok($speech, '<', $duration - 6, 'silence is not sent');

# Long silence inside: the second sentence keeps its place.
enqueue('inside', "$audio/silence-inside.wav");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'inside'", 'completed');
is($node->safe_psql('postgres',
		"SELECT count(*) > 0 FROM transcribe_segments WHERE session_id = 'inside' AND start_s > 26"),
	't', 'what comes after a long silence is where it is in the file');
is($node->safe_psql('postgres',
		"SELECT count(*) FROM transcribe_segments WHERE session_id = 'inside' AND start_s > 10 AND start_s < 25"),
	'0', 'nothing begins in the silence');

# What counts as silence, and what is kept of it, is the server's to say.
create_server($node, 'whole', $faulty->url, trim_silence => 'off');
create_server($node, 'tight', $faulty->url, min_silence_duration => '1s',
	speech_pad_before => '0', speech_pad_after => '50ms');
create_server($node, 'deaf', $faulty->url, silence_threshold => '-20');
foreach my $server (qw(whole tight deaf))
{
	$node->safe_psql('postgres',
		"SELECT transcribe_enqueue('$server', '$audio/silence-around.wav', '$server')");
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$server'", 'completed');
}
is(job('whole', 'trimmed_s'), '0', 'trim_silence off sends all');
cmp_ok(job('tight', 'speech_s'), '<', $speech - 0.3, 'smaller paddings send less');
cmp_ok(job('deaf', 'speech_s'), '<', job('tight', 'speech_s'), 'a higher threshold less still');
my ($loud) = run_command([ 'transcribe_media', "$audio/silence-inside.wav", '--json',
		'--silence-threshold', '-40', '--min-silence', '0.5', '--pad-before', '0.1', '--pad-after', '0.1' ]);
my ($usual) = run_command([ 'transcribe_media', "$audio/silence-inside.wav", '--json' ]);
my ($all) = run_command([ 'transcribe_media', "$audio/silence-inside.wav", '--json', '--no-trim' ]);
$_ = JSON::PP::decode_json($_) foreach $loud, $usual, $all;
is($all->{kept}, $all->{duration}, 'transcribe_media keeps all if told to');
cmp_ok($loud->{kept}, '<', $usual->{kept} - 0.5, 'and takes the same options');
is_deeply($all->{silences}, [], 'then there is no silence that it left out');
is(sprintf('%.4f', List::Util::sum(map { $_->{length} } @{ $usual->{silences} })),
	sprintf('%.4f', $usual->{trimmed}), 'else it says which');
my @stretches = sort { $a->{start} <=> $b->{start} } @{ $usual->{silences} },
  map { @{ $_->{spans} } } @{ $usual->{chunks} };
my $end = 0;
my @gaps = grep { my $gap = abs($_->{start} - $end); $end = $_->{start} + $_->{length}; $gap > 0.0002 } @stretches;
is_deeply(\@gaps, [], 'silences and spans follow each other without a gap');
cmp_ok(abs($end - $usual->{duration}), '<', 0.0002, 'to the end');

# Silent all through.
enqueue('silent', "$audio/silent.wav");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'silent'", 'completed',
	'a silent recording completes');
is(job('silent', 'duration_s, speech_s, error'), '10|0|', 'with its duration and no speech');
is(job('silent', 'trimmed_s, loudness_lufs'), '10|', 'all of it trimmed, and no loudness');

# What the recording was.
is(job('any 2', 'source_format, sample_rate, channels, damaged, missing_s'),
	'mov/aac|48000|1||', 'the row describes the recording');
my $quiet = job('any 0', 'loudness_lufs');
cmp_ok($quiet, '<', -10, 'it has a loudness');
cmp_ok($quiet, '>', -50, 'as speech has');
is(job('around', 'trimmed_s = duration_s - speech_s'), 't', 'and what was trimmed of it');
is($node->safe_psql('postgres', "SELECT transcribe_result('silent')"),
	'{"duration": 10, "language": null, "segments": [], "full_text": ""}',
	'its result has no segments');

# Chunks: a long recording in small ones, in order, nothing twice.
create_server($node, 'small', $faulty->url('ok,tag=small'), chunk_seconds => 20);
$node->safe_psql('postgres',
	"SELECT transcribe_enqueue('talk', '$audio/talk.mp3', server => 'small')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'talk'", 'completed',
	'a long recording completes');
my $chunks = $node->safe_psql('postgres',
	"SELECT count(*) FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = 'talk'");
cmp_ok($chunks, '>', 3, 'in several chunks');
is(scalar($faulty->log('ok,tag=small')), $chunks, 'each is sent once');
is($node->safe_psql('postgres',
		"SELECT bool_and(start_s >= before) FROM (SELECT start_s, lag(start_s, 1, 0) OVER (ORDER BY segment_no) AS before
		 FROM transcribe_segments WHERE session_id = 'talk') s"),
	't', 'segments are in the order of the recording');
is($node->safe_psql('postgres',
		"SELECT max(abs(start_s - before)) < 0.001 FROM (SELECT start_s, lag(end_s, 1, 0::float8) OVER (ORDER BY chunk_no) AS before
		 FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = 'talk') s"),
	't', 'chunks account for all of it');

# Links inside and outside a media directory, for a role with no other right.
my $media = abs_path(PostgreSQL::Test::Utils::tempdir());
system_or_bail('cp', "$audio/austen-0930.mp4", "$media/talk.mp4");
mkdir "$media/sub";
symlink "$media/talk.mp4", "$media/sub/absolute.mp4";
symlink '../talk.mp4', "$media/sub/relative.mp4";
symlink "$audio/austen-0870.wav", "$media/sub/outside.wav";
chmod 0755, $media;
$node->append_conf('postgresql.conf', "transcribe.media_directories = '$media'");
$node->reload;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN SERVER whisper TO app');
sub as_app
{
	my ($path) = @_;
	return $node->psql('postgres', "SELECT transcribe_enqueue('app', '$path')",
		extra_params => [ '-U', 'app' ]);
}
foreach my $good ("$media/talk.mp4", "$media/sub/absolute.mp4", "$media/sub/relative.mp4")
{
	my ($rc, undef, $stderr) = as_app($good);
	is($rc, 0, 'a file below a media directory may be named') or diag($stderr);
}
foreach my $bad ("$media/sub/outside.wav", "$audio/austen-0870.wav", "$media/../talk.mp4", '/etc/passwd')
{
	my ($rc, undef, $stderr) = as_app($bad);
	isnt($rc, 0, 'one that is not may not');
	like($stderr, qr/permission denied to read audio file/, 'and the error says so');
}
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id = 'app' AND status = 'completed'", '3',
	'files below a media directory are read, through links too');

# The check at enqueue is a courtesy: the file is checked again when opened.
# Here a link is bent while the job waits.
my $sly = "$media/sly.mp4";
symlink "$media/talk.mp4", $sly;
my $job = (as_app($sly))[1];
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $job", 'completed');
unlink $sly;
symlink "$audio/austen-0870.wav", $sly;
$node->safe_psql('postgres', "UPDATE transcribe_jobs SET status = 'failed' WHERE id = $job");
$node->safe_psql('postgres', "SELECT transcribe_retry($job)");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $job", 'failed');
is($node->safe_psql('postgres', "SELECT error_code FROM transcribe_jobs WHERE id = $job"),
	'not_allowed', 'a link that leaves the directory is refused when it is opened');

# A path of 4,000 characters.
my $long = $media;
$long .= '/' . ('d' x 200) while length($long) < 3700;
system_or_bail('mkdir', '-p', $long);
while (length($long) < 3996 - 1)
{
	my $rest = 3996 - length($long) - 1;

	# A directory on the way, unless the rest fits into one name.
	$long .= '/' . ('x' x ($rest > 250 ? 100 : $rest));
	last if $rest <= 250;
	mkdir $long;
}
$long .= '.wav';
system_or_bail('cp', "$audio/austen-0880.wav", $long);
is(length($long), 4000, 'the path is as long as it should be');
enqueue('long path', $long);
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'long path'", 'completed',
	'a path of 4,000 characters works');

# What is no recording.
system_or_bail('mkfifo', "$media/fifo");
my ($rc, undef, $stderr) = $node->psql('postgres', "SELECT transcribe_enqueue('x', '$media/fifo')");
like($stderr, qr/is not a regular file/, 'a FIFO is refused at once');
enqueue('text', "$audio/text.mp3");
enqueue('empty', "$audio/empty.wav");
enqueue('no sound', "$audio/no-sound.mp4");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE session_id IN ('text', 'empty', 'no sound') AND status = 'failed'", '3',
	'what is no recording fails');
is(job('text', 'error_code, attempts'), 'not_audio|1', 'a text is not audio, and is not tried again');
is(job('empty', 'error_code, attempts'), 'empty_file|1', 'an empty file says so');
is(job('no sound', 'error_code, attempts'), 'no_audio_stream|1', 'a film without sound says so');
unlike(job('text', 'error'), qr/^$/, 'each with a message');
my $gone = "$media/gone.wav";
system_or_bail('cp', "$audio/austen-0880.wav", $gone);
$node->safe_psql('postgres', "BEGIN; SELECT transcribe_enqueue('gone', '$gone', run_at => now() + '1 hour'); COMMIT");
unlink $gone;
$node->safe_psql('postgres', "UPDATE transcribe_jobs SET run_at = now() WHERE session_id = 'gone'");
enqueue('nudge', "$audio/silent.wav");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'gone'", 'failed');
is(job('gone', 'error_code'), 'not_found', 'a file that has gone meanwhile says so');

# Cut short: what can be read is transcribed, and the row says that it was damaged.
enqueue('cut', "$audio/cut-short.wav");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'cut'", 'completed',
	'a recording that was cut short gives what there is');
like(job('cut', 'damaged'), qr/^the recording ends at [0-9.]+ s, of [0-9.]+ s that its container announces$/,
	'and says so');
is(job('cut', 'missing_s > 1 AND missing_s < 60'), 't', 'and how much is missing');

# The first chunk of a long recording is short, all others are long.
my $minutes = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/long.mp3';
system_or_bail('ffmpeg', '-v', 'error', '-stream_loop', '29', '-i',
	"$audio/austen-0870.wav", $minutes);
my ($described) = run_command(
	[ 'transcribe_media', $minutes, '--chunk-seconds', '60', '--json' ]);
my @ends = map { $_->{end} } @{ JSON::PP::decode_json($described)->{chunks} };
cmp_ok($ends[0], '<=', 30, 'the first chunk of a long recording is short');
cmp_ok($ends[1] - $ends[0], '>', 40, 'the next one is not');

# Limits.
my $night = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/night.flac';
system_or_bail('ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', 'anullsrc=r=16000:cl=mono', '-t', '40000', $night);
$node->append_conf('postgresql.conf', "transcribe.media_timeout = 1");
$node->reload;
enqueue('night', $night);
wait_for($node, "SELECT error_code FROM transcribe_jobs WHERE session_id = 'night'", 'media_timeout',
	'a recording that takes too long to read fails');
is(job('night', 'error'), 'reading the recording took longer than 1 s', 'and says so');
$node->append_conf('postgresql.conf', "transcribe.media_timeout = 0");
$node->append_conf('postgresql.conf', "transcribe.max_duration = 5");
$node->reload;
enqueue('too long', "$audio/austen-0870.wav");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'too long'", 'failed');
is(job('too long', 'error_code, attempts'), 'recording_too_long|1', 'a recording beyond the limit fails');

$node->stop;
$faulty->stop;
done_testing();
