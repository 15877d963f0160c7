/*-------------------------------------------------------------------------
 *
 * agent.c
 *	  The program transcribe_agent: start, loop, end.
 *
 * Started by a PostgreSQL background worker, once for each worker, and tied
 * to it by descriptor 0, a stream socket that carries the frames of wire.h.
 * It reads recordings through media children (relay.c) and sends their chunks
 * to servers (http.c).  It knows neither SQL nor policy: it does what the
 * worker's frames say, and reports.
 *
 * The rules of this process:
 *
 * - It sleeps in one place, http_wait(), for ever if nothing is to be done.
 *   No other call waits, so that a cancellation is obeyed at once.
 * - It prints nothing, writes no file and leaves no core: keys pass through
 *   its memory.
 * - It ends with its worker, by end of file on descriptor 0, or at the latest
 *   by the signal that the kernel sends when a parent dies; its children end
 *   with it.  SIGTERM ends the loop, so that children are reaped; SIGQUIT ends
 *   the process at once.  Neither is a death by a signal: where the postmaster
 *   runs as PID 1 it inherits orphans, and takes one that dies of a signal for
 *   a crashed backend.  SIGINT is ignored, since a query cancel goes to the
 *   worker's whole process group.
 * - A frame that it cannot read, or want of memory for its own tables, ends
 *   it with status 1.  The worker starts another; no job is lost by it.
 *
 *-------------------------------------------------------------------------
 */
#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/http.h"
#include "agent/job.h"
#include "agent/relay.h"

#define WORKER_FD	0
#define READ_SIZE	(64 * 1024)

/* How long the loop may take to end by SIGTERM; it takes some milliseconds. */
#define TERM_GRACE_S	1

static WireBuffer from_worker;
static WireBuffer to_worker;
static bool greeted;			/* the worker's HELLO has come */

/* Milliseconds of a clock that is never set. */
int64_t
agent_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * End at once.  The words are for a person who started it by hand; under the
 * worker they go nowhere.  Children get the parent-death signal.
 */
void
agent_fatal(const char *why)
{
	fprintf(stderr, "transcribe_agent: %s\n", why);
	_exit(1);
}

/* The end at once by a signal: an exit, for the reason given above. */
static void
handle_end(int signo)
{
	(void) signo;
	_exit(1);
}

/*
 * Told to go: hang up on the worker in its place, which ends the loop, and with
 * it the children, reaped.  A loop that does not come round ends all the same.
 */
static void
handle_term(int signo)
{
	(void) signo;
	shutdown(WORKER_FD, SHUT_RDWR);
	alarm(TERM_GRACE_S);
}

/*
 * Signals, and death with the parent.  Returns the descriptor that tells of
 * children's ends; SIGCHLD is blocked for it before any thread exists.
 */
static int
set_signals(pid_t parent)
{
	static const int ignored[] = {SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2};
	struct sigaction action = {.sa_handler = handle_term};
	sigset_t	set;
	int			fd;

	sigfillset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	action.sa_handler = handle_end;
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGQUIT, &action, NULL);
	action.sa_handler = SIG_IGN;
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		sigaction(ignored[i], &action, NULL);
	action.sa_handler = SIG_DFL;
	sigaction(SIGCHLD, &action, NULL);

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		agent_fatal("could not create a signal descriptor");

	/* In this order: a parent that died before the call sends nothing. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		agent_fatal("parent process is gone");
	return fd;
}

/* Keys will be in this memory: it is neither dumped nor traced. */
static void
protect_memory(void)
{
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
}

/*
 * A server may be asked a thousand times at once, and each request takes a
 * descriptor: have as many as the system lets us.  Nothing here uses select().
 */
static void
raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Obey one frame of the worker's; false if it is not one. */
static bool
obey(WireFrame *frame)
{
	WireOpen	open;
	WireSend	send;
	uint32_t	chunk_no;

	if (!greeted)
	{
		greeted = frame->type == WIRE_HELLO && wire_get_hello(frame);
		return greeted;
	}
	switch (frame->type)
	{
		case WIRE_OPEN:
			if (!wire_get_open(frame, &open))
				return false;
			job_open(frame->job, &open);
			return true;
		case WIRE_SEND:
			if (!wire_get_send(frame, &send))
				return false;
			job_send(frame->job, &send);
			return true;
		case WIRE_RELEASE:
			chunk_no = wire_get_u32(frame);
			if (!wire_done(frame))
				return false;
			job_release(frame->job, chunk_no);
			return true;
		case WIRE_DROP:
			job_drop(frame->job);
			return wire_done(frame);
		default:
			return false;
	}
}

