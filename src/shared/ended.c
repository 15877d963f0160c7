/*-------------------------------------------------------------------------
 *
 * ended.c
 *	  Telling those who wait for a job that it has ended.
 *
 * Runs in workers, which complete and fail jobs, in backends, which cancel and
 * delete them, and in backends that wait.  The tables are the truth: what is in
 * shared memory says no more than that it is time to look.  There is one count
 * for many jobs, to which each end adds at commit; who waits reads the count,
 * looks, and sleeps until it is another.  Telling costs a few instructions where
 * nobody waits.
 *
 * Nobody tells of what ends by COMMIT PREPARED, on another server whose changes
 * are replayed here, or by hand of a superuser: who waits looks by itself now
 * and then.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/ended.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"

#include "shared/state.h"

#define WORD_BITS	32

/* Which counts this transaction adds to. */
static uint32 noted[STATE_ENDED / WORD_BITS];
static bool any_noted = false;

/* The number of the count for a job of this database. */
static int
number_of(int64 job_id)
{
	return (hash_bytes_uint32(MyDatabaseId) + (uint64) job_id) % STATE_ENDED;
}

/*
 * End of a transaction: tell after commit, forget otherwise.  There is nothing in
 * it that could fail, which would be a PANIC.
 */
static void
ended_callback(XactEvent event, void *arg)
{
	TranscribeState *state = transcribe_state();

	if (!any_noted ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		 event != XACT_EVENT_PREPARE))
		return;
	for (int i = 0; event == XACT_EVENT_COMMIT && i < STATE_ENDED; i++)
	{
		if ((noted[i / WORD_BITS] & ((uint32) 1 << (i % WORD_BITS))) == 0)
			continue;
		pg_atomic_fetch_add_u32(&state->ended[i].count, 1);
		ConditionVariableBroadcast(&state->ended[i].waiters);
	}
	memset(noted, 0, sizeof(noted));
	any_noted = false;
}

/* Called once in each process that loads the library. */
void
ended_init(void)
{
	RegisterXactCallback(ended_callback, NULL);
}

/* The job has ended, or is gone, if this transaction commits. */
void
ended_at_commit(int64 job_id)
{
	int			i = number_of(job_id);

	if (transcribe_state() == NULL)
		return;
	noted[i / WORD_BITS] |= (uint32) 1 << (i % WORD_BITS);
	any_noted = true;
}

/* Read this, then look at the job, and then wait. */
uint32
ended_count(int64 job_id)
{
	return pg_atomic_read_u32(&transcribe_state()->ended[number_of(job_id)].count);
}

/*
 * Sleep for as long as nothing of which that count tells has ended, and not
 * longer than so many milliseconds.  Open to interrupts.
 */
void
ended_wait(int64 job_id, uint32 count, long timeout, uint32 wait_event)
{
	StateEnded *ended = &transcribe_state()->ended[number_of(job_id)];

	ConditionVariablePrepareToSleep(&ended->waiters);
	while (pg_atomic_read_u32(&ended->count) == count)
	{
		if (ConditionVariableTimedSleep(&ended->waiters, timeout, wait_event))
			break;
	}
	ConditionVariableCancelSleep();
}
