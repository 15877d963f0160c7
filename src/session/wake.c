/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking the database's worker when this transaction commits.
 *
 * Runs in the caller's backend.  What may fail happens in wake_at_commit(),
 * inside the transaction; the commit callback itself touches only atomics
 * and a latch, because an error after the commit record is a PANIC.  A
 * subtransaction that rolls back leaves at most a wake-up for nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "session/wake.h"
#include "shared/failpoint.h"
#include "shared/state.h"

PG_FUNCTION_INFO_V1(transcribe_wake);

/* Asked for by this transaction. */
static bool wake_wanted = false;

/* It has altered a server or a key. */
static bool servers_altered = false;

/* It has changed a callback, or may have ended a job that has one. */
static bool callbacks_changed = false;

/* The jobs that it has queued are not due before; DT_NOEND: it has none. */
static TimestampTz wake_earliest = DT_NOEND;

/* This database's slot, or -1 where all were taken. */
static int	wake_slot = -1;

/* Have the worker look at what is due from then on, if not before. */
static void
lower_earliest(StateDatabase *db, TimestampTz run_at)
{
	uint64		earliest = pg_atomic_read_u64(&db->earliest);

	while (run_at < (TimestampTz) earliest &&
		   !pg_atomic_compare_exchange_u64(&db->earliest, &earliest,
										   (uint64) run_at))
		;
}

/*
 * Flag the database and wake who serves it: its worker, else the launcher.
 * A worker that leaves at this moment hands the flag over, because its exit
 * wakes the launcher after it has taken its latch out of the slot.
 *
 * Where the flag stands already, whoever set it wakes, and whoever takes it
 * down has yet to look: a signal for each of very many commits would cost both
 * sides more than a row does.
 */
static void
wake_now(TranscribeState *state)
{
	StateDatabase *db = wake_slot >= 0 ? &state->databases[wake_slot] : NULL;

	if (db != NULL && db->dbid == MyDatabaseId)
	{
		if (servers_altered)
			pg_atomic_write_u32(&db->altered, 1);
		if (callbacks_changed)
			pg_atomic_write_u32(&db->callbacks, 1);
		lower_earliest(db, wake_earliest);
		if (pg_atomic_exchange_u32(&db->pending, 1) != 0)
			return;
		if (pg_atomic_read_u64(&db->worker) != 0)
		{
			state_wake(&db->worker);
			return;
		}
	}
	else
		pg_atomic_write_u32(&state->visit_all, 1);
	pg_memory_barrier();
	state_wake(&state->launcher);
}

/* End of a transaction: wake after commit, forget otherwise. */
static void
wake_callback(XactEvent event, void *arg)
{
	TranscribeState *state = transcribe_state();

	if (!wake_wanted || state == NULL)
		return;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			FAILPOINT("wake_begin");
			wake_now(state);
			FAILPOINT("wake_done");
			break;
		case XACT_EVENT_PREPARE:

			/*
			 * COMMIT PREPARED may come from any session and calls nobody of
			 * us, so the launcher looks in from time to time.
			 */
			if (wake_slot >= 0 &&
				state->databases[wake_slot].dbid == MyDatabaseId)
				pg_atomic_fetch_add_u32(&state->databases[wake_slot].doubtful, 1);
			else
				pg_atomic_write_u32(&state->visit_all, 1);
			state_wake(&state->launcher);
			break;
		case XACT_EVENT_ABORT:
			break;
		default:
			return;
	}
	wake_wanted = servers_altered = callbacks_changed = false;
	wake_earliest = DT_NOEND;
}

/* Called once in each process that loads the library. */
void
wake_init(void)
{
	RegisterXactCallback(wake_callback, NULL);
}

/* Have the worker look at this database's queue once we have committed. */
void
wake_at_commit(void)
{
	TranscribeState *state = transcribe_state();

	if (state == NULL || wake_wanted)
		return;
	if (wake_slot < 0 || state->databases[wake_slot].dbid != MyDatabaseId)
	{
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		wake_slot = state_find_database(MyDatabaseId, true);
		LWLockRelease(state->lock);
	}
	wake_wanted = true;
}

/* The same, after a job has been queued that is due at that time. */
void
wake_for_job(TimestampTz run_at)
{
	wake_at_commit();
	wake_earliest = Min(wake_earliest, run_at);
}

/*
 * The same, after a server or a key was altered.  The worker may be awake
 * before the message that says so goes round: it has to be told to forget
 * what it knows.
 */
void
wake_for_servers(void)
{
	wake_at_commit();
	servers_altered = true;
}

/* The same, after a function may have become due that is to be called. */
void
wake_for_callback(void)
{
	wake_at_commit();
	callbacks_changed = true;
}

/* SQL: for functions in SQL; they may have queued anything. */
Datum
transcribe_wake(PG_FUNCTION_ARGS)
{
	wake_for_job(DT_NOBEGIN);
	wake_for_callback();
	PG_RETURN_VOID();
}
