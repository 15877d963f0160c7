# A copy of a database, however it was made, holds all jobs and transcripts, and
# runs none of them before transcribe_adopt(): it would call a paid service for
# what the original is about to do.  Only what cannot be told from a failover
# goes on by itself.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $wav = "$audio/austen-0880.wav";
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('original', init => { allows_streaming => 'logical' },
	'transcribe.media_directories' => $audio);
my $url = $faulty->url('ok');

sub query
{
	my ($sql, %more) = @_;
	return ($more{node} // $node)->safe_psql($more{db} // 'calls', $sql);
}

# All rows, but for what adopting changes.
my $rows = "SELECT j.id, session_id, path, server, owner, status, attempts, options FROM transcribe_jobs j ORDER BY id;
	SELECT * FROM transcribe_chunks ORDER BY 1, 2; SELECT * FROM transcribe_chunk_segments ORDER BY 1, 2, 3;
	SELECT * FROM transcribe_attempts ORDER BY 1, 2; SELECT job_id, owner, function, function_owner, status, attempts FROM transcribe_callbacks ORDER BY 1;
	SELECT * FROM transcribe_segments ORDER BY 1, segment_no";

# What a copy is before it is adopted: complete, and at rest, though its worker
# is at work.
sub is_at_rest
{
	my ($name, $expected, %where) = @_;

	is(query($rows, %where), $expected, "$name: has all rows");
	is(query("SELECT count(*) FROM transcribe_jobs WHERE home = transcribe_home()", %where), '0', "$name: as those of another home");
	is(query("SELECT transcribe_enqueue('of the copy', '$wav') > max(id) FROM transcribe_jobs", %where), 't', "$name: ids go on");
	ok(($where{node} // $node)->poll_query_until($where{db} // 'calls', "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = 'of the copy'"),
		"$name: runs its own jobs");
	is(query("SELECT count(*) FROM transcribe_jobs WHERE home <> transcribe_home() AND status IN ('queued', 'transcribing')", %where),
		'4', "$name: and lets those rest that it was copied with");
	return;
}

# What becomes of it when it is: all run that can.
sub is_adopted
{
	my ($name, $alice, %where) = @_;
	my $where_node = $where{node} // $node;

	cmp_ok(query('SELECT transcribe_adopt()', %where), '>=', 4, "$name: is adopted");
	is(query('SELECT transcribe_adopt()', %where), '0', "$name: once");
	ok($where_node->poll_query_until($where{db} // 'calls', "SELECT count(*) = 3 FROM transcribe_jobs WHERE session_id IN ('queued', 'hanging', 'alice') AND status = 'completed'
		OR session_id = 'alice' AND status = 'failed' AND error_code = '" . ($alice // 'x') . "'"), "$name: and its jobs run");
	is(query("SELECT count(*) FROM transcribe_jobs WHERE status = 'queued' AND run_at > now()", %where), '1', "$name: one that is not due waits");
	is(query("SELECT count(*) = count(DISTINCT (job_id, id)) AND bool_and(id > 0) FROM transcribe_attempts", %where), 't', "$name: attempts are counted on");
	return;
}

# The original: a transcript, one that was replaced, failed and cancelled jobs,
# one that runs, some that wait, and one of another role.
query('CREATE DATABASE calls', db => 'postgres');
query("CREATE EXTENSION transcribe; CREATE ROLE alice; CREATE ROLE calls_owner LOGIN;
	CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url', model 'm', max_attempts '1');
	CREATE SERVER hanging FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url('hang') . "', model 'm', request_timeout '1h');
	CREATE SERVER refusing FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url('status=400') . "', model 'm');
	GRANT USAGE ON FOREIGN SERVER whisper TO alice; CREATE USER MAPPING FOR alice SERVER whisper OPTIONS (api_key 'sk-alice');
	CREATE FUNCTION take_notes(bigint) RETURNS void LANGUAGE sql AS \$\$ SELECT \$\$;
	ALTER DATABASE calls OWNER TO calls_owner");
foreach my $job ([ 'done', 'whisper' ], [ 'done', 'whisper' ], [ 'failed', 'refusing' ])
{
	query("SELECT transcribe_enqueue('$job->[0]', '$wav', server => '$job->[1]')");
	ok($node->poll_query_until('calls', "SELECT bool_and(status IN ('completed', 'failed')) FROM transcribe_jobs"));
}
query("SELECT count(transcribe_cancel(transcribe_enqueue('cancelled ' || n, '$wav', run_at => '2100-01-01'))) FROM generate_series(1, 30) n;
	SELECT transcribe_enqueue('hanging', '$wav', server => 'hanging');");
$faulty->wait_for_calls(1, 'hang');
query("SELECT transcribe_hold_server('whisper'); SELECT transcribe_enqueue('queued', '$wav'); SELECT transcribe_enqueue('later', '$wav', run_at => '2100-01-01', on_complete => 'take_notes');
	SET ROLE alice; SELECT transcribe_enqueue('alice', '$wav')");
ok($node->poll_query_until('calls', "SELECT count(*) = 1 FROM transcribe_jobs WHERE status = 'transcribing'"), 'one runs while it is copied');
my $original = query($rows);

# The servers of a copy are held as those of the original are, and one hangs.
sub open_servers
{
	my (%where) = @_;
	return query("SELECT transcribe_resume_server('whisper'); ALTER SERVER hanging OPTIONS (SET url '$url')", %where);
}

# A dump that is restored in a cluster of its own, which has none of the roles:
# those lines are lost that name them, and no row.
my $dump = "$dir/dump";
my $restored = start_cluster('restored', 'transcribe.media_directories' => $audio);
foreach my $format ('plain', 'custom')
{
	my $db = "restored_$format";

	$node->command_ok([ 'pg_dump', "--format=$format", '-f', "$dump.$format", $node->connstr('calls') ], "pg_dump --format=$format");
	query("CREATE DATABASE $db", node => $restored, db => 'postgres');
	my @restore = $format eq 'plain' ? ('psql', '-X', '-q', '-f', "$dump.$format", $restored->connstr($db)) :
	  ('pg_restore', '--no-owner', '-d', $restored->connstr($db), "$dump.$format");
	my (undef, $errors) = run_command(\@restore);
	is(scalar(grep { /ERROR/ && !/role "(alice|calls_owner)" does not exist/ } split /\n/, $errors), 0, "$db: nothing but roles is missed") or diag($errors);
	my %where = (node => $restored, db => $db);
	open_servers(%where);
	is_at_rest($db, $original, %where);
	is_adopted($db, 'owner_missing', %where);
	is(query("SELECT count(*) FROM transcribe_attempts a JOIN transcribe_attempts b ON b.job_id = a.job_id AND b.id > a.id AND b.started_at < a.started_at", %where),
		'0', "$db: later attempts have larger numbers");
}

# A role that is made anew in the copy has its transcripts, and its jobs run.
query("CREATE ROLE alice; GRANT USAGE ON FOREIGN SERVER whisper TO alice; SELECT transcribe_retry_failed(error_code => 'owner_missing')",
	node => $restored, db => 'restored_plain');
ok($restored->poll_query_until('restored_plain', "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = 'alice'"),
	'a role that is made anew can go on');
$restored->stop;

# One who owns the database and is no superuser cannot dump it, for rows would
# be left out; one that sees them all can, without the keys of others.
my @as_owner = ('pg_dump', '-U', 'calls_owner', '-f', "$dump.owner", $node->connstr('calls'));
$node->command_fails_like(\@as_owner, qr/query would be affected by row-level security policy/, 'a dump by the owner of the database fails');
query('ALTER ROLE calls_owner BYPASSRLS');
$node->command_ok(\@as_owner, 'not with BYPASSRLS');
query('ALTER ROLE calls_owner NOBYPASSRLS');
my $text = slurp_file("$dump.owner");
unlike($text, qr/sk-alice/, 'it holds no key');
query('CREATE DATABASE by_owner', db => 'postgres');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.owner", $node->connstr('by_owner') ], 'and can be restored');
open_servers(db => 'by_owner');
is_at_rest('by_owner', $original, db => 'by_owner');
is_adopted('by_owner', undef, db => 'by_owner');

# A copy of the database.
query('CREATE DATABASE template_copy TEMPLATE calls', db => 'postgres');
open_servers(db => 'template_copy');

# The running job was given back for that, and runs again by now, or not yet.
is_at_rest('template_copy', query($rows, db => 'template_copy'), db => 'template_copy');
is_adopted('template_copy', undef, db => 'template_copy');
ok($node->poll_query_until('calls', "SELECT count(*) = 1 FROM transcribe_jobs WHERE status = 'transcribing'"), 'the original goes on');
$original = query($rows);

# A logical subscriber.
my $subscriber = start_cluster('subscriber', 'transcribe.media_directories' => $audio);
my %there = (node => $subscriber);
query('CREATE DATABASE calls', %there, db => 'postgres');
query('CREATE ROLE alice; CREATE EXTENSION transcribe', %there);
query("CREATE SERVER $_ FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url', model 'm', max_attempts '1'); GRANT USAGE ON FOREIGN SERVER $_ TO alice", %there)
  foreach ('whisper', 'hanging', 'refusing');
query('CREATE PUBLICATION calls FOR TABLE transcribe_jobs, transcribe_chunks, transcribe_chunk_segments, transcribe_attempts, transcribe_callbacks');
query("CREATE SUBSCRIPTION calls CONNECTION \$c\$" . $node->connstr('calls') . "\$c\$ PUBLICATION calls", %there);
$node->wait_for_catchup('calls');
$subscriber->wait_for_subscription_sync($node, 'calls', 'calls');

# What happens there from now on, comes.
query("SELECT transcribe_cancel(transcribe_enqueue('cancelled there', '$wav', run_at => '2100-01-01'))");
$node->wait_for_catchup('calls');
is(query("SELECT status FROM transcribe_jobs WHERE session_id = 'cancelled there'", %there), 'cancelled', 'subscriber: changes arrive');
$original = query($rows);
is_at_rest('subscriber', $original, %there);
query('DROP SUBSCRIPTION calls', %there);
is_adopted('subscriber', undef, %there);
query('DROP PUBLICATION calls');
is(query("SELECT transcribe_enqueue('after', '$wav') > max(id) FROM transcribe_jobs", %there), 't', 'subscriber: ids go on after it has been adopted');
$subscriber->stop;

# A physical copy is what a failover is made of, and goes on by itself, unless
# it is told not to: then both run what waits.
$node->backup('clone');
my $clone = PostgreSQL::Test::Cluster->new('clone');
$clone->init_from_backup($node, 'clone');
$clone->append_conf('postgresql.conf', 'transcribe.enabled = off');
$clone->start;
open_servers(node => $clone);
is(query('SELECT count(*) > 0 AND transcribe_adopt() = 0 FROM transcribe_jobs WHERE home = transcribe_home()', node => $clone), 't', 'clone: jobs are at home');
query("SELECT transcribe_enqueue('held', '$wav')", node => $clone);
ok($clone->poll_query_until('calls', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'transcribe launcher'"), 'clone: the launcher is there');
is(query("SELECT count(*) FROM transcribe_jobs WHERE session_id IN ('held', 'queued', 'alice') AND status = 'queued'", node => $clone), '3',
	'clone: nothing is begun while it may not');
$clone->append_conf('postgresql.conf', 'transcribe.enabled = on');
$clone->reload;
ok($clone->poll_query_until('calls', "SELECT count(*) = 4 FROM transcribe_jobs WHERE session_id IN ('held', 'queued', 'hanging', 'alice') AND status = 'completed'"),
	'clone: when it may all runs');
is(query("SELECT crashes FROM transcribe_jobs WHERE session_id = 'hanging'", node => $clone), '1', 'clone: what ran when it was copied counts as crashed');
$clone->stop;
is(query("SELECT count(*) FROM transcribe_jobs WHERE session_id IN ('queued', 'alice') AND status = 'queued'"), '2', 'which is nothing to the original');

# On a standby nothing runs and nothing can be enqueued; after promotion both.
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'clone', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my (undef, undef, $stderr) = $standby->psql('calls', "SELECT transcribe_enqueue('s', '$wav')");
like($stderr, qr/cannot execute transcribe_enqueue\(\) during recovery/, 'a standby takes no jobs');
is(query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'transcribe%'", node => $standby), '0', 'and runs none');
open_servers();
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
ok($standby->poll_query_until('calls', "SELECT bool_and(status <> 'queued' OR run_at > now()) AND count(*) FILTER (WHERE status = 'completed') >= 5 FROM transcribe_jobs"),
	'after promotion it goes on');
query("SELECT transcribe_enqueue('s', '$wav')", node => $standby);
ok($standby->poll_query_until('calls', "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = 's'"), 'and takes new ones');
$standby->stop;

$faulty->stop;
done_testing();
