# The reference is whole and true: it names each function, view, table, column,
# setting, option and error code that there is, and none that there is not; and
# the troubleshooting page has each error that somebody may see.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use TranscribeTest::Markdown;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_cluster('reference');
my $reference = slurp_file('doc/reference.md');
my $troubleshooting = slurp_file('doc/troubleshooting.md');

sub lines { return split /\n/, $node->safe_psql('postgres', $_[0]) }

# Those of a list that are not keys of a hash.
sub missing
{
	my ($hash, @list) = @_;
	my %seen;
	return join(' ', sort grep { !$hash->{$_} && !$seen{$_}++ } @list);
}

sub set_of { return map { $_ => 1 } @_ }

# The sections of the reference, by their headings: all that is below each.
sub section
{
	my ($heading, $end) = @_;
	my ($text) = $reference =~ /^\Q$heading\E\n(.*?)(?=^$end |\z)/ms;
	return $text // die "the reference has no section \"$heading\"";
}

# Objects.
my @objects = lines("SELECT DISTINCT coalesce(p.proname, c.relname) FROM pg_depend d
	LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
	LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind IN ('r', 'v')
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'transcribe')
	AND coalesce(p.proname, c.relname) IS NOT NULL");
cmp_ok(scalar(@objects), '>', 40, 'there are functions and views');
my %named = set_of($reference =~ /\b(transcribe_\w+)/g);
is(missing(\%named, @objects), '', 'each function, table and view is in the reference');

# What else is called so: our programs and files, indexes that a reader makes,
# names of the examples, and what a metric of Prometheus' is called.
my %known = set_of(@objects, qw(transcribe_agent transcribe_media transcribe_check_server transcribe_failpoints),
	lines("SELECT relname FROM pg_class WHERE relname ~ '^transcribe_'"),
	lines("SELECT attname FROM pg_attribute WHERE attname ~ '^transcribe_'"));
foreach my $file (grep { !m{architecture|CHANGELOG|CONTRIBUTING} } documents())
{
	my $text = slurp_file($file);
	my %own = set_of($text =~ /\bCREATE (?:UNIQUE )?(?:INDEX|VIEW|TABLE|FUNCTION)(?: CONCURRENTLY)? (transcribe_\w+)/g,
		$text =~ /^(transcribe_\w+):$/gm);
	is(missing({ %known, %own }, grep { !/_(?:total|seconds)$|_$/ } $text =~ /(?<![\w.\/-])(transcribe_\w+)/g), '', "$file names no function or view that there is not");
}

