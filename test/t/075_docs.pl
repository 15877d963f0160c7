# What the documentation shows can be typed: each block of SQL runs, in the order
# of its file, in a database of its own; scripts are scripts, and links lead
# somewhere.  Servers are those of this machine, whatever a block names.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use File::Path qw(make_path);
use TranscribeTest;
use TranscribeTest::Markdown;
use PostgreSQL::Test::Utils;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $url = $faulty->url('ok');
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('docs', 'transcribe.media_directories' => "$dir/audio");
my @all = map { blocks($_) } documents();
my %not_run;

# What stands for what a reader has: a directory of recordings, one of keys,
# servers that answer, and a psql that does not watch for ever.
sub substitute
{
	my ($sql) = @_;

	$sql =~ s{/srv/audio}{$dir/audio}g;
	$sql =~ s{/etc/transcribe\b}{$dir/keys}g;
	$sql =~ s{'https?://[^']*'}{'$url'}g;
	# A profile may know a URL, which must not be asked.
	$sql =~ s{(CREATE SERVER[^;]*?OPTIONS\s*\()(?![^;]*\burl ')}{$1url '$url', }gs;
	$sql =~ s{(transcribe_setup\(\s*)(?!\s*'http)}{$1url => '$url', }g;
	$sql =~ s{[ ]*\\watch.*$}{;}gm;
	return $sql;
}

# The recordings and keys that are named.
my $text = join('', map { slurp_file($_) } documents());
make_path("$dir/keys", "$dir/audio");
foreach my $path ($text =~ m{/srv/audio/([\w/-]+\.\w+)}g)
{
	make_path(dirname("$dir/audio/$path"));
	copy("$audio/austen-0880.wav", "$dir/audio/$path") or die "could not copy: $!";
}
system_or_bail('ffmpeg', '-nostdin', '-v', 'error', '-y', (map { ('-i', "$audio/austen-$_.wav") } '0870', '0920'),
	'-filter_complex', 'amerge', "$dir/audio/two-parties.wav");
foreach my $key ($text =~ m{/etc/transcribe/(\w+\.key)}g)
{
	append_to_file("$dir/keys/$key", "sk-key-of-the-docs\n") if !-e "$dir/keys/$key";
	chmod 0600, "$dir/keys/$key";
}

# pg_cron, as far as the examples use it: what is to be run at some times is run
# at once.
my $cron = <<'SQL';
CREATE SCHEMA cron;
CREATE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint
LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 1; END $$;
SQL

# What a file takes for granted: all but the first steps have been done.
my %before = (
	'README.md' => '',
	default => "CREATE EXTENSION transcribe; CREATE ROLE app LOGIN;
		CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url', model 'whisper-1');
		CREATE SERVER gpu FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url', model 'large');
		GRANT USAGE ON FOREIGN SERVER whisper, gpu TO app; $cron");

# What comes of some of them: by file, a query and its result.
my %outcome = (
	'README.md' => [
		"SELECT transcribe_text(17) ~ '^segment 1'" => 't',
		"SELECT count(*) FROM transcribe_jobs WHERE status = 'completed'" => '4' ],
	'doc/cookbook.md' => [
		"SELECT session_id || ' ' || status FROM notes WHERE session_id = 'noted'" => 'noted completed',
		"SELECT count(*) > 0 FROM taken" => 't',
		"SELECT string_agg(DISTINCT speaker, ' ') FROM transcribe_segments WHERE session_id = 'call'" => 'Agent Customer',
		"SELECT string_agg(owner, ' ' ORDER BY owner) FROM transcribe_jobs WHERE session_id ~ '^(acme|globex)-'" => 'acme globex',
		"SELECT count(*) FROM pg_largeobject_metadata" => '0',
		"SELECT count(*) FROM transcribe_recordings" => '0' ],
	'doc/operations.md' => [
		"SHOW transcribe.enabled" => 'on' ],
	'doc/security.md' => [
		"SELECT count(*) FROM transcribe_jobs WHERE owner = 'shop' AND status = 'completed'" => '1' ]);

$before{'doc/reference.md'} = "$before{default} CREATE TABLE calls (id bigint, audio_path text, audio bytea); CREATE TABLE notes (session_id text, status text, text text);
	CREATE SERVER cpu FOREIGN DATA WRAPPER transcribe OPTIONS (url '$url', model 'small')";

$before{'doc/operations.md'} = "$before{default} CREATE ROLE old";

# Wait until all has ended that may run now.
sub wait_for_the_end
{
	my ($database) = @_;

	return if $node->safe_psql($database, "SELECT count(*) FROM pg_extension WHERE extname = 'transcribe'") eq '0'
	  || $node->safe_psql($database, 'SHOW transcribe.enabled') ne 'on';
	$node->poll_query_until($database, "SELECT count(*) = 0 FROM transcribe_jobs j
		WHERE j.status IN ('queued', 'preprocessing', 'transcribing') AND j.run_at <= now() AND j.home = transcribe_home()
		AND EXISTS (SELECT FROM transcribe_servers s WHERE s.state = 'available' AND s.server = ANY (transcribe_server_names(j.server)))")
	  or diag($node->safe_psql($database, 'SELECT session_id, server, status, error FROM transcribe_jobs'));
	return;
}

my $files = 0;
foreach my $file (documents())
{
	my @blocks = grep { $_->{file} eq $file && $_->{language} eq 'sql' } @all;
	my $database = 'docs_' . ++$files;

	next if !@blocks;
	# This one begins with what the rest leads to.
	push @blocks, shift @blocks if $file eq 'README.md';
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, $before{$file} // $before{default});
	foreach my $block (@blocks)
	{
		my $name = "$file, line $block->{line}";
		my ($sql, $stderr) = (substitute($block->{text}), '');

		if ($block->{why})
		{
			$not_run{$name} = $block->{why};
			next;
		}
		# Nothing leaves this machine.
		unlike($sql =~ s/--.*$//mgr, qr{https?://(?!127\.0\.0\.1:)}, "$name: asks nobody else");
		utf8::encode($sql);
		my $status = $node->psql($database, $sql, stderr => \$stderr, on_error_stop => 1);
		is($status, 0, "$name: runs") or diag("$sql\n$stderr");
		wait_for_the_end($database);
	}
	foreach my $n (grep { $_ % 2 == 0 } 0 .. $#{ $outcome{$file} // [] })
	{
		my ($query, $expected) = @{ $outcome{$file} }[$n, $n + 1];

		ok($node->poll_query_until($database, $query, $expected), "$file: $query")
		  or diag($node->safe_psql($database, $query));
	}
	SKIP:
	{
		skip "$file keeps no extension", 2
		  if $node->safe_psql($database, "SELECT count(*) FROM pg_extension WHERE extname = 'transcribe'") eq '0';
		is($node->safe_psql($database, "SELECT string_agg(srvname, ' ') FROM pg_foreign_server
			WHERE NOT EXISTS (SELECT FROM unnest(srvoptions) o WHERE o ~ '^url=http://127\\.0\\.0\\.1:')"), '', "$file: its servers are here");
		is($node->safe_psql($database, "SELECT string_agg(concat_ws(' ', session_id, path, error_code, error), E'\n') FROM transcribe_jobs
			WHERE status = 'failed'"), '', "$file: its recordings are transcribed");
	}
	# The next file finds none of its settings and roles.
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
	$node->safe_psql('postgres', "DROP DATABASE $database WITH (FORCE)");
	$node->safe_psql('postgres', "DO \$\$ DECLARE r text; BEGIN
		FOR r IN SELECT quote_ident(rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> current_user LOOP
			EXECUTE 'DROP OWNED BY ' || r; EXECUTE 'DROP ROLE ' || r; END LOOP; END \$\$");
	$node->reload;
}

# How many are not run, so that a mark more is noticed; and why.
note("$_: $not_run{$_}") foreach sort keys %not_run;
cmp_ok(scalar(keys %not_run), '<=', 0, 'few are not run');
cmp_ok(scalar(grep { $_->{language} eq 'sql' } @all), '>', 20, 'and there are many');

# Scripts: the shell takes them, and what they name is there.
my $targets = join('|', map { /^([\w-]+)(?: [\w-]+)*:(?!=)/ ? $1 : () } split(/\n/, slurp_file('Makefile')), 'all:', 'install:', 'clean:', 'uninstall:', 'installcheck:');
foreach my $block (grep { $_->{language} =~ /^(?:sh|bash)$/ } @all)
{
	my $name = "$block->{file}, line $block->{line}";
	my ($out, $err) = ('', '');
	my $text = $block->{text};

	utf8::encode($text);
	IPC::Run::run([ 'bash', '-n' ], '<', \$text, '>', \$out, '2>', \$err);
	is($err, '', "$name: the shell takes it");
	is(join(' ', grep { !-e } $text =~ m{(?:^|\s)\./([\w./-]+)}gm), '', "$name: its scripts are there");
}
foreach my $file (documents())
{
	my $text = slurp_file($file);
	my @made = map { grep { !m{[=./]|^-} } split ' ' } $text =~ /(?:^ *(?:sudo )?|`)make((?: [\w=\/.-]+)+)(?=`| *$|  )/gm;

	is(join(' ', grep { !/^(?:$targets)$/ } @made), '', "$file: its targets of make are there");
	is(join(' ', grep { /\*/ ? !(() = glob) : !-e } $text =~ m{`((?:src|test|doc|debian|sql|expected)/[\w./*-]*)`}g), '', "$file: its files are there");
}
foreach my $block (grep { $_->{language} eq 'python' } @all)
{
	my ($out, $err) = ('', '');
	my $text = $block->{text};

	utf8::encode($text);
	IPC::Run::run([ '/usr/bin/python3', '-c', 'import ast, sys; ast.parse(sys.stdin.read())' ], '<', \$text, '>', \$out, '2>', \$err);
	is($err, '', "$block->{file}, line $block->{line}: Python takes it");
}
is(join(' ', map { "$_->{file}:$_->{line}:$_->{language}" } grep { $_->{language} !~ /^(?:sql|sh|bash|python|yaml|ini|html|javascript|dockerfile|te|text|)$/ } @all), '', 'blocks are of known languages');

# Links.
my %anchors = map { $_ => { anchors($_) } } documents();
foreach my $file (documents())
{
	my @dead;

	foreach my $link (grep { !m{^https?://} } links($file))
	{
		my ($to, $anchor) = split /#/, $link, 2;
		my $path = $to eq '' ? $file : dirname($file) eq '.' ? $to : dirname($file) . "/$to";

		1 while $path =~ s{[^/]+/\.\./}{};
		push @dead, $link if !-e $path || (defined $anchor && !$anchors{$path}{$anchor});
	}
	is(join(' ', @dead), '', "$file: links lead somewhere");
}

$node->stop;
$faulty->stop;
done_testing();
