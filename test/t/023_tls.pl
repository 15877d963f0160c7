# TLS: whose certificates are trusted, and whose not; and HTTP/2, where many
# requests share one connection.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use POSIX qw(mkfifo);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use IO::Socket::INET;
use Test::More;
use Time::HiRes;

my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $audio = make_audio();
my $node = start_cluster('tls');
my $wav = "$audio/austen-0880.wav";
my $serial = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

# Run openssl, which is noisy.
sub openssl
{
	my @command = ('openssl', @_);
	my ($stdout, $stderr);

	IPC::Run::run(\@command, '>', \$stdout, '2>', \$stderr) or die "@command: $stderr";
	return;
}

# Make a certificate and its key; by an authority, if one is named.  The file
# with both, as a server takes them, is $dir/NAME.pem.
sub certificate
{
	my ($name, $authority, @extensions) = @_;

	openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
		'-days', '2', '-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.crt",
		$authority ? ('-CA', "$dir/$authority.crt", '-CAkey', "$dir/$authority.key") : (),
		map { ('-addext', $_) } @extensions);
	append_to_file("$dir/$name.pem", slurp_file("$dir/$name.key") . slurp_file("$dir/$name.crt"));
	return;
}

my $here = 'subjectAltName=IP:127.0.0.1';
certificate('ours', undef);
certificate('theirs', undef);
certificate('good', 'ours', $here, 'basicConstraints=critical,CA:FALSE');
certificate('elsewhere', 'ours', 'subjectAltName=DNS:elsewhere.example', 'basicConstraints=critical,CA:FALSE');
certificate('self', undef, $here);
openssl('req', '-new', '-key', "$dir/good.key", '-subj', '/CN=old', '-out', "$dir/old.csr");
append_to_file("$dir/old.ext", $here);
openssl('x509', '-req', '-in', "$dir/old.csr", '-CA', "$dir/ours.crt", '-CAkey', "$dir/ours.key", '-set_serial', '1',
	'-days', '0', '-extfile', "$dir/old.ext", '-out', "$dir/old.crt");
append_to_file("$dir/old.pem", slurp_file("$dir/good.key") . slurp_file("$dir/old.crt"));

my %faulty = map { $_ => start_faulty('--cert', "$dir/$_.pem") } ('good', 'elsewhere', 'self', 'old');
$faulty{'1.1'} = start_faulty('--cert', "$dir/good.pem", '--tls-max', '1.1');
$faulty{http2} = start_faulty('--cert', "$dir/good.pem", '--http2');

# Enqueue jobs at a new foreign server, for a URL; returns its name.
sub enqueue
{
	my ($url, %options) = @_;
	my $jobs = delete $options{jobs} // 1;
	my $path = delete $options{path} // $wav;
	my $name = 'server' . ++$serial;

	create_server($node, $name, $url, retry_interval => '10ms', max_attempts => 2, %options);
	query("SELECT transcribe_enqueue('$name ' || n, '$path', server => '$name') FROM generate_series(1, $jobs) n");
	return $name;
}

