/*-------------------------------------------------------------------------
 *
 * agent.c
 *	  The worker's end of the socket to its agent: spawn, frames, reap.
 *
 * Runs in the worker, and in a backend that checks a server.  The agent is a
 * plain program beside our library.  It gets a socket as its standard input
 * and nothing else of ours: on 15 a child inherits every open file of the
 * database, writable.
 *
 * It is always reaped.  Where the postmaster is the first process of a
 * container, an orphan of ours becomes its child, and one that dies of a
 * signal makes it restart the cluster.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/agent.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "shared/failpoint.h"

/* How long a child may take to end by itself. */
#define GRACE_MS		200

/* What is read at once. */
#define READ_SIZE		(64 * 1024)

static pid_t pid = 0;
static int	sock = -1;
static WireBuffer input;
static WireBuffer output;
static bool greeted;			/* the agent has said HELLO */
static bool stranger;			/* not ours: it is of another version */

bool
agent_running(void)
{
	return pid != 0;
}

/* Its process, or 0. */
int
agent_pid(void)
{
	return (int) pid;
}

int
agent_socket(void)
{
	return sock;
}

/* Frames put here go out with the next agent_pump() or agent_flush(). */
WireBuffer *
agent_output(void)
{
	return &output;
}

bool
agent_wants_write(void)
{
	return wire_pending(&output) > 0;
}

/* Start the program; 0, or an errno. */
static int
spawn(int child_end)
{
	char		path[MAXPGPATH];
	char		parent[16];
	char	   *argv[] = {"transcribe_agent", "--child", parent, NULL};
	char	   *envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t	set;
	int			rc;

	snprintf(path, sizeof(path), "%s/transcribe_agent", pkglib_path);
	snprintf(parent, sizeof(parent), "%d", MyProcPid);

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, child_end, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);

	/* No handler, mask or ignored signal of the server's goes along. */
	posix_spawnattr_init(&attr);
	sigfillset(&set);
	sigdelset(&set, SIGKILL);
	sigdelset(&set, SIGSTOP);
	posix_spawnattr_setsigdefault(&attr, &set);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);

	rc = posix_spawn(&pid, path, &actions, &attr, argv, envp);
	if (rc != 0)
		pid = 0;
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

/* Start the agent unless it runs; false, and a line in the log, if not. */
bool
agent_start(void)
{
	int			ends[2];
	int			rc;

	if (pid != 0)
		return true;
	FAILPOINT("agent_start");
	if (!AcquireExternalFD())
	{
		ereport(LOG,
				(errmsg("could not start transcribe_agent: too many open files")));
		return false;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
	{
		ReleaseExternalFD();
		ereport(LOG, (errmsg("could not create socket pair: %m")));
		return false;
	}
	rc = spawn(ends[1]);
	close(ends[1]);
	if (rc != 0)
	{
		close(ends[0]);
		ReleaseExternalFD();
		errno = rc;
		ereport(LOG,
				(errmsg("could not start \"%s/transcribe_agent\": %m", pkglib_path)));
		return false;
	}
	sock = ends[0];
	pg_set_noblock(sock);
	greeted = stranger = false;
	wire_put_hello(&output);
	FAILPOINT("agent_started");
	return true;
}

/* Write what is pending, as far as the socket takes it; false: it is gone. */
static bool
flush_output(void)
{
	while (wire_pending(&output) > 0)
	{
		ssize_t		n = send(sock, output.data + output.start,
							 wire_pending(&output), MSG_NOSIGNAL);

		if (n > 0)
			wire_consumed(&output, n);
		else if (n < 0 && errno == EINTR)
			continue;
		else
			return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
	}
	return !output.failed;
}

/* Hand over the frames that have come in whole; false: they are no frames. */
static bool
handle_input(AgentFrameHandler handler)
{
	WireFrame	frame;
	int			rc;

	while ((rc = wire_next(&input, &frame)) > 0)
	{
		size_t		len = frame.len;

		if (!greeted)
		{
			greeted = frame.type == WIRE_HELLO && wire_get_hello(&frame);
			stranger = !greeted;
			if (stranger)
				return false;
		}
		else
			handler(&frame);
		wire_consumed(&input, WIRE_HEADER_SIZE + len);
	}
	return rc == 0;
}

/* Send what can be without waiting; false: the agent has gone. */
bool
agent_flush(void)
{
	return pid == 0 || flush_output();
}

/*
 * Receive, and then send, what can be without waiting.  False: the agent has
 * gone, or talks nonsense; the caller stops it then.
 */
bool
agent_pump(AgentFrameHandler handler)
{
	if (pid == 0)
		return true;
	for (;;)
	{
		char	   *room = wire_room(&input, READ_SIZE);
		ssize_t		n = room == NULL ? 0 : recv(sock, room, READ_SIZE, 0);

		if (n > 0)
		{
			wire_received(&input, n);
			if (!handle_input(handler))
				return false;
			if (n < READ_SIZE)
				break;
		}
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		else
			return false;
	}
	return flush_output();
}

/*
 * Whether the agent that was started last turned out to be of another version
 * than we are.  It was installed after the server had loaded us.
 */
bool
agent_is_stranger(void)
{
	return stranger;
}

/* Wait for the child to end; false if it has not by then. */
static bool
reap(int timeout_ms, int *status)
{
	for (int waited = 0;; waited++)
	{
		pid_t		rc = waitpid(pid, status, timeout_ms < 0 ? 0 : WNOHANG);

		if (rc == pid || (rc < 0 && errno == ECHILD))
			return true;
		if (timeout_ms >= 0 && waited >= timeout_ms)
			return false;
		if (rc == 0)
			pg_usleep(1000);
	}
}

/*
 * End the agent, and with it its media children, and reap it.  Closing the
 * socket tells it to go, and gives it the time to reap its own children.
 * Returns how it ended, for a message.
 */
const char *
agent_stop(void)
{
	static char how[64];
	int			status = 0;

	if (pid == 0)
		return "not running";
	close(sock);
	sock = -1;
	ReleaseExternalFD();
	if (!reap(GRACE_MS, &status))
	{
		kill(pid, SIGTERM);
		if (!reap(GRACE_MS, &status))
		{
			kill(pid, SIGKILL);
			(void) reap(-1, &status);
		}
	}
	pid = 0;
	wire_free(&input);
	wire_free(&output);
	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "was terminated by signal %d", WTERMSIG(status));
	else
		snprintf(how, sizeof(how), "exited with status %d", WEXITSTATUS(status));
	return how;
}
