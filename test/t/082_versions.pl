# From the installation of a new version to the restart and to ALTER EXTENSION
# UPDATE, library, SQL objects and programs of different versions meet.  They
# work together, or say what to do; and whatever waits goes on then.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $wav = "$audio/austen-0880.wav";
my $pg = TranscribeTest::Installation->make;
my $old = $pg->version;
my $node = start_cluster('versions', install_path => $pg->path, 'transcribe.max_workers' => 1);
my $log_position = 0;

create_server($node, 'whisper', $faulty->url, retry_interval => '10ms');

sub query { return $node->safe_psql('postgres', $_[0]) }

# Statements that are refused, with all that is said.
sub refused
{
	my ($sql, $error, $hint, $name) = @_;
	my ($rc, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql", on_error_stop => 1);

	isnt($rc, 0, "$name is refused");
	like($stderr, qr/ERROR:  55000: $error/, "$name says why");
	like($stderr, qr/HINT:  $hint/, "$name says what to do");
	return;
}

sub enqueue
{
	my ($session) = @_;
	return query("SELECT transcribe_enqueue('$session', '$wav')");
}

sub completes
{
	my ($session, $name) = @_;
	return wait_for($node, "SELECT status, attempts, crashes FROM transcribe_jobs WHERE session_id = '$session'", 'completed|1|0', $name);
}

# Have the queue stand still, or go on.
sub set_enabled
{
	my ($value) = @_;

	$node->append_conf('postgresql.conf', "transcribe.enabled = $value");
	return;
}

# What was logged since this was called last.
sub new_log
{
	my $log = slurp_file($node->logfile, $log_position);

	$log_position += length $log;
	return $log;
}

sub workers { return "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'" }

enqueue('before');
completes('before', 'a job runs');

# The files are installed, and the server still has the old library.
my $new = $pg->add_version(<<SQL);
CREATE FUNCTION transcribe_new() RETURNS text LANGUAGE sql RETURN 'new';
REVOKE ALL ON FUNCTION transcribe_new() FROM PUBLIC;
SQL
$pg->install_library($new);
refused('ALTER EXTENSION transcribe UPDATE',
	qr/version \Q$new\E of extension "transcribe" needs the library of that version, and \Q$old\E is loaded/,
	'Restart the server first, and then run the command again\.', 'ALTER EXTENSION UPDATE before the restart');
query('CREATE DATABASE other');
my ($rc, undef, $stderr) = $node->psql('other', 'CREATE EXTENSION transcribe');
isnt($rc, 0, 'CREATE EXTENSION before the restart is refused');
like($stderr, qr/needs the library of that version/, 'CREATE EXTENSION before the restart says why');
enqueue('installed');
completes('installed', 'jobs go on after the installation');

# Restarted: the new library meets the old objects, and then its own.
$node->restart;
enqueue('restarted');
completes('restarted', 'jobs go on after the restart');
query('ALTER EXTENSION transcribe UPDATE');
is(query('SELECT transcribe_new()'), 'new', 'ALTER EXTENSION UPDATE works after the restart');
enqueue('updated');
completes('updated', 'jobs go on after the update');

# The package goes back, and the objects do not.
set_enabled('off');
$node->reload;
enqueue('waits for the library');
$node->stop;
$pg->install_library($old);
set_enabled('on');
new_log();
$node->start;
refused("SELECT transcribe_enqueue('refused', '$wav')",
	qr/extension "transcribe" is of version \Q$new\E here, which the loaded library, of version \Q$old\E, does not serve/,
	'Restart the server', 'enqueueing in objects that are newer than the library');
refused('SELECT transcribe_cancel(max(id)) FROM transcribe_jobs',
	'extension "transcribe" is of version', 'Restart the server', 'cancelling there');
ok($node->wait_for_log(qr/WARNING:  extension "transcribe" is of version \Q$new\E here.*\n.*HINT:  Restart the server/, $log_position),
	'the worker says what to do');
wait_for($node, workers(), '0', 'and leaves');
is(query("SELECT status, attempts, crashes FROM transcribe_jobs WHERE session_id = 'waits for the library'"), 'queued|0|0',
	'what is queued stays queued');
is(query('SELECT state FROM transcribe_servers'), 'available', 'what only reads still works');
is(scalar(() = new_log() =~ /WARNING:  extension/g), 1, 'nothing more is tried, and said');
$pg->install_library($new);
$node->restart;
completes('waits for the library', 'with the library that belongs to them it runs');

# Objects so old that no library of today serves them.
set_enabled('off');
$node->reload;
wait_for($node, workers(), '0');
enqueue('waits for the update');
query("UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'transcribe'");
$pg->write_script("0.1--$new", "SELECT transcribe_require_library('$new');\n");
new_log();
set_enabled('on');
$node->reload;
refused("SELECT transcribe_enqueue('refused', '$wav')",
	qr/extension "transcribe" is of version 0\.1 here, which the loaded library, of version \Q$new\E, does not serve/,
	'Run ALTER EXTENSION transcribe UPDATE; in this database\.', 'enqueueing in objects that are too old');
ok($node->wait_for_log(qr/WARNING:  extension "transcribe" is of version 0\.1 here.*\n.*HINT:  Run ALTER EXTENSION transcribe UPDATE;/, $log_position),
	'the worker says what to do');
wait_for($node, workers(), '0', 'and leaves');
is(query("SELECT status, attempts, crashes FROM transcribe_jobs WHERE session_id = 'waits for the update'"), 'queued|0|0',
	'what is queued stays queued');
is(scalar(() = new_log() =~ /WARNING:  extension/g), 1, 'nothing more is tried, and said');
query('ALTER EXTENSION transcribe UPDATE');
completes('waits for the update', 'the update alone wakes the worker');

$node->safe_psql('other', "CREATE EXTENSION transcribe;
	CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url . "', model 'm')");

# Programs of another version than the library, until the restart.  How often
# an agent is started is counted by a script in its place.
my $starts = $pg->library_directory . '/starts';
foreach my $program (qw(transcribe_agent transcribe_media))
{
	my $ours = $pg->install_stranger($program);

	if ($program eq 'transcribe_agent')
	{
		$pg->install_program('stranger', slurp_file($pg->library_directory . "/$program"));
		$pg->install_program($program, "#!/bin/sh\necho >> $starts\nexec " . $pg->library_directory . "/stranger \"\$\@\"\n");
	}
	query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
	wait_for($node, workers(), '0');
	new_log();
	enqueue("$program first");
	wait_for($node, "SELECT status, attempts, crashes, error_code FROM transcribe_jobs WHERE session_id = '$program first'",
		'queued|0|0|other_version', "a $program of another version: the job waits, at no cost");
	like(query("SELECT error FROM transcribe_jobs WHERE session_id = '$program first'"), qr/^$program is of another version than /,
		"a $program of another version: it says for what");
	ok($node->wait_for_log(qr/WARNING:  $program is of another version than the library.*\n.*DETAIL:.*\n.*HINT:  Restart the server\./, $log_position),
		"a $program of another version: so does the log");

	# Each of these wakes the worker, and the check takes about as long as the
	# worker would take to try again.
	enqueue("$program $_") foreach 1 .. 20;
	is(query("SELECT step || '|' || hint FROM transcribe_check_server('whisper') WHERE NOT ok"),
		'audio|Restart the server, so that library and programs are those that were installed together.',
		"a $program of another version: so does the check of a server");
	is(query("SELECT DISTINCT status, attempts, crashes FROM transcribe_jobs WHERE session_id LIKE '$program %'"), 'queued|0|0',
		"a $program of another version: nothing is begun");
	my $log = new_log();
	is(scalar(() = $log =~ /WARNING:  $program/g), 1, "a $program of another version: it is said once");
	unlike($log, qr/ERROR/, "a $program of another version: nothing else goes wrong");

	# The check has started one as well.
	is(length(slurp_file($starts)), 2, "a $program of another version: it is not tried in a loop")
	  if $program eq 'transcribe_agent';

	# There is one worker, and it waits.
	$node->safe_psql('other', "SELECT transcribe_enqueue('$program', '$wav')");
	ok($node->poll_query_until('other', "SELECT error_code = 'other_version' FROM transcribe_jobs WHERE session_id = '$program'"),
		"a $program of another version: a worker that waits makes room for one of another database");

	$pg->install_program($program, $ours);
	$node->restart;
	wait_for($node, "SELECT DISTINCT status, attempts, crashes, error_code FROM transcribe_jobs WHERE session_id LIKE '$program %'",
		'completed|1|0|', "with a $program of the library's version all of them run");
}

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process/, 'nothing crashed');
$node->stop;
$faulty->stop;
done_testing();
