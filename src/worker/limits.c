/*-------------------------------------------------------------------------
 *
 * limits.c
 *	  What each server may be asked at the same time, and how often.
 *
 * Runs in the worker, which is the only one of its database: the counts of a
 * server are its own.  A server that is full holds up only its own jobs.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/limits.h"

#include "nodes/pg_list.h"
#include "utils/memutils.h"

typedef struct ServerUse
{
	Oid			serverid;
	int			in_flight;		/* requests */
	int64		last_start;		/* on the worker's clock */
} ServerUse;

/* Of ServerUse, in TopMemoryContext; as many as servers were used. */
static List *uses = NIL;

static ServerUse *
use_of(Oid serverid)
{
	ListCell   *lc;
	ServerUse  *use;
	MemoryContext oldcontext;

	foreach(lc, uses)
	{
		use = lfirst(lc);
		if (use->serverid == serverid)
			return use;
	}
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	use = palloc0(sizeof(ServerUse));
	use->serverid = serverid;
	use->last_start = -1;
	uses = lappend(uses, use);
	MemoryContextSwitchTo(oldcontext);
	return use;
}

/*
 * Whether a request to the server may start now.  If its turn comes by time
 * alone, wake_at is brought forward to that.
 */
bool
limits_may_start(const TranscribeServer *server, int64 now, int64 *wake_at)
{
	ServerUse  *use = use_of(server->serverid);

	if (server->max_requests > 0 && use->in_flight >= server->max_requests)
		return false;
	if (use->last_start >= 0 &&
		now < use->last_start + server->request_interval)
	{
		*wake_at = Min(*wake_at, use->last_start + server->request_interval);
		return false;
	}
	return true;
}

void
limits_started(const TranscribeServer *server, int64 now)
{
	ServerUse  *use = use_of(server->serverid);

	use->in_flight++;
	use->last_start = now;
}

void
limits_finished(Oid serverid)
{
	ServerUse  *use = use_of(serverid);

	Assert(use->in_flight > 0);
	use->in_flight--;
}

/* All requests have ended at once, with the agent. */
void
limits_reset(void)
{
	ListCell   *lc;

	foreach(lc, uses)
		((ServerUse *) lfirst(lc))->in_flight = 0;
}
