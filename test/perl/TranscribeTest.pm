# What the TAP tests of transcribe share.
#
#	use TranscribeTest;
#	my $node = start_cluster('main');
#	my $faulty = start_faulty();
#	create_server($node, 'whisper', $faulty->url('status=500,times=2'));
#	$node->safe_psql('postgres', "SELECT transcribe_enqueue('s', '$wav')");
#	wait_for($node, "SELECT status FROM transcribe_jobs", 'completed');
#
# Rules: a test server's standard input is held here alone, so it ends with
# the test, however that ends; nothing is waited for by sleeping; a test that
# hangs dies and says where, with its servers, before it is ended from outside.
package TranscribeTest;

use strict;
use warnings;

use Carp qw(confess);
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use TranscribeTest::Installation;
use TranscribeTest::Server;

our @EXPORT = qw(
  start_cluster start_faulty start_whisper subtitle_python make_audio transcripts
  create_server create_mapping wait_for wait_until word_error_rate
  all_processes processes_of postmaster_pid orphans container start_postmaster wait_postmaster
  has_failpoints arm armed
);

$SIG{ALRM} = sub { confess 'this test takes too long' };
alarm(5 * $PostgreSQL::Test::Utils::timeout_default);

my $test_dir = abs_path(dirname(__FILE__) . '/..');
my $audio_dir;

# Start a cluster with the extension loaded and created in "postgres".
#
# %settings are lines of postgresql.conf.  "init" is no setting but what
# Cluster's init() takes, as a hash: init => { allows_streaming => 1 }; nor is
# "install_path", which Cluster's new() takes.
sub start_cluster
{
	my ($name, %settings) = @_;
	my $init = delete $settings{init} // {};
	my $install_path = delete $settings{install_path};
	my $node = PostgreSQL::Test::Cluster->new($name,
		$install_path ? (install_path => $install_path) : ());

	$node->init(%$init);
	%settings = (
		shared_preload_libraries => 'transcribe',
		fsync => 'off',
		log_min_messages => 'info',
		log_line_prefix => '%m [%p] %b %q%a ',
		%settings);
	foreach my $setting (sort keys %settings)
	{
		my $value = $settings{$setting} =~ s/'/''/gr;
		$node->append_conf('postgresql.conf', "$setting = '$value'");
	}
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION transcribe');
	return $node;
}

# Start the server that misbehaves: see test/whisper/faulty_server.py, which also
# says what it may be told.  Debian's Python, because that has its aiohttp.
sub start_faulty
{
	my (@options) = @_;

	return TranscribeTest::Server->start('/usr/bin/python3',
		"$test_dir/whisper/faulty_server.py", @options);
}

# Start the real Whisper.  Its Python environment is made by check.sh; a test
# that is run by hand uses that of venv.sh in the cache, and makes it if need
# be.
sub start_whisper
{
	my $python = $ENV{TRANSCRIBE_TEST_PYTHON};

	if (!$python)
	{
		my $cache = $ENV{XDG_CACHE_HOME} // "$ENV{HOME}/.cache";

		$python = `"$test_dir/whisper/venv.sh" "$cache/transcribe/whisper"`;
		chomp $python;
	}
	return TranscribeTest::Server->start($python,
		"$test_dir/whisper/whisper_server.py");
}

# The Python that has parsers of subtitles; made like that of Whisper.
sub subtitle_python
{
	my $python = $ENV{TRANSCRIBE_TEST_SUBTITLES};

	if (!$python)
	{
		my $cache = $ENV{XDG_CACHE_HOME} // "$ENV{HOME}/.cache";

		$python = `"$test_dir/whisper/venv.sh" "$cache/transcribe/subtitles" "$test_dir/subtitles/requirements.txt"`;
		chomp $python;
	}
	return $python;
}

