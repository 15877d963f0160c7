# What transcribe.sandbox does where the system does not allow all layers, as
# in some containers: this test takes Landlock away from itself, and so from
# the servers that it starts.
use strict;
use warnings;

use lib 'test/perl';
use Config;
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %prctl_of = (x86_64 => 157, aarch64 => 167);
my $prctl = $prctl_of{ (split /-/, $Config{archname})[0] };
plan skip_all => 'the numbers of system calls are not known here'
  unless $prctl;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('sandbox', 'transcribe.sandbox' => 'require');

create_server($node, 'whisper', $faulty->url);

sub enqueue
{
	my ($session) = @_;
	return $node->safe_psql('postgres',
		"SELECT transcribe_enqueue('$session', '$audio/austen-0870.wav')");
}

sub ends_as
{
	my ($session, $expected, $what) = @_;
	wait_for($node,
		"SELECT status || coalesce(' ' || error_code, '') FROM transcribe_jobs
		 WHERE session_id = '$session' AND finished_at IS NOT NULL",
		$expected, $what);
}

# How often the log says so, since the test began.
sub said
{
	my $log = slurp_file($node->logfile);
	return scalar(() = $log =~ /read without all of the sandbox, missing: Landlock$/mg);
}

my ($found) = run_command(
	[ 'transcribe_media', "$audio/austen-0870.wav", '--json' ]);
SKIP:
{
	skip 'the system does not allow all layers', 1
	  unless $found =~ /"limits": true, "landlock": true, "seccomp": true/;
	enqueue('all');
	ends_as('all', 'completed', 'with all layers, what is required holds');
}
$node->stop;

# A filter that answers EPERM to landlock_create_ruleset(), which is number
# 444 everywhere, and allows everything else.
my $filter = pack('(S C C L)4',
	0x20, 0, 0, 0,
	0x15, 0, 1, 444,
	0x06, 0, 0, 0x00050001,
	0x06, 0, 0, 0x7fff0000);
my $program = pack('S x![P] P', 4, $filter);
is(syscall($prctl, 38, 1, 0, 0, 0), 0, 'no new privileges');
is(syscall($prctl, 22, 2, $program), 0, 'Landlock is taken away');

$node->start;
enqueue('required');
ends_as('required', 'failed sandbox_unavailable',
	'without a required layer nothing is read');
like($node->safe_psql('postgres',
		"SELECT error FROM transcribe_jobs WHERE session_id = 'required'"),
	qr/missing: Landlock\), and transcribe\.sandbox requires it/,
	'and the row says which it is');
is($node->safe_psql('postgres', "SELECT ok, hint ~ 'transcribe.sandbox = ''prefer''' FROM transcribe_check(false) WHERE item = 'media'"),
	'f|t', 'transcribe_check finds it');

$node->append_conf('postgresql.conf', "transcribe.sandbox = 'prefer'");
$node->reload;
wait_for($node, 'SHOW transcribe.sandbox', 'prefer', 'the setting is changed');
enqueue($_) foreach ('one', 'two');
ends_as($_, 'completed', 'with layers preferred it is read') foreach ('one', 'two');
is(said(), 1, 'and the log says once what is missing');
is($node->safe_psql('postgres', "SELECT ok, detail, hint ~ 'lsm' FROM transcribe_check(false) WHERE item = 'sandbox'"),
	'|recordings are read without all of it, missing: Landlock|t', 'as transcribe_check does');

$node->stop;
$faulty->stop;
done_testing();
