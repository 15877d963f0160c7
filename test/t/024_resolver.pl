# A resolver that takes its time holds up the requests that need it, and
# nothing else: its configuration is a pipe, which it reads to the end before it
# looks a name up.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use POSIX qw(getegid geteuid mkfifo);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
mkfifo("$dir/resolv.conf", 0644) or die "could not make a pipe: $!";
append_to_file("$dir/nsswitch.conf", "hosts: files\n");
append_to_file("$dir/hosts", "127.0.0.1 slow.test last.test\n");

# Files are put over others by the root of a namespace, but PostgreSQL refuses
# to run as root: in a second one we are who we were.
my @inside = ('unshare', '--user', '--map-root-user', '--mount', 'sh', '-c',
	'for file in resolv.conf nsswitch.conf hosts; do mount --bind "$1/$file" /etc/$file || exit; done; shift; exec "$@"',
	'sh', $dir, 'unshare', '--user', '--map-user=' . geteuid(), '--map-group=' . getegid());
plan skip_all => 'this system gives no mount namespace to ordinary users'
  if system(join(' ', map { quotemeta } @inside) . ' test -p /etc/resolv.conf 2>/dev/null') != 0;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('resolver');
my $wav = "$audio/austen-0880.wav";
my $by_name = $faulty->url('ok,seconds=3,tag=slow') =~ s/127\.0\.0\.1/slow.test/r;

sub query { return $node->safe_psql('postgres', $_[0]) }
sub enqueue { return query("SELECT transcribe_enqueue('$_[0]', '$wav', server => '$_[1]')") }

create_server($node, 'fast', $faulty->url('ok,seconds=3'));
create_server($node, 'slow', $by_name, connect_timeout => '1h', request_timeout => '1h',
	max_attempts => 1);
create_server($node, 'impatient', $by_name, connect_timeout => '300ms', max_attempts => 1);
$node->stop;
my $pid = fork // die "could not fork: $!";
if ($pid == 0)
{
	open STDOUT, '>>', $node->logfile;
	open STDERR, '>&', \*STDOUT;
	exec @inside, 'postgres', '-D', $node->data_dir;
}
ok($node->poll_query_until('postgres', 'SELECT true'), 'the server is up');

# Threads of the agent: those beside the first one look up names.
sub lookups
{
	my ($agent) = grep { $_->{comm} eq 'transcribe_agen' } processes_of($pid);
	my @threads = glob("/proc/$agent->{pid}/task/*");
	return @threads - 1;
}

my @slow = map { enqueue("slow $_", 'slow') } 1 .. 3;
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'slow' AND status = 'transcribing'", '3',
	'three requests look for their host');
cmp_ok(lookups(), '>=', 3, 'each in a thread');
my $fast = enqueue('fast', 'fast');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $fast", 'completed', 'another one goes its way');
my $impatient = enqueue('impatient', 'impatient');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $impatient", 'failed', 'one whose time is over ends');
like(query("SELECT error_code || ' ' || error FROM transcribe_jobs WHERE id = $impatient"),
	qr/^timeout timeout after .* while looking up the host's name/, 'and says why');
is(query("SELECT transcribe_cancel($slow[0])"), 't', 'one is cancelled');
wait_for($node, 'SELECT count(*) FROM transcribe_progress', '2', 'and let go');
$fast = enqueue('fast again', 'fast');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $fast", 'completed', 'while others still go their way');
is(scalar($faulty->log('ok,seconds=3,tag=slow')), 0, 'those that wait have sent nothing');

# Now it comes to an end, again and again for all that wait.
my $writer = fork // die "could not fork: $!";
if ($writer == 0)
{
	while (open(my $pipe, '>', "$dir/resolv.conf"))
	{
		close $pipe;
	}
	POSIX::_exit(1);
}
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'slow' AND status = 'completed'", '2',
	'they complete once the name is found');
is(scalar($faulty->log('ok,seconds=3,tag=slow')), 2, 'by one request each');
kill 'KILL', $writer;
waitpid($writer, 0);

# A shutdown does not wait for it.
create_server($node, 'last', $by_name =~ s/slow\.test/last.test/r, connect_timeout => '1h', request_timeout => '1h');
my $last = enqueue('last', 'last');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $last", 'transcribing', 'a request looks for its host');
kill 'INT', $pid;
waitpid($pid, 0);
is($?, 0, 'and a shutdown ends');
is(scalar(processes_of($pid)), 0, 'with all its processes');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process|transcribe_agent (exited|was)/, 'nothing crashed');

$faulty->stop;
done_testing();
