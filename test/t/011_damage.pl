
# A recording of which a part is missing is transcribed as far as it goes, and
# says so; one that is whole, or was never told its length, says nothing.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $dir = PostgreSQL::Test::Utils::tempdir_short();

sub describe
{
	my ($file) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'transcribe_media', $file, '--json', '--chunk-seconds', '60' ],
		'>', \$out, '2>', \$err);
	return $out ne '' ? JSON::PP::decode_json($out) : { error => $err };
}

# The first bytes of a file, as a share of all, and off by some.
sub cut
{
	my ($file, $share, $off) = @_;
	my $whole = slurp_file($file);
	my $part = $file =~ s/(\.[^.]*)$/-cut$1/r;

	open(my $out, '>:raw', $part) or die "could not write $part: $!";
	print $out substr($whole, 0, int(length($whole) * $share) + $off);
	close $out;
	return $part;
}

# What people have, as FFmpeg writes it.
my @video = ('-f', 'lavfi', '-i', 'testsrc=size=160x120:rate=5', '-shortest', '-c:v', 'mpeg4');
my %formats = (
	'wav' => [ 'wav' ],
	'8-bit wav' => [ 'wav', '-c:a', 'pcm_u8' ],
	'aiff' => [ 'aiff' ],
	'w64' => [ 'w64' ],
	'caf' => [ 'caf' ],
	'flac' => [ 'flac' ],
	'mp3' => [ 'mp3', '-b:a', '64k' ],
	'm4a, index first' => [ 'm4a', '-movflags', '+faststart' ],
	'mkv with opus' => [ 'mkv', '-c:a', 'libopus' ],
	'mkv with video' => [ 'mkv', @video, '-c:a', 'aac' ],
	'webm' => [ 'webm', '-c:a', 'libopus' ],
	'avi' => [ 'avi', @video, '-c:a', 'libmp3lame' ],
	'wma' => [ 'wma' ],
	'ogg with opus' => [ 'ogg', '-c:a', 'libopus' ],
	'ogg with vorbis' => [ 'ogg', '-c:a', 'libvorbis' ],
	'mpeg-ts' => [ 'ts', '-c:a', 'aac' ]);

# How much is missing cannot be known of these.
my %open_end = map { $_ => 1 } 'ogg with opus', 'ogg with vorbis', 'mpeg-ts';

