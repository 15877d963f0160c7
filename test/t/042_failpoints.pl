# At each step between the enqueue of a job and the last commit: an error, a
# crash, or a process that stands still.  No job is lost, none is done twice,
# nothing is left behind, and a request is repeated only where its answer was
# lost.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $src = abs_path(dirname(__FILE__) . '/../../src');

# What there is of failpoints in the code: a list of names for each file.
my %files = map { $_ => [ slurp_file($_) =~ /FAILPOINT\("(\w+)"\)/g ] } glob("$src/*/*.c");
delete @files{ grep { !@{ $files{$_} } } keys %files };

# A build that does not ask for them has nothing of them, nor does it by itself.
unlike(slurp_file("$src/../Makefile"), qr/TRANSCRIBE_FAILPOINTS/, 'make does not ask for failpoints');
my ($cppflags, $include) = map { my $value = `pg_config --$_`; chomp $value; $value } qw(cppflags includedir-server);
foreach my $file (sort keys %files, "$src/shared/failpoint.c")
{
	my $code = `cc $cppflags -I $include -I $src -E $file`;

	is($?, 0, "$file is preprocessed");
	unlike($code, qr/\bfailpoint\s*\(|transcribe_failpoints/, 'and has no failpoints unless asked for');
}

SKIP:
{
	skip 'this build has no failpoints' if !has_failpoints();
	run_cases();
}
done_testing();

# How a case goes, where it is not a job like any other: "story" names a function
# below; "calls" is how many requests there are after an error and after a
# crash, where not one; "no" names actions that make no sense: an error cannot
# happen in a commit callback or an exit callback, which call nothing that
# throws one.
my (%how, $audio, $faulty, $node, $case, $crashes);

sub query { return $node->safe_psql('postgres', $_[0]) }

sub enqueue_sql
{
	my ($session, $more) = @_;
	return "SELECT transcribe_enqueue('$session', '$audio/austen-0880.wav', options => '{\"prompt\": \"$session\"}'" . ($more // '') . ')';
}

# A session of its own, since it may be the one that stops.
sub begin
{
	my ($sql) = @_;

	$case->{said} = \my $out;
	return IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $sql ],
		'<', \undef, '>', \$out, '2>', \my $err);
}

sub story_job
{
	my ($action) = @_;

	arm($node, $case->{point}, $action);
	return begin(enqueue_sql($case->{name}));
}

# A request is under way, and its answer waits for us.
sub begin_at_gate
{
	my $gate = $case->{name} =~ tr/ /_/r;

	create_server($node, $gate, $faulty->url("seconds=3,gate=$gate"), retry_interval => '10ms');
	query(enqueue_sql($case->{name}, ", server => '$gate'"));
	$faulty->wait_for_calls(1, "seconds=3,gate=$gate");
	return $gate;
}

# The worker is told to go while it has a request under way.
sub story_give_back
{
	my ($action) = @_;
	my $gate = begin_at_gate();

	arm($node, $case->{point}, $action);
	query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
	$faulty->release($gate);
	return;
}

# The worker goes when it has nothing left to do.  It is this one, and none that
# has looked in before.
sub story_leave
{
	my ($action) = @_;
	my $gate = begin_at_gate();

	arm($node, $case->{point}, $action);
	$faulty->release($gate);
	return;
}

# The request takes so long that the row says it is under way.
sub story_slow
{
	my ($action) = @_;

	arm($node, $case->{point}, $action);
	return begin(enqueue_sql($case->{name}, ", server => 'slow'"));
}

