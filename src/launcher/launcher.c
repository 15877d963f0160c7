/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The process that starts workers where they are wanted.
 *
 * One static background worker, started when recovery has finished: so on a
 * primary only, and by itself after a promotion.  It is connected to no
 * database, reads shared catalogs alone, and is in nobody's way.
 *
 * It starts a worker for a database when something was committed there,
 * when a job comes due to start, or to be removed, when it has to be visited
 * (all databases at start: who knows what a crash left behind), and while
 * prepared transactions make it doubtful.  In between it sleeps, for ever if
 * need be.
 *
 * While transcribe.enabled is off it starts none, but forgets none of that.
 *
 * A database whose worker does not come to work backs off alone.  With no
 * free worker slot it warns once and tries again when a worker ends.
 *
 *-------------------------------------------------------------------------
 */
#include "launcher/launcher.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "shared/state.h"
#include "transcribe.h"

/*
 * A database whose worker does not come to work is tried again after 1 s,
 * 2 s, 4 s, and so on up to a minute.
 */
#define MAX_BACKOFF_S		64

/* How soon to look again where there was no free slot for a worker. */
#define NO_SLOT_RETRY_MS	10000

/* A worker that was started and has not attached by then never will. */
#define ATTACH_TIMEOUT_MS	60000

/* What we know of each database slot beyond what is shared. */
typedef struct Visit
{
	Oid			dbid;			/* for which the rest holds */
	bool		wanted;			/* to be visited once */
	TimestampTz retry_at;		/* not to be tried before */
	TimestampTz doubtful_at;	/* next visit because of prepared transactions */
} Visit;

static TranscribeState *state;
static Visit visits[STATE_DATABASES];
static BackgroundWorkerHandle *handles[TRANSCRIBE_MAX_WORKERS];

/*
 * Databases that found no slot when all were to be visited, and those that
 * have had their visit meanwhile (a List of Oid in TopMemoryContext).
 */
static bool more_to_visit = false;
static List *visited = NIL;

/* A worker ended before it came to its database: is that still there? */
static bool check_databases = false;

/* The warning that no worker could be started was given. */
static bool warned_no_slot = false;

/* Where the search for a database to serve begins, so that all get a turn. */
static int	next_database = 0;

/* Register the launcher; called by the postmaster while it preloads. */
void
launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "transcribe");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "transcribe_launcher_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "transcribe launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "transcribe launcher");
	RegisterBackgroundWorker(&worker);
}

/* Our knowledge of a slot; forgotten when the slot changes its database. */
static Visit *
visit_of(int i)
{
	if (visits[i].dbid != state->databases[i].dbid)
	{
		memset(&visits[i], 0, sizeof(Visit));
		visits[i].dbid = state->databases[i].dbid;
	}
	return &visits[i];
}

/* Whether any visit is still outstanding. */
static bool
visits_outstanding(void)
{
	for (int i = 0; i < STATE_DATABASES; i++)
	{
		if (OidIsValid(state->databases[i].dbid) && visit_of(i)->wanted)
			return true;
	}
	return false;
}

/*
 * Note a database as wanting a visit, unless it had one in this round.
 * Returns its slot, or -1 if there is none free.
 */
static int
plan_visit(Oid dbid)
{
	MemoryContext oldcontext;
	int			i;

	if (list_member_oid(visited, dbid))
		return state_find_database(dbid, false);
	i = state_find_database(dbid, true);
	if (i < 0)
	{
		more_to_visit = true;
		return -1;
	}
	visit_of(i)->wanted = true;
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	visited = lappend_oid(visited, dbid);
	MemoryContextSwitchTo(oldcontext);
	return i;
}

/*
 * List all databases, and free the slots of those that are gone.  With
 * visit, note each as wanting a visit unless it takes no connections;
 * templates too, for jobs in them would stand still otherwise.
 */
static void
scan_databases(bool visit)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	bool		exists[STATE_DATABASES] = {false};

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);
		int			i;

		/* -2 marks a database that a broken DROP left behind */
		if (!db->datallowconn || db->datconnlimit == -2)
			continue;
		i = visit ? plan_visit(db->oid) : state_find_database(db->oid, false);
		if (i >= 0)
			exists[i] = true;
	}
	for (int i = 0; i < STATE_DATABASES; i++)
	{
		if (OidIsValid(state->databases[i].dbid) && !exists[i])
			state->databases[i].dbid = InvalidOid;
	}
	LWLockRelease(state->lock);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

