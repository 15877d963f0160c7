# A battery of crashes: round after round a stream of jobs, and in the middle of
# it something dies.  Then all is audited.
#
#	use TranscribeTest::Battery;
#	TranscribeTest::Battery::run('name', @container);
#
# The container is a program that starts the postmaster as process 1.
# BATTERY_ROUNDS is how many rounds there are (10).  BATTERY_SEED makes the same
# choices again as a run that printed it: who dies, and when.
#
# Rules: the moment of a death is the only thing that is left to chance, and the
# only time that is slept for; one test server counts the requests of all jobs.
package TranscribeTest::Battery;

use strict;
use warnings;

use IPC::Run;
use List::Util qw(min shuffle);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);
use Time::Local qw(timegm);

use TranscribeTest;
use PostgreSQL::Test::Utils;

# To be back at work takes some tenths of a second, on a machine that is not
# busy with something else.
my $ready_limit = 5;

# What may die.  "whom" finds the process; "signal" is KILL if not given;
# "restart" says that the test has to start the server again, "interrupts" that
# what the jobs had under way is lost.
my %deaths = (
	'kill -9 of the worker' => { whom => sub { titled('transcribe worker') }, interrupts => 1 },
	'kill -9 of the launcher' => { whom => sub { titled('transcribe launcher') }, interrupts => 1 },
	'kill -9 of the agent' => { whom => sub { called('transcribe_agen') }, interrupts => 1 },
	'kill -9 of a media child' => { whom => sub { called('transcribe_medi') } },
	'kill -9 of a backend' => { whom => sub { titled('\[local\]') }, interrupts => 1 },
	'kill -9 of the postmaster' => { whom => \&postmaster, interrupts => 1, restart => 1 },
	'an immediate shutdown' => { whom => \&postmaster, signal => 'QUIT', interrupts => 1, restart => 1 },
	'a fast shutdown' => { whom => \&postmaster, signal => 'INT', interrupts => 1, restart => 1 },
	'the end of the worker' => { whom => sub { titled('transcribe worker') }, signal => 'TERM', interrupts => 1 });

my ($node, $faulty, $audio, @container, $child, %delays);

sub query { return $node->safe_psql('postgres', $_[0]) }

# Processes of the cluster, by their title or their program's name.
sub titled
{
	my ($title) = @_;
	return grep { $_->{title} =~ /^postgres: .*$title/ } processes_of($child);
}

sub called
{
	my ($comm) = @_;
	return grep { $_->{comm} eq $comm && $_->{state} ne 'Z' } processes_of($child);
}

# What we have started is the postmaster, or has started it.
sub postmaster
{
	my %processes = all_processes();

	return $processes{$child} if !@container;
	return grep { $_->{ppid} == $child } values %processes;
}

# Start the server; returns when it is ready.
sub start
{
	$child = start_postmaster($node, @container);
	wait_for($node, 'SELECT true');
	return;
}

# Kinds of jobs: recording, options of the call.
my @kinds = (
	[ 'austen-0880.wav', "server => 'one'" ],
	[ 'austen-0870.mp3', "server => 'one', priority => 1" ],
	[ 'austen-0930.mp4', "server => 'two'" ],
	[ 'silence-inside.wav', "server => 'two'" ],
	[ 'talk.mp3', "server => 'chunks'" ],
	[ 'silent.wav', "server => 'one'" ],
	[ 'austen-0890.m4a', "server => 'one,two'" ]);

# A session that enqueues a stream of jobs, and stays until it is finished, or
# dies.  It prints the ids of what has been committed.
sub begin_stream
{
	my ($round) = @_;
	my $script = '';

	foreach my $n (1 .. 10)
	{
		my ($file, $more) = @{ $kinds[ int rand @kinds ] };
		my $pause = rand 0.08;

		$script .= "SELECT transcribe_enqueue('r$round-$n', '$audio/$file', $more, options => '{\"prompt\": \"r$round-$n\"}');\n"
		  . "SELECT FROM pg_sleep($pause);\n";
	}
	my $stream = { out => '' };
	$stream->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
		'<', \$script, '>', \$stream->{out}, '2>', \my $err);
	$stream->{run}->pump_nb;
	return $stream;
}

