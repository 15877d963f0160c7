/*-------------------------------------------------------------------------
 *
 * child.c
 *	  The agent's media children: started, kept warm, ended, reaped.
 *
 * Runs in the agent, in its main thread only: the kernel ties a child's
 * parent-death signal to the thread that started it.
 *
 * Loading FFmpeg's libraries takes longer than all else that a short
 * recording needs, so one spare child is always waiting, loaded, for the next
 * recording; taking it starts another.  A spare that dies is not replaced
 * before it is needed: a program that cannot run must not be started in a
 * loop.
 *
 * Every child is in one list from its start until it has been waited for.
 * Nothing here blocks, except child_end_all() for a bounded time: a child may
 * hang in the kernel, on a dead file server, where even SIGKILL has to wait.
 * A pid is signalled only while it has not been waited for, so never a
 * stranger's.
 *
 *-------------------------------------------------------------------------
 */
#include "agent/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"

#define MEDIA_NAME	"transcribe_media"

/*
 * How long a child that has ended its conversation may take to exit by
 * itself.  It frees some megabytes and is gone in milliseconds; a second also
 * covers a busy machine, and nobody waits for it.
 */
#define GRACE_MS	1000

/* How long the agent, when it ends, waits for children that it has killed. */
#define REAP_MS		1000

static Child *children;			/* all that have not been freed */
static Child *spare;			/* of them, the one that waits */
static char media_path[PATH_MAX];

/*
 * Start a child; 0, or an errno.  It gets its socket as descriptor 0 and
 * nothing else that is ours: no descriptor, variable or handler.  Signals that
 * reach our process group wait until it has handlers of its own, because it
 * must not die of one (media/child.c says why).
 */
static int
spawn(pid_t *pid, int fd)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t	set;
	char		parent[16];
	char	   *argv[] = {MEDIA_NAME, "--child", parent, NULL};
	char	   *envp[] = {NULL};
	int			err;

	snprintf(parent, sizeof(parent), "%d", (int) getpid());
	if ((err = posix_spawn_file_actions_init(&actions)) != 0)
		return err;
	if ((err = posix_spawnattr_init(&attr)) != 0)
	{
		posix_spawn_file_actions_destroy(&actions);
		return err;
	}

	sigfillset(&set);
	posix_spawnattr_setsigdefault(&attr, &set);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	posix_spawnattr_setsigmask(&attr, &set);
	posix_spawnattr_setflags(&attr,
							 POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);

	if ((err = posix_spawn_file_actions_adddup2(&actions, fd, 0)) == 0 &&
		(err = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null",
												O_WRONLY, 0)) == 0 &&
		(err = posix_spawn_file_actions_adddup2(&actions, 1, 2)) == 0 &&
		(err = posix_spawn_file_actions_addclosefrom_np(&actions, 3)) == 0)
		err = posix_spawn(pid, media_path, &actions, &attr, argv, envp);

	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return err;
}

/* A new child in the list; NULL and errno if there can be none. */
static Child *
child_new(void)
{
	Child	   *child = calloc(1, sizeof(Child));
	int			pair[2];
	int			err;

	if (child == NULL)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
	{
		err = errno;
	}
	else
	{
		err = spawn(&child->pid, pair[1]);
		close(pair[1]);
		if (err != 0)
			close(pair[0]);
	}
	if (err != 0)
	{
		free(child);
		errno = err;
		return NULL;
	}
	child->fd = pair[0];
	child->next = children;
	children = child;
	return child;
}

/* Ask whether the child has exited, and if so remember how. */
static bool
has_exited(Child *child)
{
	if (!child->exited &&
		waitpid(child->pid, &child->status, WNOHANG) == child->pid)
		child->exited = true;
	return child->exited;
}

/* Close our end, if it is open. */
static void
hang_up(Child *child)
{
	if (child->fd >= 0)
		close(child->fd);
	child->fd = -1;
}

/*
 * Find the media program and start the first spare.  The program lies beside
 * this one: the two are installed together, and no setting or variable can
 * name another.  That it is missing is said to the first job that wants it.
 */
