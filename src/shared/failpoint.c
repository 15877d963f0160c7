/*-------------------------------------------------------------------------
 *
 * failpoint.c
 *	  What happens at a failpoint that a test has armed.
 *
 * Runs in every process of the server, in builds for tests only.  A failpoint
 * is armed by files in a directory of the data directory, each of which stands
 * for one time: NAME.ACTION.NUMBER.  So it is found by processes that start
 * later, and outlasts a crash; and it happens once, since only one process
 * can remove a file, and does so first.
 *
 *	crash		kill -9 of the process itself
 *	stop		SIGSTOP likewise, until somebody sends it SIGCONT
 *	53100		an error of this SQLSTATE, or of any other
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shared/failpoint.h"

#ifdef TRANSCRIBE_FAILPOINTS

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

/* Below the data directory, which is the working directory of all of us. */
#define DIRECTORY		"transcribe_failpoints"

#define ACTION_SIZE		6

/*
 * Take the action of a file's name, if that is of the failpoint and nobody
 * else was faster.
 */
static bool
take(const char *file, const char *name, char *action)
{
	char		path[MAXPGPATH];
	size_t		len = strlen(name);

	if (strncmp(file, name, len) != 0 || file[len] != '.')
		return false;
	snprintf(path, sizeof(path), DIRECTORY "/%s", file);
	snprintf(action, ACTION_SIZE, "%.*s", (int) strcspn(file + len + 1, "."),
			 file + len + 1);
	return unlink(path) == 0;
}

/* Neither memory nor a lock of the server is needed to get here. */
void
failpoint(const char *name)
{
	char		action[ACTION_SIZE];
	DIR		   *dir = opendir(DIRECTORY);
	struct dirent *entry;
	bool		taken = false;

	if (dir == NULL)
		return;
	while (!taken && (entry = readdir(dir)) != NULL)
		taken = take(entry->d_name, name, action);
	closedir(dir);
	if (!taken)
		return;
	if (strcmp(action, "crash") == 0)
		kill(getpid(), SIGKILL);
	else if (strcmp(action, "stop") == 0)
		kill(getpid(), SIGSTOP);
	else
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE(action[0], action[1], action[2],
									   action[3], action[4])),
				 errmsg("failpoint \"%s\"", name)));
}

#endif
