# Texts in databases of other encodings: out as UTF-8, back as far as the
# encoding goes.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Encode qw(encode_utf8);
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('encodings');
my $wav = "$audio/austen-0880.wav";

# Run a job in a database that is new, with texts that need the encoding.
sub run_in
{
	my ($database, $url, $prompt) = @_;

	$node->safe_psql($database, "SET client_encoding = 'UTF8'; CREATE EXTENSION transcribe;
		CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url', model 'm', extra_fields '{\"hotwords\": \"$prompt\"}');
		SELECT transcribe_enqueue('s', '$wav', options => '{\"prompt\": \"$prompt\"}')");
	ok($node->poll_query_until($database, "SELECT status = 'completed' FROM transcribe_jobs"),
		"$database: a job completes");
	my ($call) = grep { $_->{scenario} =~ /tag=$database/ } $faulty->log;
	is(encode_utf8($call->{fields}{prompt}[0]), $prompt, "$database: a prompt goes out as UTF-8");
	is(encode_utf8($call->{fields}{hotwords}[0]), $prompt, "$database: other fields do");
}
$node->safe_psql('postgres', "CREATE DATABASE euc_jp ENCODING EUC_JP LOCALE 'C' TEMPLATE template0");
run_in('euc_jp', $faulty->url('nul,language=%E6%97%A5%E6%9C%AC%F0%9F%98%80%E8%AA%9E,tag=euc_jp'), '日本語 ü');
is($node->safe_psql('euc_jp', "SET client_encoding = 'UTF8'; SELECT language FROM transcribe_jobs"), '日本?語',
	'euc_jp: the answer is converted, and what the encoding lacks is a question mark');
is($node->safe_psql('euc_jp', "SELECT count(*) > 0, bool_and(text LIKE 'seg?ment%') FROM transcribe_segments"), 't|t',
	'euc_jp: also in the text');
$node->safe_psql('euc_jp', "SELECT transcribe_enqueue('unassigned', '$wav', options => E'{\"prompt\": \"a\\x8f\\xa2\\xa1z\"}')");
ok($node->poll_query_until('euc_jp', "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = 'unassigned'"),
	'euc_jp: a character that UTF-8 lacks does not stop a job');
is((grep { $_->{scenario} =~ /tag=euc_jp/ } $faulty->log)[-1]{fields}{prompt}[0], 'a?z', 'euc_jp: it is marked');
$node->safe_psql('postgres', "CREATE DATABASE sql_ascii ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0");
run_in('sql_ascii', $faulty->url('bad-utf8,language=%E6%97%A5%F0%9F%98%80,tag=sql_ascii'), '日本語 ü');
is($node->safe_psql('sql_ascii', "SELECT language FROM transcribe_jobs"), '日😀', 'sql_ascii: the answer is UTF-8');
is($node->safe_psql('sql_ascii', "SELECT bool_and(text LIKE E'seg\\xEF\\xBF\\xBD(%') FROM transcribe_segments"), 't',
	'sql_ascii: with marks where it was not');
foreach my $statement ("SELECT transcribe_enqueue('t', '$wav', options => E'{\"prompt\": \"gr\\xfc\"}')",
	"ALTER SERVER whisper OPTIONS (ADD prompt E'gr\\xfc')",
	"ALTER SERVER whisper OPTIONS (SET extra_fields E'{\"hotwords\": \"gr\\xfc\"}')")
{
	my (undef, undef, $stderr) = $node->psql('sql_ascii', $statement);
	like($stderr, qr/invalid byte sequence for encoding "UTF8": 0xfc/, 'sql_ascii: what is not UTF-8 is refused');
}

# What was saved before an interruption is in the database's encoding.
$node->safe_psql('postgres', "CREATE DATABASE latin1 ENCODING LATIN1 LOCALE 'C' TEMPLATE template0");
$node->safe_psql('latin1', "CREATE EXTENSION transcribe; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe
	OPTIONS (url '" . $faulty->url('delay=0.5,seconds=4,language=fran%C3%A7ais,tag=latin1') . "', model 'm', chunk_seconds '30', max_requests '1');
	SELECT transcribe_enqueue('s', '$audio/talk.mp3')");
ok($node->poll_query_until('latin1', "SELECT count(*) > 0 FROM transcribe_chunks"), 'latin1: a chunk is saved');
$node->safe_psql('latin1', "SELECT transcribe_cancel(id) FROM transcribe_jobs; SELECT transcribe_retry(id) FROM transcribe_jobs");
ok($node->poll_query_until('latin1', "SELECT status = 'completed' FROM transcribe_jobs"), 'latin1: the rest is sent');
is($node->safe_psql('latin1', "SET client_encoding = 'UTF8'; SELECT language FROM transcribe_jobs"), 'français',
	'latin1: what was saved before keeps its letters');

$node->stop;
$faulty->stop;
done_testing();
