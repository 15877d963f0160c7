/*-------------------------------------------------------------------------
 *
 * limits.c
 *	  What each server may be asked at the same time, how often, and when
 *	  not at all.
 *
 * Runs in the worker, which is the only one of its database: the counts of a
 * server are its own.  A server that is full holds up only its own jobs.
 *
 * A server is closed (shared/closure.c) to all jobs
 *
 *	- when it asks for a pause: until the time that it named, or for longer
 *	  each time if it named none;
 *	- when it refuses the key, or the account is used up: for requests with
 *	  that key, until somebody has done something about it;
 *	- when it cannot be reached, or fails, over and over.
 *
 * In the last two cases a single request finds out from time to time whether
 * that still holds.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/limits.h"

#include "common/pg_prng.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "shared/closure.h"
#include "transcribe.h"
#include "worker/failure.h"

/*
 * Failures in a row, of whatever jobs, that close a server.  As many as the
 * attempts that a job has by default: it has not been given up for a moment's
 * trouble.
 */
#define FAILURES_TO_CLOSE	5

/*
 * A stopped server is tried again after a minute, two, four, and so on up to
 * an hour: accounts are topped up, and files with keys replaced, without our
 * being told.
 */
#define STOP_MS				(60 * 1000)
#define MAX_STOP_MS			(3600 * 1000)

#define MINUTE_MS			(60 * 1000)

/*
 * Of what a server is asked at once, so large a part is claimed ahead, beside
 * one job for each media process: jobs then come in handfuls, and a request
 * that ends is followed by another without a look into the queue.
 */
#define AHEAD_PART			4

typedef struct ServerUse
{
	Oid			serverid;
	int			jobs;			/* claimed for it */
	int			in_flight;		/* requests */
	int64		last_start;		/* on the worker's clock */
	bool		probing;		/* one of them is to find out about a closure */
	int64	   *starts;			/* of the latest requests; see fit_starts() */
	int			starts_size;
	int			nstarts;
	int			next_start;
	int			pauses;			/* since it last accepted a request */
	int			failures;		/* likewise */
} ServerUse;

/* For closures of a server as a whole. */
static const TranscribeKey no_key = {InvalidOid, 0};

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
 * How many more jobs may be claimed for the server.  With ahead, a few more
 * than it may be asked at once, so that their recordings are read meanwhile.
 * There is room for none while it is held by hand, of which no time is known.
 * If it is closed, there is room for none, and closed_until says until when;
 * it is 0 otherwise.  When that is over, one job may go and see.
 */
int
limits_room(const TranscribeServer *server, TranscribeKey key, bool ahead,
			int64 now, int64 *closed_until)
{
	ServerUse  *use = use_of(server->serverid);
	StateClosure closure;

	*closed_until = 0;
	if (server->held)
		return 0;
	if (closure_get(server, key, &closure))
	{
		if (now < closure.until)
		{
			*closed_until = closure.until;
			return 0;
		}
		if (closure.kind != CLOSURE_PAUSED)
			return use->jobs > 0 ? 0 : 1;
	}
	if (server->max_requests == 0)
		return INT_MAX;
	return Max(server->max_requests - use->jobs +
			   (ahead ? transcribe_media_processes +
				server->max_requests / AHEAD_PART : 0), 0);
}

/* A job was claimed for the server, or is not there any more. */
void
limits_hold(Oid serverid)
{
	use_of(serverid)->jobs++;
}

void
limits_release(Oid serverid)
{
	ServerUse  *use = use_of(serverid);

	Assert(use->jobs > 0);
	use->jobs--;
}

/*
 * The starts of the last requests_per_minute requests, as a ring of that
 * size.  If the option was changed, the latest of them stay.
 */
static void
fit_starts(ServerUse *use, int size)
{
	int			kept = Min(use->nstarts, size);
	int64	   *starts;

	if (use->starts_size == size)
		return;
	starts = MemoryContextAlloc(TopMemoryContext, size * sizeof(int64));
	for (int i = 0; i < kept; i++)
		starts[i] = use->starts[(use->next_start + use->starts_size - kept + i) %
								use->starts_size];
	if (use->starts != NULL)
		pfree(use->starts);
	use->starts = starts;
	use->starts_size = size;
	use->nstarts = kept;
	use->next_start = kept % size;
}

/* When the next request may start by requests_per_minute; 0: at any time. */
static int64
minute_allows(const TranscribeServer *server, ServerUse *use)
{
	if (server->requests_per_minute == 0)
		return 0;
	fit_starts(use, server->requests_per_minute);
	if (use->nstarts < use->starts_size)
		return 0;

	/* Full: the next one to be overwritten is the oldest. */
	return use->starts[use->next_start] + MINUTE_MS;
}

/* Remember that a request has started, as long as that matters. */
static void
note_start(const TranscribeServer *server, ServerUse *use, int64 now)
{
	use->last_start = now;
	if (server->requests_per_minute == 0)
		return;
	fit_starts(use, server->requests_per_minute);
	use->starts[use->next_start] = now;
	use->next_start = (use->next_start + 1) % use->starts_size;
	use->nstarts = Min(use->nstarts + 1, use->starts_size);
}

/*
 * Whether a request to the server may start now.  If its turn comes by time
 * alone, wake_at is brought forward to that.
 */
