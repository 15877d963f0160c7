/*-------------------------------------------------------------------------
 *
 * hint.c
 *	  Which databases were at work, over a restart.
 *
 * Runs in the launcher.  After a start any database may hold jobs, and a look
 * into each takes some milliseconds: seconds where there are hundreds.  So
 * those that were at work are kept in a file of the data directory, a number
 * a line, and are looked at first.  It decides nothing but that: databases
 * that it misses are visited a little later, and numbers that are none of a
 * database are passed over.  Hence it may be lost, old or damaged.
 *
 *-------------------------------------------------------------------------
 */
#include "launcher/hint.h"

#include "storage/fd.h"

#define HINT_FILE	"transcribe.databases"

/* Read up to so many databases; returns how many. */
int
hint_read(Oid *databases, int max)
{
	FILE	   *file = AllocateFile(HINT_FILE, PG_BINARY_R);
	int			count = 0;

	if (file == NULL)
		return 0;
	while (count < max && fscanf(file, "%10u\n", &databases[count]) == 1)
		count++;
	FreeFile(file);
	return count;
}

/* Replace the file; if that fails, the log says so, and all goes on. */
void
hint_write(const Oid *databases, int count)
{
	FILE	   *file = AllocateFile(HINT_FILE ".tmp", PG_BINARY_W);
	bool		good = file != NULL;

	for (int i = 0; i < count && good; i++)
		good = fprintf(file, "%u\n", databases[i]) > 0;
	if (file != NULL && FreeFile(file) != 0)
		good = false;
	if (!good)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", HINT_FILE ".tmp")));
	else
		(void) durable_rename(HINT_FILE ".tmp", HINT_FILE, LOG);
}
