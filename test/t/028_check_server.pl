# What transcribe_check_server and transcribe_setup find out, what they say
# helps, and that nothing of them stays behind.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use IO::Socket::INET;
use Test::More;

my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('check');
my $serial = 0;

# Wait until a condition holds; whether it does.
sub until_true
{
	my ($condition) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		select(undef, undef, undef, 0.1);
	}
	return 0;
}

# The rows of a check: a hash of steps, each { ok, detail, hint }.
sub rows
{
	my ($call) = @_;
	my %rows;

	foreach my $line (split /\n/, $node->safe_psql('postgres', "SELECT step, ok, detail, hint FROM $call"))
	{
		my ($step, $ok, $detail, $hint) = split /\|/, $line, 4;
		$rows{$step} = { ok => $ok, detail => $detail, hint => $hint };
	}
	return \%rows;
}

# Check a new server of that URL and those options.
sub check
{
	my ($url, %options) = @_;
	my $name = 'server' . ++$serial;
	my $mapping = delete $options{mapping};

	create_server($node, $name, $url, %options);
	create_mapping($node, 'PUBLIC', $name, %$mapping) if $mapping;
	return rows("transcribe_check_server('$name')");
}

# The steps that are told of, in their order, and what is said of each.
my @steps = qw(server key audio name connection tls answer authorization path
  model format segments words language text latency);

# A check ends at a step: all before are good or do not apply, all after were
# not reached, and of the step itself it is said why, and what helps.
sub ends_at
{
	my ($rows, $end, $detail, $hint, $what) = @_;
	my $state = 'before';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	foreach my $step (@steps)
	{
		my $row = $rows->{$step};
		my $good =
		    $step eq $end ? $row->{ok} eq 'f'
		  : $state eq 'before' ? $row->{ok} ne 'f' && $row->{detail} ne 'not reached'
		  : $row->{ok} eq '' && $row->{detail} eq 'not reached';

		if (!$good)
		{
			fail("$what: ends at $end");
			diag("$step: $row->{ok} $row->{detail}");
			return;
		}
		$state = 'after' if $step eq $end;
	}
	like($rows->{$end}{detail}, $detail, "$what: ends at $end");
	like($rows->{$end}{hint}, $hint, "$what: the hint says what to type");
	return;
}

# What is good.
my $rows = check($faulty->url('ok,tag=good'));
is_deeply([ grep { $rows->{$_}{ok} eq 't' } @steps ],
	[ grep { $_ ne 'key' && $_ ne 'tls' } @steps ], 'a good server passes every step');
is(join('', map { $rows->{$_}{hint} } @steps), '', 'and needs no advice');
is($rows->{text}{detail}, 'segment 1 segment 2', 'the text that was heard is told');
like($rows->{segments}{detail}, qr/^2 with times/, 'and how many segments have times');
like($rows->{words}{detail}, qr/^4 with times/, 'and how many words');
like($rows->{latency}{detail}, qr/^\d+ ms for [23]\.\d s of speech$/, 'and how long it took');
like($rows->{audio}{detail}, qr/^[23]\.\d s of speech as mp3; sandbox: limits, /, 'and what was sent');
is($rows->{key}{ok} . $rows->{tls}{ok}, '', 'without a key and TLS, these do not apply');
my ($call) = $faulty->log('ok,tag=good');
is(scalar($faulty->log('ok,tag=good')), 1, 'it costs one request');
is("$call->{file_name} $call->{fields}{model}[0]", 'audio.mp3 whisper-1', 'which is as a job would make it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM transcribe_jobs'), '0', 'and leaves no job');

# What lacks something, but works.
$rows = check($faulty->url('json-only'));
is($rows->{format}{ok}, 't', 'a model that gives json alone passes');
like($rows->{format}{detail}, qr/^json; the model refuses verbose_json$/, 'and that is told');
like($rows->{format}{hint}, qr/^ALTER SERVER server\d+ OPTIONS \(ADD response_format 'json'\)/, 'with the option for it');
is($rows->{segments}{ok} . $rows->{words}{ok} . $rows->{language}{ok}, '', 'it has no segments, words or language');
like($rows->{segments}{hint}, qr/chunk_seconds/, 'what makes segments shorter is said');
$rows = check($faulty->url('text-only'));
is($rows->{format}{ok} . $rows->{segments}{ok}, 't', 'text alone passes');
$rows = check($faulty->url('status=422,message=no+words,times=1'));
is($rows->{latency}{ok}, 't', 'a server that refuses times of words passes without');
like($rows->{words}{detail}, qr/^refused: .*422: no\+words$/, 'and what it said is told');

