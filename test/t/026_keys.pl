# Keys: read when they are needed, sent where they belong, and found nowhere
# else.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use Digest::SHA qw(sha256_hex);
use POSIX qw(mkfifo);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $audio = make_audio();
my $faulty = start_faulty();
my $wav = "$audio/austen-0880.wav";

# Everything that can talk does.
my ($stdout) = run_command([ 'pg_config', '--pkglibdir' ]);
my @talkers = grep { -e "$stdout/$_.so" } ('pg_stat_statements', 'auto_explain');
my %talkative = (
	shared_preload_libraries => join(',', @talkers, 'transcribe'),
	log_min_messages => 'debug5',
	log_statement => 'all',
	log_min_duration_statement => 0,
	log_error_verbosity => 'verbose',
	log_parameter_max_length_on_error => -1,
	debug_print_parse => 'on',
	debug_print_rewritten => 'on',
	debug_print_plan => 'on',
	(grep { $_ eq 'pg_stat_statements' } @talkers) ? ('pg_stat_statements.track' => 'all') : (),
	(grep { $_ eq 'auto_explain' } @talkers) ? (
		'auto_explain.log_min_duration' => 0,
		'auto_explain.log_nested_statements' => 'on') : ());

# An environment that would lead requests, and secrets, astray.
my $node;
{
	append_to_file("$dir/.netrc", "machine 127.0.0.1 login evil password netrc\n");
	append_to_file("$dir/.curlrc", "proxy = http://127.0.0.1:1\n");
	local @ENV{qw(http_proxy https_proxy HTTPS_PROXY ALL_PROXY)} = ('http://127.0.0.1:1') x 4;
	local @ENV{qw(HOME CURL_HOME)} = ($dir, $dir);
	local $ENV{SSLKEYLOGFILE} = "$dir/keylog";
	local $ENV{CURL_CA_BUNDLE} = "$dir/none";
	$node = start_cluster('keys', %talkative);
}

sub query
{
	my ($sql, %more) = @_;
	return $node->safe_psql('postgres', $sql, %more);
}

# Set something, with a key in it, unseen.
sub quietly
{
	my ($sql) = @_;
	my @settings = ("log_statement = 'none'", 'log_min_duration_statement = -1',
		"log_min_error_statement = 'panic'", "log_min_messages = 'panic'", 'track_activities = off',
		'debug_print_parse = off', 'debug_print_rewritten = off', 'debug_print_plan = off',
		map { { pg_stat_statements => "pg_stat_statements.track = 'none'",
				auto_explain => 'auto_explain.log_min_duration = -1' }->{$_} } @talkers);

	return query(join('', map { "SET $_;" } @settings) . $sql);
}

my ($in_catalog, $in_file, $next) = map { "sk-$_-" . sha256_hex($_ . rand() . $$) } ('catalog', 'file', 'next');
sub digest { return sha256_hex("Bearer $_[0]") }

