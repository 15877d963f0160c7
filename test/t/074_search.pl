# Search: in the language that a text is in, with an index that follows what the
# worker saves, and on a standby.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('search', init => { allows_streaming => 1 });
my $wav = "$audio/austen-0880.wav";

# The language that the segments of a job keep.
sub language_of
{
	my ($session, $server, $options) = @_;

	$node->safe_psql('postgres', "SELECT transcribe_enqueue('$session', '$wav', '$server', options => '$options')");
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$session'", 'completed');
	return $node->safe_psql('postgres', "SELECT DISTINCT s.language FROM transcribe_chunk_segments s
		JOIN transcribe_jobs j ON j.id = s.job_id WHERE j.session_id = '$session'");
}
create_server($node, 'reports', $faulty->url('language=french'), language => 'de');
create_server($node, 'silent', $faulty->url('text-only'));
create_server($node, 'asked', $faulty->url('text-only'), language => 'de');
is(language_of('reported', 'reports', '{}'), 'french', 'the language is that which the server reports');
is(language_of('unknown', 'silent', '{}'), '', 'or none');
is(language_of('server', 'asked', '{}'), 'de', 'or that which its option asks for');
is(language_of('job', 'asked', '{"language": "es"}'), 'es', 'or the job');
is(language_of('translated', 'reports', '{"translate": true}'), 'en', 'of a translation it is English');

# The index may be there before, and be made while jobs run.
create_server($node, 'whisper', $faulty->url('ok'));
$node->safe_psql('postgres', 'CREATE INDEX CONCURRENTLY transcribe_search ON transcribe_chunk_segments
	USING gin (transcribe_search_vector(language, text))');
is(language_of('indexed', 'whisper', '{}'), 'english', 'the worker saves with an index');
my $word = $node->safe_psql('postgres', "SELECT (regexp_match(text, '[[:alpha:]]+'))[1] FROM transcribe_segments WHERE session_id = 'indexed' LIMIT 1");
my $query = "SELECT count(*) > 0 FROM transcribe_search('$word', session => 'indexed')";
is($node->safe_psql('postgres', "SET enable_seqscan = off; $query"), 't', 'and what it saves is found');
$node->safe_psql('postgres', "SELECT transcribe_delete(id) FROM transcribe_jobs WHERE session_id = 'indexed'");
is($node->safe_psql('postgres', "SET enable_seqscan = off; $query"), 'f', 'until it is deleted');

# A standby is for reading.
is(language_of('indexed', 'whisper', '{}'), 'english', 'another is saved');
$node->backup('standby');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'standby', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $query), 't', 'a standby searches');
is($standby->safe_psql('postgres', "SELECT transcribe_srt('indexed') LIKE '1%', transcribe_text('indexed') <> '', count(*) > 0 FROM transcribe_at('indexed', 0, 9)"),
	't|t|t', 'and formats');
my (undef, undef, $stderr) = $standby->psql('postgres', "SELECT transcribe_rename_speaker('indexed', 'A', 'B')");
like($stderr, qr/recovery|read-only/, 'but renames nobody');

$standby->stop;
$node->stop;
$faulty->stop;
done_testing();
