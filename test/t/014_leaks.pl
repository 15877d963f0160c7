
# Whatever becomes of jobs, nothing of them stays behind: no process, no
# descriptor, no zombie, and no memory that grows with their number.
#
# LEAK_JOBS says how many jobs (300); for more than some thousands,
# PG_TEST_TIMEOUT_DEFAULT (120 s) has to be raised, too.
use strict;
use warnings;

use lib 'test/perl';
use Cwd qw(abs_path);
use TranscribeTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $jobs = $ENV{LEAK_JOBS} || 300;
my $audio = make_audio();
my $faulty = start_faulty();
my $node = start_cluster('leaks', 'transcribe.idle_timeout' => '10min');
my $dir = PostgreSQL::Test::Utils::tempdir_short();

# Descriptors and memory (kB) of the processes that live on.  The worker's
# tables do not count: PostgreSQL keeps as many of them open as it likes.
sub resources
{
	my $worker = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'transcribe worker'");
	my $data = abs_path($node->data_dir);
	my %found;

	foreach my $process ({ pid => $worker, comm => 'worker' }, processes_of($worker))
	{
		my @descriptors = grep { (readlink($_) // '') !~ m{^\Q$data\E/} }
		  glob "/proc/$process->{pid}/fd/*";
		my ($memory) = slurp_file("/proc/$process->{pid}/status") =~ /^RssAnon:\s+(\d+)/m;

		push @{ $found{ $process->{comm} } },
		  { descriptors => scalar(@descriptors), memory => $memory // 0 };
	}
	return \%found;
}

# One second of speech, of silence, a text, and what is not there any more.
system_or_bail('ffmpeg', '-v', 'error', '-i', "$audio/austen-0870.wav", '-t', '1', "$dir/0.wav");
system_or_bail('ffmpeg', '-v', 'error', '-i', "$audio/silent.wav", '-t', '1', "$dir/1.wav");
system_or_bail('cp', "$audio/text.mp3", "$dir/2.wav");
system_or_bail('cp', "$audio/austen-0880.wav", "$dir/3.wav");
create_server($node, 'good', $faulty->url('ok,tag=good'));
create_server($node, 'bad', $faulty->url('status=400'));

# Enqueues so many jobs, and waits for them all.
sub run_jobs
{
	my ($count) = @_;

	$node->safe_psql('postgres', "SELECT count(transcribe_enqueue('job ' || n || ' ' || clock_timestamp(),
		'$dir/' || n % 4 || '.wav', CASE WHEN n % 7 = 0 THEN 'bad' ELSE 'good' END)) FROM generate_series(1, $count) n");
	unlink "$dir/3.wav";
	return wait_for($node, "SELECT count(*) FROM transcribe_jobs WHERE status NOT IN ('completed', 'failed')", '0');
}

# The agent has done everything once before it is looked at.
run_jobs(100);
system_or_bail('cp', "$audio/austen-0880.wav", "$dir/3.wav");
my $before = resources();
ok(run_jobs($jobs), "$jobs jobs come to an end");

# The last child may be about to be taken note of.
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM transcribe_progress");
my $tries = 0;
my $after = resources();
while ($tries++ < 100 && scalar(map { @$_ } values %$after) > 3)
{
	select(undef, undef, undef, 0.1);
	$after = resources();
}
is(scalar(map { @$_ } values %$after), 3, 'a worker, an agent and a template live on, and no zombie');
is_deeply([ map { $after->{$_}[0]{descriptors} } sort keys %$after ],
	[ map { $before->{$_}[0]{descriptors} } sort keys %$before ], 'with the same descriptors as before');
foreach my $name (sort keys %$after)
{
	my ($was, $is) = map { $_->{$name}[0]{memory} } $before, $after;

	note("$name: $was kB before, $is kB after");
	cmp_ok($is, '<', $was + 2000, "$name: memory does not grow with the number of jobs");
}

$node->stop;
$faulty->stop;
done_testing();
