# What a decoder that was taken over tries is refused: by the sandbox as a
# whole, and by each layer alone what that layer is there for.
use strict;
use warnings;

use lib 'test/perl';
use Config;
use Cwd qw(abs_path);
use IO::Handle;
use POSIX qw(:sys_wait_h);
use Socket;
use PostgreSQL::Test::Utils;
use Test::More;

my $attempt = abs_path('test/sandbox/attempt');
my $media = abs_path('transcribe_media');
my $agent = abs_path('transcribe_agent');
my @signals = split ' ', $Config{sig_name};

# Where the attempts are made, and the recording.
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
open(my $wav, '>:raw', "$dir/silence.wav") or die "could not make a recording: $!";
print $wav 'RIFF', pack('V', 36 + 3200), 'WAVEfmt ', pack('VvvVVvv', 16, 1, 1, 16000, 32000, 2, 16),
  'data', pack('V', 3200), "\0" x 3200;
close $wav;

# Start a program as the agent does: a socket, nothing else of ours.  Standard
# output is a pipe, for attempts to say what came of them.  What is in %more
# stays open in it.
sub start
{
	my ($command, %more) = @_;

	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "could not make a socket: $!";
	pipe(my $out, my $in) or die "could not make a pipe: $!";
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		local %ENV = %{ $more{env} // {} };
		my @keep = map { POSIX::dup2(fileno(STDERR), $_) } @{ $more{open} // [] };

		chdir $dir;
		POSIX::dup2(fileno($theirs), 0);
		POSIX::dup2(fileno($in), 1);
		exec { $command->[0] } @$command or POSIX::_exit(127);
	}
	close $theirs;
	close $in;
	return { pid => $pid, socket => $ours, out => $out };
}

# Wait for its end: what it said, or the signal that it died of.
sub outcome
{
	my ($process) = @_;
	my $said = do { local $/; readline $process->{out} } // '';

	waitpid($process->{pid}, 0);
	return WIFSIGNALED($?) ? "SIG$signals[WTERMSIG($?)]" : $? == 0 ? $said : "$said, status $?";
}

sub try
{
	my ($layers, @what) = @_;
	my $process = start([ $attempt, 'silence.wav', $layers, @what ]);

	syswrite $process->{socket}, 'y';
	return outcome($process);
}

# Which layers this kernel has; a container's runtime may refuse some.
my %holds = map { $_ => try($_, 'layers') =~ /$_/ } qw(limits landlock seccomp);
my ($landlock) = try('none', 'layers') =~ /(\d+)$/;
note("layers: ", join(' ', grep { $holds{$_} } sort keys %holds), "; Landlock is of version $landlock");
ok($holds{limits}, 'limits hold everywhere');
is(try('production', 'layers'),
	join('', map { $holds{$_} ? "$_ " : '' } qw(limits landlock seccomp)) . $landlock,
	'in production all layers hold that there are');

# What each layer answers; undef: that is not what it is there for.  Outside
# of the sandbox it would succeed, which shows that the attempt is a real one,
# but for those marked: they need rights that we may not have, or miss on
# purpose.  The number is the version of Landlock from which it refuses.
my $files = 'EMFILE';
my @attempts = (
	# name, limits, landlock, seccomp, options
	[ 'open', $files, 'EACCES', 'EACCES' ],
	[ 'openat2', $files, 'EACCES', 'EACCES' ],
	[ 'open-write', $files, 'EACCES', 'EACCES' ],
	[ 'creat', $files, 'EACCES', 'EACCES' ],
	[ 'proc-self-mem', $files, 'EACCES', 'EACCES' ],
	[ 'stat', undef, undef, 'EACCES' ],
	[ 'stat-as-fstat', undef, undef, 'EACCES' ],
	[ 'unlink', undef, 'EACCES', 'EACCES' ],
	[ 'rename', undef, 'EACCES', 'EACCES' ],
	[ 'truncate', undef, 'EACCES', 'EPERM', version => 3 ],
	[ 'chmod', undef, undef, 'EPERM' ],
	[ 'memfd_create', $files, undef, 'EPERM' ],
	[ 'mq_open', $files, undef, 'EPERM', unsure => 1 ],
	[ 'shmget', undef, undef, 'EPERM' ],
	[ 'socket-inet', $files, undef, 'SIGSYS' ],
	[ 'socket-unix', $files, undef, 'SIGSYS' ],
	[ 'connect', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'connect-tcp', undef, 'EACCES', 'SIGSYS', unsure => 1, version => 4 ],
	[ 'sendmsg', undef, undef, 'SIGSYS' ],
	[ 'recvmsg', undef, undef, 'SIGSYS' ],
	[ 'fork', 'EAGAIN', undef, 'SIGSYS' ],
	[ 'vfork', 'EAGAIN', undef, 'SIGSYS' ],
	[ 'clone3', 'EAGAIN', undef, 'SIGSYS', unsure => 1 ],
	[ 'pthread_create', 'EAGAIN', undef, 'SIGSYS' ],
	[ 'execve', undef, 'EACCES', 'SIGSYS' ],
	[ 'ptrace-parent', undef, 'EPERM', 'SIGSYS', unsure => 1 ],
	[ 'ptrace-traceme', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'process_vm_readv', undef, 'EPERM', 'SIGSYS', unsure => 1 ],
	[ 'kill-parent', undef, 'EPERM', 'EPERM', version => 6 ],
	[ 'kill-self', undef, undef, 'EPERM' ],
	[ 'kill-group', undef, undef, 'EPERM' ],
	[ 'tgkill', undef, 'EPERM', 'EPERM', version => 6 ],
	[ 'pidfd_open', $files, undef, 'EPERM', unsure => 1 ],
	[ 'mmap-exec', undef, undef, 'EPERM' ],
	[ 'mprotect-exec', undef, undef, 'EPERM' ],
	[ 'pkey_mprotect-exec', undef, undef, 'EPERM', unsure => 1 ],
	[ 'personality', undef, undef, 'EPERM', unsure => 1 ],
	[ 'memory', 'ENOMEM', undef, undef, unsure => 1 ],
	[ 'file-size', 'SIGXFSZ', undef, undef ],
	[ 'raise-memory', 'EPERM', undef, 'EPERM' ],
	[ 'raise-core', 'EPERM', undef, 'EPERM', unsure => 1 ],
	[ 'dumpable', undef, undef, 'EPERM' ],
	[ 'io_uring_setup', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'bpf', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'userfaultfd', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'perf_event_open', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'keyctl', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'unshare', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'setns', undef, undef, 'SIGSYS', unsure => 1 ],
	[ 'mount', undef, 'EPERM', 'SIGSYS', unsure => 1 ],
	[ 'setuid', undef, undef, 'EPERM' ],
	[ 'tiocsti', undef, undef, 'EPERM', unsure => 1 ],
	[ 'x32', undef, undef, 'SIGSYS', unsure => 1, machine => 'x86_64' ],
	[ 'int-0x80', undef, undef, 'SIGSYS', unsure => 1, machine => 'x86_64' ]);

my $machine = (POSIX::uname())[4];
foreach my $row (@attempts)
{
	my ($what, $limits, $refused, $filtered, %options) = @$row;
	my %answer;

	next if ($options{machine} // $machine) ne $machine;
	$answer{limits} = $limits;
	$answer{landlock} = $refused if $landlock >= ($options{version} // 1);
	$answer{seccomp} = $filtered;
	delete @answer{ grep { !$holds{$_} || !defined $answer{$_} } keys %answer };

	is(try('none', $what), 'succeeded', "$what: works outside") if !$options{unsure};
	foreach my $layer (sort keys %answer)
	{
		is(try($layer, $what), $answer{$layer}, "$what: refused by $layer alone");
	}

	# The filter is asked first.
	my $whole = $answer{seccomp} // $answer{landlock} // $answer{limits};
  SKIP:
	{
		skip "no layer that refuses $what", 1 if !defined $whole;
		is(try('production', $what), $whole, "$what: refused in production");
	}
}

# That takes a minute in production, and a second here.
is(try('limits', 'cpu'), 'SIGKILL', 'cpu: ended by limits alone');

# The thread that encodes, which is there if there is a processor for it.
SKIP:
{
	skip 'this kernel has no seccomp filter', 1 unless $holds{seccomp};
	like(try('production', 'threads'), qr/^(\d+) of \1$/, 'every thread is filtered');
}

# A second thread, started before.
foreach my $what ('open', 'socket-inet')
{
	my ($row) = grep { $_->[0] eq $what } @attempts;

	is(try('none', $what, 'thread'), 'succeeded', "$what: works outside, in a second thread");
  SKIP:
	{
		skip 'no seccomp', 2 if !$holds{seccomp};
		is(try('seccomp', $what, 'thread'), $row->[3], "$what: refused to a second thread by seccomp alone");
		is(try('production', $what, 'thread'), $row->[3], "$what: refused to a second thread in production");
	}
}
SKIP:
{
	skip 'no Landlock', 1 if !$holds{landlock};
	is(try('landlock', 'open', 'thread'), 'EACCES', 'open: refused to a second thread by landlock alone');
}

# What decoding needs.
foreach my $what ('read', 'write-agent', 'read-agent', 'malloc', 'clock')
{
	is(try($_, $what), 'succeeded', "$what: works in $_") foreach 'production', sort keys %holds;
	is(try('production', $what, 'thread'), 'succeeded', "$what: works in a second thread");
}

# As the kernel sees it, while it waits inside.
sub proc
{
	my ($pid, $file) = @_;
	open(my $in, '<:raw', "/proc/$pid/$file") or return undef;
	local $/;
	return readline $in;
}

sub poll_until
{
	my ($condition) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		select(undef, undef, undef, 0.1);
	}
	return 0;
}

my $inside = start([ $attempt, 'silence.wav', 'production', 'read-agent' ]);
my $pid = $inside->{pid};
SKIP:
{
	skip 'no seccomp', 7 if !$holds{seccomp};
	ok(poll_until(sub { (proc($pid, 'status') // '') =~ /^Seccomp:\s+2$/m }), 'a filter is in force');
	like(proc($pid, 'status'), qr/^NoNewPrivs:\s+1$/m, 'no program may give it rights');
	my $limits = proc($pid, 'limits');
	like($limits, qr/^Max core file size\s+0\s+0/m, 'it leaves no core');
	like($limits, qr/^Max cpu time\s+60\s+60/m, 'its processor time is bounded');
	like($limits, qr/^Max file size\s+0\s+0/m, 'it grows no file');
	is(proc($pid, 'oom_score_adj'), "1000\n", 'it goes first if memory runs out');
	is(proc($pid, 'environ'), undef, 'not even its own user looks at its memory');
}
syswrite $inside->{socket}, 'y';
is(outcome($inside), 'succeeded', 'and it goes on');

# The open descriptors of a process.
sub descriptors
{
	my ($pid) = @_;
	opendir(my $fds, "/proc/$pid/fd") or return '';
	return join(' ', sort { $a <=> $b } grep { /^\d+$/ } readdir $fds);
}

# A fresh child closes what it was left, and says HELLO when it is ready.
my $child = start([ $media, '--child', $$ ], open => [ 7, 100 ]);
sysread $child->{socket}, my $hello, 4096;
is(descriptors($child->{pid}), '0 1 2', 'a fresh child has its own descriptors alone');
close $child->{socket};
is(outcome($child), '', 'and ends with the conversation');

# The template that the agent starts has no environment either, though the
# agent has, and ends with it.
$agent = start([ $agent, '--child', $$ ], env => { LD_BIND_NOW => 1, API_KEY => 'secret' });
my $template;
ok( poll_until(
		sub {
			($template) = split ' ', proc($agent->{pid}, "task/$agent->{pid}/children") // '';
			return $template && (proc($template, 'cmdline') // '') =~ /^transcribe_media\0--template\0/;
		}),
	'the agent starts a template');
ok(poll_until(sub { descriptors($template) eq '0 1 2' }), 'it has its own descriptors alone');
is(proc($template, 'environ'), '', 'and no environment');
kill 'KILL', $agent->{pid};
outcome($agent);
ok(poll_until(sub { (proc($template, 'stat') // ') Z') =~ /\) [ZX]/ }), 'it ends if the agent is killed');

# By the kernel's signal, not only because the conversation is over: here the
# other end of its socket is ours, and stays open.
socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "could not make a socket: $!";
my $parent = fork() // die "could not fork: $!";
if ($parent == 0)
{
	my $me = $$;
	my $it = fork() // POSIX::_exit(1);

	if ($it == 0)
	{
		POSIX::dup2(fileno($theirs), 0);
		exec { $media } 'transcribe_media', '--child', $me or POSIX::_exit(127);
	}
	sleep 1000;
	POSIX::_exit(0);
}
close $theirs;
sysread $ours, $hello, 4096;
ok(length($hello) > 0, 'a child is ready');
kill 'KILL', $parent;
waitpid($parent, 0);
my $readable = '';
vec($readable, fileno($ours), 1) = 1;
is(select($readable, undef, undef, $PostgreSQL::Test::Utils::timeout_default), 1,
	'a child of a parent that was killed hangs up');
is(sysread($ours, $hello, 1), 0, 'because it has ended');

done_testing();
