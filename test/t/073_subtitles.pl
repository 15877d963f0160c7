# Subtitles of whatever a transcript may hold are read by outside parsers, which
# see the same times and the same text.
use strict;
use warnings;
use utf8;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Encode qw(encode_utf8 decode_utf8);
use JSON::PP;
use List::Util qw(max);
use Test::More;

my $node = start_cluster('subtitles', 'transcribe.enabled' => 'off');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $python = subtitle_python();

# A completed job of such segments: [start, end, text, {more}].
my $jobs = 0;
sub job
{
	my ($session, @segments) = @_;
	my $json = encode_json([ map { { start_s => $_->[0], end_s => $_->[1], text => $_->[2], %{ $_->[3] // {} } } } @segments ]);

	$jobs++;
	$node->safe_psql('postgres', "INSERT INTO transcribe_jobs (session_id, path, server, owner, status, finished_at)
			VALUES ('$session', '/recording', 'whisper', current_user, 'completed', now());
		INSERT INTO transcribe_chunk_segments (job_id, chunk_no, n, owner, start_s, end_s, text, speaker, channel, words)
		SELECT $jobs, 0, o, current_user, start_s, end_s, text, speaker, channel, words
		FROM ROWS FROM (jsonb_to_recordset(\$json\$$json\$json\$) AS (start_s float8, end_s float8, text text,
			speaker text, channel int, words jsonb)) WITH ORDINALITY AS s (start_s, end_s, text, speaker, channel, words, o)");
	return;
}

# The job's subtitles, as each parser reads them.
sub read_subtitles
{
	my ($session, $options) = @_;

	foreach my $format ('srt', 'vtt')
	{
		open(my $fh, '>', "$dir/x.$format") or die $!;
		print $fh $node->safe_psql('postgres', "SELECT transcribe_$format('$session'$options)");
		close($fh);
	}
	my $read = `$python test/subtitles/read_subtitles.py $dir/x.srt $dir/x.vtt`;
	return $? == 0 ? decode_json($read) : undef;
}

# A text without all that separates.
sub solid
{
	my ($text) = @_;

	return $text =~ s/[\s\p{Cc}]+//gr;
}

# A text without arrows, which get shorter in SubRip.
sub arrowless
{
	return $_[0] =~ tr/->//dr;
}

my @spoken = (
	[ 0, 0.5, 'Hello.' ],
	[ 0.5, 2, "two\r\nlines\n\n\nand a third\x{2028}line\x{85}here" ],
	[ 2, 3, "control\x01\x02\x{1b}[31m\tcharacters\x7f" ],
	[ 3, 4, '00:00:01,000 --> 00:00:02,000' ],
	[ 4, 5, '--->> <-- ------> -- > a->b' ],
	[ 5, 6, '<b>bold</b> & <v Eve>fish &amp; chips</v> {\an8}' ],
	[ 6, 7, '12' ],
	[ 7, 8, 'NOTE this' ],
	[ 8, 9, 'WEBVTT' ],
	[ 9, 9, 'no time at all' ],
	[ 9, 9, 'nor this' ],
	[ 9, 9, 'nor ' . 'this ' x 40 ],
	[ 12, 11, 'turned round' ],
	[ 12.0001, 12.0002, 'less than a millisecond' ],
	[ 13, 20, 'which overlaps' ],
	[ 14, 16, 'what follows' ],
	[ 20, 50, join(' ', map { "word$_" } 1 .. 80) ],
	[ 50, 51, 'x' x 300 ],
	[ 52, 80, '吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。吾輩はここで始めて人間というものを見た。しかもあとで聞くとそれは書生という人間中で一番獰悪な種族であったそうだ。' ],
	[ 80, 81, "e\x{301}" x 100 ],
	[ 82, 83, "\x{a0}\x{3000}" ],
	[ 83, 84, "a" . "\x{3000}" x 90 . "b" ],
	[ 83, 84, "ab \x{301}cd >& \x{301}" x 20 ],
	[ 84, 85, "👩‍👩‍👧‍👦 ﷺ \x{202e}right to left\x{202c} \x{feff}mark" ],
	[ 86, 88, 'สวัสดีครับยินดีต้อนรับ' x 8 ],
	[ 90, 99, '네, 안녕하세요 여러분 ' x 12 ],
	[ 99, 100, '' ],
	[ 359999.5, 360000.25, 'a hundred hours' ],
	[ 3600000, 3600001, 'a thousand' ]);
job('nasty', @spoken);
my @names = ('Ann', "Bob & <Co> --> x", "Line\nbreak", 'N' x 200, '');
job('speakers', map { [ @{ $spoken[$_] }[0 .. 2], { speaker => $names[ $_ % @names ] } ] } 0 .. $#spoken);
# Two channels speak at once.
job('channels', map { [ @{ $spoken[$_] }[0 .. 2], { channel => $_ % 2 } ] } 0 .. $#spoken);

my $text = solid(join('', map { $_->[2] } @spoken));
foreach my $session ('nasty', 'speakers', 'channels')
{
	foreach my $style ([ 42, 2, 7 ], [ 0, 1, 0 ], [ 10, 3, 2 ], [ 1, 1, 1 ], [ 37, 1, 0 ])
	{
		my ($width, $lines, $seconds) = @$style;
		my $name = "$session, $width letters, $lines lines, $seconds s";
		my $off = $session eq 'speakers' ? '' : ', speakers => false';
		my $read = read_subtitles($session, "$off, max_line_width => $width, max_line_count => $lines, max_duration_s => $seconds");
		ok($read, "$name: is read by all") or next;

		my @cues = @{ $read->{srt} };
		my @times = map { "$_->{start} $_->{end}" } @cues;
		foreach my $parser ('webvtt-py', 'FFmpeg, SRT', 'FFmpeg, WebVTT')
		{
			is_deeply([ map { "$_->{start} $_->{end}" } @{ $read->{$parser} } ], \@times, "$name: $parser sees the same times")
				if $session ne 'speakers' || $parser eq 'FFmpeg, SRT';
		}
		my $vtt = $read->{'webvtt-py'};
		is_deeply($read->{'FFmpeg, WebVTT'}, $vtt, "$name: both readers of WebVTT see the same");
		is_deeply([ map { $_->{text} } @{ $read->{'FFmpeg, SRT'} } ], [ map { $_->{text} } @cues ], "$name: both readers of SRT see the same");

		# Cues of two channels are in turn, those of one in the order of their segments.
		my @said = map { solid($_->{text}) } @$vtt;
		if ($session eq 'channels')
		{
			is(length(join('', @said)), length($text), "$name: all of the text is there");
		}
		else
		{
			is(join('', @said), $text, "$name: the text is there");
		}
		is(arrowless(join('', map { solid($_->{text}) } @cues)), arrowless(join('', @said)), "$name: and in SRT")
			if $session ne 'speakers';

		my @bad = grep { $_->{end} <= $_->{start} } @cues, @$vtt;
		is(scalar(@bad), 0, "$name: each takes some time");
		@bad = grep { $cues[$_]{start} < $cues[ $_ - 1 ]{start} } 1 .. $#cues;
		is(scalar(@bad), 0, "$name: they are in order");
		@bad = grep { $vtt->[$_]{start} < $vtt->[ $_ - 1 ]{end} } 1 .. $#$vtt;
		is(scalar(@bad), 0, "$name: and do not overlap") if $session ne 'channels';
		if ($width > 0)
		{
			# Signs of no width take no place.
			my $longest = max(map { length($_ =~ s/[\p{Mn}\p{Me}\p{Cf}]//gr) } map { split(/\n/, $_->{text}) } @$vtt);
			cmp_ok($longest, '<=', $width, "$name: no line is longer");
			@bad = grep { $_->{text} =~ tr/\n// >= $lines } @cues, @$vtt;
			is(scalar(@bad), 0, "$name: no cue has more lines") or diag explain \@bad;
		}
		else
		{
			is(scalar(grep { $_->{text} =~ /\n/ } @cues, @$vtt), 0, "$name: no line is broken");
		}
		my @labels = map { $_->{voice} // '' } @$vtt;
		is(scalar(grep { $_ ne '' } @labels), 0, "$name: nobody is named") if $session ne 'speakers';
	}
}

# Names: a tag in one, a part of the text in the other.
my $named = read_subtitles('speakers', ', max_line_width => 0, max_duration_s => 0');
my @texts = map { [ solid($spoken[$_][2]), $names[ $_ % @names ] =~ s/\s+/ /gr ] } grep { solid($spoken[$_][2]) ne '' } 0 .. $#spoken;
is_deeply([ map { [ solid($_->{text}), $_->{voice} // '' ] } @{ $named->{'webvtt-py'} } ], \@texts, 'a voice is tagged in WebVTT');
is_deeply([ map { arrowless(solid($_->{text})) } @{ $named->{srt} } ], [ map { arrowless(solid($_->[1] eq '' ? '' : "$_->[1]:") . $_->[0]) } @texts ],
	'a name precedes the text in SRT');

# Where all times are good they are kept to the millisecond; of a long segment,
# words say when a part is said.
job('times', [ 0.0404, 2.5, 'One.' ], [ 3.25, 7.0306, 'Two.' ],
	[ 10, 40, 'One two three four five six seven eight nine ten.', { words => [
		map { { word => (qw(One two three four five six seven eight nine ten))[$_], start => 10 + 3 * $_, end => 11 + 3 * $_ } } 0 .. 9 ] } ]);
my $times = read_subtitles('times', '');
is_deeply([ map { [ @$_{qw(start end)} ] } @{ $times->{srt} }[0, 1] ], [ [ 40, 2500 ], [ 3250, 7031 ] ], 'times of segments are kept');
my %starts = map { (qw(One two three four five six seven eight nine ten.))[$_] => 10000 + 3000 * $_ } 0 .. 9;
my @parts = @{ $times->{srt} }[2 .. $#{ $times->{srt} }];
cmp_ok(scalar(@parts), '>=', 4, 'a segment of 30 s has several cues');
foreach my $part (@parts)
{
	my @words = split(/\s+/, $part->{text});
	is($part->{start}, $starts{ $words[0] }, "\"$part->{text}\" begins with its first word");
	cmp_ok($part->{end} - $part->{start}, '<=', 7000, 'and takes no more than 7 s');
	is($part->{end}, $words[-1] eq 'ten.' ? 40000 : $starts{ $words[-1] } + 1000, 'and ends with its last');
}

# Nothing was said.
job('silent');
is($node->safe_psql('postgres', "SELECT transcribe_srt('silent') = '', transcribe_vtt('silent') = E'WEBVTT\\n', transcribe_text('silent') = ''"), 't|t|t',
	'of silence there are no cues');

# Other encodings.
foreach my $encoding ('EUC_JP', 'LATIN1', 'SQL_ASCII')
{
	my $database = lc($encoding);
	my %said = (EUC_JP => '日本語の' x 40, LATIN1 => 'größer ' x 40, SQL_ASCII => "日本語 größer\x{301} " x 20);

	$node->safe_psql('postgres', "CREATE DATABASE $database ENCODING $encoding LOCALE 'C' TEMPLATE template0");
	$node->safe_psql($database, encode_utf8("CREATE EXTENSION transcribe; SET client_encoding = 'UTF8';
		INSERT INTO transcribe_jobs (session_id, path, server, owner, status, finished_at)
		VALUES ('s', '/recording', 'whisper', current_user, 'completed', now());
		INSERT INTO transcribe_chunk_segments (job_id, chunk_no, n, owner, start_s, end_s, text)
		VALUES (1, 0, 0, current_user, 0, 20, '$said{$encoding}')"));
	my $out = decode_utf8($node->safe_psql($database, "SET client_encoding = 'UTF8'; SELECT transcribe_vtt('s')"), Encode::FB_CROAK);
	my @lines = grep { !/-->|^WEBVTT/ } split(/\n/, $out);
	is(solid(join('', @lines)), solid($said{$encoding}), "$encoding: the text is there");
	cmp_ok(max(map { length($_) } @lines), '<=', 42 + 20, "$encoding: in lines");
}

$node->stop;
done_testing();