# What does not: steps on our side.
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
append_to_file("$dir/key", "sk-canary\n");
chmod 0644, "$dir/key";
ends_at(check($faulty->url('key=sk-canary'), mapping => { api_key_file => "$dir/key" }),
	'key', qr/api_key_file ".*" must be a regular file with permissions 0600/,
	qr/chmod 0600.* ALTER USER MAPPING FOR PUBLIC SERVER server\d+/, 'a key file that others can read');
chmod 0600, "$dir/key";
$rows = check($faulty->url('key=sk-canary'), mapping => { api_key_file => "$dir/key" });
is($rows->{authorization}{ok}, 't', 'a key in a file is accepted');
unlike(join('', map { "@{ $rows->{$_} }{qw(detail hint)}" } grep { $_ ne 'server' } @steps), qr/sk-canary/,
	'and told nowhere');
is($rows->{key}{detail}, 'of the user mapping for PUBLIC', 'it is told whose mapping it is of');

# The way.
ends_at(check('http://no-such-host.invalid/v1'), 'name',
	qr/could not resolve host name "no-such-host.invalid"/,
	qr/ALTER SERVER server\d+ OPTIONS \(SET url/, 'a name without an address');
my $port = PostgreSQL::Test::Cluster::get_free_port();
ends_at(check("http://127.0.0.1:$port/v1"), 'connection',
	qr/could not connect to host 127\.0\.0\.1 port $port: Connection refused/,
	qr/ALTER SERVER server\d+ OPTIONS \(SET url/, 'a port where nobody listens');
ends_at(check('http://169.254.1.1:9/v1'), 'connection', qr/link-local/,
	qr/ADD link_local 'allow'/, 'a link-local address');
ends_at(check($faulty->url =~ s/^http/https/r), 'tls', qr/could not set up TLS/,
	qr/OPTIONS \(SET url 'http:/, 'TLS where none is spoken');
ends_at(check('http://192.0.2.1:9/v1', connect_timeout => '100ms'), 'connection',
	qr/while connecting|could not connect/, qr/connect_timeout|SET url/, 'an address that nobody has');

# A certificate that nobody vouches for.
system_or_bail('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost',
	'-days', '2', '-keyout', "$dir/tls.key", '-out', "$dir/tls.crt");
my $tls_port = PostgreSQL::Test::Cluster::get_free_port();
my $tls = IPC::Run::start([ 'openssl', 's_server', '-quiet', '-accept', "127.0.0.1:$tls_port",
		'-key', "$dir/tls.key", '-cert', "$dir/tls.crt" ], '<', \undef, '>', "$dir/tls.log", '2>&1');
until_true(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$tls_port") });
ends_at(check("https://localhost:$tls_port/v1"), 'tls', qr/^certificate of .* was not accepted/,
	qr/trust the authority/, 'a certificate that nobody vouches for');
ends_at(check("http://localhost:$tls_port/v1"), 'answer', qr/HTTP\/0\.9|was lost/, qr/^/,
	'what does not speak HTTP');
$tls->kill_kill;

# What the server says.
ends_at(check($faulty->url('status=500,tag=check')), 'answer', qr/status 500: scripted/,
	qr/own log/, 'an error of the server');
ends_at(check($faulty->url('status=429,retry-after=1000,message=busy')), 'answer', qr/status 429: busy/,
	qr/^Jobs wait/, 'a server that asks for a pause');
ends_at(check($faulty->url('status=429,code=insufficient_quota')), 'answer', qr/status 429/,
	qr/^The account/, 'an account that is used up');
ends_at(check($faulty->url('drop')), 'answer', qr/was lost while waiting/, qr/^/, 'a server that hangs up');
ends_at(check($faulty->url('hang'), request_timeout => '300ms'), 'answer',
	qr/^timeout after .* while waiting for the server's answer/, qr/request_timeout/, 'a server that does not answer');
ends_at(check($faulty->url('key=sk-other')), 'authorization', qr/status 401/,
	qr/^CREATE USER MAPPING FOR PUBLIC SERVER server\d+ /, 'a server that wants a key');
ends_at(check($faulty->url('key=sk-other'), mapping => { api_key => 'sk-canary' }), 'authorization',
	qr/status 401/, qr/ALTER USER MAPPING FOR PUBLIC SERVER server\d+ /, 'a key that is refused');
ends_at(check($faulty->url('status=404')), 'path', qr/status 404/,
	qr/https:\/\/api\.openai\.com\/v1.*SET url/, 'a path that is not there');
ends_at(check($faulty->url('status=405')), 'path', qr/status 405/, qr/SET url/, 'a path that takes no POST');
ends_at(check($faulty->url('html')), 'path', qr/HTML/, qr/SET url/, 'a page instead of an answer');
ends_at(check($faulty->url('redirect')), 'path', qr/status 307/, qr/SET url/, 'a redirect');
ends_at(check($faulty->url('status=404,code=model_not_found')), 'model', qr/status 404/,
	qr/^ALTER SERVER server\d+ OPTIONS \(SET model/, 'a model that is not there');
ends_at(check($faulty->url('status=400,message=Invalid+file')), 'format', qr/status 400: Invalid\+file/,
	qr/ALTER SERVER server\d+ OPTIONS/, 'a request that is refused');
ends_at(check($faulty->url('status=415')), 'format', qr/status 415/, qr/audio_format 'wav'/, 'audio that is refused');
ends_at(check($faulty->url('max-bytes=10')), 'format', qr/status 413/, qr/small/, 'a request that is too large');

# A text that is longer than anybody reads, and one that is not there.
$rows = check($faulty->url('seconds=10000'));
is(length($rows->{text}{detail}), 1000, 'a long text is cut');
$rows = check($faulty->url('seconds=-1'));
is($rows->{text}{ok}, 'f', 'an answer without text is noticed');
like($rows->{text}{hint}, qr/made amiable himself/, 'and what was said is told');
is($rows->{latency}{ok}, 't', 'the rest is told all the same');

# Several servers, and what is known of one for jobs.
create_server($node, 'stopped', $faulty->url('key=sk-other,times=1,tag=stopped'));
$node->safe_psql('postgres', "SELECT transcribe_enqueue('stopped', '$audio/austen-0880.wav', 'stopped')");
my $state = "SELECT server, state, since FROM transcribe_servers WHERE server = 'stopped'";
wait_for($node, "SELECT state FROM transcribe_servers WHERE server = 'stopped'", 'stopped');
my $stopped = $node->safe_psql('postgres', $state);
$rows = rows("transcribe_check_server('stopped')");
is($rows->{latency}{ok}, 't', 'a server that is closed to jobs is asked all the same');
like($rows->{server}{detail}, qr/jobs wait because of: .*status 401/, 'and it is told that it is closed');
like($rows->{server}{hint}, qr/SELECT transcribe_resume_server\('stopped'\)/, 'and how to open it');
is($node->safe_psql('postgres', $state), $stopped, 'which the check does not do');
$node->safe_psql('postgres', "SELECT transcribe_resume_server('stopped')");
wait_for($node, "SELECT status FROM transcribe_jobs WHERE session_id = 'stopped'", 'completed', 'what helps, helps');
create_server($node, 'refuses', $faulty->url('key=sk-other,tag=refuses'));
$node->safe_psql('postgres', "SELECT transcribe_check_server('refuses') FROM generate_series(1, 5)");
is($node->safe_psql('postgres', "SELECT state FROM transcribe_servers WHERE server = 'refuses'"),
	'available', 'nor does a check close one');
is($node->safe_psql('postgres', "SELECT server, count(*) FROM transcribe_check_server('refuses, stopped') GROUP BY 1 ORDER BY 1"),
	"refuses|16\nstopped|16", 'a list of servers is checked one after the other');

# The sandbox is the one that recordings are read in.
$node->safe_psql('postgres', "ALTER SYSTEM SET transcribe.max_duration = '1s'");
$node->reload;
wait_for($node, 'SHOW transcribe.max_duration', '1s');
ends_at(check($faulty->url), 'audio', qr/longer than/, qr/^/, 'settings under which nothing can be read');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET transcribe.max_duration');
$node->reload;
wait_for($node, 'SHOW transcribe.max_duration', '12h');

# The key goes nowhere but to the server.
unlike(slurp_file($node->logfile) =~ s/.*CREATE (?:SERVER|USER MAPPING).*//gr, qr/sk-canary/, 'and the log holds no key');

# One session, many checks: no process, descriptor or memory stays.
create_server($node, 'again', $faulty->url('ok,tag=again'));
create_server($node, 'refusing', $faulty->url('json-only,tag=again'));
create_server($node, 'hanging', $faulty->url('hang,tag=hanging'));
create_mapping($node, 'PUBLIC', 'again', api_key => 'sk-again');
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');

# Descriptors but for those of tables, memory (kB), and children of a process.
sub resources
{
	my ($pid) = @_;
	my $data = abs_path($node->data_dir);
	my @descriptors = grep { (readlink($_) // '') !~ m{^\Q$data\E/} } glob "/proc/$pid/fd/*";
	my ($memory) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
	return (scalar(@descriptors), $memory, scalar(processes_of($pid)));
}

my $loop = "DO \$\$ BEGIN FOR i IN 1..%d LOOP
	PERFORM transcribe_check_server('again'), transcribe_check_server('refusing'); END LOOP; END \$\$";
$session->query_safe(sprintf($loop, 5));
my @before = resources($pid);
$session->query_safe(sprintf($loop, 25));
my @after = resources($pid);
is($after[0], $before[0], '50 checks leave no descriptor');
is($after[2], 0, 'and no process');
cmp_ok($after[1], '<', $before[1] + 1000, "nor memory ($before[1] kB before, $after[1] kB after)");
is($session->query_safe("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'transcribe job'"),
	'0', 'nor a job');

# Cancelled, timed out, and terminated, while the server does not answer.
sub hang_in_session
{
	my $calls = $faulty->log('hang,tag=hanging');

	$session->query_until(qr/waiting/, "\\echo waiting\nSELECT * FROM transcribe_check_server('hanging');\n");
	return $faulty->wait_for_calls($calls + 1, 'hang,tag=hanging');
}

sub gone
{
	my ($what, @pids) = @_;
	ok(until_true(sub { !grep { -e "/proc/$_" } @pids }), $what);
	return;
}

ok(hang_in_session(), 'a check waits for the server');
my @children = map { $_->{pid} } processes_of($pid);
cmp_ok(scalar(@children), '>=', 1, 'with an agent of its own');
is($node->safe_psql('postgres', "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid"),
	'Extension', 'as pg_stat_activity shows');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$session->query('SELECT 1');
gone('a check that is cancelled leaves no process', @children);
is((resources($pid))[0], $before[0], 'and no descriptor');
ok(until_true(sub { ($faulty->log('hang,tag=hanging'))[-1]{hung_up} }), 'and the server is hung up on');

$session->query("SET statement_timeout = '300ms'; SELECT * FROM transcribe_check_server('hanging')");
is(scalar(processes_of($pid)), 0, 'nor does one that takes too long');
is($session->query("RESET statement_timeout; SELECT count(*) FROM transcribe_check_server('again')"), '16',
	'the session goes on, and checks again');

ok(hang_in_session(), 'another check waits');
@children = map { $_->{pid} } processes_of($pid);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
gone('a session that is terminated leaves no process', $pid, @children);

# An agent that dies.
$session->{run}->finish;
$session = $node->background_psql('postgres', on_error_stop => 0);
$pid = $session->query_safe('SELECT pg_backend_pid()');
ok(hang_in_session(), 'a third check waits');
kill 'KILL', map { $_->{pid} } grep { $_->{comm} =~ /^transcribe_agen/ } processes_of($pid);
like($session->query('SELECT 1'), qr/^hanging\|audio\|f\|transcribe_agent was terminated by signal 9/m, 'an agent that dies is told of');
$session->quit;
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'and the cluster lives on');

# What it does not need.
is($node->safe_psql('postgres',
		"BEGIN READ ONLY; SELECT count(*) FROM transcribe_check_server('again'); COMMIT"),
	'16', 'a check writes nothing');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is($node->safe_psql('postgres', "SELECT ok FROM transcribe_check_server('again') WHERE step = 'text'"),
	't', 'a check needs no preloaded library');

# The real thing.
my $whisper = start_whisper();
$rows = rows("transcribe_setup('" . $whisper->url . "', 'tiny.en')");
is_deeply([ grep { $rows->{$_}{ok} ne 't' } @steps ], [ 'key', 'tls' ], 'a real Whisper passes');
like($rows->{text}{detail}, qr/made amiable himself/i, 'and hears what is said');
is($rows->{language}{detail}, 'english', 'in English');
$node->safe_psql('postgres', "ALTER SERVER whisper OPTIONS (SET model 'huge')");
ends_at(rows('transcribe_check_server()'), 'model', qr/The model 'huge' does not exist/,
	qr/^ALTER SERVER whisper OPTIONS \(SET model/, 'a model that a real server does not have');

$node->stop;
$whisper->stop;
$faulty->stop;
done_testing();