# Columns: each in the table of its section.
my @undocumented;
foreach my $column (lines("SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE c.relname ~ '^transcribe_' AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
	AND c.relname NOT IN ('transcribe_here', 'transcribe_live', 'transcribe_live_segments')"))
{
	my ($relation, $name) = split /\./, $column;
	push @undocumented, $column if section("### $relation", '###?') !~ /^\|[^|]*`$name`[^|]*\|/m;
}
is("@undocumented", '', 'each column is in the reference');

# Settings.
my %settings = set_of(lines("SELECT name FROM pg_settings WHERE name ~ '^transcribe\\.'"));
my $settings = section('## Settings', '##');
is(missing({ set_of($settings =~ /`(transcribe\.\w+)`/g) }, keys %settings), '', 'each setting is in the reference');
foreach my $file (grep { !/architecture/ } documents())
{
	my $text = slurp_file($file);
	is(missing(\%settings, grep { !/\.(?:c|h|so|control|map|databases|te|mod|pp)$/ } $text =~ /(?<![\w\/])(transcribe\.[a-z]\w*)/g), '', "$file names no setting that there is not");
}
my @defaults;
foreach my $line (lines("SELECT name, boot_val, coalesce(unit, ''), min_val, max_val FROM pg_settings WHERE name ~ '^transcribe\\.' AND vartype IN ('enum', 'bool')"))
{
	my ($name, $default) = split /\|/, $line;
	push @defaults, $name if $settings !~ /`\Q$name\E` \(`\Q$default\E`/;
}
is("@defaults", '', 'with its default, where that is a word');

# Options, as the hints of the validators list them.
sub options_in_hint
{
	my ($sql) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', $sql);
	my ($list) = $stderr =~ /HINT:\s+Valid options (?:in this context )?are: (.*)/ or die "no hint: $stderr";

	return map { s/ \(.*//r } split /, (?![^(]*\))/, $list =~ s/\.$//r;
}
my $servers = section('## Servers', '##');
my @options = options_in_hint("CREATE SERVER s FOREIGN DATA WRAPPER transcribe OPTIONS (nosuch '')");
cmp_ok(scalar(@options), '>', 25, 'servers have options');
$node->safe_psql('postgres', "CREATE SERVER s FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9')");
push @options, options_in_hint("CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (nosuch '')");
my @listed = map { /`(\w+)`/g } $servers =~ /^- ((?:`\w+`(?: \([^)]*\))?(?:, )?)+):/gm;
is(missing({ set_of(@listed) }, @options), '', 'each option of servers and mappings is in the reference');
is(missing({ set_of(@options) }, @listed), '', 'and no other');
my $job_options = section('## Job options', '##');
@options = options_in_hint("SELECT transcribe_enqueue('s', '/', server => 's', options => '{\"nosuch\": 1}')");
@listed = $job_options =~ /^\| `(\w+)` \|/gm;
is(missing({ set_of(@listed) }, @options), '', 'each option of jobs is in the reference');
is(missing({ set_of(@options) }, @listed), '', 'and no other');

# Error codes, as they are in the source.
my $source = join("\n", map { slurp_file($_) } glob('src/*/*.c src/*/*.h transcribe--*.sql'));
my %codes = set_of(
	$source =~ /\{"([a-z_]+)", STEP_/g,
	$source =~ /#define MEDIA_[A-Z_]+\s+"([a-z_]+)"/g,
	$source =~ /\[HTTP_[A-Z_]+\] = \{"([a-z_]+)"/g,
	$source =~ /\(FailureVerdict\) \{"([a-z_]+)"/g,
	$source =~ /job_fail\([^;"]*?"([a-z_]+)"/g,
	$source =~ /close_server\([^;"]*?"([a-z_]+)"/g,
	$source =~ /"(media_[a-z]+|crashed)"/g,
	$source =~ /'(crashed)'/g,
	$source =~ /\? *"(unauthorized|quota_exhausted|rate_limited)" *:/g,
	'quota_exhausted');
# Of transcribe_check_server only: there was no sound in the sentence; and a name of
# a process.
delete @codes{qw(silent media_directories media_processes transcribe_media)};
cmp_ok(scalar(keys %codes), '>', 30, 'the source has error codes');
my $codes = section('## Error codes', '##');
@listed = $codes =~ /^\| `(\w+)` \|/gm;
is(missing({ set_of(@listed) }, keys %codes), '', 'each error code is in the reference');
is(missing(\%codes, @listed), '', 'and no other');
is(missing({ set_of($troubleshooting =~ /\b([a-z_]+)\b/g) }, keys %codes), '', 'each has its cure in the troubleshooting page');

# Messages: each that a session or the log may show is there, word by word,
# with "..." for what differs.
my $cures = $troubleshooting =~ s/\s+/ /gr;
my @unknown;
foreach my $file (glob('src/transcribe.c src/session/*.c src/shared/*.c src/launcher/*.c src/worker/*.c src/runner/*.c'))
{
	my $text = slurp_file($file) =~ s/INT64_FORMAT/"%d"/gr;

	while ($text =~ /\berrmsg\(((?:\s*"(?:[^"\\]|\\.)*")+)/g)
	{
		my $message = join('', map { s/\\"/"/gr } $1 =~ /"((?:[^"\\]|\\.)*)"/g);

		next if $message =~ /^failpoint |^transcribe_agent %s$/;
		my $pattern = join('.{0,60}?', map { quotemeta } split /%(?:\.\d)?[a-zA-Z]/, $message, -1);
		push @unknown, $message if $cures !~ /$pattern/;
	}
}
is(join("\n", @unknown), '', 'each message is in the troubleshooting page');

$node->stop;
done_testing();
