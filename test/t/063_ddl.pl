# What others do to a database, or to our tables, while jobs run in it: they
# wait for us no longer than a moment, and no job is lost or charged.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('ddl', 'transcribe.idle_timeout' => '10min');
my $wav = "$audio/austen-0880.wav";
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my %took;

# Decoding takes longer than all that is done to it meanwhile.
my $long = "$dir/long.mp3";
system_or_bail('ffmpeg', '-nostdin', '-v', 'error', '-stream_loop', '400', '-i', "$audio/talk.mp3", '-c', 'copy', $long);

sub query
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

# Runs a command, and keeps how long that took.  PostgreSQL gives up after 5 s
# where sessions do not leave.
sub timed
{
	my ($kind, $db, $sql, $name, @user) = @_;
	my $begin = time;
	my ($rc, undef, $stderr) = $node->psql($db, $sql, extra_params => [ map { ('-U', $_) } @user ]);
	my $seconds = time - $begin;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($rc, 0, $name) or diag($stderr);
	cmp_ok($seconds, '<', 4, "$name: without delay");
	push @{ $took{$kind} }, $seconds;
	return;
}

mkdir "$dir/one" and mkdir "$dir/two" or die "could not make a directory: $!";
query("CREATE ROLE owner LOGIN CREATEDB");
query("CREATE TABLESPACE one LOCATION '$dir/one'");
query("CREATE TABLESPACE two LOCATION '$dir/two'");
query('GRANT CREATE ON TABLESPACE one TO owner');