# The directory of the recordings, see test/audio/make.sh.  They are made
# once: by check.sh for all tests, else for this one.
sub make_audio
{
	$audio_dir //= $ENV{TRANSCRIBE_TEST_AUDIO};
	if (!$audio_dir)
	{
		$audio_dir = abs_path(PostgreSQL::Test::Utils::tempdir());
		system_or_bail("$test_dir/audio/make.sh", $audio_dir);
	}
	return $audio_dir;
}

# What is spoken in each recording: a hash of file names.
sub transcripts
{
	return JSON::PP->new->utf8->decode(
		slurp_file(make_audio() . '/transcripts.json'));
}

# The word error rate of a transcript, from 0.
sub word_error_rate
{
	my ($expected, $actual) = @_;

	open(my $out, '-|', '/usr/bin/python3', "$test_dir/audio/wer.py",
		$expected, $actual)
	  or die "could not run wer.py: $!";
	my $rate = <$out>;
	close $out or die "wer.py failed";
	return 0 + $rate;
}

# Create a foreign server in "postgres"; %options are its options.
sub create_server
{
	my ($node, $name, $url, %options) = @_;

	$options{url} = $url;
	$options{model} //= 'whisper-1';
	$node->safe_psql('postgres',
		"CREATE SERVER $name FOREIGN DATA WRAPPER transcribe OPTIONS ("
		  . option_list(%options)
		  . ')');
	return;
}

# Create a user mapping for a role, or for PUBLIC.
sub create_mapping
{
	my ($node, $role, $server, %options) = @_;

	$node->safe_psql('postgres',
		"CREATE USER MAPPING FOR $role SERVER $server OPTIONS ("
		  . option_list(%options)
		  . ')');
	return;
}

# Options as SQL wants them.
sub option_list
{
	my (%options) = @_;
	my @list;

	foreach my $option (sort keys %options)
	{
		my $value = $options{$option} =~ s/'/''/gr;
		push @list, "$option '$value'";
	}
	return join(', ', @list);
}

# Poll a query.  A psql that cannot connect, since the server is starting again,
# may be gone before it has been sent the query, which is no end of the test.
sub poll
{
	my ($node, $sql, $expected) = @_;

	for (;;)
	{
		my $reached = eval { $node->poll_query_until('postgres', $sql, $expected) };
		return $reached if !$@;
		die $@ if $@ !~ /Broken pipe/;
	}
}

