/*-------------------------------------------------------------------------
 *
 * child.h
 *	  The agent's media children: started, ended, reaped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_AGENT_CHILD_H
#define TRANSCRIBE_AGENT_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One process.  Its user reads the fields; only child.c writes them. */
typedef struct Child
{
	pid_t		pid;			/* 0: not known yet */
	int			error;			/* an errno: it could not be started */
	int			fd;				/* our end of its socket; -1: closed */
	bool		exited;			/* reaped, the pid is no longer ours */
	int			status;			/* of waitpid(), if exited */
	bool		killed;			/* SIGKILL was sent */
	bool		released;		/* nobody uses it: freed when reaped */
	int64_t		kill_at;		/* ms of the clock; 0: it may live on */
	bool		is_template;	/* not for a recording, but to be copied */
	struct Child *template;		/* that was asked for it, until it answers */
	struct Child *next;
} Child;

extern void child_start(void);
extern Child *child_take(void);
extern int	child_template(void);
extern void child_hang_up(Child *child);
extern void child_kill(Child *child);
extern void child_release(Child *child);
extern void child_describe(const Child *child, char *text, size_t size);
extern void child_reap(void);
extern int	child_timeout(void);
extern void child_end_all(void);

#endif							/* TRANSCRIBE_AGENT_CHILD_H */