/*
 * Read from the worker once, and obey.  False at end of file, or if it is of
 * another version.  The buffer is given back when it is empty, which also wipes
 * it.
 */
static bool
read_worker(void)
{
	char	   *room = wire_room(&from_worker, READ_SIZE);
	WireFrame	frame;
	ssize_t		done;
	int			found;

	if (room == NULL)
		agent_fatal("out of memory");
	done = recv(WORKER_FD, room, READ_SIZE, MSG_DONTWAIT);
	if (done < 0)
		return errno == EAGAIN || errno == EINTR;
	if (done == 0)
		return false;
	wire_received(&from_worker, (size_t) done);
	while ((found = wire_next(&from_worker, &frame)) > 0)
	{
		if (!obey(&frame))
		{
			/* A worker of another version is still to learn ours. */
			if (!greeted)
				return false;
			agent_fatal("unexpected frame");
		}
		wire_consumed(&from_worker, WIRE_HEADER_SIZE + frame.len);
	}
	if (found < 0)
		agent_fatal("malformed frame");
	if (wire_pending(&from_worker) == 0)
		wire_free(&from_worker);
	return true;
}

/* Write what the worker takes.  False if it is gone. */
static bool
write_worker(void)
{
	ssize_t		done;

	if (to_worker.failed)
		agent_fatal("out of memory");
	while (wire_pending(&to_worker) > 0)
	{
		done = send(WORKER_FD, to_worker.data + to_worker.start,
					wire_pending(&to_worker), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (done < 0)
			return errno == EAGAIN || errno == EINTR;
		wire_consumed(&to_worker, (size_t) done);
	}
	wire_free(&to_worker);
	return true;
}

/*
 * Work until the worker hangs up.  After each wait everything is tried that
 * can be done without waiting, in the order of the way that data takes: from
 * the worker and the children to the servers, and back to the worker.
 */
static void
loop(int sigchld)
{
	struct signalfd_siginfo info;
	bool		alive = true;

	while (alive)
	{
		int			worker;
		int			died;

		job_watch_all();
		died = http_watch(sigchld, true, false);
		if (child_template() >= 0)
			http_watch(child_template(), true, false);
		worker = http_watch(WORKER_FD, true, wire_pending(&to_worker) > 0);
		http_wait(child_timeout());

		while (http_readable(died) &&
			   read(sigchld, &info, sizeof(info)) == sizeof(info))
			;
		child_reap();
		if (http_readable(worker))
			alive = read_worker();
		job_turn_all();
		http_perform();
		alive = write_worker() && alive;
	}
}

/* For a person who has found the program. */
static void
usage(FILE *to)
{
	fprintf(to,
			"transcribe_agent carries out the requests of a transcribe "
			"background worker.\n"
			"\n"
			"It is started by PostgreSQL, with a socket as standard input, "
			"and is of no use\n"
			"by itself.\n"
			"\n"
			"Usage:\n"
			"  transcribe_agent --child PARENT_PID\n"
			"  transcribe_agent --help | --version\n");
}

/* The process id in argv; 0 if it is none. */
static pid_t
parse_pid(const char *text)
{
	char	   *end;
	long		pid = strtol(text, &end, 10);

	return *end == '\0' && pid > 0 && pid == (pid_t) pid ? (pid_t) pid : 0;
}

/* Status 0: the worker hung up, or the user was told.  1: anything else. */
int
main(int argc, char **argv)
{
	pid_t		parent;
	int			sigchld;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
	{
		usage(stdout);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
	{
		printf("transcribe_agent %s\n", TRANSCRIBE_VERSION);
		return 0;
	}
	if (argc != 3 || strcmp(argv[1], "--child") != 0 ||
		(parent = parse_pid(argv[2])) == 0)
	{
		usage(stderr);
		return 1;
	}

	/* Nothing inherited: neither descriptors nor proxies nor key logs. */
	close_range(3, ~0U, 0);
	clearenv();
	sigchld = set_signals(parent);
	protect_memory();
	raise_limit();
	http_start(&to_worker);
	relay_start(&to_worker);
	child_start();
	wire_put_hello(&to_worker);

	loop(sigchld);

	job_drop_all();
	child_end_all();
	http_stop();
	wire_free(&from_worker);
	wire_free(&to_worker);
	return 0;
}