foreach my $name (sort keys %formats)
{
	my ($ending, @options) = @{ $formats{$name} };
	my $file = "$dir/" . ($name =~ tr/ ,/_/dr) . ".$ending";

	system_or_bail('ffmpeg', '-v', 'error', '-y', '-i', "$audio/talk.mp3", '-t', '60', @options, $file);
	my $whole = describe($file);
	ok(!$whole->{damaged}, "$name: a whole file is not damaged")
	  or diag($whole->{detail} // $whole->{error});

	# Inside of a packet, whatever its size.
	my $part = describe(cut($file, 0.6, -s $file > 188 ? 94 - int((-s $file) * 0.6) % 188 : 0));
	ok($part->{damaged}, "$name: one that was cut off is")
	  or diag($part->{error} // "kept $part->{kept} of $whole->{duration}");
	cmp_ok($part->{kept} // 0, '>', 20, "$name: what is there is transcribed");
	cmp_ok(abs(($part->{missing} // 0) - 24), '<', 6, "$name: it says how much is missing")
	  unless $open_end{$name};
}

# Written to a pipe, no file knows how long it is.
foreach my $case (
	[ 'wav', '-f', 'wav' ], [ 'flac', '-f', 'flac' ], [ 'mp3', '-f', 'mp3' ],
	[ 'mkv', '-f', 'matroska', '-c:a', 'libopus' ],
	[ 'webm', '-f', 'webm', '-live', '1', '-c:a', 'libopus' ],
	[ 'ogg', '-f', 'ogg', '-c:a', 'libopus' ], [ 'ts', '-f', 'mpegts', '-c:a', 'aac' ],
	[ 'au', '-f', 'au' ], [ 'caf', '-f', 'caf' ],
	[ 'm4a', '-f', 'mp4', '-movflags', 'frag_keyframe+empty_moov', '-c:a', 'aac' ])
{
	my ($ending, @options) = @$case;
	my $file = "$dir/live.$ending";

	IPC::Run::run([ 'ffmpeg', '-v', 'error', '-i', "$audio/talk.mp3", '-t', '20', @options, '-' ],
		'|', [ 'cat' ], '>', $file) or die "could not make $file";
	my $live = describe($file);
	ok(!$live->{damaged}, "$ending written to a pipe: not damaged")
	  or diag($live->{detail} // $live->{error});
	cmp_ok($live->{kept} // 0, '>', 15, "$ending written to a pipe: it is read");
}

# Without its index an MP4 cannot be read at all.
system_or_bail('ffmpeg', '-v', 'error', '-i', "$audio/talk.mp3", '-t', '20', "$dir/last.m4a");
like(describe(cut("$dir/last.m4a", 0.6, 0))->{error}, qr/could not|not|no /,
	'an MP4 that was cut before its index says that it cannot be read');

# What was appended is no damage.
foreach my $ending (qw(wav ogg mkv))
{
	my ($file) = grep { !/-cut/ } glob "$dir/*.$ending";

	open(my $out, '>>:raw', $file) or die "could not write $file: $!";
	print $out 'TAG' . ("\0" x 125);
	close $out;
	ok(!describe($file)->{damaged}, "$ending: a tag at the end is no damage");
}

# Headers that lie: sizes that no file has, and a rate that nobody records at.
sub wav_with
{
	my ($name, $data_size, $channels, $rate) = @_;
	my $file = "$dir/$name.wav";

	open(my $out, '>:raw', $file) or die "could not write $file: $!";
	print $out pack('a4 V a4 a4 V v v V V v v a4 V', 'RIFF', $data_size, 'WAVE', 'fmt ', 16,
		1, $channels, $rate, $rate * $channels * 2 & 0xffffffff, $channels * 2 & 0xffff, 16,
		'data', $data_size), pack('s<*', map { ($_ % 100) * 300 - 15000 } 1 .. 32000);
	close $out;
	return describe($file);
}
my $lie = wav_with('size', 0x7ffe0000, 1, 16000);
ok($lie->{damaged}, 'a header that promises gigabytes: damaged');
cmp_ok(abs($lie->{kept} - 2), '<', 0.1, 'and what is there is read');
foreach my $case ([ 'rate', 64000, 1, 0xfffffff0 ], [ 'none', 64000, 0, 16000 ], [ 'many', 64000, 65535, 16000 ],
	[ 'slow', 64000, 1, 1 ])
{
	like(wav_with(@$case)->{error}, qr/^transcribe_media: ./, "a header that lies about its format ($case->[0]) is an error");
}

# A file that changes while it is read: the first chunk has come, and the rest
# is not yet read.
my $faulty = start_faulty();
my $node = start_cluster('damage', 'transcribe.media_processes' => 1);
create_server($node, 'whisper', $faulty->url('gate=first'), chunk_seconds => 60);
system_or_bail('ffmpeg', '-v', 'error', '-stream_loop', '99', '-i', "$audio/talk.mp3",
	'-ar', '44100', '-ac', '2', '-t', '1800', "$dir/long.wav");
system_or_bail('cp', "$dir/long.wav", "$dir/grows.wav");
system_or_bail('mv', "$dir/long.wav", "$dir/shrinks.wav");
foreach my $name (qw(shrinks grows))
{
	$faulty->reset;
	$node->safe_psql('postgres', "SELECT transcribe_enqueue('$name', '$dir/$name.wav')");

	# No more than some chunks are held until the server answers.
	$faulty->wait_for_calls(1, 'gate=first');
	if ($name eq 'shrinks')
	{
		truncate("$dir/$name.wav", (-s "$dir/$name.wav") / 2) or die "could not truncate: $!";
	}
	else
	{
		system_or_bail('sh', '-c', "cat $audio/austen-0870.wav >> $dir/$name.wav");
	}
	$faulty->release('first');
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$name'", 'completed',
		"a file that $name while it is read completes");
}
is($node->safe_psql('postgres',
		"SELECT damaged IS NOT NULL, duration_s BETWEEN 800 AND 1000 FROM transcribe_jobs WHERE session_id = 'shrinks'"),
	't|t', 'one that shrinks gives what is left, and says so');
is($node->safe_psql('postgres',
		"SELECT damaged, duration_s BETWEEN 1799 AND 1801 FROM transcribe_jobs WHERE session_id = 'grows'"),
	'|t', 'one that grows gives what its header says');

$node->stop;
$faulty->stop;
done_testing();