void
child_start(void)
{
	ssize_t		len = readlink("/proc/self/exe", media_path,
							   sizeof(media_path) - sizeof(MEDIA_NAME));
	char	   *slash;

	if (len < 0)
		agent_fatal("could not find the directory of this program");
	media_path[len] = '\0';
	slash = strrchr(media_path, '/');
	strcpy(slash == NULL ? media_path : slash + 1, MEDIA_NAME);
	spare = child_new();
}

/*
 * A child for one recording: the spare, or a fresh one if it has died.  NULL
 * and errno if none can be started.  The next spare is started at once; if
 * that fails, the next to ask will hear why.
 */
Child *
child_take(void)
{
	Child	   *child = spare;

	if (child != NULL && has_exited(child))
	{
		child_release(child);
		child = NULL;
	}
	if (child == NULL && (child = child_new()) == NULL)
		return NULL;
	spare = child_new();
	return child;
}

/* The conversation is over; it may exit by itself, within bounds. */
void
child_hang_up(Child *child)
{
	hang_up(child);
	if (child->kill_at == 0)
		child->kill_at = agent_now_ms() + GRACE_MS;
}

/* It has to go now. */
void
child_kill(Child *child)
{
	hang_up(child);
	if (!has_exited(child) && !child->killed)
		kill(child->pid, SIGKILL);
	child->killed = true;
}

/* Its user wants to hear no more of it: it is freed when it has exited. */
void
child_release(Child *child)
{
	child_hang_up(child);
	child->released = true;
}

/*
 * How it ended, as a sentence for the job's row.  A death by our own hand
 * only means that it did not exit after it had closed its connection.
 */
void
child_describe(const Child *child, char *text, size_t size)
{
	if (child->killed || !child->exited)
		snprintf(text, size, "media process closed its connection");
	else if (WIFSIGNALED(child->status))
		snprintf(text, size, "media process was terminated by signal %d: %s",
				 WTERMSIG(child->status), strsignal(WTERMSIG(child->status)));
	else
		snprintf(text, size, "media process exited with status %d",
				 WEXITSTATUS(child->status));
}

/*
 * Wait for all that have exited, kill those whose grace is over, free those
 * that nobody uses.  Called in every turn of the loop: it costs a system call
 * for each child, and a turn happens only when something else did.
 */
void
child_reap(void)
{
	Child	  **link = &children;
	int64_t		now = agent_now_ms();

	while (*link != NULL)
	{
		Child	   *child = *link;

		if (!has_exited(child) && child->kill_at != 0 &&
			!child->killed && now >= child->kill_at)
			child_kill(child);
		if (child->exited && child == spare)
		{
			spare = NULL;
			child_release(child);
		}
		if (child->exited && child->released)
		{
			*link = child->next;
			free(child);
		}
		else
			link = &child->next;
	}
}

/*
 * Milliseconds until child_reap() has someone to kill; INT_MAX if nobody.
 * One that was killed is not waited for by the clock: SIGCHLD tells.
 */
int
child_timeout(void)
{
	int64_t		now = agent_now_ms();
	int			timeout = INT_MAX;

	for (Child *child = children; child != NULL; child = child->next)
	{
		if (child->exited || child->killed || child->kill_at == 0)
			continue;
		if (child->kill_at <= now)
			return 0;
		if (child->kill_at - now < timeout)
			timeout = (int) (child->kill_at - now);
	}
	return timeout;
}

/*
 * Kill and wait for everyone, before the agent itself ends: a child that is
 * left behind and then dies of a signal looks like a crashed backend to a
 * postmaster that runs as PID 1.
 */
void
child_end_all(void)
{
	int64_t		until = agent_now_ms() + REAP_MS;

	for (Child *child = children; child != NULL; child = child->next)
	{
		child_kill(child);
		child->released = true;
	}
	child_reap();
	while (children != NULL && agent_now_ms() < until)
	{
		usleep(1000);
		child_reap();
	}
}
