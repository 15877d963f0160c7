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
 * What is known of groups is good enough for a claim, which finds out itself what
 * is there: so not each claim needs a look.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/waiting.h"

#include "utils/memutils.h"

#include "worker/claim.h"
#include "worker/queue.h"

/* More groups than that are not worth two looks for each. */
#define MAX_KNOWN		1000

/* Claims by what is known of the queue, until it is looked at again. */
#define MAX_QUICK_CLAIMS	16

/* The groups that have been seen, in the order of the index. */
static List *known = NIL;
static MemoryContext known_context = NULL;
static bool look_wanted = true; /* there may be others */
static int	quick_claims = 0;	/* by what is known, since the last look */

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

/* Complete those groups that are empty by what is known of them. */
static void
complete(List *groups)
{
	int			next = 0;
	ListCell   *lc;

	foreach(lc, groups)
	{
		ClaimGroup *group = lfirst(lc);
		ClaimGroup *old;

		if (group->first != 0)
			continue;
		/* It is known, and both lists are in the same order. */
		do
			old = list_nth(known, next++);
		while (strcmp(old->queue, group->queue) != 0);
		group->servers = pstrdup(old->servers);
		group->owner = pstrdup(old->owner);
		group->priority = old->priority;
	}
}

/* Know these groups from now on. */
static void
remember(List *groups)
{
	MemoryContext oldcontext;
	ListCell   *lc;

	complete(groups);
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
		copy->servers = pstrdup(group->servers);
		copy->owner = pstrdup(group->owner);
		copy->priority = group->priority;
		copy->due = group->due;
		copy->first = group->first;
		known = lappend(known, copy);
	}
	MemoryContextSwitchTo(oldcontext);
}

/* Have the queue looked at: what is known of it is not all that there may be. */
void
waiting_look(void)
{
	look_wanted = true;
}

bool
waiting_wants_look(void)
{
	return look_wanted;
}

/* The known groups that may have jobs; their strings live until the next look. */
static List *
known_groups(void)
{
	List	   *groups = NIL;
	ListCell   *lc;

	foreach(lc, known)
	{
		ClaimGroup *group = palloc(sizeof(ClaimGroup));

		*group = *(ClaimGroup *) lfirst(lc);
		if (group->due != DT_NOEND)
			groups = lappend(groups, group);
	}
	return groups;
}

/* Whether a known group may have a job that is due. */
static bool
any_is_due(TimestampTz now)
{
	ListCell   *lc;

	foreach(lc, known)
	{
		if (((ClaimGroup *) lfirst(lc))->due <= now)
			return true;
	}
	return false;
}

/* Look at the queue: what is there, in groups (a List of ClaimGroup). */
static List *
look(void)
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

/*
 * The groups of which jobs may be claimed.  Those that are known come first, even
 * if there is something new, since that is likely in one of them, and the look can
 * wait until what is claimed is under way.
 */
List *
waiting_groups(int room, TimestampTz now, bool *looked)
{
	*looked = room <= 0 || !any_is_due(now) || quick_claims >= MAX_QUICK_CLAIMS ||
		(look_wanted && quick_claims > 0);
	if (!*looked)
	{
		quick_claims++;
		return known_groups();
	}
	quick_claims = 0;
	look_wanted = false;
	return look();
}