# A database of the plain owner with the extension and servers.
sub create_database
{
	my ($name) = @_;
	query("CREATE DATABASE $name OWNER owner");
	query('CREATE EXTENSION transcribe', $name);
	query("CREATE SERVER $_->[0] FOREIGN DATA WRAPPER transcribe
		OPTIONS (url '" . $faulty->url("$_->[1],tag=$name") . "', chunk_seconds '3600', max_requests '0', retry_interval '10ms')", $name)
	  foreach [ media => 'ok' ], [ hanging => 'hang' ], [ saving => 'ok,seconds=20' ], [ gated => 'gate=g' ];
	return;
}

# In each phase: jobs to begin with, and how to see that it is reached.
my %phases = (
	media => [ 2, $long, "SELECT sum(recordings) = 2 FROM transcribe_workers WHERE datname = current_database()" ],
	hanging => [ 3, $wav, "SELECT count(*) = 3 FROM transcribe_progress WHERE status = 'transcribing'" ],
	saving => [ 3000, $wav, "SELECT max(finished_at) > clock_timestamp() - interval '1 s' FROM transcribe_jobs WHERE status = 'completed'" ]);

sub reach
{
	my ($phase, $db) = @_;
	return ok($node->poll_query_until($db, $phases{$phase}[2]), "$phase: jobs are at work in $db");
}

# All that is open is there, and nothing has been charged.
sub nothing_lost
{
	my ($phase, $db) = @_;

	is(query("SELECT count(*), max(crashes), max(attempts) FILTER (WHERE status <> 'completed'), max(attempts) FILTER (WHERE status = 'completed') <= 1 FROM transcribe_jobs", $db),
		"$phases{$phase}[0]|0|0|" . ($phase eq 'saving' ? 't' : ''), "$phase: no job of $db is lost or charged");
	return;
}

my $sharedir = $node->config_data('--sharedir');
my $version = query("SELECT default_version FROM pg_available_extensions WHERE name = 'transcribe'");
my @scripts = map { "$sharedir/extension/transcribe--$_.sql" } "$version--ddl", "ddl--$version";
my $may_update = -w "$sharedir/extension";
if ($may_update)
{
	append_to_file($_, "COMMENT ON EXTENSION transcribe IS 'updated';\n") foreach @scripts;
}
END { local $?; unlink @scripts if $may_update }

foreach my $phase (sort keys %phases)
{
	my ($count, $recording) = @{ $phases{$phase} };
	my $enqueue = "SELECT count(transcribe_enqueue('s' || n, '$recording', server => '$phase')) FROM generate_series(1, $count) n";

	create_database("${phase}_db");
	query($enqueue, "${phase}_db");
	reach($phase, "${phase}_db");
	timed('RENAME', 'template1', "ALTER DATABASE ${phase}_db RENAME TO $phase", "$phase: ALTER DATABASE RENAME", 'owner');
	reach($phase, $phase);
	timed('SET TABLESPACE', 'template1', "ALTER DATABASE $phase SET TABLESPACE one", "$phase: ALTER DATABASE SET TABLESPACE", 'owner');
	reach($phase, $phase);
	timed('TEMPLATE', 'template1', "CREATE DATABASE ${phase}_copy TEMPLATE $phase", "$phase: CREATE DATABASE TEMPLATE", 'owner');
	reach($phase, $phase);
	SKIP:
	{
		skip 'the extension is installed where this user may not write', 2 if !$may_update;
		# To a version that nobody serves, and back.
		timed('ALTER EXTENSION', $phase, "ALTER EXTENSION transcribe UPDATE TO 'ddl'; ALTER EXTENSION transcribe UPDATE TO '$version'",
			"$phase: ALTER EXTENSION UPDATE");
	}
	reach($phase, $phase);
	foreach my $round (1 .. 3)
	{
		query("CREATE DATABASE unrelated$round");
		timed('unrelated DROP', 'postgres', "DROP DATABASE unrelated$round", "$phase: DROP DATABASE of another one");
	}
	query("CREATE TABLE t$phase TABLESPACE two AS SELECT 1; DROP TABLE t$phase");
	timed('DROP TABLESPACE', 'postgres', 'DROP TABLESPACE two', "$phase: DROP TABLESPACE");
	query("CREATE TABLESPACE two LOCATION '$dir/two'");

	# Our tables are rewritten, and rebuilt.
	foreach my $table (qw(transcribe_jobs transcribe_chunks transcribe_chunk_segments transcribe_attempts))
	{
		timed('VACUUM FULL', $phase, "VACUUM FULL $table", "$phase: VACUUM FULL $table");
		timed('REINDEX', $phase, "REINDEX TABLE $table", "$phase: REINDEX $table");
		timed('CLUSTER', $phase, "CLUSTER $table USING ${table}_pkey", "$phase: CLUSTER $table");
	}
	reach($phase, $phase);
	nothing_lost($phase, $phase);

	# Everything is thrown away.
	timed('TRUNCATE', $phase, 'TRUNCATE transcribe_jobs, transcribe_chunks, transcribe_chunk_segments, transcribe_attempts', "$phase: TRUNCATE");
	ok($node->poll_query_until($phase, "SELECT count(*) = 0 FROM transcribe_progress"), "$phase: jobs whose rows are gone are dropped")
	  if $phase ne 'media';
	query($enqueue, $phase);
	reach($phase, $phase);
	timed('DROP EXTENSION', $phase, 'DROP EXTENSION transcribe CASCADE', "$phase: DROP EXTENSION");
	timed('DROP DATABASE', 'template1', "DROP DATABASE $phase", "$phase: DROP DATABASE of one without it", 'owner');

	# With jobs in it, with and without force.
	foreach my $force ('', ' WITH (FORCE)')
	{
		create_database('dropped');
		query($enqueue, 'dropped');
		reach($phase, 'dropped');
		timed("DROP DATABASE$force", 'template1', "DROP DATABASE dropped$force", "$phase: DROP DATABASE$force", 'owner');
	}
	query("DROP DATABASE ${phase}_copy");
	query('SELECT 1');
}
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'transcribe worker'"), 'nobody is left');

# Somebody locks a table for some seconds: answers wait, and other databases do
# not; and the worker hears what it is told.
create_database('locked');
create_database('beside');
query("SELECT count(transcribe_enqueue('s' || n, '$wav', server => 'gated')) FROM generate_series(1, 20) n", 'locked');
$faulty->wait_for_calls(20, 'gate=g,tag=locked');
ok($node->poll_query_until('locked', "SELECT count(*) = 20 FROM transcribe_jobs WHERE status = 'transcribing'"), 'twenty requests are under way');
my $holder = $node->background_psql('locked');
$holder->query_safe('BEGIN; LOCK TABLE transcribe_chunks IN ACCESS EXCLUSIVE MODE');
my $from = -s $node->logfile;
$faulty->release('g');
query("SELECT transcribe_enqueue('s', '$wav', server => 'saving')", 'beside');
ok($node->poll_query_until('beside', "SELECT status = 'completed' FROM transcribe_jobs"), 'a table is locked: other databases go on');
ok($node->wait_for_log(qr/canceling statement due to lock timeout(?s:.*)canceling statement due to lock timeout/, $from), 'answers wait');
my $worker = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker' AND datname = 'locked'");
my $begin = time;
query("SELECT pg_terminate_backend($worker)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker"), 'the worker leaves when it is told to');
my $left = time - $begin;
note(sprintf 'it left after %.2f s', $left);
cmp_ok($left, '<', 10, 'however many answers wait');
$holder->query_safe('COMMIT');
$holder->quit;
ok($node->poll_query_until('locked', "SELECT count(*) = 20 FROM transcribe_jobs WHERE status = 'completed' AND attempts = 1"), 'all complete once the lock is gone');

foreach my $kind (sort keys %took)
{
	my @sorted = sort { $a <=> $b } @{ $took{$kind} };
	note(sprintf '%-26s median %.3f s, max %.3f s of %d', $kind, $sorted[ @sorted / 2 ], $sorted[-1], scalar @sorted);
}
my @unrelated = sort { $a <=> $b } @{ $took{'unrelated DROP'} };
cmp_ok($unrelated[ @unrelated / 2 ], '<', 2, 'an unrelated DROP DATABASE is in no way delayed');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|server process|deadlock|FATAL:  database/, 'nothing went wrong');
$node->stop;
$faulty->stop;
done_testing();
