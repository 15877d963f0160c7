#!/usr/bin/perl
# Run TAP tests as prove does, and count.
#
#   prove.pl COUNTS JOBS FILE...
#
# Prints what prove prints, with every failed assertion, and writes into the
# file COUNTS one line "PASSED FAILED" and then the names of the files that
# failed.  A test that dies, or does less than it planned, without a failed
# assertion counts as one failure.
use strict;
use warnings;

use TAP::Harness;

my ($counts, $jobs, @files) = @ARGV;
my $harness = TAP::Harness->new({
	jobs => $jobs,
	timer => 1,
	failures => 1,
	# Programs run themselves; Perl runs Perl's.
	exec => sub { $_[1] =~ /\.pl$/ ? undef : [ $_[1] ] },
	lib => [ split /:/, $ENV{PERL5LIB} // '' ],
});
my $results = $harness->runtests(@files);

my $failed = 0;
my @bad;
foreach my $file (@files)
{
	my ($parser) = $results->parsers($file);
	my $count = $parser->failed;

	$count = 1 if !$count && $parser->has_problems;
	$failed += $count;
	push @bad, $file if $count;
}

open(my $out, '>', $counts) or die "could not open \"$counts\": $!\n";
print $out scalar($results->passed), " $failed\n", map { "$_\n" } @bad;
close $out or die "could not write \"$counts\": $!\n";
exit(@bad ? 1 : 0);
