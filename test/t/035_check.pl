# What transcribe_check finds: things are broken one by one, and the row that is
# about them says so, and what helps.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use File::Copy qw(move);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $pg = TranscribeTest::Installation->make;
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
mkdir "$dir/media";
mkdir "$dir/media/inner";
my $node = start_cluster('check', install_path => $pg->path, init => { allows_streaming => 1 },
	'transcribe.media_directories' => "$dir/media/inner");
my $wav = "$audio/austen-0880.wav";

sub query { return $node->safe_psql('postgres', $_[0]) }

# The rows of a check: a hash of items, each { ok, detail, hint }.
sub check
{
	my ($arguments) = @_;
	my %rows;

	foreach my $line (split /\n/, query('SELECT item, ok, detail, hint FROM transcribe_check(' . ($arguments // 'false') . ')'))
	{
		my ($item, $ok, $detail, $hint) = split /\|/, $line, 4;
		$rows{$item} = { ok => $ok, detail => $detail, hint => $hint };
	}
	return \%rows;
}

# A check has this row, with this said of it, and no other that is bad.
sub finds
{
	my ($rows, $item, $ok, $detail, $hint, $what) = @_;
	my @bad = grep { $rows->{$_}{ok} eq 'f' && $_ ne $item } sort keys %$rows;
	my $row = $rows->{$item} // { ok => 'no row', detail => join(', ', sort keys %$rows), hint => '' };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is("$row->{ok} @bad", "$ok ", "$what: $item") or diag($row->{detail}, map { "\n$_: $rows->{$_}{detail}" } @bad);
	like($row->{detail}, $detail, "$what: it says what");
	like($row->{hint}, $hint, "$what: it says what to type");
	return;
}

sub set
{
	my ($setting, $value) = @_;
	query("ALTER SYSTEM SET $setting = " . ($value =~ /^\w+$/ ? $value : "'$value'"));
	$node->reload;
	ok($node->poll_query_until('postgres', "SELECT current_setting('$setting') = '$value'"), "$setting is '$value'");
	return;
}

# Where nothing is broken.
create_server($node, 'good', $faulty->url('ok,tag=good'));
my $rows = check('');
is_deeply([ grep { $rows->{$_}{ok} eq 'f' } sort keys %$rows ], [], 'where nothing is broken, nothing is found');
is_deeply([ map { "$_ $rows->{$_}{ok}" } (qw(library launcher enabled workers agent media jobs), "directory $dir/media/inner", 'server good') ],
	[ map { "$_ t" } (qw(library launcher enabled workers agent media jobs), "directory $dir/media/inner", 'server good') ],
	'and what works is listed');
is($rows->{'server good'}{detail} =~ /^heard "segment 1 segment 2", \d+ ms for/, 1, 'with what a server has heard');
like($rows->{sandbox}{detail}, qr/^recordings are read with(?:in limits, Landlock and seccomp|out all of it)/, 'and what there is of the sandbox');
is(scalar($faulty->log('ok,tag=good')), 1, 'each server is asked once');
check();
is(scalar($faulty->log('ok,tag=good')), 1, 'or not at all');
is(query("SELECT count(*) FROM transcribe_stats WHERE requests > 0"), '0', 'which no statistics count');

# Directories.
rename "$dir/media/inner", "$dir/media/other";
finds(check(), "directory $dir/media/inner", 'f', qr/No such file or directory/, qr/^mkdir -p '\Q$dir\E\/media\/inner'/, 'no directory');
append_to_file("$dir/media/inner", '');
finds(check(), "directory $dir/media/inner", 'f', qr/not a directory/, qr/ALTER SYSTEM SET/, 'a file');
unlink "$dir/media/inner";
rename "$dir/media/other", "$dir/media/inner";
chmod 0600, "$dir/media";
finds(check(), "directory $dir/media/inner", 'f', qr/cannot pass "\Q$dir\E\/media": Permission denied/,
	qr/^setfacl -m u:\S+:x '\Q$dir\E\/media'$/, 'a directory that cannot be passed');
chmod 0700, "$dir/media";

# Programs.
my $libraries = $pg->library_directory;
move("$libraries/transcribe_agent", "$libraries/aside");
finds(check(), 'agent', 'f', qr/transcribe_agent": No such file/, qr/make install/, 'no agent');
append_to_file("$libraries/transcribe_agent", "#!/bin/sh\nexit 3\n");
finds(check(), 'agent', 'f', qr/Permission denied/, qr/chmod 0755/, 'an agent that may not be executed');
chmod 0755, "$libraries/transcribe_agent";
finds(check(), 'agent', 'f', qr/exited with status 3/, qr/Restart the server/, 'an agent that does not work');
unlink "$libraries/transcribe_agent";
move("$libraries/aside", "$libraries/transcribe_agent");
move("$libraries/transcribe_media", "$libraries/aside");
finds(check(), 'media', 'f', qr/transcribe_media": No such file/, qr/make install/, 'no media program');
move("$libraries/aside", "$libraries/transcribe_media");

# Keys.
append_to_file("$dir/key", "sk-canary\n");
chmod 0644, "$dir/key";
create_server($node, 'keyed', $faulty->url('key=sk-canary'));
finds(check(''), 'server keyed', 'f', qr/^authorization: /, qr/^CREATE USER MAPPING FOR PUBLIC SERVER keyed/, 'no key');
create_mapping($node, 'PUBLIC', 'keyed', api_key_file => "$dir/key");
finds(check(), 'key of PUBLIC at keyed', 'f', qr/must be a regular file with permissions 0600/, qr/chmod 0600/, 'a key that others can read');
chmod 0600, "$dir/key";
$rows = check('');
is($rows->{'key of PUBLIC at keyed'}{ok} . $rows->{'server keyed'}{ok}, 'tt', 'a key that is in order');
unlike(join(' ', map { "$_->{detail} $_->{hint}" } values %$rows), qr/sk-canary/, 'which is shown nowhere');

# Servers.
my $port = PostgreSQL::Test::Cluster::get_free_port();
create_server($node, 'down', "http://127.0.0.1:$port/v1", retry_interval => '1ms', max_attempts => 1);
finds(check(''), 'server down', 'f', qr/^connection: could not connect to host 127\.0\.0\.1 port $port/, qr/ALTER SERVER down/, 'a server that is down');
query("SELECT transcribe_hold_server('down')");
finds(check(''), 'server down', '', qr/^it is held/, qr/^SELECT transcribe_resume_server\('down'\);$/, 'a server that is held');
query("SELECT transcribe_enqueue('waits', '$wav', 'down')");
finds(check(), 'queue down', 'f', qr/^jobs wait since .* because down is held$/, qr/transcribe_resume_server\('down'\)/, 'a job for it');
query("SELECT transcribe_resume_server('down')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'waits'", 'failed');
finds(check(), 'failures could_not_connect', 'f', qr/^1 jobs failed so .*could not connect to host/, qr/retry_failed\(error_code => 'could_not_connect'\)/, 'a failure');
query("SELECT transcribe_enqueue('done ' || n, '$wav', 'good') FROM generate_series(1, 2) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE status = 'completed'", '2');
is(check()->{'failures could_not_connect'}{ok}, '', 'where more completes than fails it is not bad');
query("SELECT transcribe_delete(id) FROM transcribe_jobs; DROP SERVER down");
create_server($node, 'stopped', $faulty->url('status=401,tag=stopped'));
query("SELECT transcribe_enqueue('stopped', '$wav', 'stopped')");
wait_for($node, "SELECT state FROM transcribe_servers WHERE server = 'stopped'", 'stopped');
wait_for($node, "SELECT status FROM transcribe_jobs", 'queued');
$rows = check();
is($rows->{'server stopped'}{ok} . $rows->{'queue stopped'}{ok}, 'ff', 'a server that is stopped is found without asking it, and the job that waits for it');
like($rows->{'queue stopped'}{detail}, qr/because stopped is stopped: .*401/, 'with what the server said');
query("DELETE FROM transcribe_jobs; DROP SERVER stopped");

# A server that does not answer: a cancel is obeyed, and nothing is left.
create_server($node, 'hanging', $faulty->url('hang'));
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query("SET statement_timeout = '1s'; SELECT * FROM transcribe_check()");
ok(scalar($faulty->log('hang')), 'a server is asked, which does not answer');
is(scalar(processes_of($pid)), 0, 'a check that is cancelled leaves no process');
is($session->query("RESET statement_timeout; SELECT ok FROM transcribe_check(false) WHERE item = 'media'"), 't', 'and the session checks again');
$session->quit;
query('DROP SERVER hanging');

# Objects of another version.
foreach my $case ([ '0.1', qr/^ALTER EXTENSION transcribe UPDATE;$/ ], [ '999.1', qr/^Restart the server\.$/ ])
{
	my ($version, $hint) = @$case;
	query("BEGIN; SET LOCAL allow_system_table_mods = on; UPDATE pg_extension SET extversion = '$version' WHERE extname = 'transcribe'; COMMIT");
	finds(check(), 'library', 'f', qr/does not serve the installed objects, of version \Q$version\E$/, $hint, "objects of version $version");
}
query("BEGIN; SET LOCAL allow_system_table_mods = on; UPDATE pg_extension SET extversion = '" . $pg->version . "' WHERE extname = 'transcribe'; COMMIT");

# A worker that does not come to work.
if (has_failpoints())
{
	arm($node, 'claim_done', 'XX000', 100);
	query("SELECT transcribe_enqueue('waits', '$wav', 'good')");
	wait_for($node, "SELECT count(*) FROM transcribe_check(false) WHERE item = 'worker' AND NOT ok", '1', 'a worker that fails over and over is found');
	unlink glob($node->data_dir . '/transcribe_failpoints/*');
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'waits'", 'completed');
	is(check()->{worker}, undef, 'and no more when it works');
	query('DELETE FROM transcribe_jobs');
}

# Settings.
set('transcribe.enabled', 'off');
finds(check(), 'enabled', 'f', qr/off/, qr/transcribe.enabled = on/, 'switched off');
set('transcribe.enabled', 'on');
set('transcribe.media_directories', '');
finds(check(), 'directories', '', qr/is empty/, qr/ALTER SYSTEM SET transcribe.media_directories/, 'no directories');

# In a transaction that may not write, and for a role that is not a superuser.
is(query("BEGIN READ ONLY; SELECT count(*) > 5 FROM transcribe_check(); COMMIT"), 't', 'a check writes nothing');
query("CREATE ROLE operator; GRANT EXECUTE ON FUNCTION transcribe_check(boolean) TO operator");
is(query("SET ROLE operator; SELECT count(*) > 5 FROM transcribe_check(false); RESET ROLE") =~ /t/, 1, 'a role may be granted it');

# On a standby.
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby', install_path => $pg->path);
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', "SELECT string_agg(item || ' ' || coalesce(ok::text, 'null'), ', ' ORDER BY item) FROM transcribe_check()
		WHERE item IN ('launcher', 'media', 'server good')"), 'launcher null, media true, server good true', 'on a standby all is checked but the launcher');
$standby->stop;

# Background workers, and the library.
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
$node->restart;
finds(check(), 'workers', 'f', qr/up to 5 of max_worker_processes = 3, and others have 1$/, qr/max_worker_processes = 11; and restart/, 'too few processes');
$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$node->restart;
$rows = check();
is($rows->{launcher}{ok} . $rows->{workers}{ok}, 'ff', 'without a process there is no launcher');
like($rows->{launcher}{hint}, qr/max_worker_processes/, 'and it says why');
$node->append_conf('postgresql.conf', "max_worker_processes = 8\nshared_preload_libraries = ''");
$node->restart;
finds(check(), 'library', 'f', qr/not loaded/, qr/^Run ALTER SYSTEM SET shared_preload_libraries = transcribe; and restart/, 'not preloaded');
is(check()->{media}{ok}, 't', 'all else is checked as well');

$node->stop;
$faulty->stop;
done_testing();
