/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  What is queued, and from where on to look for it.
 *
 * Runs in the worker, in the transaction that claims.  A job that has been
 * claimed leaves an entry behind in the index of those that are queued, and
 * while any snapshot in the cluster is older than that it cannot be removed:
 * a long report elsewhere, and every look at the queue would read again all
 * that has been claimed since it began.  So for each group it is remembered
 * where its first job stood, and the next look begins there.
 *
 * That holds until a job is queued before that place.  Whoever does so says it:
 * other sessions when they commit (wake.c), and the worker for attempts of its
 * own that failed.  Where that cannot be known, all is forgotten, and the next
 * look begins at the beginning.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/waiting.h"

#include "utils/memutils.h"

#include "worker/claim.h"
#include "worker/queue.h"

/* More groups than that are not worth two looks for each. */
#define MAX_KNOWN		1000

/* The groups that have been seen, in the order of the index. */
static List *known = NIL;
static MemoryContext known_context = NULL;

/* A job may have been queued that is due at that time, or later. */
void
waiting_lower(TimestampTz run_at)
{
	ListCell   *lc;

	if (run_at == DT_NOBEGIN)
		waiting_forget();
	foreach(lc, known)
	{
		ClaimGroup *group = lfirst(lc);

		if (run_at <= group->due)
		{
			group->due = run_at;
			group->first = 0;
		}
	}
}

/* Anything may have been queued. */
void
waiting_forget(void)
{
	known = NIL;
	if (known_context != NULL)
		MemoryContextReset(known_context);
}

/* Know these groups from now on. */
static void
remember(List *groups)
{
	MemoryContext oldcontext;
	ListCell   *lc;

	if (known_context == NULL)
		known_context = AllocSetContextCreate(TopMemoryContext,
											  "transcribe groups",
											  ALLOCSET_DEFAULT_SIZES);
	waiting_forget();
	if (list_length(groups) > MAX_KNOWN)
		return;
	oldcontext = MemoryContextSwitchTo(known_context);
	foreach(lc, groups)
	{
		ClaimGroup *group = lfirst(lc);
		ClaimGroup *copy = palloc0(sizeof(ClaimGroup));

		copy->queue = pstrdup(group->queue);
		copy->due = group->due;
		copy->first = group->first;
		known = lappend(known, copy);
	}
	MemoryContextSwitchTo(oldcontext);
}

/* What is queued, in groups (a List of ClaimGroup). */
List *
waiting_find(void)
{
	List	   *groups = queue_waiting(known);
	ListCell   *lc;

	remember(groups);
	foreach(lc, groups)
	{
		/* Known, and empty now. */
		if (((ClaimGroup *) lfirst(lc))->first == 0)
			groups = foreach_delete_current(groups, lc);
	}
	return groups;
}