/*
 * Do what was asked: a new round of visits, the rest of the present one once
 * slots are free again, or a look at which databases are still there.
 */
static void
plan_visits(void)
{
	if (pg_atomic_exchange_u32(&state->visit_all, 0) != 0)
	{
		list_free(visited);
		visited = NIL;
	}
	else if (!more_to_visit || visits_outstanding())
	{
		if (check_databases)
			scan_databases(false);
		check_databases = false;
		return;
	}
	more_to_visit = false;
	check_databases = false;
	scan_databases(true);
}

/* Whether the database has, or is about to get, a worker.  Under the lock. */
static bool
has_worker(Oid dbid)
{
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		if (state->workers[w].in_use && state->workers[w].dbid == dbid)
			return true;
	}
	return false;
}

/*
 * When to look into a database because prepared transactions may have left
 * jobs in it, or DT_NOEND.
 */
static TimestampTz
doubtful_at(int i, TimestampTz now)
{
	Visit	   *visit = visit_of(i);

	if (pg_atomic_read_u32(&state->databases[i].doubtful) == 0)
		return DT_NOEND;
	if (visit->doubtful_at == 0)
		visit->doubtful_at = TimestampTzPlusMilliseconds(now,
														 transcribe_naptime * INT64CONST(1000));
	return visit->doubtful_at;
}

/*
 * When the database in this slot wants a worker: in the past means now,
 * DT_NOEND never.  Under the lock.
 */
static TimestampTz
wanted_at(int i, TimestampTz now)
{
	StateDatabase *db = &state->databases[i];
	Visit	   *visit = visit_of(i);
	TimestampTz when = Min(db->next_due, doubtful_at(i, now));

	if (pg_atomic_read_u32(&db->pending) != 0 || visit->wanted)
		when = now;
	return when == DT_NOEND ? when : Max(when, visit->retry_at);
}

/*
 * The database has a worker.  It needs us only while prepared transactions
 * make the database doubtful: it is nudged then.  Under the lock.
 */
static TimestampTz
nudge_worker(int i, TimestampTz now)
{
	TimestampTz when = doubtful_at(i, now);

	if (when <= now)
	{
		visit_of(i)->doubtful_at = 0;
		pg_atomic_write_u32(&state->databases[i].pending, 1);
		state_wake(&state->databases[i].worker);
		when = doubtful_at(i, now);
	}
	return when;
}

/* Start the worker of a slot that was taken for it. */
static bool
start_worker(int w)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "transcribe");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "transcribe_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "transcribe worker for database %u",
			 state->workers[w].dbid);
	snprintf(worker.bgw_type, BGW_MAXLEN, "transcribe worker");
	worker.bgw_main_arg = Int32GetDatum(w);
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, &handles[w]);
}

/* Take a free worker slot for a database, or return -1. */
static int
take_slot(int database, TimestampTz now)
{
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		StateWorker *worker = &state->workers[w];

		if (worker->in_use || handles[w] != NULL)
			continue;
		memset(worker, 0, sizeof(*worker));
		worker->in_use = true;
		worker->dbid = state->databases[database].dbid;
		worker->database = database;
		worker->launched_at = now;
		return w;
	}
	return -1;
}

/*
 * Free the slots of workers that ended without having attached, or that an
 * earlier launcher started and that never came.
 */
static void
collect_workers(TimestampTz now)
{
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		StateWorker *worker = &state->workers[w];
		pid_t		pid;

		if (handles[w] != NULL)
		{
			if (GetBackgroundWorkerPid(handles[w], &pid) != BGWH_STOPPED)
				continue;
			pfree(handles[w]);
			handles[w] = NULL;
			warned_no_slot = false;
		}
		else if (!worker->in_use || worker->pid != 0 ||
				 !TimestampDifferenceExceeds(worker->launched_at, now,
											 ATTACH_TIMEOUT_MS))
			continue;
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		if (worker->in_use && worker->pid == 0)
		{
			/* Why it was started still holds, if the database is there. */
			pg_atomic_write_u32(&state->databases[worker->database].pending, 1);
			worker->in_use = false;
			check_databases = true;
		}
		LWLockRelease(state->lock);
	}
}

