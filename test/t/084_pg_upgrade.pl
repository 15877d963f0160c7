# pg_upgrade takes everything along, starts nothing while it runs, and what was
# queued runs afterwards.
#
# From every older PostgreSQL that we support and that is installed with its
# headers, or from the one whose pg_config TRANSCRIBE_OLD_PG_CONFIG names.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path getcwd);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

sub major
{
	my ($pg_config) = @_;
	return `$pg_config --version` =~ /PostgreSQL (\d+)/ ? $1 : 0;
}

# Whether an extension can be built for it.
sub is_complete
{
	my ($pg_config) = @_;

	chomp(my $pgxs = `$pg_config --pgxs`);
	chomp(my $headers = `$pg_config --includedir-server`);
	chomp(my $bin = `$pg_config --bindir`);
	return -e $pgxs && -e "$headers/postgres.h" && -x "$bin/postgres";
}

my $new_major = major('pg_config');
my @old = $ENV{TRANSCRIBE_OLD_PG_CONFIG} // grep { major($_) >= 15 && major($_) < $new_major && is_complete($_) }
  glob '/usr/lib/postgresql/*/bin/pg_config';

plan skip_all => 'no older PostgreSQL, from 15 on, is installed with its headers' if !@old;

my $audio = make_audio();
my $wav = "$audio/austen-0880.wav";
my $faulty = start_faulty();

# Every row that users have, and all that is not in rows.
my %kinds = (
	(map { $_ => $_ } qw(transcribe_jobs transcribe_chunks transcribe_chunk_segments transcribe_attempts)),
	home => '(SELECT transcribe_home())',
	server => '(SELECT srvname, srvowner::regrole, srvacl::text, srvoptions FROM pg_foreign_server)',
	mapping => '(SELECT srvname, usename, umoptions FROM pg_user_mappings)',
	setting => '(SELECT setrole::regrole, setconfig FROM pg_db_role_setting)',
	policy => "(SELECT * FROM pg_policies WHERE policyname = 'transcribe_owner')",
	extension => "(SELECT extversion, c.oid::regclass, c.condition
		FROM pg_extension, unnest(extconfig, extcondition) AS c (oid, condition) WHERE extname = 'transcribe')",
	function => "(SELECT p.oid::regprocedure, p.proacl::text, obj_description(p.oid, 'pg_proc')
		FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = 'transcribe')");
my $everything = 'SELECT * FROM ('
  . join(' UNION ALL ', map { "SELECT '$_ ' || to_jsonb(t)::text FROM $kinds{$_} t" } sort keys %kinds)
  . ') AS e (line) ORDER BY line COLLATE "C"';

foreach my $pg_config (@old)
{
	my $from = major($pg_config);
	my $name = "from $from to $new_major";
	my $pg = TranscribeTest::Installation->make($pg_config);

	$pg->install_extension;
	my $old = start_cluster("old$from", install_path => $pg->path);
	create_server($old, 'whisper', $faulty->url("ok,tag=$from"), retry_interval => '10ms', hold => 'off');
	create_server($old, 'gated', $faulty->url("gate=$from"));
	create_server($old, 'refuses', $faulty->url('status=400'));
	$old->safe_psql('postgres', "CREATE ROLE app; GRANT USAGE ON FOREIGN SERVER whisper TO app; GRANT pg_read_server_files TO app;
		ALTER ROLE app SET transcribe.server = 'whisper, gated'; GRANT EXECUTE ON FUNCTION transcribe_adopt() TO app");
	create_mapping($old, 'app', 'whisper', api_key => 'key-of-app-0123');
	$old->safe_psql('postgres', "SELECT transcribe_enqueue('completed', '$wav'), transcribe_enqueue('failed', '$wav', server => 'refuses'),
		transcribe_enqueue('later', '$wav', run_at => '2100-01-01'), transcribe_cancel(transcribe_enqueue('cancelled', '$wav', run_at => '2100-01-01'))");
	wait_for($old, "SELECT status FROM transcribe_jobs WHERE session_id = 'completed'", 'completed');
	wait_for($old, "SELECT status FROM transcribe_jobs WHERE session_id = 'failed'", 'failed');
	$old->safe_psql('postgres', "SELECT transcribe_enqueue('running', '$wav', server => 'gated')");
	$faulty->wait_for_calls(1, "gate=$from");

	# What is queued now would be begun at once by a worker.
	$old->append_conf('postgresql.conf', 'transcribe.enabled = off');
	$old->reload;
	$old->poll_query_until('postgres', 'SHOW transcribe.enabled', 'off');
	$old->safe_psql('postgres', "SET ROLE app; SELECT transcribe_enqueue('queued', '$wav')");
	$old->stop;
	$old->start;
	my $before = $old->safe_psql('postgres', $everything);
	like($before, qr/"session_id": "queued"/, "$name: there is something to keep");
	$old->stop;

	# Nothing but pg_upgrade itself keeps them from it.
	my $new = PostgreSQL::Test::Cluster->new("new$from");
	$new->init(extra => $new_major >= 18 ? ['--no-data-checksums'] : []);
	foreach my $node ($old, $new)
	{
		$node->append_conf('postgresql.conf', "shared_preload_libraries = 'transcribe'\ntranscribe.enabled = on\nfsync = off");
	}
	my $calls = () = $faulty->log("ok,tag=$from");
	chomp(my $new_bin = `pg_config --bindir`);
	my ($old_data, $new_data) = map { abs_path($_->data_dir) } $old, $new;
	my $here = getcwd();
	chdir PostgreSQL::Test::Utils::tempdir() or die "could not change directory: $!";
	command_ok([
			"$new_bin/pg_upgrade", '--no-sync', '-U', 'postgres',
			'-d', $old_data, '-D', $new_data, '-b', $pg->path . '/bin', '-B', $new_bin,
			'-s', $new->host, '-p', $old->port, '-P', $new->port
		],
		"pg_upgrade $name");
	chdir $here or die "could not change directory: $!";
	is(scalar(() = $faulty->log("ok,tag=$from")), $calls, "$name: nothing runs while pg_upgrade does");

	$new->append_conf('postgresql.conf', 'transcribe.enabled = off');
	$new->start;
	is($new->safe_psql('postgres', $everything), $before, "$name: everything comes along");
	$new->append_conf('postgresql.conf', 'transcribe.enabled = on');
	$new->reload;
	$faulty->release($from);
	foreach my $session (qw(queued running))
	{
		wait_for($new, "SELECT status, attempts, crashes FROM transcribe_jobs WHERE session_id = '$session'", 'completed|1|0',
			"$name: what was $session runs afterwards");
	}
	is($new->safe_psql('postgres', "SELECT string_agg(status, ' ' ORDER BY id) FROM transcribe_jobs"),
		'completed failed queued cancelled completed completed', "$name: all else is as it was");
	cmp_ok($new->safe_psql('postgres', "SELECT transcribe_enqueue('new', '$wav')"), '>', 6, "$name: numbers go on");
	wait_for($new, "SELECT status FROM transcribe_jobs WHERE session_id = 'new'", 'completed', "$name: new jobs run");
	$new->safe_psql('postgres', 'ALTER EXTENSION transcribe UPDATE');
	unlike(slurp_file($new->logfile), qr/PANIC|TRAP|server process/, "$name: nothing crashed");
	$new->stop;
}

$faulty->stop;
done_testing();
