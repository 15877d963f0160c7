# A test server of test/whisper: started, asked, ended.
#
# Used through TranscribeTest.  Rules: the pipe that is the server's standard
# input closes on exec, so that no other child of the test (a database server
# above all) keeps it open; stop() is called at the latest when the object
# goes, and the exit status of the test is never touched by it.
package TranscribeTest::Server;

use strict;
use warnings;

use HTTP::Tiny;
use IO::Select;
use JSON::PP;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;

# Loading the Whisper model takes a second, and ten where all cores are busy.
my $start_timeout = $PostgreSQL::Test::Utils::timeout_default;

# A server needs no time to end, for it leaves when its input does.
my $stop_timeout = 10;

# Start a server and wait until it listens.
sub start
{
	my ($class, @command) = @_;

	# Core pipes close on exec; the child's ends become its standard ones.
	pipe(my $child_in, my $stdin) or die "could not make a pipe: $!";
	pipe(my $stdout, my $child_out) or die "could not make a pipe: $!";
	my $pid = fork // die "could not fork: $!";
	if ($pid == 0)
	{
		my $log = "$PostgreSQL::Test::Utils::log_path/servers.log";

		     open(STDIN, '<&', $child_in)
		  && open(STDOUT, '>&', $child_out)
		  && open(STDERR, '>>', $log)
		  && exec(@command, '--exit-with-stdin');
		POSIX::_exit(127);
	}
	close $child_in;
	close $child_out;

	my $self = bless {
		pid => $pid,
		owner => $$,
		stdin => $stdin,
		stdout => $stdout,
		http => HTTP::Tiny->new(timeout => 30)
	}, $class;
	my $line =
	  IO::Select->new($stdout)->can_read($start_timeout)
	  ? <$stdout>
	  : 'nothing in time';
	die "@command said: " . ($line // 'nothing') . "\n"
	  unless ($line // '') =~ /^listening on (\d+)(?: (\d+))?$/;
	($self->{port}, $self->{tls_port}) = ($1, $2);
	return $self;
}

# The port that it listens on.
sub port
{
	my ($self) = @_;
	return $self->{port};
}

# The process.
sub pid
{
	my ($self) = @_;
	return $self->{pid};
}

# The base URL: of a scenario, if one is given.
sub url
{
	my ($self, $scenario) = @_;
	my $base = "http://127.0.0.1:$self->{port}";

	return defined $scenario ? "$base/s/$scenario/v1" : "$base/v1";
}

# The same over TLS, if the server was started with a certificate.
sub tls_url
{
	my ($self, $scenario) = @_;
	return $self->url($scenario) =~ s,^http:(.*:)\d+,https:$1$self->{tls_port},r;
}

# The calls received so far, of one scenario if one is given: a list of
# hashes, oldest first.
sub log
{
	my ($self, $scenario) = @_;
	my $path = defined $scenario ? "/log/$scenario" : '/log';

	return @{ decode_json($self->control('GET', $path)) };
}

# Open a gate.
sub release
{
	my ($self, $gate) = @_;
	$self->control('POST', "/release/$gate");
	return;
}

# Forget all calls and open all gates.
sub reset
{
	my ($self) = @_;
	$self->control('POST', '/reset');
	return;
}

# Wait until so many calls have come; returns whether they did.
sub wait_for_calls
{
	my ($self, $count, $scenario) = @_;
	my $end = time + $start_timeout;

	while (time < $end)
	{
		return 1 if $self->log($scenario) >= $count;
		sleep 0.05;
	}
	return 0;
}

# A request to the server itself.
sub control
{
	my ($self, $method, $path) = @_;
	my $response = $self->{http}
	  ->request($method, "http://127.0.0.1:$self->{port}$path");

	die "$method $path: $response->{status} $response->{content}\n"
	  unless $response->{success};
	return $response->{content};
}

# End it.  A child that this test forked holds a copy of the object, and must
# leave the server alone.
sub stop
{
	my ($self) = @_;
	my $end = time + $stop_timeout;

	return if !$self->{pid} || $self->{owner} != $$;
	local $?;
	close $self->{stdin};
	while (waitpid($self->{pid}, WNOHANG) == 0)
	{
		kill 'KILL', $self->{pid} if time > $end;
		sleep 0.02;
	}
	$self->{pid} = undef;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($@, $!);
	$self->stop;
	return;
}

1;