# When the server last said that it was ready, in seconds since 1970.
sub ready_since
{
	my ($from) = @_;
	my @found = slurp_file($node->logfile, $from) =~
	  /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+\.\d+) UTC .*ready to accept connections/mg;

	return if !@found;
	my ($year, $month, $day, $hour, $minute, $second) = @found[ -6 .. -1 ];
	return timegm(0, $minute, $hour, $day, $month - 1, $year) + $second;
}

# One round.
sub round
{
	my ($round, $death) = @_;
	my $kind = $deaths{$death};
	my $what = "round $round, $death";
	my $gate = "seconds=3,gate=r$round";
	my $log_begin = -s $node->logfile;
	my @victims;

	# A job whose request is surely under way when it happens.
	$faulty->reset;
	query("ALTER SERVER gated OPTIONS (SET url '" . $faulty->url($gate) . "')");
	query("SELECT transcribe_enqueue('r$round', '$audio/austen-0880.wav', server => 'gated', options => '{\"prompt\": \"r$round\"}')");
	ok($faulty->wait_for_calls(1, $gate), "$what: a request is under way");
	my $stream = begin_stream($round);
	sleep rand 0.8;

	# Of media processes there may be several.
	wait_until(sub { @victims = $kind->{whom}->() });
	my $victim = $victims[ int rand @victims ];
	my @before = processes_of($child);
	kill $kind->{signal} // 'KILL', $victim->{pid};
	my $died = time;
	if ($kind->{restart})
	{
		wait_postmaster($child);
		ok(wait_until(sub { !grep { kill 0, $_->{pid} } @before }), "$what: nothing is left behind");
		start();
	}
	eval { $stream->{run}->finish };

	# Its request comes again, when its turn comes.  To be back at work is to send
	# any, since the server was ready if it has restarted.
	if ($kind->{interrupts})
	{
		ok($faulty->wait_for_calls(2, $gate), "$what: the job is taken up again");
		my $from = ready_since($log_begin) // $died;
		my $delay = min(grep { $_ > 0 } map { $_->{start} - $from } $faulty->log);
		push @{ $delays{$death} }, $delay;
		cmp_ok($delay, '<', $ready_limit, "$what: soon");
	}
	$faulty->release("r$round");
	audit($round, $what, $kind, $stream->{out});
	return;
}