bool
limits_may_start(const TranscribeServer *server, TranscribeKey key, int64 now,
				 int64 *wake_at)
{
	ServerUse  *use = use_of(server->serverid);
	int64		at = minute_allows(server, use);
	StateClosure closure;

	if (closure_get(server, key, &closure))
	{
		at = Max(at, closure.until);
		if (closure.kind != CLOSURE_PAUSED && use->probing)
			return false;
	}
	if (server->max_requests > 0 && use->in_flight >= server->max_requests)
		return false;
	if (use->last_start >= 0)
		at = Max(at, use->last_start + server->request_interval);
	if (now < at)
	{
		*wake_at = Min(*wake_at, at);
		return false;
	}
	return true;
}

/* One has started: if the server is closed, that is the probe. */
void
limits_started(const TranscribeServer *server, TranscribeKey key, int64 now)
{
	ServerUse  *use = use_of(server->serverid);

	StateClosure closure;

	use->in_flight++;
	note_start(server, use, now);
	if (closure_get(server, key, &closure))
		use->probing = true;
}

/*
 * It is over, whatever came of it.  If that says something of the server, one
 * of the functions below is told next.
 */
void
limits_finished(Oid serverid)
{
	ServerUse  *use = use_of(serverid);

	Assert(use->in_flight > 0);
	use->in_flight--;
	use->probing = false;
}

/* The server has answered, and taken the key. */
void
limits_accepted(Oid serverid, TranscribeKey key)
{
	ServerUse  *use = use_of(serverid);

	use->pauses = use->failures = 0;
	closure_remove(serverid, key);
}

/* Close a server: put into the closure what all of them have. */
static void
close_server(StateClosure *closure, const TranscribeServer *server,
			 const char *code, const char *reason)
{
	closure->serverid = server->serverid;
	closure->version = server->version;
	closure->since = GetCurrentTimestamp();
	strlcpy(closure->code, code, sizeof(closure->code));
	strlcpy(closure->reason, reason, sizeof(closure->reason));

	/* No part of a character at the end. */
	if (strlen(reason) >= sizeof(closure->reason))
	{
		int			len = sizeof(closure->reason) - 1;

		while (len > 0 && ((unsigned char) reason[len] & 0xC0) == 0x80)
			len--;
		closure->reason[len] = '\0';
	}
	closure_put(closure);
}

/*
 * The server has asked for less, and to wait so many milliseconds or, if that
 * is -1, it did not say how long.  Returns how long it is left alone.
 */
int64
limits_pause(const TranscribeServer *server, int64 now, int64 retry_after)
{
	ServerUse  *use = use_of(server->serverid);
	StateClosure closure = {CLOSURE_PAUSED};
	StateClosure present;
	int64		wait = failure_backoff(use->pauses, server->retry_interval,
									   server->retry_max_interval, retry_after,
									   pg_prng_double(&pg_global_prng_state));

	/* Answers to requests that were under way together are one refusal. */
	if (closure_get(server, no_key, &present) &&
		present.kind == CLOSURE_PAUSED && now < present.until)
		wait = Max(wait, present.until - now);
	else
		use->pauses++;
	use->failures = 0;
	closure.times = use->pauses;
	closure.until = now + wait;
	close_server(&closure, server, "rate_limited",
				 psprintf("server \"%s\" asks for a pause of %.1f s",
						  server->name, wait / 1000.0));
	return wait;
}

/*
 * The server will have nothing of this key, whoever asks: stop asking until
 * somebody has done something about it.
 */
void
limits_stop(const TranscribeServer *server, TranscribeKey key, int64 now,
			const char *code, const char *reason)
{
	StateClosure closure = {CLOSURE_STOPPED};
	StateClosure present;

	if (closure_get(server, key, &present) &&
		present.kind == CLOSURE_STOPPED)
	{
		/* Another answer to what was asked before it was stopped. */
		if (now < present.until)
			return;
		closure.times = present.times;
	}
	closure.of_key = true;
	closure.key = key;
	closure.until = now + failure_backoff(closure.times++, STOP_MS, MAX_STOP_MS,
										  -1, 1);
	close_server(&closure, server, code, reason);
}

/*
 * The server could not be reached, or said that it does not work.  When that
 * has happened often enough it is left alone, for retry_interval, twice that,
 * and so on up to retry_max_interval.
 */
void
limits_failed(const TranscribeServer *server, int64 now, const char *code,
			  const char *reason)
{
	ServerUse  *use = use_of(server->serverid);
	StateClosure closure = {CLOSURE_UNREACHABLE};
	StateClosure present;

	use->failures++;
	if (closure_get(server, no_key, &present) &&
		present.kind == CLOSURE_UNREACHABLE)
	{
		if (now < present.until)
			return;
		closure.times = present.times;
	}
	else if (use->failures < FAILURES_TO_CLOSE)
		return;
	closure.until = now + failure_backoff(closure.times++, server->retry_interval,
										  server->retry_max_interval, -1, 1);
	close_server(&closure, server, code, reason);
}

/* Whether the server is closed now to requests with that key, and how. */
bool
limits_closed(const TranscribeServer *server, TranscribeKey key, int64 now,
			  StateClosure *closure)
{
	return closure_get(server, key, closure) && now < closure->until;
}

/* All requests have ended at once, with the agent. */
void
limits_reset(void)
{
	ListCell   *lc;

	foreach(lc, uses)
		((ServerUse *) lfirst(lc))->in_flight = 0;
}