# Wait until a query in "postgres" returns what is expected (default: t).
# Returns whether it did; if not, says how the jobs stood.  With a name it is
# an assertion too.
sub wait_for
{
	my ($node, $sql, $expected, $name) = @_;
	my $reached = poll($node, $sql, $expected // 't');

	# Reported at the caller's line.
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($reached, $name) if defined $name;
	if (!$reached)
	{
		my (undef, $jobs) = $node->psql('postgres',
			    'SELECT id, session_id, status, progress, attempts, crashes,'
			  . ' run_at - now() AS due_in, error_code, error'
			  . ' FROM transcribe_jobs ORDER BY id',
			extra_params => [ '--no-align', '-P', 'tuples_only=off' ]);
		diag("waited in vain for: $sql\n" . ($jobs // ''));
	}
	return $reached;
}

# Wait for a condition that is not in the database; returns whether it came.
sub wait_until
{
	my ($condition) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $end)
	{
		return 1 if $condition->();
		sleep 0.02;
	}
	return 0;
}

# All processes: a hash by pid of { pid, ppid, state, comm, title }.  comm is the
# program's name, title what ps shows: PostgreSQL's processes differ in it alone.
sub all_processes
{
	my %found;

	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		# A process may end while we look.
		open(my $stat, '<', $file) or next;
		my $line = <$stat> // next;
		# The name is in parentheses and may hold some.
		my ($pid, $comm, $state, $ppid) = $line =~ /^(\d+) \((.*)\) (\S) (\d+) /s
		  or next;
		my $title = '';
		if (open(my $cmdline, '<', "/proc/$pid/cmdline"))
		{
			$title = (<$cmdline> // '') =~ s/\0+$//r =~ tr/\0/ /r;
		}
		$found{$pid} = { pid => $pid, ppid => $ppid, state => $state,
			comm => $comm, title => $title };
	}
	return %found;
}

# The descendants of a process, as a list, parents first.
sub processes_of
{
	my ($ancestor) = @_;
	my %processes = all_processes();
	my %children;
	my @found;
	my @queue = ($ancestor);

	push @{ $children{ $_->{ppid} } }, $_ foreach values %processes;
	while (defined(my $pid = shift @queue))
	{
		my @born = @{ $children{$pid} // [] };
		push @found, @born;
		push @queue, map { $_->{pid} } @born;
	}
	return @found;
}

# The postmaster of a cluster.
sub postmaster_pid
{
	my ($node) = @_;
	my ($pid) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	return $pid;
}

# The number of a process in the innermost namespace that it is in.
sub inner_pid
{
	my ($pid) = @_;

	open(my $status, '<', "/proc/$pid/status") or return 0;
	my ($inner) = join('', <$status>) =~ /^NSpid:.*\s(\d+)$/m;
	return $inner // 0;
}

# Processes of ours, of any cluster, that have outlived their parents.  Agents and
# media children are told who their parent is.
sub orphans
{
	my %processes = all_processes();
	my @found;

	foreach my $process (grep { $_->{state} ne 'Z' } values %processes)
	{
		my $parent = $processes{ $process->{ppid} };

		push @found, $process
		  if ( $process->{comm} =~ /^transcribe_/
			&& $process->{title} =~ / --(?:child|template) (\d+)$/
			&& inner_pid($process->{ppid}) != $1)
		  || ( $process->{title} =~ /^postgres: .*transcribe (?:worker|launcher)/
			&& ($parent->{comm} // '') ne 'postgres');
	}
	return @found;
}

# Start a cluster's postmaster as a child of ours, perhaps by a program that
# makes it a container.  Returns the child; what is still there of them at the
# end of the test is killed.
my %postmasters;

sub start_postmaster
{
	my ($node, @container) = @_;
	my $pid = fork // die "could not fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>>', $node->logfile;
		open STDERR, '>&', \*STDOUT;
		# Not the pipes to other children: they would miss their ends.
		POSIX::close($_) foreach 3 .. 255;
		exec(@container, 'postgres', '-D', $node->data_dir)
		  or POSIX::_exit(127);
	}
	$postmasters{$pid} = $$;
	return $pid;
}

# What starts a program as process 1 of a namespace in which we stay who we are,
# since PostgreSQL refuses to run as root; nothing where the system has none.
sub container
{
	my @container = qw(unshare --user --map-current-user --pid --fork --mount-proc --kill-child);

	return system("@container true 2>/dev/null") == 0 ? @container : ();
}

# Wait for the end of such a child.
sub wait_postmaster
{
	my ($pid) = @_;

	waitpid($pid, 0);
	delete $postmasters{$pid};
	return;
}

END
{
	local $?;
	kill 'KILL', grep { $postmasters{$_} == $$ } keys %postmasters;
}

# Whether the build has failpoints, see src/shared/failpoint.h.
sub has_failpoints
{
	my $libdir = `pg_config --pkglibdir`;

	chomp $libdir;
	return slurp_file("$libdir/transcribe.so") =~ /transcribe_failpoints/;
}

# Arm a failpoint, for so many times.
sub arm
{
	my ($node, $point, $action, $times) = @_;
	my $dir = $node->data_dir . '/transcribe_failpoints';

	mkdir $dir;
	append_to_file("$dir/$point.$action.$_", '') foreach 1 .. $times // 1;
	return;
}

# How many times armed failpoints have still to come.
sub armed
{
	my ($node) = @_;
	my @left = glob($node->data_dir . '/transcribe_failpoints/*');

	return scalar @left;
}

1;
