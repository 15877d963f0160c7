# Who may do what, as the documentation has it: an application, a reader, an
# operator and a stranger, each with what it is granted there and no more.  And
# PUBLIC has what doc/security.md lists, and nothing else.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use TranscribeTest::Markdown;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('roles', 'transcribe.media_directories' => "$dir/audio");
my $url = $faulty->url('ok');

mkdir "$dir/audio";
mkdir "$dir/audio/shop";
system_or_bail('cp', "$audio/austen-0880.wav", $_) foreach "$dir/audio/shop/1.m4a", "$dir/elsewhere.wav";
append_to_file("$dir/secret.key", "sk-secret\n");
chmod 0600, "$dir/secret.key";

sub query { return $node->safe_psql('postgres', $_[0]) }

# As a role that has logged in: what is printed, and what is said.
sub as
{
	my ($role, $sql) = @_;
	my (undef, $stdout, $stderr) = $node->psql('postgres', $sql, on_error_stop => 1,
		extra_params => [ '-U', $role ]);

	return ($stdout, $stderr);
}

sub may
{
	my ($role, $sql, $expected, $name) = @_;
	my ($stdout, $stderr) = as($role, $sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is("$stdout$stderr", $expected, "$role: $name");
	return;
}

sub may_not
{
	my ($role, $sql, $error, $name) = @_;
	my ($stdout, $stderr) = as($role, $sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($stderr, $error, "$role: $name") or diag($stdout);
	return;
}

# The roles, as the page makes them, but for their last block, which is the
# operator at work.
query("CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url', model 'm');
	CREATE SERVER other FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url', model 'm');
	CREATE USER MAPPING FOR PUBLIC SERVER other OPTIONS (api_key 'sk-others');
	CREATE ROLE stranger LOGIN");
my @blocks = grep { $_->{language} eq 'sql' && $_->{text} =~ /\b(?:shop|colleague|auditor|operator)\b/ } blocks('doc/security.md');
foreach my $block (@blocks)
{
	query($block->{text} =~ s{/srv/audio}{$dir/audio}gr);
}
query("CREATE USER MAPPING FOR shop SERVER whisper OPTIONS (api_key_file '$dir/secret.key')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'shop-1'", 'completed', 'a job of the application completes');
my $job = query("SELECT id FROM transcribe_jobs WHERE session_id = 'shop-1'");

# The application.
may('shop', 'SELECT count(*) > 0 FROM transcribe_segments', 't', 'reads its transcript');
may('shop', 'SELECT count(*) FROM transcribe_attempts', '1', 'and its requests');
may('shop', "SELECT transcribe_enqueue('again', '$dir/audio/shop/1.m4a') > 0", 't', 'enqueues');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'again'", 'completed');
may_not('shop', "SELECT transcribe_enqueue('x', '$dir/audio/shop/1.m4a', server => 'other')", qr/permission denied for foreign server other/, 'at no other server');
may_not('shop', "SELECT transcribe_enqueue('x', '$dir/elsewhere.wav')", qr/permission denied to read audio file/, 'no other file');
may_not('shop', "SELECT transcribe_enqueue('x', '$dir/audio/../secret.key')", qr/permission denied to read audio file/, 'nor by a detour');
may_not('shop', "SELECT transcribe_hold_server('whisper')", qr/must be owner of foreign server/, 'does not hold the server');
may_not('shop', "ALTER SERVER whisper OPTIONS (SET url 'http://127.0.0.1:9')", qr/must be owner of foreign server/, 'nor sends it elsewhere');
may_not('shop', "CREATE SERVER mine FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url')", qr/permission denied for foreign-data wrapper/, 'makes no server');
may_not('shop', "ALTER USER MAPPING FOR shop SERVER whisper OPTIONS (SET api_key_file '/etc/shadow')", qr/permission denied to set option "api_key_file"/, 'names no file as a key');
may('shop', "SELECT umoptions IS NULL FROM pg_user_mappings WHERE srvname = 'other'", 't', "reads no key of others");
may_not('shop', 'SELECT transcribe_adopt()', qr/permission denied for function/, 'adopts nothing');
may_not('shop', 'SELECT * FROM transcribe_check(false)', qr/permission denied for function/, 'is no operator');
may_not('shop', 'SELECT transcribe_stats_reset()', qr/permission denied for function/, 'of any kind');
may_not('shop', "ALTER SYSTEM SET transcribe.enabled = off", qr/permission denied/, 'stops nothing');

# The readers.
may('colleague', "SELECT count(*) FROM transcribe_jobs WHERE owner = 'shop'", '2', 'reads by membership');
may('colleague', "SELECT transcribe_text('shop-1') <> ''", 't', 'transcripts too');
may('auditor', "SELECT count(*) > 0 FROM shop.transcripts() WHERE session_id = 'shop-1'", 't', 'reads by the function');
may('auditor', 'SELECT count(*) FROM transcribe_jobs', '0', 'and no more');
may('auditor', 'SELECT count(*) FROM transcribe_segments', '0', 'not even the same otherwise');
may('auditor', "SELECT transcribe_text('shop-1') IS NULL", 't', 'by no function');
may('auditor', "SELECT count(*) FROM transcribe_search('segment')", '0', 'nor search');
may_not('auditor', "SELECT transcribe_delete($job)", qr/transcription job $job does not exist/, 'deletes nothing');
may_not('auditor', "SELECT transcribe_enqueue('x', '$dir/audio/shop/1.m4a')", qr/permission denied for foreign server/, 'enqueues nothing');

# The operator.
may('operator', "SELECT status FROM ops.jobs WHERE session_id = 'shop-1'", 'completed', 'sees the queue');
may('operator', 'SELECT count(*) FROM transcribe_segments', '0', 'and not what is said');
may('operator', "SELECT transcribe_text('shop-1') IS NULL", 't', 'by no function');
may('operator', "SELECT count(*) FROM transcribe_search('segment')", '0', 'nor search');
may('operator', "SELECT ops.hold_server('whisper'); SELECT state FROM ops.servers() WHERE server = 'whisper'", "\nheld", 'holds a server');
may('operator', "SELECT ops.resume_server('whisper'); SELECT state FROM ops.servers() WHERE server = 'whisper'", "\navailable", 'and lets it go');
may_not('operator', "SELECT transcribe_hold_server('whisper')", qr/must be owner of foreign server/, 'by the function of the schema only');
may_not('operator', "SELECT transcribe_enqueue('x', '$dir/audio/shop/1.m4a')", qr/permission denied for foreign server/, 'enqueues nothing');
may('operator', "SELECT count(*) > 0 FROM transcribe_stats WHERE requests > 0", 't', 'reads statistics of all servers');
may('operator', 'SELECT count(*) FROM ops.check(true) WHERE NOT ok', '0', 'checks');
may('operator', "SELECT count(*) FROM ops.check(true) WHERE item = 'server whisper' AND ok", '1', 'servers that it may not use');
may('operator', "SELECT count(*) FROM ops.check(true) AS c WHERE c::text LIKE '%sk-%'", '0', 'and is shown no key');
may_not('operator', 'SELECT * FROM transcribe_check(false)', qr/permission denied for function/, 'by the function of the schema only');
may('operator', "SELECT count(*) FROM ops.problems() WHERE ok = false", '0', 'sees what stands in the way of jobs');
may('operator', 'SELECT transcribe_stats_reset()', '', 'begins to count anew');
may_not('operator', 'ALTER SYSTEM SET transcribe.media_directories = \'/\'', qr/permission denied/, 'changes no other setting');
may('operator', 'ALTER SYSTEM SET transcribe.enabled = off; SELECT pg_reload_conf()', 't', 'stops all');
wait_for($node, 'SHOW transcribe.enabled', 'off');
query("SET ROLE shop; SELECT transcribe_enqueue('waits', '$dir/audio/shop/1.m4a')");
may('operator', "SELECT ops.cancel(id) FROM ops.jobs WHERE session_id = 'waits'", 't', 'cancels');
may('operator', 'ALTER SYSTEM RESET transcribe.enabled; SELECT pg_reload_conf()', 't', 'and lets all go on');
wait_for($node, 'SHOW transcribe.enabled', 'on');
query("ALTER SERVER whisper OPTIONS (SET url '" . $faulty->url('status=400') . "'); SET ROLE shop; SELECT transcribe_enqueue('fails', '$dir/audio/shop/1.m4a')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'fails'", 'failed', 'a job fails');
query("ALTER SERVER whisper OPTIONS (SET url '$url')");
may('operator', "SELECT ops.retry_failed(now() - interval '1 day', 'refused')", '1', 'queues again what has failed');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'fails'", 'completed', 'which completes');
may('operator', "SELECT ops.purge_failed(now() + interval '1 day')", '1', 'removes what has failed or was cancelled');
is(query("SELECT count(*) FROM transcribe_jobs WHERE status = 'completed'"), '3', 'and no transcript');
may_not('operator', 'SET ROLE shop', qr/permission denied to set role/, 'becomes nobody else');

# A stranger.
may('stranger', "SELECT (SELECT count(*) FROM transcribe_jobs) + (SELECT count(*) FROM transcribe_segments) + (SELECT count(*) FROM transcribe_live_segments)
	+ (SELECT count(*) FROM transcribe_attempts) + (SELECT count(*) FROM transcribe_chunks) + (SELECT count(*) FROM transcribe_chunk_segments)
	+ (SELECT count(*) FROM transcribe_callbacks) + (SELECT count(*) FROM transcribe_recordings) + (SELECT count(*) FROM transcribe_progress)
	+ (SELECT count(*) FROM transcribe_problems) + (SELECT count(*) FROM transcribe_stats) + (SELECT count(*) FROM transcribe_servers)", '0', 'sees nothing');
may_not('stranger', "SELECT $_", qr/transcription job $job does not exist/, "$_ is refused")
	foreach "transcribe_cancel($job)", "transcribe_retry($job)", "transcribe_delete($job)",
	"transcribe_on_complete($job, 'pg_catalog.int8up')", "transcribe_retry_callback($job)";
may_not('stranger', "CALL transcribe_wait($job)", qr/transcription job $job does not exist/, 'waits for nothing');
may('stranger', "SELECT transcribe_retry_failed() + transcribe_purge(now() + interval '1 day', now() + interval '1 day') + transcribe_rename_speaker('shop-1', 'A', 'B')", '0', 'changes nothing');
may('stranger', "SELECT count(*) FROM (VALUES (transcribe_result('shop-1')::text), (transcribe_json('shop-1')::text), (transcribe_srt('shop-1')), (transcribe_job_vtt($job))) AS v (t) WHERE t IS NOT NULL", '0', 'reads nothing');
may_not('stranger', "SELECT * FROM transcribe_check_server('whisper')", qr/permission denied for foreign server/, 'asks no server');
may_not('stranger', 'SELECT * FROM ops.jobs', qr/permission denied/, 'has none of the views');
may_not('stranger', $_, qr/permission denied|row-level security/, "$_")
	foreach "INSERT INTO transcribe_jobs (session_id, path, server, owner) VALUES ('x', '/x', 'whisper', 'shop')",
	'UPDATE transcribe_jobs SET owner = current_user', 'DELETE FROM transcribe_chunk_segments', 'TRUNCATE transcribe_jobs',
	"INSERT INTO transcribe_callbacks (job_id, owner, function, function_owner) VALUES ($job, 'shop', 'f', 'shop')";
is(query("SELECT count(*) FROM transcribe_jobs WHERE status = 'completed'"), '3', 'all is as it was');

# What PUBLIC has is what the page lists.
my ($list) = slurp_file('doc/security.md') =~ /^## What everybody may use\n(.*?)^## /ms;
my @listed = sort map { /`(transcribe_\w+)`/g } map { /^\| (`.*?) \|/ ? $1 : () } split /\n/, $list;
my @granted = split /\n/, query("SELECT DISTINCT name COLLATE \"C\" FROM (
	SELECT p.proname, p.oid, 'pg_proc'::regclass, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc p
	UNION ALL SELECT c.relname, c.oid, 'pg_class'::regclass, coalesce(c.relacl, acldefault('r', c.relowner)) FROM pg_class c
	WHERE c.relkind IN ('r', 'v', 'S', 'm', 'f')) AS o (name, oid, class, acl)
	WHERE EXISTS (SELECT FROM aclexplode(o.acl) a WHERE a.grantee = 0)
	AND (EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		WHERE e.extname = 'transcribe' AND d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e'))
	ORDER BY 1");
is_deeply(\@listed, \@granted, 'PUBLIC has what the page lists, and nothing else');
is(query("SELECT string_agg(DISTINCT a.privilege_type, ' ') FROM pg_class c, aclexplode(c.relacl) a WHERE c.relname ~ '^transcribe_' AND a.grantee = 0"),
	'SELECT', 'of tables and views it is to read');

$node->stop;
$faulty->stop;
done_testing();
