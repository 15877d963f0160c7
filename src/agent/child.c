/*-------------------------------------------------------------------------
 *
 * child.c
 *	  The agent's media children: started, ended, reaped.
 *
 * Runs in the agent, in its main thread only: the kernel ties a child's
 * parent-death signal to the thread that started it.
 *
 * Loading FFmpeg's libraries takes longer than all else that a short
 * recording needs.  So one process, the template, waits with them loaded, and
 * copies itself for each recording (media/child.c).  The copies are children
 * of ours.  They get to know which socket is theirs at once, and we their pid
 * a moment later; until then nobody can need it but for killing, which waits.
 *
 * All copies have their memory in the same places.  Of a recording that makes
 * one crash another one might learn, so the template is replaced then.  If it
 * dies itself it is not replaced before it is needed: a program that cannot
 * run must not be started in a loop.
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
static Child *template;			/* of them, the one that is copied */
static bool spoilt;				/* a copy has crashed: not to be copied again */
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
	char	   *argv[] = {MEDIA_NAME, "--template", parent, NULL};
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

/* A child in the list, with our end of its socket. */
static Child *
enlist(pid_t pid, int fd)
{
	Child	   *child = calloc(1, sizeof(Child));

	if (child == NULL)
		agent_fatal("out of memory");
	child->pid = pid;
	child->fd = fd;
	child->next = children;
	children = child;
	return child;
}

/* Start the template; false and errno if that cannot be. */
static bool
start_template(void)
{
	int			pair[2];
	pid_t		pid;
	int			err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return false;
	err = spawn(&pid, pair[1]);
	close(pair[1]);
	if (err != 0)
	{
		close(pair[0]);
		errno = err;
		return false;
	}
	template = enlist(pid, pair[0]);
	template->is_template = true;
	spoilt = false;
	return true;
}

/* Ask whether the child has exited, and if so remember how. */
static bool
has_exited(Child *child)
{
	if (!child->exited && child->pid > 0 &&
		waitpid(child->pid, &child->status, WNOHANG) == child->pid)
	{
		child->exited = true;
		spoilt |= WIFSIGNALED(child->status) && !child->killed;
	}
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
 * Find the media program and start the template.  The program lies beside
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
	(void) start_template();
}

/* Send the template a socket; false and errno if it does not take it. */
static bool
send_socket(int fd)
{
	union
	{
		struct cmsghdr header;
		char		space[CMSG_SPACE(sizeof(int))];
	}			control = {.header = {
		.cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS
	}};
	char		byte = 0;
	struct iovec data = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control)
	};

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(template->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

/*
 * Copy this template no more.  It ends when it has done what it was asked for,
 * and is freed when it has.
 */
static void
retire_template(void)
{
	if (template->fd >= 0)
		shutdown(template->fd, SHUT_WR);
	template->released = true;
	template->kill_at = agent_now_ms() + GRACE_MS;
	template = NULL;
}

/*
 * A child for one recording.  NULL and errno if none can be started; a copy
 * that the template could not make is reported when it says so.
 */
Child *
child_take(void)
{
	Child	   *child;
	int			pair[2];
	int			err = 0;

	if (template != NULL &&
		(spoilt || template->fd < 0 || has_exited(template)))
		retire_template();
	if ((template == NULL && !start_template()) ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return NULL;
	if (!send_socket(pair[1]))
		err = errno;
	close(pair[1]);
	if (err != 0)
	{
		close(pair[0]);
		errno = err;
		return NULL;
	}
	child = enlist(0, pair[0]);
	child->template = template;
	return child;
}

/* What to watch for the answers of the template; -1 if there is none. */
int
child_template(void)
{
	return template != NULL ? template->fd : -1;
}

/* Of the children that a template was asked for, the one asked for first. */
static Child *
first_asked(Child *of)
{
	Child	   *first = NULL;

	for (Child *child = children; child != NULL; child = child->next)
	{
		if (child->template == of)
			first = child;
	}
	return first;
}

/* A template has answered for a child: by a pid, or by a negative errno. */
static void
take_answer(Child *child, int32_t answer)
{
	child->template = NULL;
	if (answer > 0)
	{
		child->pid = answer;
		if (child->killed)
			kill(child->pid, SIGKILL);
		return;
	}
	child->error = -answer;
	child->exited = true;
	hang_up(child);
}

/*
 * Take the answers of a template.  When it has gone, the children that it was
 * asked for and has not answered for will never be.
 */
static void
take_answers(Child *from)
{
	Child	   *child;
	int32_t		answer;
	ssize_t		n;

	if (from->fd < 0)
		return;
	while ((n = recv(from->fd, &answer, sizeof(answer), MSG_DONTWAIT)) > 0)
	{
		if ((child = first_asked(from)) != NULL)
			take_answer(child, answer);
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !from->exited)
		return;
	while ((child = first_asked(from)) != NULL)
		take_answer(child, -ECHILD);
	hang_up(from);
}

/* The conversation is over; it may exit by itself, within bounds. */
void
child_hang_up(Child *child)
{
	hang_up(child);
	if (child->kill_at == 0)
		child->kill_at = agent_now_ms() + GRACE_MS;
}

/*
 * It has to go now, or as soon as its pid is known.  What a template has said
 * before is still to be read.
 */
void
child_kill(Child *child)
{
	if (!child->is_template)
		hang_up(child);
	if (!has_exited(child) && !child->killed && child->pid > 0)
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
	if (child->error != 0)
		snprintf(text, size, "could not start media process: %s",
				 strerror(child->error));
	else if (child->killed || !child->exited)
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

	/* First, so that those who have their pid by now are waited for. */
	for (Child *child = children; child != NULL; child = child->next)
	{
		if (child->is_template)
		{
			(void) has_exited(child);
			take_answers(child);
		}
	}
	while (*link != NULL)
	{
		Child	   *child = *link;

		if (!has_exited(child) && child->kill_at != 0 &&
			!child->killed && now >= child->kill_at)
			child_kill(child);
		if (child->exited && child == template)
			retire_template();
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