# A file with a key, of a mode.
sub write_key
{
	my ($file, $content, $mode) = @_;

	unlink "$dir/new";
	append_to_file("$dir/new", $content);
	chmod($mode // 0600, "$dir/new") or die "could not chmod: $!";
	rename("$dir/new", "$dir/$file") or die "could not rename: $!";
	return;
}
write_key('key', "$in_file\n");

# Three roles: the key of one is in the catalog, that of the next one in a
# file, and the third has none and looks.
query("CREATE ROLE $_ LOGIN; GRANT pg_read_server_files TO $_;
	GRANT USAGE ON FOREIGN DATA WRAPPER transcribe TO $_") foreach ('alice', 'bob', 'carol');
query('CREATE EXTENSION pg_stat_statements') if grep { $_ eq 'pg_stat_statements' } @talkers;

my $serial = 0;
sub keyed_server
{
	my ($url, %options) = @_;
	my $name = 'server' . ++$serial;

	create_server($node, $name, $url, retry_interval => '10ms', max_attempts => 2, %options);
	query("GRANT USAGE ON FOREIGN SERVER $name TO alice, bob, carol");
	quietly("CREATE USER MAPPING FOR alice SERVER $name OPTIONS (api_key '$in_catalog');
		CREATE USER MAPPING FOR bob SERVER $name OPTIONS (api_key_file '$dir/key')");
	return $name;
}

sub enqueue
{
	my ($role, $server, $path) = @_;

	$path //= $wav;
	return query("SET ROLE $role; SELECT transcribe_enqueue('$role ' || gen_random_uuid(), '$path', server => '$server')");
}

sub ended
{
	my ($id, $columns) = @_;

	# Or has stopped its server, and waits.
	wait_for($node, "SELECT status IN ('completed', 'failed') OR (status = 'queued' AND attempts = 0 AND error_code IS NOT NULL)
		FROM transcribe_jobs WHERE id = $id");
	return query("SELECT $columns FROM transcribe_jobs WHERE id = $id");
}

# Good jobs and failing ones, of both.
my @scenarios = ('ok', 'status=400,echo', 'status=401,echo', 'status=500,echo', 'echo', 'html', 'drop',
	'status=400,echo,message=' . 'x' x 920, 'redirect=host', 'hang');
my %ids;
foreach my $scenario (@scenarios)
{
	my $server = keyed_server($faulty->url($scenario), $scenario eq 'hang' ? (request_timeout => '300ms', timeout_factor => 0) : ());

	$ids{"$_ $scenario"} = enqueue($_, $server) foreach ('alice', 'bob');
}
my $nobody = keyed_server('http://127.0.0.1:1/v1');
my $refused = keyed_server('http://169.254.169.254/v1');
my $gated = keyed_server($faulty->url('gate=keys'));
foreach my $role ('alice', 'bob')
{
	$ids{"$role nobody"} = enqueue($role, $nobody);
	$ids{"$role refused"} = enqueue($role, $refused);
	$ids{"$role undecodable"} = enqueue($role, $gated, abs_path($0));
}
is(ended($ids{"$_ ok"}, 'status'), 'completed', "$_\'s key is good, and no proxy is asked") foreach ('alice', 'bob');
foreach my $role ('alice', 'bob')
{
	my $key = $role eq 'alice' ? $in_catalog : $in_file;

	is(scalar(grep { $_->{key_digest} eq digest($key) } $faulty->log('ok')), 1, "$role\'s key went out");
	like(ended($ids{"$role status=400,echo"}, 'error'), qr/^server answered with status 400: Incorrect API key provided: Bearer \*+$/,
		'a key that is quoted becomes asterisks');
	unlike(ended($ids{"$role $scenarios[7]"}, 'error'), qr/sk-/, 'also where the words are cut off in the middle of it');
}
is(scalar(grep { $_->{scenario} eq 'ok' } $faulty->log), 2, 'no redirect took a key elsewhere');
ok(!-e "$dir/keylog", 'no session keys of TLS are written');

# While requests are under way.
my @running = map { enqueue($_, $gated) } ('alice', 'bob');
$faulty->wait_for_calls(2, 'gate=keys');

# Whether a key is in a text.
sub has_key { return index($_[0], $in_catalog) >= 0 || index($_[0], $in_file) >= 0 || index($_[0], $next) >= 0 }

my @exposed;
foreach my $file (glob('/proc/[0-9]*/cmdline'), glob('/proc/[0-9]*/environ'))
{
	# Processes of others, and those that end meanwhile.
	open(my $in, '<', $file) or next;
	local $/;
	push @exposed, $file if has_key(<$in> // '');
}
is("@exposed", '', 'no process shows a key in its arguments or environment');
my $postmaster = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : die 'no postmaster';
my ($agent) = grep { $_->{comm} eq 'transcribe_agen' } processes_of($postmaster);
like(slurp_file("/proc/$agent->{pid}/limits"), qr/^Max core file size\s+0\s+0\s/m, 'the agent leaves no core');
SKIP:
{
	skip 'root may read everything', 2 if $> == 0;
	ok(!open(my $memory, '<', "/proc/$agent->{pid}/mem"), 'its own user cannot read its memory');
	ok(!open(my $environ, '<', "/proc/$agent->{pid}/environ"), 'nor its environment');
}

# Every row of every view and table that is ours, and of the statistics, as it
# is shown to a role.
sub all_rows
{
	my ($role) = @_;
	my @relations = split /\n/, query("SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'v') AND
		(relname LIKE 'transcribe%' OR relname LIKE 'pg_stat%' OR relname IN ('pg_foreign_server', 'pg_prepared_statements', 'pg_cursors'))
		AND relnamespace <> 'pg_toast'::regnamespace AND has_table_privilege('$role', oid, 'SELECT')");
	my $rows = '';

	foreach my $relation (@relations)
	{
		$rows .= query("SET ROLE $role; SELECT t::text FROM $relation t");
	}
	return $rows;
}
my $superuser = query('SELECT current_user');
foreach my $role ($superuser, 'alice', 'bob', 'carol')
{
	my $rows = all_rows($role);

	like($rows, qr/transcribe worker/, "$role sees rows");
	ok(!has_key($rows), 'and no key in them');
}
foreach my $role ('bob', 'carol')
{
	ok(!has_key(query("SET ROLE $role; SELECT t::text FROM pg_user_mappings t")), "$role does not see alice\'s mapping");
}
$faulty->release('keys');
is(ended($_, 'status'), 'completed', 'they complete') foreach @running;
wait_for($node, "SELECT bool_and(status IN ('completed', 'failed') OR error_code = 'unauthorized') FROM transcribe_jobs", 't',
	'all the others have come to an end, or wait for another key');

# A file is read when a request is sent, so that the next one of the same job
# uses a new key.
my $long = "$dir/long.wav";
system_or_bail('ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', 'anoisesrc=r=16000:a=0.1:d=60', $long);
my %many = (chunk_seconds => 10, trim_silence => 'off', max_requests => 1, max_attempts => 1);
my $rotated = keyed_server($faulty->url('gate=rotate,seconds=10'), %many);
my $id = enqueue('bob', $rotated, $long);
$faulty->wait_for_calls(1, 'gate=rotate,seconds=10');
write_key('key', $next);
$faulty->release('rotate');
is(ended($id, 'status, attempts'), 'completed|1', 'a key is replaced while a job runs');
my @digests = map { $_->{key_digest} } $faulty->log('gate=rotate,seconds=10');
my $first = shift @digests;
is($first, digest($in_file), 'its first request went out with the old one');
cmp_ok(scalar(@digests), '>', 1, 'others followed');
is(scalar(grep { $_ ne digest($next) } @digests), 0, 'with the new one');

my $spoilt = keyed_server($faulty->url('gate=spoilt,seconds=10'), %many);
$id = enqueue('bob', $spoilt, $long);
$faulty->wait_for_calls(1, 'gate=spoilt,seconds=10');
chmod 0644, "$dir/key";
$faulty->release('spoilt');
wait_for($node, "SELECT status || ' ' || error_code FROM transcribe_jobs WHERE id = $id", 'queued key_missing',
	'a key that cannot be used any more sends the job back to the queue');
is(query("SELECT role || ' ' || state FROM transcribe_servers WHERE server = '$spoilt'"), 'bob stopped',
	'and stops the server');
is(scalar($faulty->log('gate=spoilt,seconds=10')), 1, 'and no request goes out without');

# What may be such a file.
my $check = keyed_server($faulty->url('ok,tag=files'));
sub with_file
{
	query("SELECT transcribe_resume_server('$check')");
	my $id = enqueue('bob', $check);
	wait_for($node, "SELECT status = 'completed' OR (status = 'queued' AND error_code IS NOT NULL) FROM transcribe_jobs WHERE id = $id");
	my $outcome = query("SELECT coalesce(error_code, status) FROM transcribe_jobs WHERE id = $id");
	query("SELECT transcribe_cancel($id)");
	return $outcome;
}
foreach my $mode (0644, 0640, 0604, 0660)
{
	write_key('key', $next, $mode);
	is(with_file(), 'key_missing', sprintf('mode %04o is too open', $mode));
}
foreach my $mode (0600, 0400)
{
	write_key('key', $next, $mode);
	is(with_file(), 'completed', sprintf('mode %04o is not', $mode));
}
my %contents = (
	'an empty file' => '',
	'two lines' => "$next\n$next\n",
	'a blank inside' => "sk 1",
	'a header after it' => "$next\r\nX-Evil: 1",
	'a zero byte' => "sk-\0key",
	'too much' => 'x' x 16385);
foreach my $content (sort keys %contents)
{
	write_key('key', $contents{$content});
	is(with_file(), 'key_missing', "$content: no key");
}
write_key('key', 'y' x 4000 . "\r\n");
is(with_file(), 'completed', 'a long one is one');
unlink "$dir/key";
mkfifo("$dir/key", 0600) or die "could not make a pipe: $!";
is(with_file(), 'key_missing', 'a pipe is no file, and nobody waits for it');
unlink "$dir/key";
mkdir "$dir/key";
is(with_file(), 'key_missing', 'nor is a directory');
rmdir "$dir/key";
is(with_file(), 'key_missing', 'nor what is not there');
symlink('/etc/passwd', "$dir/key");
is(with_file(), 'key_missing', 'a link to what others may read holds no key');
unlink "$dir/key";
write_key('elsewhere', $next);
symlink("$dir/elsewhere", "$dir/key");
is(with_file(), 'completed', 'one to a private file does');

# Addresses that are refused before a socket is opened, however they are
# written; and no sockets but those of the internet.
my @refused = ('169.254.169.254', '2852039166', '0xA9FEA9FE', '0251.0376.0251.0376', '169.254.43518', '0', '0.0.0.0', '224.0.0.1');
push @refused, '[::ffff:169.254.169.254]', '[fe80::1]', '[fd00:ec2::254]', '[::]', '[64:ff9b::a9fe:a9fe]', '[ff02::1]'
  if -s '/proc/net/if_inet6';
foreach my $host (@refused)
{
	my $server = keyed_server("http://$host/v1", insecure_key => 'allow');

	is(ended(enqueue('bob', $server), 'error_code, attempts'), 'refused_address|1', "$host is refused");
}
foreach my $host ('%2frun%2fsocket', '/run/socket:')
{
	my ($status) = $node->psql('postgres', "CREATE SERVER socket FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://$host/v1')");

	next if $status != 0;
	quietly("CREATE USER MAPPING FOR bob SERVER socket OPTIONS (api_key '$in_catalog'); GRANT USAGE ON FOREIGN SERVER socket TO bob");
	like(ended(enqueue('bob', 'socket'), 'error_code'), qr/^(bad_url|could_not_resolve)$/, "$host is no host");
}

# All that was written down.
query('CHECKPOINT');
my $mappings = query("SELECT string_agg(pg_relation_filepath(oid), ' ') FROM pg_class
	WHERE oid IN (SELECT unnest(ARRAY[oid, reltoastrelid]) FROM pg_class WHERE relname = 'pg_user_mapping')");
my $data = $node->data_dir;
my %by_definition = map { ("$data/$_" => 1) } split / /, $mappings;
my $log = slurp_file($node->logfile);
like($log, qr/DEBUG:.*transcribe_claim/s, 'the log is as talkative as can be');
ok(!has_key($log), 'and holds no key');
foreach my $key ($in_catalog, $in_file, $next)
{
	my ($found) = run_command([ 'grep', '-rlaF', $key, $data ]);
	my @files = grep { !$by_definition{$_} } split /\n/, $found;

	# The catalog's log of changes holds what the catalog does.
	@files = grep { !m,/pg_wal/, } @files if $key eq $in_catalog;
	is("@files", '', 'no file of the database holds ' . substr($key, 0, 7));
}
if (grep { $_ eq 'pg_stat_statements' } @talkers)
{
	my $statements = query('SELECT query FROM pg_stat_statements');

	like($statements, qr/transcribe_claim/, 'pg_stat_statements has our statements');
	ok(!has_key($statements), 'and no key');
}
unlike($log, qr/PANIC:|TRAP|transcribe_agent (exited|was)/, 'nothing crashed');

$node->stop;
$faulty->stop;
done_testing();
