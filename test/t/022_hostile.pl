# Servers that are broken, or hostile: each job fails by the right class of
# error, after no more requests than it has attempts, in bounded memory; and
# jobs at other servers do not notice.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Time::HiRes;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('hostile', 'transcribe.jobs_per_worker' => 50);
my $wav = "$audio/austen-0880.wav";
my $serial = 0;

# Some megabytes to send, so that a server can say something in the middle.
my $long = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/long.wav';
system_or_bail('ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', 'anoisesrc=r=16000:a=0.1:d=200', $long);

sub query { return $node->safe_psql('postgres', $_[0]) }

# Enqueue a job at a server of its own, with a URL; returns its id.
sub enqueue_at
{
	my ($name, $url, %options) = @_;
	my $path = delete $options{path} // $wav;

	create_server($node, $name, $url, retry_interval => '10ms', max_attempts => 2, %options);
	return query("SELECT transcribe_enqueue('$name', '$path', server => '$name')");
}

# The same, at one that plays a scenario, without measuring what it gets.
sub enqueue
{
	my ($scenario, %options) = @_;
	my $name = 'server' . ++$serial;

	return enqueue_at($name, $faulty->url("seconds=3,$scenario,tag=$name"), %options);
}

sub calls
{
	my ($id) = @_;
	my $name = query("SELECT server FROM transcribe_jobs WHERE id = $id");
	return grep { $_->{scenario} =~ /,tag=$name$/ } $faulty->log;
}

sub job
{
	my ($id, $columns) = @_;
	return query("SELECT $columns FROM transcribe_jobs WHERE id = $id");
}

# Peak memory of a process that the worker is, or has started, in megabytes.
sub peak_of
{
	my ($comm) = @_;
	my $worker = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
	my ($pid) = $comm eq 'worker' ? $worker :
	  map { $_->{pid} } grep { $_->{comm} eq $comm } processes_of($worker);
	return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m ? $1 / 1024 : undef;
}

# One worker carries all that follows, and what is good beside it.
enqueue_at('good', $faulty->url('ok,seconds=3,tag=good'));
wait_for($node, 'SELECT status FROM transcribe_jobs', 'completed', 'a job completes');
my %before = map { $_ => peak_of($_) } ('worker', 'transcribe_agen');

# What a server does, what becomes of the job, and how many requests it takes
# where there may be two; with options of the server.
my $soon = { request_timeout => '1s', timeout_factor => 0 };
my $upload = { path => $long, audio_format => 'wav', trim_silence => 'off' };
my @cases = (
	# Headers without an end.
	[ 'raw=headers', 'headers_too_large', 1 ],
	[ 'raw=header-line', 'headers_too_large', 1 ],
	[ 'raw=interim', 'headers_too_large', 1 ],
	[ 'raw=trailers', 'headers_too_large', 1 ],
	[ 'raw=header-drip', 'timeout', 2, $soon ],
	# Nothing, or half of something.
	[ 'early,hang', 'timeout', 2, { %$upload, %$soon } ],
	[ 'raw=silent-end', 'connection_lost', 2 ],
	[ 'raw=half-closed', 'connection_lost', 2 ],
	[ 'raw=switch', 'timeout', 2, $soon ],
	[ 'raw=chunks-stop', 'timeout', 2, $soon ],
	[ 'raw=chunks-cut', 'connection_lost', 2 ],
	[ 'raw=bad-chunk', 'connection_lost', 2 ],
	[ 'die=1000', 'connection_lost', 2, $upload ],
	[ 'die=3000000', 'connection_lost', 2, $upload ],
	[ 'drop', 'connection_lost', 2 ],
	[ 'cut', 'connection_lost', 2 ],
	# Too much.
	[ 'raw=chunks', 'response_too_large', 1 ],
	[ 'megabytes=100', 'response_too_large', 1 ],
	[ 'raw=huge-length', 'completed', 1 ],
	[ 'raw=longer', 'completed', 1 ],
	[ 'raw=no-length', 'completed', 1 ],
	# Not HTTP.
	[ 'raw=http09', 'bad_response', 2 ],
	[ 'raw=other', 'bad_response', 2 ],
	[ 'raw=status', 'bad_response', 2 ],
	[ 'raw=bad-length', 'bad_response', 2 ],
	[ 'raw=nul', 'bad_response', 2 ],
	# Encodings that were not asked for.
	[ 'encoding=gzip', 'bad_response', 2 ],
	[ 'encoding=br', 'bad_response', 2 ],
	[ 'encoding=zstd', 'bad_response', 2 ],
	[ 'encoding=unheard-of', 'bad_response', 2 ],
	[ 'transfer=gzip', 'bad_response', 2 ],
	[ 'transfer=gzip+chunked', 'bad_response', 2 ],
	# Redirects.
	[ 'redirect', 'bad_response', 1 ],
	[ 'redirect=host', 'bad_response', 1 ],
	[ 'redirect=file', 'bad_response', 1 ],
	# Statuses.
	[ 'status=204', 'bad_response', 1 ],
	[ 'status=206', 'bad_response', 1 ],
	[ 'status=301', 'bad_response', 1 ],
	[ 'status=304', 'bad_response', 1 ],
	[ 'status=418', 'refused', 1 ],
	[ 'status=529', 'server_error', 2 ],
	# An answer before all has been sent.
	[ 'early,status=415', 'refused_audio', 1, $upload ],
	[ 'early,status=500', 'server_error', 2, $upload ],
	[ 'early', undef, 2, $upload ],
	# JSON that is odd.
	[ 'deep', 'bad_response', 2 ],
	[ 'odd=bom', 'completed', 1 ],
	[ 'odd=duplicates', 'completed', 1 ],
	[ 'odd=types', 'bad_response', 2 ],
	[ 'odd=numbers', 'completed', 1 ],
	[ 'odd=nan', 'completed', 1 ],
	[ 'odd=times', 'completed', 1 ],
	[ 'many=blanks:1000000', 'bad_response', 2 ],
	[ 'many=segments:10000', 'completed', 1 ],
	[ 'many=names:2500000', 'completed', 1 ],
	[ 'megabytes=15', 'completed', 1 ],
	[ 'type=text+html', 'completed', 1 ],
	[ 'plain,type=text+html', 'bad_response', 2 ],
	# Connections that are kept, and then are not.
	[ 'twice', 'completed', 1 ],
	[ 'drop-kept', undef, 2 ]);
