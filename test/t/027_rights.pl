# Roles, servers, keys and rights that change after a job was enqueued: before it
# runs, it fails or waits, and says of what; while it runs, it ends as it began.
# The jobs of others do not notice.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('rights', 'transcribe.media_directories' => $audio);
my $wav = "$audio/austen-0880.wav";

sub query { return $node->safe_psql('postgres', $_[0]) }

sub enable
{
	my ($value) = @_;

	query("ALTER SYSTEM SET transcribe.enabled = $value");
	$node->reload;
	wait_for($node, 'SHOW transcribe.enabled', $value);
	return;
}

sub outcome
{
	my ($name) = @_;
	return query("SELECT concat_ws(' ', status, error_code, error) FROM transcribe_jobs WHERE session_id = '$name' ORDER BY id DESC LIMIT 1");
}

# A file that only a role may name that may name any.
system_or_bail('cp', $wav, "$dir/elsewhere.wav");

# What changes: the role, its server and its job are named like it.  "sql" makes
# the change, "then" is what comes of jobs that wait, and "undo" what helps.
my @changes = (
	{ name => 'server_dropped', sql => 'DROP SERVER server_dropped CASCADE', then => 'failed server_missing server "server_dropped" does not exist any more',
		undo => "CREATE SERVER server_dropped FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url('ok') . "', model 'm'); GRANT USAGE ON FOREIGN SERVER server_dropped TO server_dropped" },
	{ name => 'server_renamed', sql => 'ALTER SERVER server_renamed RENAME TO another', then => 'failed server_missing server "server_renamed" does not exist any more',
		undo => 'ALTER SERVER another RENAME TO server_renamed' },
	{ name => 'server_without_url', sql => 'ALTER SERVER server_without_url OPTIONS (DROP url)', then => 'failed server_missing server "server_without_url" has no option "url"',
		undo => "ALTER SERVER server_without_url OPTIONS (ADD url '" . $faulty->url('ok') . "')" },
	{ name => 'usage_revoked', sql => 'REVOKE USAGE ON FOREIGN SERVER usage_revoked FROM usage_revoked',
		then => 'failed permission_denied role "usage_revoked" has no USAGE on server "usage_revoked"', undo => 'GRANT USAGE ON FOREIGN SERVER usage_revoked TO usage_revoked' },
	{ name => 'files_revoked', sql => 'REVOKE pg_read_server_files FROM files_revoked', path => "$dir/elsewhere.wav",
		then => qr/^failed not_allowed audio file ".*elsewhere\.wav" is not in an allowed directory$/, undo => 'GRANT pg_read_server_files TO files_revoked' },
	{ name => 'key_dropped', sql => 'DROP USER MAPPING FOR key_dropped SERVER key_dropped', then => qr/^queued key_missing .*key_dropped/,
		undo => "CREATE USER MAPPING FOR key_dropped SERVER key_dropped OPTIONS (api_key 'sk-good')", waits => 1 },
	{ name => 'role_dropped', sql => 'DROP USER MAPPING FOR role_dropped SERVER role_dropped; DROP OWNED BY role_dropped; DROP ROLE role_dropped',
		then => 'failed owner_missing role "role_dropped", which enqueued the job, does not exist any more',
		undo => 'CREATE ROLE role_dropped; GRANT USAGE ON FOREIGN SERVER role_dropped TO role_dropped' },
	{ name => 'role_renamed', sql => 'ALTER ROLE role_renamed RENAME TO somebody', then => 'failed owner_missing role "role_renamed", which enqueued the job, does not exist any more',
		undo => "BEGIN; SET LOCAL session_replication_role = replica; UPDATE transcribe_jobs SET owner = 'somebody' WHERE owner = 'role_renamed'; COMMIT" },
	{ name => 'bystander', sql => '', then => 'completed' });

sub enqueue
{
	my ($change, $session) = @_;
	my $path = $change->{path} // $wav;

	query("SET ROLE $change->{name}; SELECT transcribe_enqueue('$session', '$path', server => '$change->{name}')");
	return;
}

sub change_all
{
	query($_->{sql}) foreach (@changes);
	return;
}

foreach my $change (@changes)
{
	my $name = $change->{name};

	create_server($node, $name, $faulty->url($name eq 'key_dropped' ? 'key=sk-good' : 'ok'), max_attempts => 3, request_timeout => '10min');
	query("CREATE ROLE $name; GRANT USAGE ON FOREIGN SERVER $name TO $name;
		CREATE USER MAPPING FOR $name SERVER $name OPTIONS (api_key 'sk-good')" . ($change->{path} ? "; GRANT pg_read_server_files TO $name" : ''));
}

# They change while the jobs wait.
enable('off');
enqueue($_, $_->{name}) foreach (@changes);
change_all();
enable('on');
foreach my $change (@changes)
{
	my ($name, $then) = @$change{'name', 'then'};

	wait_for($node, "SELECT status IN ('failed', 'completed') OR error_code IS NOT NULL FROM transcribe_jobs WHERE session_id = '$name'");
	ref $then ? like(outcome($name), $then, "$name: what waited says of what it does") : is(outcome($name), $then, "$name: what waited says so");
}
is(query("SELECT count(*) FROM transcribe_jobs WHERE attempts > 1 OR crashes > 0 OR status IN ('preprocessing', 'transcribing')"), '0', 'nothing was tried in vain, and nothing is stuck');

# What helps is put right, and the jobs can be queued again.
foreach my $change (@changes)
{
	my $name = $change->{name};

	query($change->{undo}) if $change->{undo};
	query("SELECT transcribe_retry_failed(error_code => '$1')") if outcome($name) =~ /^failed (\w+)/;
	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$name'", 'completed', "$name: put right, it runs");
}

# They change while the jobs run: what has been begun is brought to its end, with
# the server and the key that it was begun with.
query('ALTER ROLE somebody RENAME TO role_renamed');
query("CREATE USER MAPPING FOR $_ SERVER $_ OPTIONS (api_key 'sk-good')") foreach ('server_dropped', 'role_dropped');
query("ALTER SERVER $_->{name} OPTIONS (SET url '" . $faulty->url("gate=$_->{name},key=sk-good") . "')") foreach (@changes);
enqueue($_, "$_->{name} running") foreach (@changes);
$faulty->wait_for_calls(1, "gate=$_->{name},key=sk-good") foreach (@changes);
change_all();
$faulty->release($_->{name}) foreach (@changes);
foreach my $change (@changes)
{
	my $name = $change->{name};

	wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = '$name running'", 'completed', "$name: what runs ends well");
	is(query("SELECT count(*) > 0 FROM transcribe_segments WHERE session_id = '$name running'"), 't', "$name: with its transcript");
}

# One of several chunks, whose owner, key and server go between two of them: the
# first has been sent, and so are the others.
create_server($node, 'long', $faulty->url('gate=long,key=sk-good'), chunk_seconds => 20, max_requests => 1, request_timeout => '10min');
query("CREATE ROLE leaves; GRANT USAGE ON FOREIGN SERVER long TO leaves; CREATE USER MAPPING FOR leaves SERVER long OPTIONS (api_key 'sk-good');
	SET ROLE leaves; SELECT transcribe_enqueue('long', '$audio/talk.mp3', server => 'long')");
$faulty->wait_for_calls(1, 'gate=long,key=sk-good');
query('DROP SERVER long CASCADE; DROP ROLE leaves');
$faulty->release('long');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'long'", 'completed', 'a long one ends as well');
cmp_ok(query("SELECT count(*) FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE j.session_id = 'long'"), '>', 1, 'chunk by chunk');

# One whose attempt fails meanwhile is queued again, and says so then.
create_server($node, 'failing', $faulty->url('gate=failing,status=500'), retry_interval => '10ms', request_timeout => '10min');
query("CREATE ROLE fails; GRANT USAGE ON FOREIGN SERVER failing TO fails; SET ROLE fails; SELECT transcribe_enqueue('failing', '$wav', server => 'failing')");
$faulty->wait_for_calls(1, 'gate=failing,status=500');
query('DROP OWNED BY fails; DROP ROLE fails');
$faulty->release('failing');
wait_for($node, "SELECT concat_ws(' ', status, error_code, attempts) FROM transcribe_jobs WHERE session_id = 'failing'", 'failed owner_missing 2',
	'one that would be tried again fails instead');

is(query("SELECT count(*) FROM transcribe_jobs WHERE status NOT IN ('completed', 'failed')"), '0', 'nothing is left that is stuck');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process|worker .* ERROR/, 'nothing crashed');
$node->stop;
$faulty->stop;
done_testing();
