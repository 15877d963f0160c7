# Whatever dies, and whenever, in the middle of a stream of jobs: each of them
# completes, once, and nothing is left behind.
use strict;
use warnings;

use lib 'test/perl';
use TranscribeTest::Battery;

TranscribeTest::Battery::run('battery');