# The recording stands in the database.
sub story_bytes
{
	my ($action) = @_;

	arm($node, $case->{point}, $action);
	return begin(enqueue_sql($case->{name}) =~ s/('[^']*\.wav')/pg_read_binary_file($1)/r);
}

# There is an orphan: its worker is killed just when it has claimed it.
sub story_orphan
{
	my ($action) = @_;

	arm($node, 'claim_committed', 'stop');
	query(enqueue_sql($case->{name}));
	my ($worker) = stopped();
	arm($node, $case->{point}, $action);
	kill 'KILL', $worker;
	$crashes++;
	return;
}

# An old job is removed.
sub story_purge
{
	my ($action) = @_;

	arm($node, $case->{point}, $action);
	return begin('SELECT transcribe_cancel(transcribe_enqueue) FROM (' . enqueue_sql($case->{name}, ", run_at => 'infinity'") . ') q');
}

# A function is to be called when the job has ended.
sub story_callback
{
	my ($action) = @_;

	arm($node, $case->{point}, $action);
	return begin(enqueue_sql($case->{name}, ", on_complete => 'take_note'"));
}

# The process that a failpoint has stopped.
sub stopped
{
	my @found;

	wait_until(sub { @found = grep { $_->{state} eq 'T' } processes_of(postmaster_pid($node)) });
	return map { $_->{pid} } @found;
}

# While a process stands still, nobody else has to wait for it.
sub release_stopped
{
	my @pids = stopped();

	is(scalar(@pids), 1, "$case->{name}: a process stands still");
	is(query("SELECT count(*) > 0 FROM transcribe_jobs; SELECT count(*) < 2 FROM transcribe_progress;
			BEGIN; SELECT true FROM (" . enqueue_sql('bystander') . ') q; ROLLBACK'),
		"t\nt\nt", "$case->{name}: and holds up nobody");
	kill 'CONT', @pids;
	return;
}

# How often the server has restarted after a crash.
sub restarts
{
	my $count = () = slurp_file($node->logfile) =~ /all server processes terminated; reinitializing/g;
	return $count;
}

# How things stand when nothing is left to do: the job's end, how often its
# segments and chunks are there, whether a crash was counted that was none,
# workers; and requests.
sub outcome
{
	my $session = $case->{name};

	wait_for($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'transcribe worker')
		AND NOT EXISTS (SELECT FROM transcribe_jobs WHERE status NOT IN ('completed', 'failed'))
		AND NOT EXISTS (SELECT FROM transcribe_callbacks WHERE status <> 'completed')
		AND EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'transcribe launcher')");
	my $row = query("SELECT COALESCE(min(status), 'nothing'), count(*), max(crashes) > 1,
			(SELECT count(*) FROM transcribe_segments WHERE session_id = '$session'),
			(SELECT count(*) FROM transcribe_chunks c JOIN transcribe_jobs j ON j.id = c.job_id WHERE session_id = '$session'),
			(SELECT count(*) FROM transcribe_progress)
		FROM transcribe_jobs WHERE session_id = '$session'");
	my $calls = grep { ($_->{fields}{prompt}[0] // '') eq $session } $faulty->log;

	return "$row, $calls";
}

# Another worker, which visits after the crash before this one, may have come to
# the point, and taken the server down before our session got a job's number: then
# it enqueues now.
sub again
{
	my ($point) = @_;
	my ($file) = grep { grep { $_ eq $point } @{ $files{$_} } } keys %files;

	return if $file =~ m{/session/} || ${ $case->{said} } ne '';
	wait_for($node, 'SELECT true');
	return if query("SELECT count(*) FROM transcribe_jobs WHERE session_id = '$case->{name}'") > 0;
	query(enqueue_sql($case->{name}));
	return;
}

# Have a failpoint do it, in the way that goes with it.
sub run_case
{
	my ($point, $action, $how) = @_;
	my $story = \&{ 'main::story_' . ($how->{story} // 'job') };
	my $expected = $how->{calls}{$action} // $how->{calls}{any} // 1;

	$case = { point => $point, name => join(' ', $how->{story} // (), $point, $action) };
	$action = 'XX000' if $action eq 'error';
	my $session = $story->($action);
	ok(wait_until(sub { !armed($node) }), "$case->{name}: it happens");
	release_stopped() if $action eq 'stop';
	$crashes++ if $action eq 'crash';
	if ($session)
	{
		# Its server may crash.
		eval { $session->finish };
	}
	# The postmaster has to notice it first.
	wait_until(sub { restarts() >= $crashes });
	again($point) if $session;
	my $gone = ($how->{story} // '') eq 'purge' || ($point eq 'enqueue_inserted' && $action ne 'stop');
	like(outcome(),
		$gone ? qr/^nothing\|0\|\|0\|0\|0, 0$/ : qr/^completed\|1\|f\|2\|1\|0, $expected$/,
		"$case->{name}: all is as it should be");
	if (($how->{story} // '') eq 'callback')
	{
		is(query("SELECT count(*) FROM notes n JOIN transcribe_jobs j ON j.id = n.job_id WHERE session_id = '$case->{name}'"), '1',
			"$case->{name}: what is called has written once");
	}
	ok(wait_until(sub { !orphans() && !grep { $_->{comm} =~ /^transcribe_/ || $_->{state} eq 'Z' } processes_of(postmaster_pid($node)) }),
		"$case->{name}: no process is left");
	return;
}

sub run_cases
{
	%how = (
		wake_begin => { no => 'error' },
		wake_done => { no => 'error' },
		claim_rescued => { story => 'orphan' },
		transcribing_noted => { story => 'slow', calls => { crash => qr/[12]/ } },
		response_received => { calls => { error => 2, crash => 2 } },
		response_parsed => { calls => { crash => 2 } },
		save_begun => { calls => { crash => 2 } },
		save_half => { calls => { crash => 2 } },
		save_done => { calls => { crash => 2 } },
		give_back_done => { story => 'give_back', calls => { any => 2 } },
		give_back_committed => { story => 'give_back', calls => { any => 2 } },
		piece_brought => { story => 'bytes' },
		bytes_forgotten => { story => 'bytes' },
		purge_done => { story => 'purge' },
		purge_committed => { story => 'purge' },
		(map { $_ => { story => 'callback' } } qw(callback_claimed callback_called callback_marked callback_committed)),
		leave_begun => { story => 'leave', no => 'error' },
		leave_done => { story => 'leave', no => 'error' });
	$audio = make_audio();
	$faulty = start_faulty();
	$node = start_cluster('failpoints',
		restart_after_crash => 'on',
		'transcribe.max_workers' => 1,
		'transcribe.idle_timeout' => '0',
		'transcribe.naptime' => '1s',
		'transcribe.retain_failed' => '0');
	create_server($node, 'whisper', $faulty->url('seconds=3'), retry_interval => '10ms');
	create_server($node, 'slow', $faulty->url('seconds=3,delay=0.5'), retry_interval => '10ms');
	query("CREATE TABLE notes (job_id bigint); CREATE FUNCTION take_note(bigint) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO notes VALUES (\$1) \$\$");
	$crashes = 0;
	my @points = map { @{ $files{$_} } } sort keys %files;
	foreach my $point (@ARGV ? @ARGV : @points)
	{
		foreach my $action (qw(error crash stop))
		{
			run_case($point, $action, $how{$point}) if ($how{$point}{no} // '') ne $action;
		}
	}
	# Whoever was to visit the database after a crash has an error itself.
	run_case($_, 'error', { story => 'orphan' }) foreach qw(launcher_slot_taken worker_attached);
	is(restarts(), $crashes, 'only a crash restarts the server');
	is(query('SELECT count(*) FROM transcribe_recordings'), '0', 'no bytes are left');
	is(scalar(glob($node->data_dir . '/base/pgsql_tmp/*')) // '', '', 'nor any in temporary files');
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no panic, no failed assertion');
	$node->stop;
	$faulty->stop;
	return;
}