# After a round all has ended well, and nothing is left.
sub audit
{
	my ($round, $what, $kind, $acknowledged) = @_;
	my $of_round = "(j.session_id = 'r$round' OR j.session_id LIKE 'r$round-%')";
	my %calls;

	wait_for($node, "SELECT NOT EXISTS (SELECT FROM transcribe_jobs WHERE status <> 'completed')", 't',
		"$what: all jobs complete");
	my @ids = split /\s+/, $acknowledged;
	is(query('SELECT count(*) FROM transcribe_jobs WHERE id = ANY (\'{' . join(',', @ids) . '}\')'), scalar(@ids),
		"$what: what was committed is there");

	# Each stretch is saved once, and what was recognized in it.
	is(query("SELECT count(*) FROM transcribe_jobs j WHERE $of_round AND (
			EXISTS (SELECT FROM transcribe_segments s WHERE s.job_id = j.id GROUP BY s.start_s HAVING count(*) > 1)
			OR EXISTS (SELECT FROM transcribe_chunks c JOIN transcribe_chunks d USING (job_id)
				WHERE job_id = j.id AND c.chunk_no <> d.chunk_no AND c.start_s BETWEEN d.start_s AND d.end_s - 0.001)
			OR (SELECT count(*) FROM transcribe_chunks c WHERE c.job_id = j.id) NOT BETWEEN
				CASE WHEN j.path LIKE '%/silent.wav' THEN 0 ELSE 1 END AND CASE WHEN j.path LIKE '%/talk.mp3' THEN 10 ELSE 1 END
			OR (SELECT count(*) FROM transcribe_segments s WHERE s.job_id = j.id)
				<> 2 * (SELECT count(*) FROM transcribe_chunks c WHERE c.job_id = j.id))"),
		'0', "$what: each segment is there once");

	# Only what was under way is asked for again: one request for each job.
	$calls{ $_->{fields}{prompt}[0] }++ foreach grep { $_->{fields}{prompt} } $faulty->log;
	my @more;
	foreach my $line (split /\n/, query("SELECT j.session_id, count(c) FROM transcribe_jobs j LEFT JOIN transcribe_chunks c ON c.job_id = j.id WHERE $of_round GROUP BY 1"))
	{
		my ($session, $chunks) = split /\|/, $line;
		my $calls = $calls{$session} // 0;

		push @more, "$session: $calls requests for $chunks chunks" if $calls < $chunks || $calls > $chunks + 1;
	}
	is(join("\n", @more), '', "$what: one request more at most for each job")
	  or diag(query("SELECT j.session_id, j.attempts, j.crashes, a.* FROM transcribe_attempts a JOIN transcribe_jobs j ON j.id = a.job_id WHERE $of_round ORDER BY a.id"));

	# No claim, no slot, no process of those that died.
	is(query('SELECT count(*) FROM transcribe_progress'), '0', "$what: no slot is taken");
	ok(wait_until(sub { !orphans() && called('transcribe_agen') < 2 }), "$what: no process is left behind");
	return;
}

# How long it took to be back at work.
sub tell_delays
{
	my ($what, @delays) = @_;

	@delays = sort { $a <=> $b } @delays;
	diag(sprintf('%-26s %3d: back at work after %.2f s (median), %.2f s (at most)',
		$what, scalar(@delays), $delays[ $#delays / 2 ], $delays[-1]));
	return;
}

# Run it all.
sub run
{
	(my $name, @container) = @_;
	my $rounds = $ENV{BATTERY_ROUNDS} // 10;
	my $seed = $ENV{BATTERY_SEED} // int(time * 1000) % 1_000_000;
	my @order;

	diag("$name: BATTERY_ROUNDS=$rounds BATTERY_SEED=$seed");
	srand $seed;
	$audio = make_audio();
	$faulty = start_faulty();
	# One worker for all, so that a place that is not given back is missed.
	$node = start_cluster($name, restart_after_crash => 'on', 'transcribe.max_workers' => 1);
	create_server($node, 'gated', $faulty->url('ok'), retry_interval => '10ms');
	create_server($node, 'one', $faulty->url('seconds=3,delay=0.05,tag=one'), retry_interval => '10ms');
	create_server($node, 'two', $faulty->url('seconds=3,delay=0.2,tag=two'), retry_interval => '10ms');
	create_server($node, 'chunks', $faulty->url('seconds=3,delay=0.05,tag=chunks'), retry_interval => '10ms',
		chunk_seconds => 30, max_requests => 1);
	$node->stop;
	start();
	foreach my $round (1 .. $rounds)
	{
		@order = shuffle(sort keys %deaths) if !@order;
		# Each round has as much time as a whole test of another kind.
		alarm(5 * $PostgreSQL::Test::Utils::timeout_default);
		round($round, shift @order);
	}
	tell_delays($_, @{ $delays{$_} }) foreach sort keys %delays;
	tell_delays('all', map { @$_ } values %delays);
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no panic, no failed assertion');
	kill 'INT', map { $_->{pid} } postmaster();
	wait_postmaster($child);
	ok(wait_until(sub { !orphans() }), 'nothing is left behind');
	$faulty->stop;
	done_testing();
	return;
}

1;
