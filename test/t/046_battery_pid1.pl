# The same as 041_battery.pl where the postmaster is the first process of a
# container.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest;
use TranscribeTest::Battery;
use Test::More;

my @container = container();
plan skip_all => 'this system gives no process namespace to ordinary users' if !@container;
TranscribeTest::Battery::run('battery_pid1', @container);
