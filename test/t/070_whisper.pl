# Real speech, a real Whisper: the words of five sentences stand in the table.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use Test::More;

my $audio = make_audio();
my $transcripts = transcripts();
my $whisper = start_whisper();
my $node = start_cluster('whisper');

create_server($node, 'whisper', $whisper->url, model => 'tiny.en', request_timeout => '10min');

my @sentences = map { "austen-$_.wav" } qw(0870 0880 0890 0920 0930);
my @others = qw(austen-0870.mp3 austen-0930.mp4 silence-around.wav silence-inside.wav);
foreach my $file (@sentences, @others)
{
	$node->safe_psql('postgres', "SELECT transcribe_enqueue('$file', '$audio/$file')");
}
wait_for($node, "SELECT bool_and(status = 'completed') FROM transcribe_jobs", 't',
	'all recordings complete');

sub said
{
	my ($file) = @_;
	return $node->safe_psql('postgres', "SELECT transcribe_result('$file') ->> 'full_text'");
}

# Over all sentences together: one that is hard to hear does not decide.
my $rate = word_error_rate(join(' ', map { $transcripts->{$_} } @sentences),
	join(' ', map { said($_) } @sentences));
cmp_ok($rate, '<', 0.25, "word error rate over the five sentences ($rate)");

foreach my $file (@others)
{
	my $rate = word_error_rate($transcripts->{$file}, said($file));

	cmp_ok($rate, '<', 0.5, "the words of $file ($rate)") or diag(said($file));
}

# Times: the sentence after 5 s of silence begins there, and both halves of
# the one with a pause inside are where a player finds them.
is($node->safe_psql('postgres',
		"SELECT min(start_s) BETWEEN 4.5 AND 6 AND max(end_s) BETWEEN 7 AND 9 FROM transcribe_segments WHERE session_id = 'silence-around.wav'"),
	't', 'silence in front shifts nothing');
is($node->safe_psql('postgres',
		"SELECT min(start_s) < 1 AND max(end_s) BETWEEN 30 AND 34 AND count(*) >= 2 FROM transcribe_segments WHERE session_id = 'silence-inside.wav'"),
	't', 'silence inside shifts nothing')
  or diag($node->safe_psql('postgres', "SELECT segment_no, start_s, end_s, text FROM transcribe_segments WHERE session_id = 'silence-inside.wav'"));

is($node->safe_psql('postgres',
		"SELECT count(*) FROM transcribe_segments WHERE session_id = 'silence-inside.wav' AND start_s < 8 AND end_s > 12"),
	'0', 'no segment lasts through it');

# Words, where they are asked for.
$node->safe_psql('postgres',
	"SELECT transcribe_enqueue('words', '$audio/austen-0880.wav', options => '{\"words\": true, \"language\": \"en\"}')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'words'", 'completed');
cmp_ok($node->safe_psql('postgres',
		"SELECT sum(jsonb_array_length(words)) FROM transcribe_segments WHERE session_id = 'words'"),
	'>=', 4, 'each word has its time');
is($node->safe_psql('postgres',
		"SELECT bool_and((w ->> 'start')::float8 BETWEEN s.start_s - 0.5 AND s.end_s + 0.5)
		 FROM transcribe_segments s, jsonb_array_elements(s.words) w WHERE session_id = 'words'"),
	't', 'within its segment');
is($node->safe_psql('postgres',
		"SELECT bool_and(avg_logprob < 0 AND no_speech_prob IS NOT NULL AND compression_ratio > 0) FROM transcribe_segments"),
	't', 'confidence figures are kept');

$node->stop;
$whisper->stop;
done_testing();
