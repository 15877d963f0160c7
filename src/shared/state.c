/*-------------------------------------------------------------------------
 *
 * state.c
 *	  Setting up the shared memory of state.h, and finding things in it.
 *
 * Runs in every process of the server.  Locks: see state.h.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/state.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "transcribe.h"

#define STATE_NAME	"transcribe"

static TranscribeState *state = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
state_size(void)
{
	return add_size(offsetof(TranscribeState, progress),
					mul_size(sizeof(StateProgress),
							 mul_size(transcribe_max_workers,
									  transcribe_jobs_per_worker)));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(state_size());
	RequestNamedLWLockTranche(STATE_NAME, 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	state = ShmemInitStruct(STATE_NAME, state_size(), &found);
	if (!found)
	{
		memset(state, 0, state_size());
		state->lock = &GetNamedLWLockTranche(STATE_NAME)->lock;
		pg_atomic_init_u64(&state->launcher, 0);

		/* Nothing is known of any database yet. */
		pg_atomic_init_u32(&state->visit_all, 1);
		pg_atomic_init_u32(&state->nclosures, 0);
		for (int i = 0; i < STATE_DATABASES; i++)
		{
			StateDatabase *db = &state->databases[i];

			pg_atomic_init_u32(&db->pending, 0);
			pg_atomic_init_u32(&db->altered, 0);
			pg_atomic_init_u32(&db->callbacks, 0);
			pg_atomic_init_u64(&db->earliest, DT_NOEND);
			pg_atomic_init_u32(&db->doubtful, 0);
			pg_atomic_init_u64(&db->worker, 0);
			db->next_due = DT_NOEND;
		}
		for (int i = 0; i < STATE_ENDED; i++)
		{
			pg_atomic_init_u32(&state->ended[i].count, 0);
			ConditionVariableInit(&state->ended[i].waiters);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Called once, by the postmaster while it preloads. */
void
state_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/* The shared memory, or NULL where the library was not preloaded. */
TranscribeState *
transcribe_state(void)
{
	return state;
}

/*
 * Number of the database's slot, or -1.  With create, a free slot is taken
 * for it; -1 then means that all are in use.  The caller holds the lock,
 * exclusively if it asks to create.
 */
int
state_find_database(Oid dbid, bool create)
{
	int			free_slot = -1;

	for (int i = 0; i < STATE_DATABASES; i++)
	{
		if (state->databases[i].dbid == dbid)
			return i;
		if (free_slot < 0 && !OidIsValid(state->databases[i].dbid))
			free_slot = i;
	}
	if (create && free_slot >= 0)
	{
		StateDatabase *db = &state->databases[free_slot];

		Assert(LWLockHeldByMeInMode(state->lock, LW_EXCLUSIVE));
		pg_atomic_write_u32(&db->pending, 0);
		pg_atomic_write_u32(&db->altered, 0);
		pg_atomic_write_u32(&db->callbacks, 0);
		pg_atomic_write_u64(&db->earliest, DT_NOEND);
		pg_atomic_write_u32(&db->doubtful, 0);
		pg_atomic_write_u64(&db->worker, 0);
		db->next_due = DT_NOEND;
		db->failures = 0;
		db->reported = 0;
		db->dbid = dbid;
		return free_slot;
	}
	return -1;
}

/*
 * Set a latch whose address is kept in an atomic.  Latches of processes are
 * part of the PGPROC array and never go away; one whose process has ended is
 * set in vain, which harms nobody.
 */
void
state_wake(pg_atomic_uint64 *latch)
{
	Latch	   *target = (Latch *) (uintptr_t) pg_atomic_read_u64(latch);

	if (target != NULL)
		SetLatch(target);
}

/* The progress slots of a worker: transcribe.jobs_per_worker of them. */
StateProgress *
state_worker_progress(int worker)
{
	return &state->progress[worker * transcribe_jobs_per_worker];
}

/*
 * Copies of the slots of this database's workers that are in use, in the current
 * memory context: no lock while something is made of them.
 */
StateProgress *
state_copy_progress(int *n)
{
	StateProgress *copy = palloc_array(StateProgress,
									   transcribe_max_workers * transcribe_jobs_per_worker);

	*n = 0;
	LWLockAcquire(state->lock, LW_SHARED);
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		StateProgress *slots = state_worker_progress(w);

		if (!state->workers[w].in_use || state->workers[w].dbid != MyDatabaseId)
			continue;
		for (int i = 0; i < transcribe_jobs_per_worker; i++)
		{
			if (slots[i].job_id != 0)
				copy[(*n)++] = slots[i];
		}
	}
	LWLockRelease(state->lock);
	return copy;
}

/* The incarnations of workers that are running, into an array with room for all. */
int
state_incarnations(int64 *incarnations)
{
	int			n = 0;

	LWLockAcquire(state->lock, LW_SHARED);
	for (int i = 0; i < transcribe_max_workers; i++)
	{
		if (state->workers[i].in_use && state->workers[i].pid != 0)
			incarnations[n++] = state->workers[i].incarnation;
	}
	LWLockRelease(state->lock);
	return n;
}