/* A database gets its worker: count the start, and clear why it was wanted. */
static void
note_start(int i, TimestampTz now)
{
	StateDatabase *db = &state->databases[i];
	Visit	   *visit = visit_of(i);
	int			backoff = db->failures == 0 ? 0 :
		Min(1 << Min(db->failures - 1, 10), MAX_BACKOFF_S);

	/* The worker sets failures back as soon as it has done its first work. */
	if (db->failures == 3)
		ereport(LOG,
				(errmsg("transcribe worker for database %u does not come to work, trying less often",
						db->dbid)));
	db->failures++;
	visit->retry_at = TimestampTzPlusMilliseconds(now, backoff * INT64CONST(1000));
	visit->wanted = false;
	visit->doubtful_at = 0;
	db->next_due = DT_NOEND;
}

/*
 * All slots are taken and a database waits: who has nothing to do shall leave
 * before its time.  The end of a worker wakes us.
 */
static void
want_slots(void)
{
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		StateWorker *worker = &state->workers[w];

		if (!worker->in_use || worker->wanted)
			continue;
		worker->wanted = true;
		state_wake(&state->databases[worker->database].worker);
	}
	LWLockRelease(state->lock);
}

/* Could not start one: say so once, and look again later. */
static TimestampTz
no_slot(TimestampTz now)
{
	if (!warned_no_slot)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start transcribe worker: out of background worker slots"),
				 errhint("Consider increasing max_worker_processes.")));
	warned_no_slot = true;
	return TimestampTzPlusMilliseconds(now, NO_SLOT_RETRY_MS);
}

/*
 * Start workers for the databases that want one; return when to look again.
 */
static TimestampTz
launch_workers(TimestampTz now)
{
	TimestampTz next = DT_NOEND;

	for (int n = 0; n < STATE_DATABASES; n++)
	{
		int			i = (next_database + n) % STATE_DATABASES;
		TimestampTz when;
		int			w;

		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		if (!OidIsValid(state->databases[i].dbid))
		{
			LWLockRelease(state->lock);
			continue;
		}
		if (has_worker(state->databases[i].dbid))
		{
			visit_of(i)->wanted = false;
			next = Min(next, nudge_worker(i, now));
			LWLockRelease(state->lock);
			continue;
		}
		when = wanted_at(i, now);
		w = when <= now ? take_slot(i, now) : -1;
		LWLockRelease(state->lock);

		if (when > now)
		{
			next = Min(next, when);
			continue;
		}
		if (w < 0)
		{
			next_database = i;
			want_slots();
			break;
		}
		if (!start_worker(w))
		{
			handles[w] = NULL;
			LWLockAcquire(state->lock, LW_EXCLUSIVE);
			state->workers[w].in_use = false;
			LWLockRelease(state->lock);
			next_database = i;
			return Min(next, no_slot(now));
		}
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		note_start(i, now);
		LWLockRelease(state->lock);
	}
	return next;
}

static void
leave(int code, Datum arg)
{
	pg_atomic_write_u64(&state->launcher, 0);
}

/* Read the settings; if others say what is to be kept, who knows what is not? */
static void
reload_settings(void)
{
	int			completed = transcribe_retain_completed;
	int			failed = transcribe_retain_failed;

	ProcessConfigFile(PGC_SIGHUP);
	if (completed != transcribe_retain_completed ||
		failed != transcribe_retain_failed)
		pg_atomic_write_u32(&state->visit_all, 1);
}

/* Sleep until somebody wakes us, or until the given time. */
static void
wait_until(TimestampTz until)
{
	static uint32 wait_event = 0;
	int			flags = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout = -1;

	if (wait_event == 0)
		wait_event = transcribe_wait_event("TranscribeLauncherMain");
	if (until != DT_NOEND)
	{
		flags |= WL_TIMEOUT;
		timeout = Max(1, TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														 until));
	}
	(void) WaitLatch(MyLatch, flags, timeout, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();

	/* Not 0: that would unregister us for ever. */
	if (ShutdownRequestPending)
		proc_exit(1);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		reload_settings();
	}
}

/* Entry point, by name: see launcher_register(). */
void
transcribe_launcher_main(Datum arg)
{
	state = transcribe_state();

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, SIG_IGN);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	before_shmem_exit(leave, (Datum) 0);
	pg_atomic_write_u64(&state->launcher, (uint64) (uintptr_t) MyLatch);

	/* One that restarts knows nothing of what is going on. */
	pg_atomic_write_u32(&state->visit_all, 1);

	/* With no worker allowed there is nothing to do, for ever. */
	while (transcribe_max_workers == 0)
		wait_until(DT_NOEND);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next = DT_NOEND;

		collect_workers(now);
		plan_visits();
		if (transcribe_enabled)
			next = launch_workers(now);
		wait_until(next);
	}
}
