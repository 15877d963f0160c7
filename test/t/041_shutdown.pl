# A fast shutdown takes less than a second, whatever is under way, and costs the
# jobs nothing.  TRANSCRIBE_TEST_SHUTDOWNS says how often to try; the default is
# for every day.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{TRANSCRIBE_TEST_SHUTDOWNS} // 3;
my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('shutdown', 'transcribe.media_processes' => 4, 'transcribe.idle_timeout' => '10min');
my $wav = "$audio/austen-0880.wav";
my $long = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/long.mp3';
my @took;

alarm(0);
sub query { return $node->safe_psql('postgres', $_[0]) }

# More than 64 jobs: two are decoded, twelve requests at a time are answered and
# saved, fifty hang.
system_or_bail('ffmpeg', '-nostdin', '-v', 'error', '-stream_loop', '1000', '-i', "$audio/talk.mp3", '-c', 'copy', $long);
create_server($node, 'media', $faulty->url('hang,tag=media'), chunk_seconds => 3600, max_requests => 0, request_timeout => '1h');
create_server($node, 'hanging', $faulty->url('hang'), max_requests => 0, request_timeout => '1h');
create_server($node, 'saving', $faulty->url('ok,delay=0.1,seconds=60'), max_requests => 12);
query("SELECT count(transcribe_enqueue('hanging ' || n, '$wav', server => 'hanging')) FROM generate_series(1, 50) n");
query("SELECT count(transcribe_enqueue('media ' || n, '$long', server => 'media')) FROM generate_series(1, 2) n");
query("SELECT count(transcribe_enqueue('saving ' || n, '$wav', server => 'saving')) FROM generate_series(1, 500 * $rounds) n");

foreach my $round (1 .. $rounds)
{
	wait_for($node, "SELECT count(*) >= 64 AND count(*) FILTER (WHERE server = 'hanging' AND j.status = 'transcribing') = 50
		AND count(*) FILTER (WHERE server = 'media' AND percent > 0) = 2 AND max(percent) FILTER (WHERE server = 'saving') > 0
		FROM transcribe_progress JOIN transcribe_jobs j ON j.id = job_id")
	  or last;
	my $begin = time;
	$node->stop('fast');
	push @took, time - $begin;
	$node->start;
}
my @sorted = sort { $a <=> $b } @took;
is(scalar(@took), $rounds, "$rounds times there were 64 jobs under way");
note(sprintf 'fast shutdown: median %.3f s, max %.3f s', $sorted[ @sorted / 2 ], $sorted[-1]);
cmp_ok($sorted[-1], '<', 1, 'a fast shutdown takes less than a second');
is(query('SELECT max(crashes), max(attempts) FILTER (WHERE status <> $$completed$$) FROM transcribe_jobs'), '0|0', 'no job was charged');
is(query('SELECT count(*) FROM transcribe_jobs'), 52 + 500 * $rounds, 'none is lost');
is(query("SELECT count(*) FROM transcribe_jobs WHERE status = 'failed'"), '0', 'none has failed');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|interrupted by a crash/, 'no claim was left behind');
$node->stop;
$faulty->stop;
done_testing();
