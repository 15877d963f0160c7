# What the makers of packages read is valid, complete, and of one version.
#
# META.json goes by the PGXN Meta Spec 1.0.0, debian/ by what pg_buildext makes
# of debian/control.in.  No server is needed.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;
use Test::More;

my $top = abs_path(dirname(__FILE__) . '/../..');

sub contents
{
	my ($file) = @_;

	open(my $in, '<', "$top/$file") or die "could not open \"$file\": $!\n";
	local $/;
	return scalar <$in>;
}

# META.json, by the specification.
my $meta = JSON::PP->new->utf8->decode(contents('META.json'));
my $semver = qr/^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-[0-9A-Za-z-.]+)?\z/;
my %known = map { $_ => 1 } qw(name version abstract maintainer license provides
  meta-spec description generated_by tags no_index prereqs release_status resources);

foreach my $field (qw(name version abstract maintainer license))
{
	ok(defined $meta->{$field} && !ref $meta->{$field} && length $meta->{$field},
		"META.json has a text in \"$field\"");
}
is_deeply([ grep { !$known{$_} && !/^[xX]_./ } keys %$meta ],
	[], 'META.json has no field that the specification does not know');
like($meta->{name}, qr{^[^/\\\s[:cntrl:]]{2,}\z}, 'META.json has a name without spaces');
like($meta->{maintainer}, qr/^[^<>]+ <[^<>\s]+@[^<>\s]+>\z/, 'the maintainer has an address');
is($meta->{license}, 'postgresql', 'the licence is that of LICENSE');
like(contents('LICENSE'), qr/^PostgreSQL License\n/, 'which is the PostgreSQL License');
like($meta->{'meta-spec'}{version}, qr/^1\.0\.\d+\z/, 'META.json tells its specification');
like($meta->{release_status}, qr/^(?:stable|testing|unstable)\z/, 'and its status');
is(scalar(grep { ref || length > 255 || m{[/\\[:cntrl:]]} } @{ $meta->{tags} }),
	0, 'tags are short texts');
foreach my $phase (values %{ $meta->{prereqs} })
{
	like($_, qr/^[<>=! ]*\d+\.\d+\.\d+\z/, 'a version is required in three parts')
	  foreach map { values %$_ } values %$phase;
}

# The extension in it, and its version everywhere.
my ($version) = contents('transcribe.control') =~ /^default_version = '(.*)'$/m;
my $three = $version =~ /^\d+\.\d+\z/ ? "$version.0" : $version;
my $extension = $meta->{provides}{transcribe};

like($meta->{version}, $semver, 'the version of META.json is semantic');
is($meta->{version}, $three, 'and that of transcribe.control');
is($extension->{version}, $three, 'so is that of the extension in META.json');
is($extension->{file}, "transcribe--$version.sql", 'which names the script of that version');
ok(-f "$top/$_", "$_ exists") foreach @{$extension}{qw(file docfile)};
ok(-d "$top/$_", "$_ exists") foreach @{ $meta->{no_index}{directory} };
like(contents('debian/changelog'),
	qr/\Apostgresql-transcribe \(\Q$version\E-\d+\) /, 'debian/changelog begins with it');
like(contents('CHANGELOG.md'), qr/^# Changes\n+## \Q$version\E\b/, 'and so does CHANGELOG.md');

# debian/control is debian/control.in for one version that is supported.
my ($oldest) = contents('debian/pgversions') =~ /^(\d+)\+$/;
my ($major) = contents('debian/control') =~ /^Package: postgresql-(\d+)-transcribe$/m;
cmp_ok($major, '>=', $oldest, 'debian/control is for a version of debian/pgversions');
is(contents('debian/control'), contents('debian/control.in') =~ s/PGVERSION/$major/gr,
	'debian/control is what debian/control.in says');
like($meta->{prereqs}{runtime}{requires}{PostgreSQL},
	qr/^\Q$oldest\E\.0\.0\z/, 'META.json requires the same');

# Whoever builds needs the same libraries.
my @libraries = contents('test/lib/common.sh') =~ /\b(lib(?!clang)\S+-dev)\b/g;
cmp_ok(scalar @libraries, '>', 5, 'check.sh needs libraries to build with');
foreach my $file (qw(debian/control.in Dockerfile))
{
	is_deeply([ grep { contents($file) !~ /\b\Q$_\E\b/ } @libraries ],
		[], "$file names all of them");
}

done_testing();
