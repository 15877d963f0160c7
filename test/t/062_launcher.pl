# The launcher: every database gets its turn, whatever the others do, whenever
# its jobs come due, and after a restart those first that were at work.
use strict;
use warnings;

use lib 'test/perl';
use POSIX qw(sysconf _SC_CLK_TCK);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('launcher',
	log_min_messages => 'debug1',
	max_prepared_transactions => 10,
	max_logical_replication_workers => 0,
	'transcribe.max_workers' => 1,
	'transcribe.idle_timeout' => '1s',
	'transcribe.naptime' => '1s');
my $wav = "$audio/austen-0880.wav";

sub query
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

# A database with the extension and a server.
sub create_database
{
	my ($name, $scenario, $options) = @_;
	query("CREATE DATABASE $name");
	query("CREATE EXTENSION transcribe; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '"
		  . $faulty->url($scenario) . "'" . ($options // '') . ')', $name);
	return;
}

sub wait_in
{
	my ($db, $sql, $name) = @_;
	return ok($node->poll_query_until($db, $sql), $name);
}

sub wait_completed
{
	my ($db, $session, $name) = @_;
	return wait_in($db, "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = '$session'", $name);
}

sub oid { return query("SELECT oid FROM pg_database WHERE datname = '$_[0]'") }

# How many lines of the log match, behind a place.
sub lines
{
	my ($pattern, $from) = @_;
	my @found = substr(slurp_file($node->logfile), $from // 0) =~ /$pattern/g;
	return scalar @found;
}

sub log_end { return -s $node->logfile }

my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'";

# A database whose queue never ends, and a long recording in it, leave the only
# worker to another one; what is saved of the recording is not sent again.
create_database('endless', 'ok,delay=0.3', ", max_requests '2'");
query("CREATE SERVER long FOREIGN DATA WRAPPER transcribe OPTIONS (url '"
	  . $faulty->url('ok,delay=1,tag=long') . "', max_requests '1', chunk_seconds '10')", 'endless');
create_database('waiting', 'ok,tag=waiting');
query("SELECT transcribe_enqueue('endless ' || n, '$wav') FROM generate_series(1, 2000) n;
	SELECT transcribe_enqueue('long', '$audio/talk.mp3', server => 'long')", 'endless');
$faulty->wait_for_calls(2, 'ok,delay=1,tag=long');
query("SELECT transcribe_enqueue('first', '$wav')", 'waiting');
wait_completed('waiting', 'first', 'a queue without an end leaves the worker to another database');
my $served = query("SELECT count(*) FROM transcribe_jobs WHERE status = 'completed'", 'endless');
query("SELECT transcribe_enqueue('second', '$wav')", 'waiting');
wait_in('endless', "SELECT count(*) > $served FROM transcribe_jobs WHERE status = 'completed'", 'and has its own turn again');
wait_completed('waiting', 'second', 'and so on');
wait_completed('endless', 'long', 'a long recording completes meanwhile');
is(query("SELECT attempts, crashes FROM transcribe_jobs WHERE session_id = 'long'", 'endless'), '1|0',
	'as if nothing had interrupted it');
is(scalar($faulty->log('ok,delay=1,tag=long')),
	query("SELECT count(*) FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = 'long'", 'endless'),
	'and none of it was sent twice');
query('SELECT transcribe_delete(id) FROM transcribe_jobs', 'endless');
wait_in('postgres', "$workers" =~ s/count\(\*\)/count(*) = 0/r, 'the worker leaves');

# Prepared before a restart, committed after it.
query("BEGIN; SELECT transcribe_enqueue('prepared', '$wav'); PREPARE TRANSACTION 'p'", 'waiting');
query('CREATE DATABASE created');
query("BEGIN; CREATE EXTENSION transcribe;
	CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url . "');
	SELECT transcribe_enqueue('prepared', '$wav'); PREPARE TRANSACTION 'q'", 'created');
wait_in('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'transcribe worker')");
$node->restart;
ok($node->wait_for_log(qr/transcribe worker for database/, 0), 'after a restart databases are visited');
wait_in('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
query("COMMIT PREPARED 'p'", 'waiting');
query("COMMIT PREPARED 'q'", 'created');
wait_completed('waiting', 'prepared', 'a job of a transaction that was prepared before a restart runs');
wait_completed('created', 'prepared', 'also where the extension was made by it');

# One that takes no connections is told of once, and served when it does again.
create_database('closed', 'ok');
query("SELECT transcribe_enqueue('s', '$wav', run_at => now() + '2 s')", 'closed');
wait_in('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'closed'");
query('ALTER DATABASE closed ALLOW_CONNECTIONS false');
my $from = log_end();
my $closed = oid('closed');
ok($node->wait_for_log(qr/transcription jobs in database $closed wait/, $from), 'a database that takes no connections is told of');
query("SELECT transcribe_enqueue('beside', '$wav')", 'waiting');
wait_completed('waiting', 'beside', 'another one is served');
is(lines(qr/FATAL/, $from), 0, 'no worker fails to start there');
query('ALTER DATABASE closed ALLOW_CONNECTIONS true');
wait_completed('closed', 's', 'it is served when it takes them again');
is(lines(qr/transcription jobs in database $closed wait/, $from), 1, 'and was told of once');

# One that somebody is altering, for as long as that takes, holds no place.
my $owner = $node->background_psql('postgres');
query("SELECT transcribe_enqueue('altered', '$wav', run_at => now() + '1 s')", 'closed');
wait_in('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'closed'");
$owner->query_safe('BEGIN; ALTER DATABASE closed RENAME TO altered');
query("SELECT transcribe_enqueue('beside altered', '$wav', run_at => now() + '2 s')", 'waiting');
wait_completed('waiting', 'beside altered', 'another database is served while one is being altered');
$owner->query_safe('ROLLBACK');
$owner->quit;
wait_completed('closed', 'altered', 'and that one afterwards');

# One that is dropped with jobs in it leaves no trace in the log.
create_database('dropped', 'ok');
query("SELECT transcribe_enqueue('s', '$wav', run_at => now() + '2 s')", 'dropped');
wait_in('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'dropped'");
$from = log_end();
query('DROP DATABASE dropped');
query("SELECT transcribe_enqueue('due', '$wav', run_at => now() + '2 s')", 'waiting');
wait_completed('waiting', 'due', 'a job is due by its time alone');
is(lines(qr/FATAL/, $from), 0, 'no worker is started for a database that is gone');

# Where the extension is broken the log says why, once.
create_database('broken', 'ok');
$from = log_end();
query("ALTER FUNCTION transcribe_claim RENAME TO transcribe_claim_away;
	SELECT transcribe_enqueue('s', '$wav')", 'broken');
ok($node->wait_for_log(qr/does not come to work, trying less often/, $from), 'a worker that cannot claim is tried less often');
is(lines(qr/ERROR:  function public.transcribe_claim/, $from), 1, 'and says why once');
query('ALTER FUNCTION transcribe_claim_away RENAME TO transcribe_claim', 'broken');
wait_completed('broken', 's', 'it works again once it can');

# The hint: after a restart the database that was at work comes first.
query("CREATE DATABASE other$_") foreach 1 .. 9;
create_database('last', 'gate=last');
query("SELECT transcribe_enqueue('s', '$wav')", 'last');
$faulty->wait_for_calls(1, 'gate=last');
my $last = oid('last');

sub first_visited
{
	my ($how, $before) = @_;
	$node->stop($how);
	my $from = log_end();
	$before->() if $before;
	$node->start;
	$node->wait_for_log(qr/worker for database $last/, $from);
	$faulty->release('last');
	my ($first) = substr(slurp_file($node->logfile), $from) =~ /starting background worker process "transcribe worker for database (\d+)"/;
	return $first;
}
is(first_visited('immediate'), $last, 'the database that was at work when the server crashed is visited first');
wait_completed('last', 's', 'and works on');
# The database of this server is looked into, and is not at work after that.  All
# have been visited before, so that this visit is not one of those.
wait_in('postgres', "SELECT query LIKE 'workers: 0 of %, databases that wait for one: 0' FROM pg_stat_activity
	WHERE backend_type = 'transcribe launcher'");
$from = log_end();
create_server($node, 'unused', $faulty->url);
$node->wait_for_log('transcribe worker for database ' . oid('postgres') . '\b', $from);
query("SELECT transcribe_enqueue('later', '$wav', run_at => '2100-01-01')", 'last');
wait_in('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
is(first_visited('fast'), $last, 'so is the one whose jobs waited when it was shut down');
my $hint = $node->data_dir . '/transcribe.databases';
ok(-s $hint, 'that is kept in a file');
first_visited('fast', sub { unlink $hint; append_to_file($hint, "4294967295\nrubbish \0 123456789012345678901234567890\n$last") });
query("UPDATE transcribe_jobs SET run_at = now() WHERE session_id = 'later'", 'last');
query("SELECT transcribe_enqueue('beside', '$wav')", 'last');
wait_completed('last', 'later', 'which is not trusted');

# With nothing to do but later, nobody wakes up.
sub sleeps
{
	my ($count) = slurp_file("/proc/$_[0]/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $count;
}
query("SELECT transcribe_enqueue('much later', '$wav', run_at => now() + '1 day')", $_) foreach 'waiting', 'closed', 'broken';
wait_in('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'transcribe worker'", 'no worker stays');
my $launcher = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'");
# Soon, since it may have yet to learn that the last worker is gone.
my $slept;
foreach (1 .. 3)
{
	$slept = sleeps($launcher);
	sleep 3;
	last if sleeps($launcher) == $slept;
}
is(sleeps($launcher), $slept, 'the launcher sleeps until something is due');

# Out of processes: one warning, no work, and everybody's turn all the same.
create_database('gated', 'gate=gated');
$node->append_conf('postgresql.conf', "max_worker_processes = 2\ntranscribe.max_workers = 4");
$from = log_end();
$node->restart;
query("SELECT transcribe_enqueue('s', '$wav')", 'gated');
$faulty->wait_for_calls(1, 'gate=gated');
query("SELECT transcribe_enqueue('crowded', '$wav')", $_) foreach 'waiting', 'closed';
ok($node->wait_for_log(qr/WARNING:  could not start transcribe worker: out of background worker slots/, $from),
	'without a free process there is a warning');

sub cpu
{
	my ($fields) = slurp_file("/proc/$_[0]/stat") =~ /.*\) (.*)/s;
	my @fields = split / /, $fields;
	return ($fields[11] + $fields[12]) / sysconf(_SC_CLK_TCK);
}
$launcher = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'");
my ($cpu, $begin) = (cpu($launcher), time);
sleep 5;
my $percent = 100 * (cpu($launcher) - $cpu) / (time - $begin);
note(sprintf 'launcher, out of processes: %.2f %% of a processor', $percent);
cmp_ok($percent, '<', 5, 'in which the launcher rests');
query("SELECT transcribe_enqueue('crowded too', '$wav')", 'broken');
$faulty->release('gated');
wait_completed($_, 'crowded', "$_ is served when there is one") foreach 'waiting', 'closed';
wait_completed('broken', 'crowded too', 'so is one that came later');
wait_completed('gated', 's', 'and the one that held it');
is(lines(qr/out of background worker slots/, $from), 1, 'there was one warning');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process.*was terminated/, 'nothing crashed');
$node->stop;
$faulty->stop;
done_testing();
