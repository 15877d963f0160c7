# A PostgreSQL of a test's own, with another version of transcribe beside ours.
#
#	my $pg = TranscribeTest::Installation->make;
#	my $next = $pg->add_version('SELECT ...');	   scripts, and they are the default
#	$pg->install_library($next);				   its library, as its package would
#	my $node = start_cluster('main', install_path => $pg->path);
#
# Versions that were never released are made here: their SQL objects are ours
# and what the test adds, their library is ours built under another number, and
# their programs ours with another version of the frames.  Nothing of this touches
# the installation that other tests use.
package TranscribeTest::Installation;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);

use PostgreSQL::Test::Utils;

# Where the sources are, and what was built of them.
my $source = abs_path($ENV{TESTDIR} // '.');

sub run
{
	my $status = system(@_);
	die "@_ failed: $status" if $status != 0;
	return;
}

# What a make that runs the tests has been told is not for this one.
sub run_make
{
	my ($self, $tree, $target) = @_;

	delete local @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};
	run('make', '-s', '-C', $tree, "PG_CONFIG=$self->{pg_config}", $target);
	return;
}

# Copy the installation; by default the one that is being tested.
sub make
{
	my ($class, $pg_config) = @_;
	my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());

	chomp($pg_config //= `sh -c "command -v pg_config"`);
	local $ENV{PG_CONFIG} = $pg_config;
	chomp(my $copy = `"$source/test/lib/prefix.sh" "$dir/pg"`);
	die "could not copy PostgreSQL: $?" if $? != 0;
	chomp(my $libraries = `"$copy" --pkglibdir`);
	chomp(my $share = `"$copy" --sharedir`);
	return bless {
		dir => $dir,
		pg_config => $copy,
		libraries => $libraries,
		extension => "$share/extension",
	}, $class;
}

# Build the extension for this PostgreSQL, and install it here: for one of
# another major version than that which is being tested.  The programs know
# nothing of PostgreSQL, and are taken as they are.
sub install_extension
{
	my ($self) = @_;
	my $tree = "$self->{dir}/extension";

	mkdir $tree or die "could not make \"$tree\": $!";
	run('cp', '-a', (grep { !/\.so$/ } glob "$source/transcribe* $source/Makefile $source/src"), $tree);
	run('find', $tree, '-name', '*.o', '-delete');
	$self->run_make($tree, 'install');
	return;
}

# What Cluster's new() calls install_path.
sub path { return dirname(dirname($_[0]->{pg_config})) }
sub library_directory { return $_[0]->{libraries} }

# The version that CREATE EXTENSION makes, and all that it can make.
sub version
{
	my ($self) = @_;
	return slurp_file("$self->{extension}/transcribe.control") =~ /^default_version = '(.*)'/m ? $1 : die;
}

sub versions
{
	my ($self) = @_;
	return sort map { m,transcribe--([0-9.]+)\.sql$, ? $1 : () } glob "$self->{extension}/transcribe--*.sql";
}

sub script
{
	my ($self, $versions) = @_;
	return slurp_file("$self->{extension}/transcribe--$versions.sql");
}

# Replace a file as a package does, by another one under its name: what has
# the old one open keeps it.
sub replace
{
	my ($self, $file, $content, $mode) = @_;

	open(my $out, '>', "$file.new") or die "could not open \"$file.new\": $!";
	print $out $content;
	close $out or die "could not write \"$file.new\": $!";
	chmod $mode // 0644, "$file.new";
	rename "$file.new", $file or die "could not rename \"$file.new\": $!";
	return;
}

sub write_script
{
	my ($self, $versions, $sql) = @_;

	$self->replace("$self->{extension}/transcribe--$versions.sql", $sql);
	return;
}

sub set_default_version
{
	my ($self, $version) = @_;
	my $file = "$self->{extension}/transcribe.control";

	$self->replace($file, slurp_file($file) =~ s/^(default_version = ').*'/$1$version'/mr);
	return;
}

# Add a version after the newest one: all that this has, and the given SQL.
sub add_version
{
	my ($self, $sql) = @_;
	my $newest = $self->version;
	my $next = "$newest.1";
	my $guard = "SELECT transcribe_require_library('$next');\n";

	$self->write_script($next, $self->script($newest) =~ s/^SELECT transcribe_require_library\('\Q$newest\E'\);$/$guard/mr . $sql);
	$self->write_script("$newest--$next", $guard . $sql);
	$self->set_default_version($next);
	return $next;
}

# A copy of the sources, with what was built of them, for one target of make.
sub build
{
	my ($self, $target, $file, $change) = @_;
	my $tree = "$self->{dir}/source-$target";

	mkdir $tree or die "could not make \"$tree\": $!" if !-e $tree;
	run('cp', '-a', (map { "$source/$_" } qw(Makefile transcribe.control src)), $tree);
	$self->replace("$tree/$file", $change->(slurp_file("$tree/$file")));
	$self->run_make($tree, $target);
	return slurp_file("$tree/$target");
}

# Install a library that takes itself for that version, whichever it is of.
sub install_library
{
	my ($self, $version) = @_;

	$self->{built}{$version} //= $self->build('transcribe.so', 'transcribe.control',
		sub { $_[0] =~ s/^(default_version = ').*'/$1$version'/mr });
	$self->replace("$self->{libraries}/transcribe.so", $self->{built}{$version}, 0755);
	return;
}

# Install a program whose frames are of another version.  Returns the one that
# it replaces, for install_program().
sub install_stranger
{
	my ($self, $program) = @_;

	return $self->install_program($program, $self->build($program, 'src/wire/wire.h',
		sub { $_[0] =~ s/^(#define WIRE_VERSION\s+).*/${1}9999/mr }));
}

sub install_program
{
	my ($self, $program, $content) = @_;
	my $file = "$self->{libraries}/$program";
	my $old = -e $file ? slurp_file($file) : undef;

	$self->replace($file, $content, 0755);
	return $old;
}

1;
