# While requests hang and recordings are decoded, no transaction, snapshot or
# lock is held, but in the moments of a claim and a save.  TRANSCRIBE_TEST_SAMPLES
# says how often to look; the default is for every day.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $samples = $ENV{TRANSCRIBE_TEST_SAMPLES} // 1000;
my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('held', 'transcribe.media_processes' => 4);
my $wav = "$audio/austen-0880.wav";
my $long = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/long.mp3';

sub query { return $node->safe_psql('postgres', $_[0]) }

# Recordings that are decoded, one after another; requests that hang; and others
# that are answered, for which something is claimed and saved.
system_or_bail('ffmpeg', '-nostdin', '-v', 'error', '-stream_loop', '4', '-i', "$audio/talk.mp3", '-c', 'copy', $long);
create_server($node, 'media', $faulty->url('ok,seconds=20'), chunk_seconds => 3600, max_requests => 4);
create_server($node, 'hanging', $faulty->url('hang'), max_requests => 0, request_timeout => '1h');
create_server($node, 'answering', $faulty->url('ok,delay=0.2'), max_requests => 2);
query("SELECT count(transcribe_enqueue('hanging ' || n, '$wav', server => 'hanging')) FROM generate_series(1, 20) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'hanging' AND status = 'transcribing'", '20');
query("SELECT count(transcribe_enqueue('media ' || n, '$long', server => 'media')) FROM generate_series(1, 1000) n;
	SELECT count(transcribe_enqueue('answering ' || n, '$wav', server => 'answering', priority => 1)) FROM generate_series(1, 5000) n");
my $decoding = "SELECT count(*) > 0 FROM transcribe_progress WHERE status = 'preprocessing' AND percent > 0";
wait_for($node, $decoding);
wait_for($node, "SELECT count(*) > 3 FROM transcribe_jobs WHERE server = 'answering' AND status = 'completed'", 't', 'jobs are claimed and saved');

# Columns of pg_stat_activity are not read at one instant, so that a sample of
# a commit may show the transaction and the wait after it.  What is held while
# the worker waits is there in the next sample, too.
query("CREATE TABLE samples (n int PRIMARY KEY, pid int, waits bool, what text, held text)");
# Looked for until one was met in a claim or a save: then it would be seen.
query("DO \$\$ DECLARE seen boolean := false; BEGIN FOR i IN 1 .. 100 * $samples LOOP
		EXIT WHEN i > $samples AND seen;
		PERFORM pg_stat_clear_snapshot();
		INSERT INTO samples SELECT i, a.pid, a.wait_event_type = 'Extension', a.query,
			nullif(concat_ws(' ', a.xact_start, a.backend_xmin, a.backend_xid,
				(SELECT string_agg(l.locktype || ' ' || l.mode, ', ') FROM pg_locks l WHERE l.pid = a.pid)), '')
		FROM pg_stat_activity a WHERE a.backend_type = 'transcribe worker';
		seen := seen OR EXISTS (SELECT FROM samples s WHERE s.n = i AND s.held IS NOT NULL);
		PERFORM pg_sleep(0.001);
	END LOOP; END \$\$");
is(query("SELECT count(*) >= $samples, count(DISTINCT pid) FROM samples"), 't|1', 'the worker was looked at');
wait_for($node, $decoding, 't', 'recordings were decoded all the time');
is(query("SELECT count(*) FROM transcribe_jobs WHERE server = 'hanging' AND status = 'transcribing'"), '20', 'requests hung');
cmp_ok(query('SELECT count(*) FROM samples WHERE held IS NOT NULL'), '>', 0, 'claims and saves are seen');
is(query("SELECT count(*) FROM (SELECT waits AND held IS NOT NULL AND lead(waits) OVER next AND held = lead(held) OVER next AS held
	FROM samples WINDOW next AS (PARTITION BY pid ORDER BY n)) s WHERE held"), '0',
	'nothing is held while the worker waits');
note(query("SELECT count(*) || ' samples, ' || count(*) FILTER (WHERE held IS NOT NULL) || ' in a claim or a save, '
	|| count(*) FILTER (WHERE waits) || ' while it waited, ' || count(*) FILTER (WHERE waits AND held IS NOT NULL) || ' of them in between' FROM samples"));

$node->stop;
$faulty->stop;
done_testing();
