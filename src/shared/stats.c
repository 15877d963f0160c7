/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  What was asked of each server, and what came of it, in numbers.
 *
 * Runs in workers, which count, and in backends, which read.  The tables hold
 * all of this, but a view over them would read every request that was ever made,
 * and what is removed would be counted no more: so these numbers are kept in
 * shared memory, where they only grow until a restart or a reset, as PostgreSQL's
 * own do.  To count takes a lock and some additions.
 *
 * Times are counted in steps of a fourth of an octave, so that quantiles are
 * exact to some ten percent, whatever they are.
 *
 * Locks: see state.h.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/stats.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

/* What error codes count as; see failure.c and the agent for who sets them. */
static const struct
{
	const char *code;
	StatsOutcome outcome;
}			outcomes[] = {
	{"rate_limited", STATS_RATE_LIMITED},
	{"unauthorized", STATS_UNAUTHORIZED},
	{"key_missing", STATS_UNAUTHORIZED},
	{"quota_exhausted", STATS_UNAUTHORIZED},
	{"server_error", STATS_SERVER_ERROR},
	{"timeout", STATS_TIMEOUT},
	{"could_not_resolve", STATS_CONNECTION},
	{"could_not_connect", STATS_CONNECTION},
	{"tls_failed", STATS_CONNECTION},
	{"certificate_refused", STATS_CONNECTION},
	{"refused_address", STATS_CONNECTION},
	{"insecure_key", STATS_CONNECTION},
	{"connection_lost", STATS_CONNECTION},
	{"refused", STATS_REFUSED},
	{"refused_audio", STATS_REFUSED},
	{"not_found_at_server", STATS_REFUSED},
	{"too_large_for_server", STATS_REFUSED},
	{"bad_response", STATS_BAD_RESPONSE},
	{"response_too_large", STATS_BAD_RESPONSE},
	{"headers_too_large", STATS_BAD_RESPONSE}
};

static StatsOutcome
outcome_of(const char *code)
{
	if (code == NULL)
		return STATS_GOOD;
	for (size_t i = 0; i < lengthof(outcomes); i++)
	{
		if (strcmp(outcomes[i].code, code) == 0)
			return outcomes[i].outcome;
	}
	return STATS_OTHER;
}

/* The step that a time belongs to. */
static int
latency_step(double seconds)
{
	double		step = ceil(4 * log2(Max(seconds, 0.001) / 0.001));

	return (int) Min(step, STATS_LATENCIES - 1);
}

/*
 * The server's entry, which is made if there is none; where all are taken, of
 * the one that nothing was counted of for longest.  Under the lock, exclusively.
 */
static StateStats *
find_entry(TranscribeState *state, Oid serverid)
{
	static int	last = 0;		/* the one that was found last */
	StateStats *entry = &state->stats[last];
	StateStats *target = &state->stats[0];

	for (int i = 0; entry->serverid != serverid || entry->dbid != MyDatabaseId; i++)
	{
		if (i == STATE_STATS)
		{
			memset(target, 0, sizeof(*target));
			target->serverid = serverid;
			target->dbid = MyDatabaseId;
			target->since = GetCurrentTimestamp();
			entry = target;
			break;
		}
		entry = &state->stats[i];
		if (OidIsValid(target->serverid) &&
			(!OidIsValid(entry->serverid) || entry->last < target->last))
			target = entry;
	}
	last = entry - state->stats;
	entry->last = GetCurrentTimestamp();
	return entry;
}

/* A request has ended; the code is what was wrong, or NULL. */
void
stats_count_request(Oid serverid, const char *code, double elapsed,
					double audio, uint64 bytes)
{
	TranscribeState *state = transcribe_state();
	StateStats *entry;

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	entry = find_entry(state, serverid);
	entry->outcomes[outcome_of(code)]++;
	entry->audio += audio;
	entry->bytes += bytes;
	entry->elapsed += elapsed;
	entry->latencies[latency_step(elapsed)]++;
	LWLockRelease(state->lock);
}

/* An attempt at a job has ended; so many seconds were not sent. */
void
stats_count_end(Oid serverid, StatsEnd end, double trimmed)
{
	TranscribeState *state = transcribe_state();
	StateStats *entry;

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	entry = find_entry(state, serverid);
	entry->ends[end]++;
	entry->trimmed += trimmed;
	LWLockRelease(state->lock);
}

/* A job is begun at the server. */
void
stats_begin(Oid serverid)
{
	TranscribeState *state = transcribe_state();

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	(void) find_entry(state, serverid);
	LWLockRelease(state->lock);
}

/* So many seconds were not sent of what has been saved. */
void
stats_count_trimmed(Oid serverid, double trimmed)
{
	TranscribeState *state = transcribe_state();

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	find_entry(state, serverid)->trimmed += trimmed;
	LWLockRelease(state->lock);
}

/* Copies of all entries of the database, in the current memory context. */
StateStats *
stats_list(int *n)
{
	TranscribeState *state = transcribe_state();
	StateStats *list = palloc_array(StateStats, STATE_STATS);

	*n = 0;
	LWLockAcquire(state->lock, LW_SHARED);
	for (int i = 0; i < STATE_STATS; i++)
	{
		if (OidIsValid(state->stats[i].serverid) &&
			state->stats[i].dbid == MyDatabaseId)
			list[(*n)++] = state->stats[i];
	}
	LWLockRelease(state->lock);
	return list;
}

/* Begin anew with all servers of the database. */
void
stats_reset(void)
{
	TranscribeState *state = transcribe_state();
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < STATE_STATS; i++)
	{
		StateStats *entry = &state->stats[i];
		Oid			serverid = entry->serverid;

		if (!OidIsValid(serverid) || entry->dbid != MyDatabaseId)
			continue;
		memset(entry, 0, sizeof(*entry));
		entry->serverid = serverid;
		entry->dbid = MyDatabaseId;
		entry->since = entry->last = now;
	}
	LWLockRelease(state->lock);
}

/* How many requests have ended. */
uint64
stats_requests(const StateStats *stats)
{
	uint64		requests = 0;

	for (int i = 0; i < STATS_OUTCOMES; i++)
		requests += stats->outcomes[i];
	return requests;
}

/*
 * Seconds that this part of the requests has not taken longer than; there must
 * be some.  Within a step they are taken to be spread evenly.
 */
double
stats_latency(const StateStats *stats, double quantile)
{
	uint64		requests = 0;
	double		rank;
	double		below = 0;
	int			step;

	for (step = 0; step < STATS_LATENCIES; step++)
		requests += stats->latencies[step];
	rank = quantile * requests;
	for (step = 0; step < STATS_LATENCIES - 1; step++)
	{
		if (below + stats->latencies[step] >= rank)
			break;
		below += stats->latencies[step];
	}
	if (step == 0)
		return 0.001;
	return 0.001 * exp2((step - 1 + (rank - below) /
						 Max(stats->latencies[step], 1)) / 4);
}
