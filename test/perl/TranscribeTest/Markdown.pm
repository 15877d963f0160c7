# What the documentation consists of: its fenced blocks, headings and links.
#
#	foreach my $block (blocks('README.md')) { ... $block->{text} ... }
#
# A block that cannot be run is marked by a comment right before its fence:
#
#	<!-- not run: no such machine here -->
package TranscribeTest::Markdown;

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Utils;

our @EXPORT = qw(documents blocks anchors links plain_text);

# All files of the documentation.
sub documents
{
	return grep { -f } ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', sort glob('doc/*.md'));
}

sub lines_of
{
	my ($file) = @_;
	my @lines = split /\n/, slurp_file($file), -1;

	utf8::decode($_) foreach @lines;
	return @lines;
}

# The fenced blocks of a file: hashes of language, text, line (of the fence), and
# why, if it is marked as not run.
sub blocks
{
	my ($file) = @_;
	my @blocks;
	my ($block, $before, $n) = (undef, '', 0);

	foreach my $line (lines_of($file))
	{
		$n++;
		if ($block)
		{
			if ($line =~ /^```\s*$/)
			{
				push @blocks, $block;
				$block = undef;
				next;
			}
			$block->{text} .= "$line\n";
			next;
		}
		if ($line =~ /^```(\w*)\s*$/)
		{
			$block = { file => $file, line => $n, language => $1, text => '' };
			$block->{why} = $1 if $before =~ /^<!-- not run: (.+) -->$/;
		}
		$before = $line;
	}
	die "$file: the block of line $block->{line} does not end" if $block;
	return @blocks;
}

# What is no block, neither fenced nor indented.
sub plain_text
{
	my ($file) = @_;
	my $text = join("\n", lines_of($file));

	$text =~ s/^```.*?^```$//gms;
	$text =~ s/^    .*$//gm;
	return $text;
}

# The anchors that GitHub makes of the headings of a file, as a hash.
sub anchors
{
	my ($file) = @_;
	my %anchors;

	foreach my $heading (plain_text($file) =~ /^#+ +(.*?)\s*$/gm)
	{
		my $anchor = lc $heading;

		$anchor =~ s/[^\w\- ]//g;
		$anchor =~ s/ /-/g;
		$anchor .= '-' . $anchors{$anchor}++ if $anchors{$anchor};
		$anchors{$anchor}++;
	}
	return %anchors;
}

# The links of a file, as they are written.
sub links
{
	my ($file) = @_;

	# Lines may break inside of the text of a link.
	return plain_text($file) =~ /\[[^\[\]]*\]\(([^()\s]+)\)/g;
}

1;
