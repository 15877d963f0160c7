/*-------------------------------------------------------------------------
 *
 * purge.c
 *	  When old jobs are removed, and how many at a time.
 *
 * Runs in the worker.  What transcribe.retain_completed and
 * transcribe.retain_failed let go is deleted in small transactions of their
 * own, between which claims and results have their turn; and when nothing more
 * is old enough, not before transcribe.naptime has passed.  The worker leaves
 * in between as ever: the launcher is told when the next job is due to go, as
 * it is told when the next one is due to start.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/purge.h"

#include "utils/timestamp.h"

#include "transcribe.h"
#include "worker/queue.h"
#include "worker/worker.h"

/*
 * Jobs that are removed in one transaction: at first, and at most, which takes
 * some 20 ms.  Where it takes longer than it may, as with recordings that are
 * stored with their jobs, it is fewer.
 */
#define FIRST_BATCH		10
#define MAX_BATCH		500
#define MAX_BATCH_MS	100

/* The pause after one, if there is more. */
#define PAUSE_MS		100

/* When to look next: at once, at first. */
static TimestampTz due = DT_NOBEGIN;

/* Not before, however soon a job is old enough. */
static TimestampTz not_before = DT_NOBEGIN;

/* There was more to remove than a batch, */
static bool has_more = false;

/* which is of so many jobs. */
static int	batch = FIRST_BATCH;

/* The time so long before another one, or after it; for ever is no time. */
static TimestampTz
shifted(TimestampTz when, int seconds, int direction)
{
	if (seconds < 0)
		return direction < 0 ? DT_NOBEGIN : DT_NOEND;
	if (TIMESTAMP_NOT_FINITE(when))
		return when;
	return when + direction * seconds * USECS_PER_SEC;
}

/* When the next batch is due; DT_NOEND if none is, as far as is known. */
TimestampTz
purge_due(void)
{
	if (!transcribe_enabled ||
		(transcribe_retain_completed < 0 && transcribe_retain_failed < 0))
		return DT_NOEND;
	return due;
}

/* Whether the next batch is due in a moment: it is not worth while to leave. */
bool
purge_has_more(void)
{
	return has_more && purge_due() != DT_NOEND;
}

/* Inside a transaction: remove a batch, and find out when the next is due. */
void
purge_batch(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz failed;
	TimestampTz completed;
	int64		begin = worker_clock();
	int64		took;

	has_more = queue_purge(shifted(now, transcribe_retain_failed, -1),
						   shifted(now, transcribe_retain_completed, -1),
						   batch) == batch;
	took = worker_clock() - begin;
	if (took > MAX_BATCH_MS)
		batch = Max(batch / 4, 1);
	else if (has_more && took < MAX_BATCH_MS / 4)
		batch = Min(batch * 4, MAX_BATCH);
	if (has_more)
	{
		due = TimestampTzPlusMilliseconds(now, PAUSE_MS);
		return;
	}
	queue_oldest(&failed, &completed);
	not_before = shifted(now, transcribe_naptime, 1);
	due = Max(not_before, Min(shifted(failed, transcribe_retain_failed, 1),
							  shifted(completed, transcribe_retain_completed, 1)));
}

/* It could not be done: look again later. */
void
purge_put_off(void)
{
	has_more = false;
	due = shifted(GetCurrentTimestamp(), transcribe_naptime, 1);
}

/* A job may have ended: it goes when its time is over. */
void
purge_note_end(void)
{
	TimestampTz now = GetCurrentTimestamp();

	due = Min(due, Max(not_before,
					   Min(shifted(now, transcribe_retain_failed, 1),
						   shifted(now, transcribe_retain_completed, 1))));
}

/* The settings may have changed: look anew. */
void
purge_reset(void)
{
	due = not_before = DT_NOBEGIN;
}
