# Many databases, each served, none in the way of its own DDL; and a server that
# has not loaded the library says what to do.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('databases', 'transcribe.max_workers' => 2, 'transcribe.idle_timeout' => '10min');
my $wav = "$audio/austen-0880.wav";
my $url = $faulty->url;

sub query
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

sub create_database
{
	my ($name, $url) = @_;
	query("CREATE DATABASE $name");
	query("CREATE EXTENSION transcribe; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe
		OPTIONS (url '$url', model 'm', retry_interval '10ms')", $name);
	return;
}

# More databases than workers: an idle one leaves for those that wait.
create_database("db$_", $url) foreach 1 .. 4;
query("SELECT transcribe_enqueue('s', '$wav')", "db$_") foreach 1 .. 4;
foreach my $n (1 .. 4)
{
	ok($node->poll_query_until("db$n", "SELECT status = 'completed' FROM transcribe_jobs"),
		"database $n of 4 is served by one of 2 workers");
}

# A worker that is busy leaves when its database is wanted, within a second,
# for its plain owner too.
query('CREATE ROLE owner LOGIN CREATEDB; ALTER DATABASE db1 OWNER TO owner; ALTER DATABASE db2 OWNER TO owner');
query("ALTER SERVER whisper OPTIONS (SET url '" . $faulty->url('hang') . "')", "db$_") foreach 1, 2;

sub busy
{
	my ($db) = @_;
	my $before = () = $faulty->log('hang');

	query("SELECT transcribe_enqueue('busy' || clock_timestamp(), '$wav')", $db);
	$faulty->wait_for_calls($before + 1, 'hang');
	return;
}

sub timed
{
	my ($sql, $name) = @_;
	my $begin = time;
	my ($rc, undef, $stderr) = $node->psql('template1', $sql, extra_params => [ '-U', 'owner' ]);
	my $took = time - $begin;

	is($rc, 0, "$name succeeds") or diag($stderr);
	cmp_ok($took, '<', 1.5, "$name does not wait for us");
	return;
}

busy('db1');
timed('ALTER DATABASE db1 RENAME TO db9', 'ALTER DATABASE RENAME');
ok($node->poll_query_until('db9', "SELECT count(*) > 0 FROM transcribe_jobs WHERE status = 'transcribing'"),
	'its jobs go on under the new name');
is(query("SELECT max(attempts + crashes) FROM transcribe_jobs WHERE status = 'transcribing'", 'db9'), '0',
	'and the interruption cost nothing');
timed('CREATE DATABASE copy TEMPLATE db9', 'CREATE DATABASE TEMPLATE');
busy('db2');
timed('DROP DATABASE db2', 'DROP DATABASE');
timed('DROP DATABASE db9', 'DROP DATABASE of another one');
my $begin = time;
query('CREATE DATABASE unrelated');
query('DROP DATABASE unrelated');
cmp_ok(time - $begin, '<', 2, 'unrelated databases come and go');

# DROP EXTENSION under a running job, and a new one after it.
query("ALTER SERVER whisper OPTIONS (SET url '" . $faulty->url('hang') . "')", 'db3');
busy('db3');
$begin = time;
query('DROP EXTENSION transcribe CASCADE', 'db3');
cmp_ok(time - $begin, '<', 1, 'DROP EXTENSION does not wait');
query("CREATE EXTENSION transcribe; CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url')", 'db3');
query("SELECT transcribe_enqueue('new', '$wav')", 'db3');
ok($node->poll_query_until('db3', "SELECT status = 'completed' FROM transcribe_jobs"),
	'a new extension in the same database works');

# A database whose worker cannot claim keeps no other from its turn, and goes on
# once it can.
create_database("broken$_", $url) foreach 1 .. 2;
query("ALTER FUNCTION transcribe_claim RENAME TO transcribe_claim_away;
	SELECT transcribe_enqueue('s', '$wav')", "broken$_") foreach 1 .. 2;
ok($node->wait_for_log(qr/ERROR:  function public.transcribe_claim\(bigint, text, integer, timestamp with time zone, bigint\) does not exist/),
	'a worker that cannot claim says why');
query("SELECT transcribe_enqueue('beside', '$wav')", 'db4');
ok($node->poll_query_until('db4', "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = 'beside'"),
	'and takes no place of others');
query("ALTER FUNCTION transcribe_claim_away RENAME TO transcribe_claim", "broken$_") foreach 1 .. 2;
foreach my $n (1 .. 2)
{
	ok($node->poll_query_until("broken$n", "SELECT status = 'completed' FROM transcribe_jobs"),
		'it works again once it can');
}

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process/, 'nothing crashed');
$node->stop;

# Not preloaded: everything but the workers.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
query('CREATE DATABASE plain');
my ($rc, undef, $stderr) = $node->psql('plain', 'CREATE EXTENSION transcribe');
is($rc, 0, 'CREATE EXTENSION works without preload');
like($stderr, qr/WARNING:  transcribe is not loaded via shared_preload_libraries/, 'with a warning');
like($stderr, qr/ALTER SYSTEM SET shared_preload_libraries = transcribe;/, 'that gives the line to set');
query("CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url')", 'plain');
($rc, my $stdout, $stderr) = $node->psql('plain', "SELECT transcribe_enqueue('s', '$wav')");
is("$rc $stdout", '0 1', 'enqueue stores the job');
like($stderr, qr/no worker takes it/, 'and warns');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'transcribe'");
$node->restart;
ok($node->poll_query_until('plain', "SELECT status = 'completed' FROM transcribe_jobs"),
	'which runs once the server has loaded it');

$faulty->stop;
done_testing();
