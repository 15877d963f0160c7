# Whichever version a database comes from, the update scripts make of it what
# CREATE EXTENSION makes, keep what is in it, and keep what is running.
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
my $newest = $pg->version;
my @released = $pg->versions;
my $node;

sub query
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

sub create_database
{
	my ($db, $version) = @_;

	query('postgres', "CREATE DATABASE $db");
	query($db, "CREATE EXTENSION transcribe VERSION '$version';
		CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '"
		  . $faulty->url . "', model 'm', retry_interval '10ms')");
	return;
}

# All that there is in a database, as a hash of descriptions: pg_dump knows
# every kind of object, and for pg_upgrade it lists those of an extension, with
# their membership.  Numbers by which objects are known in this database alone
# are left out, and so are the lot that makes its home and where sequences are.
sub catalog
{
	my ($db) = @_;
	my ($dump, $stderr) = run_command([ $node->installed_command('pg_dump'), '--binary-upgrade',
			'--schema-only', $node->connstr($db) ]);
	my %entries;

	die $stderr if $dump !~ /binary_upgrade_create_empty_extension/;
	$dump =~ s/^\\(?:un)?restrict .*\n//mg;
	$dump =~ s/'[0-9A-F\/{},]+'::pg_catalog\.(oid|pg_lsn)/$1/g;
	$dump =~ s/'\{[\d,]+\}'/oids/g;
	$dump =~ s/\b(oid|rel\w+xid) = '\d+'/$1/g;
	$dump =~ s/transcribe_home_of\(.*?::bigint\)/transcribe_home_of(lot)/g;
	$entries{$_}++ foreach grep { !/; Type: SEQUENCE SET;/ } split /^(?=--\n-- Name: )/m, $dump;
	$entries{$_}++ foreach split /\n/, query($db, "SELECT format('%s is dumped %s', c.oid::regclass, c.condition)
		FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS c (oid, condition) WHERE e.extname = 'transcribe'");
	return \%entries;
}

# What is in only one of two catalogs.
sub differences
{
	my ($one, $other) = @_;

	return (map({ "not made by the update: $_" } grep { !$other->{$_} } sort keys %$one),
		map({ "only made by the update: $_" } grep { !$one->{$_} } sort keys %$other));
}

# Everything that a user has in a database, column by column: those that an
# update adds do not count.
sub rows
{
	my ($db, $columns) = @_;
	my @tables = qw(transcribe_jobs transcribe_chunks transcribe_chunk_segments transcribe_attempts);
	my $all = '';

	foreach my $table (@tables)
	{
		my $list = $columns->{$table} //= query($db, "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped");

		$all .= "$table:\n" . query($db, "SELECT $list FROM $table ORDER BY 1, 2, 3") . "\n";
	}
	return $all;
}

# The scripts themselves.
foreach my $file (glob "$pg->{extension}/transcribe--*.sql")
{
	my ($version) = $file =~ /--([0-9.]+)\.sql$/;

	# Other tests may have scripts of their own there meanwhile.
	next if $file =~ /--ddl\b/;

	# A script of CREATE EXTENSION has to make the function before.
	like(slurp_file($file) =~ s,^(?:--.*|/\*.*\*/|\\echo.*|)\n,,mgr =~ s/\ACREATE FUNCTION transcribe_require_library.*?(?=^SELECT)//smr,
		qr/\ASELECT transcribe_require_library\('\Q$version\E'\);/,
		($file =~ s,.*/,,r) . ' begins with a look at the library');
}
ok(-e "$pg->{extension}/transcribe--$newest.sql", "there is a script that makes version $newest");

# A version that was never released, with a change of every kind.  The third
# element is what a careless author would have written into the update.
my @rows_of_jobs = map { s/^CREATE/CREATE OR REPLACE/r }
  $pg->script($newest) =~ /^(CREATE FUNCTION \w+\([^;]*?RETURNS SETOF transcribe_jobs\n.*?^END;\n)/msg;
my @changes = (
	[ '', 'CREATE TABLE transcribe_extra (id integer NOT NULL, owner text)' ],
	[ '', "CREATE FUNCTION transcribe_extra() RETURNS integer LANGUAGE sql AS 'SELECT 1'" ],
	[ 'a table', 'CREATE TABLE transcribe_alone (id integer)' ],
	[ 'the comment of a table', "COMMENT ON TABLE transcribe_extra IS 'extra'" ],
	[ 'a column', 'ALTER TABLE transcribe_jobs ADD COLUMN extra text' ],
	[ 'the type of a column', 'ALTER TABLE transcribe_extra ADD COLUMN n bigint',
		'ALTER TABLE transcribe_extra ADD COLUMN n integer' ],
	[ 'a default', "ALTER TABLE transcribe_extra ALTER owner SET DEFAULT 'nobody'" ],
	[ 'a constraint', 'ALTER TABLE transcribe_extra ADD CHECK (id > 0)' ],
	[ 'an index', 'CREATE INDEX transcribe_extra_index ON transcribe_extra (id) WHERE id > 1' ],
	[ 'the condition of an index', 'CREATE INDEX transcribe_extra_part ON transcribe_extra (id) WHERE id > 2',
		'CREATE INDEX transcribe_extra_part ON transcribe_extra (id) WHERE id > 3' ],
	[ 'row security', 'ALTER TABLE transcribe_extra ENABLE ROW LEVEL SECURITY' ],
	[ 'a policy', 'CREATE POLICY transcribe_owner ON transcribe_extra FOR SELECT USING (owner = CURRENT_USER)' ],
	[ 'a grant', 'GRANT SELECT ON transcribe_extra TO PUBLIC' ],
	[ 'a trigger', 'CREATE TRIGGER transcribe_refuse_truncate BEFORE TRUNCATE ON transcribe_extra
		FOR EACH STATEMENT EXECUTE FUNCTION transcribe_refuse_truncate()' ],
	[ 'a table that is dumped', "SELECT pg_catalog.pg_extension_config_dump('transcribe_extra', 'WHERE id > 0')" ],
	[ 'which rows are dumped', "SELECT pg_catalog.pg_extension_config_dump('transcribe_chunks', 'WHERE job_id > 0')",
		"SELECT pg_catalog.pg_extension_config_dump('transcribe_chunks', 'WHERE job_id > 1')" ],
	[ 'a storage parameter', 'ALTER TABLE transcribe_jobs SET (fillfactor = 60)' ],
	[ 'a view', 'CREATE VIEW transcribe_extra_view AS SELECT id FROM transcribe_extra' ],
	[ 'that an object belongs to the extension', 'CREATE SEQUENCE transcribe_extra_sequence',
		'CREATE SEQUENCE transcribe_extra_sequence; ALTER EXTENSION transcribe DROP SEQUENCE transcribe_extra_sequence' ],
	[ 'a function', "CREATE FUNCTION transcribe_extra(n integer) RETURNS integer LANGUAGE sql AS 'SELECT 2'" ],
	[ 'the body of a function', "CREATE OR REPLACE FUNCTION transcribe_extra() RETURNS integer LANGUAGE sql AS 'SELECT 3'",
		"CREATE OR REPLACE FUNCTION transcribe_extra() RETURNS integer LANGUAGE sql AS 'SELECT 4'" ],
	[ 'the arguments of a function', "CREATE FUNCTION transcribe_extra(t text, u text DEFAULT '') RETURNS text LANGUAGE sql AS 'SELECT \$1'",
		"CREATE FUNCTION transcribe_extra(t text, u text DEFAULT '-') RETURNS text LANGUAGE sql AS 'SELECT \$1'" ],
	[ 'a property of a function', 'ALTER FUNCTION transcribe_extra() STABLE' ],
	[ 'who may call a function', 'REVOKE ALL ON FUNCTION transcribe_extra() FROM PUBLIC' ],
	map({ [ '', $_ ] } @rows_of_jobs));

# The script, where the given change is forgotten.
sub changes
{
	my ($careless) = @_;

	return join('', map { ($careless && $careless == $_ ? $_->[2] // '' : $_->[1]) . ";\n" } @changes);
}
my $next = $pg->add_version(changes());
$pg->install_library($next);
$node = start_cluster('upgrade', install_path => $pg->path, 'transcribe.idle_timeout' => '10min');

# What was released.
create_database('fresh', $newest);
my $fresh = catalog('fresh');
cmp_ok(scalar(grep { /FUNCTION/ } keys %$fresh), '>', 20, 'a catalog lists functions');
ok((grep { /ALTER EXTENSION transcribe ADD TABLE public.transcribe_jobs/ } keys %$fresh), 'and what belongs to the extension');
ok((grep { /transcribe_jobs_id_seq is dumped/ } keys %$fresh), 'and what is dumped');
foreach my $version (grep { $_ ne $newest } @released)
{
	create_database('walk', $version);
	query('walk', "ALTER EXTENSION transcribe UPDATE TO '$newest'");
	is_deeply([ differences($fresh, catalog('walk')) ], [], "version $version becomes $newest");
	query('postgres', 'DROP DATABASE walk');
}

# No C function changes its arguments: the library is called by the objects of
# all versions.  One that does gets another name in C.
my %calls;
foreach my $version (@released, $next)
{
	create_database('calls', $version);
	foreach my $line (split /\n/, query('calls', "SELECT prosrc || '|' || array_to_string(proargtypes::regtype[], ',') || '|' || prorettype::regtype
		FROM pg_proc WHERE probin = '\$libdir/transcribe'"))
	{
		my ($symbol, $call) = split /\|/, $line, 2;
		$calls{$symbol}{$call} = $version;
	}
	query('postgres', 'DROP DATABASE calls');
}
is_deeply([ grep { keys %{ $calls{$_} } > 1 } sort keys %calls ], [], 'every version calls the library in the same way');

# Whatever is forgotten in an update is found, and nothing else.
create_database('next', $next);
my $made = catalog('next');
create_database('careful', $newest);
query('careful', 'ALTER EXTENSION transcribe UPDATE');
is_deeply([ differences($made, catalog('careful')) ], [], 'nothing is noticed where nothing is forgotten');
foreach my $change (grep { $_->[0] } @changes)
{
	my $script = $pg->script("$newest--$next");

	$pg->write_script("$newest--$next", "SELECT transcribe_require_library('$next');\n" . changes($change));
	create_database('careless', $newest);
	query('careless', 'ALTER EXTENSION transcribe UPDATE');
	my @found = differences($made, catalog('careless'));
	cmp_ok(scalar(@found), '>', 0, "it is noticed if an update forgets $change->[0]");
	query('postgres', 'DROP DATABASE careless');
	$pg->write_script("$newest--$next", $script);
}

# With data in it, and with a job under way: from every version.
foreach my $version (@released)
{
	my %columns;
	my $gate = 'of' . $version =~ tr/./_/r;

	create_database('walk', $version);
	query('walk', "CREATE SERVER gated FOREIGN DATA WRAPPER transcribe OPTIONS (url '" . $faulty->url("gate=$gate") . "', model 'm');
		SELECT transcribe_enqueue('old', '$wav'); SELECT transcribe_enqueue('later', '$wav', run_at => '2100-01-01')");
	ok($node->poll_query_until('walk', "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = 'old'"),
		"the library of version $next serves the objects of version $version");
	query('walk', "SELECT transcribe_enqueue('running', '$wav', server => 'gated')");
	$faulty->wait_for_calls(1, "gate=$gate");
	$node->poll_query_until('walk', "SELECT status = 'transcribing' FROM transcribe_jobs WHERE session_id = 'running'")
	  or die 'the job does not run';
	my $before = rows('walk', \%columns);
	my $home = query('walk', 'SELECT transcribe_home()');

	query('walk', "SET lock_timeout = '1s'; ALTER EXTENSION transcribe UPDATE");
	pass("from version $version: a running job holds up ALTER EXTENSION UPDATE for no second");
	is(rows('walk', \%columns), $before, "from version $version: no row has changed");
	is(query('walk', 'SELECT transcribe_home()'), $home, "from version $version: its home is the same");
	$faulty->release($gate);
	ok($node->poll_query_until('walk', "SELECT status = 'completed' AND attempts = 1 AND crashes = 0 FROM transcribe_jobs WHERE session_id = 'running'"),
		"from version $version: the running job completes, once");
	query('walk', "SELECT transcribe_enqueue('new', '$wav')");
	ok($node->poll_query_until('walk', "SELECT status = 'completed' FROM transcribe_jobs WHERE session_id = 'new'"),
		"from version $version: new jobs run");
	query('walk', 'DROP SERVER gated');
	is_deeply([ differences($made, catalog('walk')) ], [], "from version $version: all is as CREATE EXTENSION makes it");
	query('postgres', 'DROP DATABASE walk');
}

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|ERROR:  (?!.*lock timeout)/, 'nothing went wrong on the way');
$node->stop;
$faulty->stop;
done_testing();