# What became of the jobs of a foreign server.
sub outcome
{
	my ($name, $columns) = @_;

	wait_for($node, "SELECT bool_and(status IN ('completed', 'failed')) FROM transcribe_jobs WHERE server = '$name'");
	return query("SELECT DISTINCT " . ($columns // 'coalesce(error_code, status)') . " FROM transcribe_jobs WHERE server = '$name'");
}

sub at
{
	my ($which, $ca, %options) = @_;
	return enqueue($faulty{$which}->tls_url('ok,seconds=3'), defined $ca ? (ca_file => "$dir/$ca") : (), %options);
}

# Certificates.
is(outcome(at('good', 'ours.crt')), 'completed', 'a server whose authority is named is trusted');
is(outcome(at('good')), 'certificate_refused', 'without that it is not');
is(outcome(at('good', 'theirs.crt')), 'certificate_refused', 'nor where another authority is named');
is(outcome(at('good', 'ours.crt')), 'completed', 'those that are refused do not spoil it for others');
my %connections = map { $_->{connection} => 1 } $faulty{good}->log;
is(scalar(keys %connections), 1, 'the connection was kept, and used by those alone who trust it');
foreach my $which ('elsewhere', 'old', 'self')
{
	is(outcome(at($which, 'ours.crt'), 'error_code, attempts'), 'certificate_refused|1', "a certificate that is $which is refused, at once");
	is(scalar($faulty{$which}->log), 0, 'and nothing is sent');
}
like(outcome(at('old', 'ours.crt'), 'error'), qr/certificate of host 127\.0\.0\.1 port \d+ was not accepted: .*expired/,
	'the message says what is wrong');
is(outcome(at('self', 'self.crt')), 'completed', 'one that signs itself is trusted where it is named');

# The file.
mkfifo("$dir/pipe", 0600) or die "could not make a pipe: $!";
append_to_file("$dir/text", "no certificate\n");
foreach my $file ('missing', 'pipe', '', 'text')
{
	is(outcome(at('good', $file), 'error_code, attempts'), 'certificate_refused|1', "a ca_file that is '$file' trusts nobody");
}
like(outcome(at('good', 'missing'), 'error'), qr/ca_file ".*missing" is not a file that can be read/, 'and is named');
append_to_file("$dir/changing", slurp_file("$dir/theirs.crt"));
is(outcome(at('good', 'changing')), 'certificate_refused', 'a file with another authority refuses the signature');
unlink "$dir/changing";
append_to_file("$dir/changing", slurp_file("$dir/ours.crt"));
is(outcome(at('good', 'changing')), 'completed', 'once it is replaced, it is trusted');
like(outcome(at('elsewhere', 'ours.crt'), 'error'), qr/name/, 'another name than that of the certificate is told');

# Agreement on TLS.
is(outcome(at('1.1', 'ours.crt'), 'error_code, attempts'), 'tls_failed|2', 'TLS 1.1 is too old');
is(outcome(enqueue($faulty{good}->url =~ s/^http:/https:/r, ca_file => "$dir/ours.crt")), 'tls_failed', 'a server that speaks none says so');
my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "could not listen: $!";
like(outcome(enqueue('https://127.0.0.1:' . $silent->sockport . '/v1', connect_timeout => '300ms'), 'error_code, error'),
	qr/^timeout\|timeout after .* while (?:connecting or )?setting up TLS/, 'one that does not answer the greeting is given up');
is(outcome(enqueue($faulty{good}->tls_url('redirect=plain,tag=plain'), ca_file => "$dir/ours.crt")), 'bad_response',
	'a redirect that leaves TLS is not followed');
is(scalar(grep { $_->{scenario} eq 'ok' } $faulty{good}->log), 0, 'nobody came there');

# HTTP/2: one connection carries them all.
my $http2 = $faulty{http2};
my %h2 = (ca_file => "$dir/ours.crt");
my $many = enqueue($http2->tls_url('gate=many,seconds=3'), %h2, jobs => 8);
ok($http2->wait_for_calls(8, 'gate=many,seconds=3'), 'eight requests are under way at once');
%connections = map { $_->{connection} => 1 } $http2->log('gate=many,seconds=3');
is(join(' ', keys %connections), 'h2-1', 'over one connection');
$http2->release('many');
is(outcome($many), 'completed', 'and all complete');

# Faults of one stream, beside another.
my $beside = enqueue($http2->tls_url('gate=beside,seconds=3'), %h2);
$http2->wait_for_calls(1, 'gate=beside,seconds=3');
foreach my $fault ('reset', 'refuse', 'status=500', 'raw=half-closed', 'drop')
{
	my $url = "$fault,seconds=3,tag=$fault";

	is(outcome(enqueue($http2->tls_url($url), %h2), 'error_code, attempts'),
		($fault eq 'status=500' ? 'server_error' : 'connection_lost') . '|2', "HTTP/2, $fault: the attempt failed");
	is(scalar($http2->log($url)), 2, "HTTP/2, $fault: one request for each");
}
is(scalar(grep { $_->{end} } $http2->log('gate=beside,seconds=3')), 0, 'a request beside them goes on');
$http2->release('beside');
is(outcome($beside, 'status, attempts'), 'completed|1', 'and completes');

# A cancel ends one stream at once, beside another and without.
sub connection_of { return join(' ', map { $_->{connection} } $http2->log($_[0])) }
$beside = enqueue($http2->tls_url('gate=alone,seconds=3'), %h2);
$http2->wait_for_calls(1, 'gate=alone,seconds=3');
foreach my $where ('beside', 'alone')
{
	my $url = "hang,tag=$where";
	my $endless = enqueue($http2->tls_url($url), %h2, request_timeout => '1h');
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	$http2->wait_for_calls(1, $url);
	is(connection_of($url), connection_of('gate=alone,seconds=3'), "a request $where is on the same connection") if $where eq 'beside';
	query("SELECT transcribe_cancel(id) FROM transcribe_jobs WHERE server = '$endless'");
	Time::HiRes::sleep(0.1) until time > $end || grep { $_->{hung_up} } $http2->log($url);
	is(scalar(grep { $_->{hung_up} } $http2->log($url)), 1, "HTTP/2: a cancel ends a request $where");
	next if $where eq 'alone';
	is(scalar(grep { $_->{end} } $http2->log('gate=alone,seconds=3')), 0, 'but not the other one');
	$http2->release('alone');
	is(outcome($beside, 'status, attempts'), 'completed|1', 'which completes');
}
is(outcome(enqueue($http2->tls_url('goaway,seconds=3,tag=goaway'), %h2), 'error_code, attempts'), 'connection_lost|2', 'HTTP/2, goaway: the attempt failed');
is(scalar($http2->log('goaway,seconds=3,tag=goaway')), 2, 'HTTP/2, goaway: one request for each');
is(outcome(enqueue($http2->tls_url('goaway,times=1,seconds=3'), %h2), 'status, attempts'), 'completed|2', 'and the next one completes');

# Much in both directions, at the same time.
my $long = "$dir/long.wav";
system_or_bail('ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', 'anoisesrc=r=16000:a=0.1:d=200', $long);
is(outcome(enqueue($http2->tls_url('megabytes=10,seconds=3'), %h2, jobs => 3, path => $long, audio_format => 'wav', trim_silence => 'off')),
	'completed', 'HTTP/2: large recordings and answers pass');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process|transcribe_agent (exited|was)/, 'nothing crashed');
$node->stop;
$_->stop foreach values %faulty;
done_testing();