foreach my $case (@cases)
{
	my ($scenario, undef, undef, $options) = @$case;
	push @$case, undef while @$case < 4;
	push @$case, enqueue($scenario, %{ $options // {} });
	query("SELECT transcribe_enqueue('good $serial', '$wav', server => 'good')");
}
wait_for($node, "SELECT bool_and(status IN ('completed', 'failed')) FROM transcribe_jobs", 't', 'all come to an end');
foreach my $case (@cases)
{
	my ($scenario, $code, $most, undef, $id) = @$case;
	my $calls = calls($id);

	is(job($id, "coalesce(error_code, status)"), $code, "$scenario: $code") if defined $code;
	cmp_ok($calls, $code ? '==' : '<=', $most, "$scenario: $most requests")
	  or diag(job($id, 'error'));
}

# What came of those that completed.
my %id = map { $_->[0] => $_->[4] } @cases;
foreach my $scenario (grep { /^odd=|^many=|^raw=longer|^raw=no-length|^type=/ } sort keys %id)
{
	my $id = $id{$scenario};

	next if job($id, 'status') ne 'completed';
	like(query("SELECT string_agg(DISTINCT text, '') FROM transcribe_segments WHERE job_id = $id"),
		qr/^(odd|segment 1segment 2)$/, "$scenario: the text is there");
	is(query("SELECT bool_and(start_s BETWEEN 0 AND end_s AND end_s <= duration_s)
		FROM transcribe_segments JOIN transcribe_jobs ON job_id = id WHERE id = $id"), 't',
		"$scenario: times are those of the recording");
}
like(job($id{'raw=half-closed'}, 'error'), qr/lost while receiving the answer/, 'a message says in which phase');
is(query("SELECT count(*) FROM transcribe_jobs WHERE server = 'good' AND status = 'completed' AND attempts = 1"),
	@cases + 1, 'all jobs at a good server completed meanwhile, at once');

# One that says nothing of closing, and does so after the answer.  Not beside the
# others: who takes the connection over before its end is seen loses an attempt.
my $once = enqueue('once');
wait_for($node, "SELECT status IN ('completed', 'failed') FROM transcribe_jobs WHERE id = $once");
is(job($once, 'status, attempts'), 'completed|1', 'once: completed');
is(scalar(calls($once)), 1, 'once: one request');

# A connection that was kept and is closed instead of an answer: libcurl would
# send the request again, and again.
$faulty->reset;
my $kept = enqueue('ok');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $kept", 'completed');
$kept = enqueue('drop-kept', max_attempts => 1);
wait_for($node, "SELECT status IN ('completed', 'failed') FROM transcribe_jobs WHERE id = $kept");
is(job($kept, 'status, error_code'), 'failed|connection_lost', 'a request is not repeated unasked');
like(job($kept, 'error'), qr/the server closed it$/, 'and the message says what happened');
is(scalar(calls($kept)), 1, 'one attempt is one request');

# Connections are kept, and used again.
$faulty->reset;
enqueue_at('kept', $faulty->url('ok,seconds=3,tag=kept'), max_requests => 2);
query("SELECT transcribe_enqueue('kept ' || n, '$wav', server => 'kept') FROM generate_series(1, 20) n");
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE server = 'kept' AND status = 'completed'", '21');
my %connections = map { $_->{connection} => 1 } $faulty->log('ok,seconds=3,tag=kept');
cmp_ok(scalar(keys %connections), '<=', 2, '21 requests, two at a time, need two connections');

# Pauses that nobody can mean.
foreach my $pause ('99999999999999999999', '-5', 'soon', 'past')
{
	my $id = enqueue("status=429,retry-after=$pause,times=1");

	wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $id", 'completed',
		"Retry-After: $pause does not stop a job");
}
my $never = enqueue('status=429,retry-after=never');
wait_for($node, "SELECT status = 'queued' AND error_code = 'rate_limited' AND run_at < now() + '2 h'
	FROM transcribe_jobs WHERE id = $never", 't', 'nor does one to the end of times, for longer than an hour');

# What never ends by itself holds up nothing else, and is ended by a cancel,
# and by a shutdown: the server sees how.
my @silent = map { IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "could not listen: $!" } 1 .. 2;
my @endless = ('hang', 'drip=3600', 'raw=header-drip', 'raw=switch', 'raw=chunks-stop');

# Start one of each, and two at sockets that say nothing: one stands in the TLS
# handshake, one in the middle of what it sends.  Two sockets, for libcurl keeps
# its connections by host and port: whoever comes second would wait to see
# whether the first one's connection can be shared.
sub enqueue_endless
{
	my ($round) = @_;
	my %options = (request_timeout => '1h', connect_timeout => '1h', %$upload);
	my ($tls, $clear) = map { '127.0.0.1:' . $_->sockport } @silent;
	my @ids;

	$faulty->reset;
	push @ids, enqueue($_, %options) foreach @endless;
	push @ids, enqueue_at("tls$round", "https://$tls/v1", %options);
	push @ids, enqueue_at("clear$round", "http://$clear/v1", %options);
	my @connections = map { scalar $_->accept } @silent;
	$faulty->wait_for_calls(scalar @endless);
	return (\@connections, @ids);
}

# Wait until the client has left them all.
sub all_hung_up
{
	my ($connections) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	foreach my $connection (@$connections)
	{
		my $read;

		do
		{
			return 0 if !IO::Select->new($connection)->can_read($end - time);
			$read = $connection->sysread(my $buffer, 65536);
		} while ($read);
	}
	while (time < $end)
	{
		return 1 if @endless == grep { $_->{hung_up} } $faulty->log;
		Time::HiRes::sleep(0.1);
	}
	return 0;
}
my ($connections, @ids) = enqueue_endless(1);
my $list = join(',', @ids);
wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE id IN ($list) AND status = 'transcribing'", scalar @ids,
	'requests without an end are under way');
my $good = query("SELECT transcribe_enqueue('beside', '$wav', server => 'good')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $good", 'completed', 'a good server\'s job completes beside them');
is(query("SELECT count(*) FROM transcribe_jobs WHERE id IN ($list) AND status = 'transcribing'"), scalar @ids, 'while they go on');
is(query("SELECT count(*) FROM transcribe_jobs WHERE id IN ($list) AND transcribe_cancel(id)"), scalar @ids, 'they are cancelled');
ok(all_hung_up($connections), 'and every request ends');

# Memory is bounded by transcribe.max_response: in the worker by sixteen times
# that for each answer it saves in one turn, in the agent by four times that for
# each request under way.
my %grown = map { $_ => peak_of($_) - $before{$_} } sort keys %before;
note("grown by: worker $grown{worker} MB, agent $grown{transcribe_agen} MB");
cmp_ok($grown{worker}, '<', 3 * 16 * 16, 'the worker\'s memory is bounded');
cmp_ok($grown{transcribe_agen}, '<', 5 * 4 * 16, 'so is the agent\'s');
$node->append_conf('postgresql.conf', "transcribe.max_response = '48MB'");
$node->reload;
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
my $large = enqueue('megabytes=47');
wait_for($node, "SELECT status FROM transcribe_jobs WHERE id = $large", 'completed', 'an answer of 47 MB is taken where that is allowed');
%grown = map { $_ => peak_of($_) - $before{$_} } sort keys %before;
note("grown by: worker $grown{worker} MB, agent $grown{transcribe_agen} MB");
cmp_ok($grown{worker}, '<', 16 * 48, 'in bounded memory of the worker');
cmp_ok($grown{transcribe_agen}, '<', 4 * 48, 'and of the agent');

($connections, @ids) = enqueue_endless(2);
$node->stop('fast');
ok(all_hung_up($connections), 'a shutdown ends every request, too');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|server process|transcribe_agent (exited|was)/, 'nothing crashed');

$faulty->stop;
done_testing();
