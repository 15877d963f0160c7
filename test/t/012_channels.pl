
# A call has a party on each channel: transcribed apart if that is asked for,
# and paid once if both say the same.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('channels');
my $dir = PostgreSQL::Test::Utils::tempdir_short();

# One sentence on the left at the start, another on the right after 12 s, and
# on the left again after 24 s.
my $call = "$dir/call.wav";
system_or_bail('ffmpeg', '-v', 'error', '-i', "$audio/austen-0870.wav",
	'-i', "$audio/austen-0920.wav", '-i', "$audio/austen-0880.wav",
	'-filter_complex',
	'[0]apad=whole_dur=24[a];[a][2]concat=n=2:v=0:a=1,apad=whole_dur=34[l];'
	  . '[1]adelay=12s:all=1,apad=whole_dur=34[r];[l][r]join=inputs=2:channel_layout=stereo[o]',
	'-map', '[o]', '-ar', '44100', $call);

# The same on both sides, of a lossy codec; and the right one softer.
my $dual = "$dir/dual.mp3";
system_or_bail('ffmpeg', '-v', 'error', '-i', "$audio/austen-0880.wav", '-ar', '44100',
	'-ac', '2', '-b:a', '48k', $dual);
my $softer = "$dir/softer.wav";
system_or_bail('ffmpeg', '-v', 'error', '-i', "$audio/austen-0880.wav", '-ar', '44100',
	'-af', 'pan=stereo|c0=0.5*c0|c1=c0', $softer);

sub describe
{
	my ($out) = run_command([ 'transcribe_media', @_, '--json' ]);
	return JSON::PP::decode_json($out);
}

sub starts_of
{
	my ($found, $channel) = @_;
	return map { $_->{start} } map { @{ $_->{spans} } }
	  grep { $_->{channel} == $channel } @{ $found->{chunks} };
}

# The program.
my $split = describe($call, '--channels', 'split');
my @left = starts_of($split, 0);
my @right = starts_of($split, 1);
is(scalar(@left), 2, 'the left party speaks twice');
is(scalar(@right), 1, 'the right one once');
cmp_ok($right[0], '>', 11, 'at its own time');
cmp_ok($left[1], '>', 23, 'and so does the left one');
my $mixed = describe($call);
cmp_ok(abs($split->{kept} - $mixed->{kept}), '<', 0.5,
	'as they never speak at once, both ways send the same');
ok(!exists $mixed->{chunks}[0]{channel}, 'a mix has no channel');
my $copies = describe($dual, '--channels', 'split');
is_deeply([ map { $_->{channel} } @{ $copies->{chunks} } ], [0],
	'a channel that only repeats another one is not sent');
cmp_ok(abs(describe($dual)->{loudness} - $copies->{loudness}), '<', 0.1,
	'and a mix of both is as loud as one');
is_deeply([ map { $_->{length} } grep { $_->{channel} == 1 } @{ $copies->{silences} } ],
	[ $copies->{duration} ], 'what is not sent is described as silence');
$copies = describe($softer, '--channels', 'split');
is_deeply([ map { $_->{channel} } @{ $copies->{chunks} } ], [1],
	'of two that differ in level, the louder one is');
is(describe("$audio/austen-0880.wav", '--channels', 'split')->{chunks}[0]{channel}, 0,
	'a recording of one channel is its channel 0');
my ($rc, $out, $err) = (0, '', '');
IPC::Run::run([ 'transcribe_media', $call, '--channels', 'left' ], '>', \$out, '2>', \$err);
like($err, qr/--channels must be mix or split/, 'there is no other way');

# A change of channels midway: the second half is mono, then both have it.
my $changing = "$dir/changing.mp3";
system_or_bail('ffmpeg', '-v', 'error', '-i', $call, '-b:a', '96k', "$dir/stereo.mp3");
system_or_bail('ffmpeg', '-v', 'error', '-i', "$audio/austen-0870.wav", '-ar', '44100',
	'-ac', '1', '-b:a', '96k', "$dir/mono.mp3");
system_or_bail('sh', '-c', "cat $dir/stereo.mp3 $dir/mono.mp3 > $changing");
my $after = describe($changing, '--channels', 'split');
cmp_ok($after->{duration}, '>', 38, 'what follows a change of channels is there');
cmp_ok((starts_of($after, 0))[-1], '>', 33, 'on the first channel');
cmp_ok((starts_of($after, 1))[-1], '<', 33, 'and once only');

# The rows, by the server's option and by the job's.
create_server($node, 'apart', $faulty->url, channels => 'split');
$node->safe_psql('postgres', "
	SELECT transcribe_enqueue('apart', '$call', 'apart');
	SELECT transcribe_enqueue('mixed', '$call', 'apart', options => '{\"channels\": \"mix\"}');
	SELECT transcribe_enqueue('dual', '$dual', 'apart')");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE status = 'completed'", '3',
	'calls complete');
is($node->safe_psql('postgres',
		"SELECT string_agg(DISTINCT channel::text, ' ') FROM transcribe_segments WHERE session_id = 'apart'"),
	'0 1', 'segments say of which channel they are');
is($node->safe_psql('postgres',
		"SELECT bool_and(start_s >= before) FROM (SELECT start_s, lag(start_s, 1, 0::float8) OVER (ORDER BY segment_no) AS before
		 FROM transcribe_segments WHERE session_id = 'apart') s"),
	't', 'and are merged in time');
is($node->safe_psql('postgres',
		"SELECT min(start_s) > 11 FROM transcribe_segments WHERE session_id = 'apart' AND channel = 1"),
	't', 'times are those of the recording');
is($node->safe_psql('postgres',
		"SELECT abs(trimmed_s - (2 * duration_s - speech_s)) < 0.001, channels FROM transcribe_jobs WHERE session_id = 'apart'"),
	't|2', 'what was trimmed counts both channels');
is($node->safe_psql('postgres',
		"SELECT count(channel) FROM transcribe_segments WHERE session_id = 'mixed'"),
	'0', "the job's own option comes first");
is($node->safe_psql('postgres',
		"SELECT speech_s < duration_s + 0.001 FROM transcribe_jobs WHERE session_id = 'dual'"),
	't', 'the same on both sides is paid once');

$node->stop;
$faulty->stop;
done_testing();
