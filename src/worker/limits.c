/*-------------------------------------------------------------------------
 *
 * limits.c
 *	  What each server may be asked at the same time, and how often.
 *
 * Runs in the worker, which is the only one of its database: the counts of a
 * server are its own.  A server that is full holds up only its own jobs.  One
 * that says that it has too much to do is left alone by all of them, until the
 * time that it named, or for longer each time if it named none.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/limits.h"

#include "common/pg_prng.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "worker/failure.h"

typedef struct ServerUse
{
	Oid			serverid;
	int			in_flight;		/* requests */
	int64		last_start;		/* on the worker's clock */
	int64		paused_until;	/* likewise; it asked for that */
	int			refusals;		/* since it last accepted a request */
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

	if (now < use->paused_until)
	{
		*wake_at = Min(*wake_at, use->paused_until);
		return false;
	}
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

/*
 * The server has asked for less, and to wait so many milliseconds or, if that
 * is -1, it did not say how long.  Returns how long it is left alone.
 */
int64
limits_refused(const TranscribeServer *server, int64 now, int64 retry_after)
{
	ServerUse  *use = use_of(server->serverid);
	int64		wait = failure_backoff(use->refusals, server->retry_interval,
									   server->retry_max_interval, retry_after,
									   pg_prng_double(&pg_global_prng_state));

	/* Answers to requests that were under way together are one refusal. */
	if (now >= use->paused_until)
		use->refusals++;
	use->paused_until = Max(use->paused_until, now + wait);
	return use->paused_until - now;
}

/* The server has done what it was asked. */
void
limits_accepted(Oid serverid)
{
	use_of(serverid)->refusals = 0;
}

/* How many milliseconds the server is still left alone. */
int64
limits_pause(Oid serverid, int64 now)
{
	return Max(use_of(serverid)->paused_until - now, 0);
}

/* All requests have ended at once, with the agent. */
void
limits_reset(void)
{
	ListCell   *lc;

	foreach(lc, uses)
		((ServerUse *) lfirst(lc))->in_flight = 0;
}
