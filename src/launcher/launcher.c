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
 * Databases that were at work come first after a start (hint.c); the others
 * are visited one after another, beside what else there is to do.
 *
 * While transcribe.enabled is off it starts none, but forgets none of that.
 *
 * Where more databases want a worker than there may be workers, they take
 * turns: a worker whose turn is over gives way to a database that waits.  A
 * database whose worker does not come to work backs off alone.  With no free
 * process it warns and tries again when a worker ends.
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
#include "launcher/hint.h"
#include "shared/database.h"
#include "shared/failpoint.h"
#include "shared/state.h"
#include "transcribe.h"

/*
 * A database whose worker does not come to work is tried again after 1 s,
 * 2 s, 4 s, and so on up to a minute.
 */
#define MAX_BACKOFF_S		64

/* How soon to look again where no process could be had for a worker. */
#define NO_PROCESS_RETRY_MS	10000

/* The log says that once an hour. */
#define WARNING_INTERVAL_MS	3600000

/* How soon to look again at a database that is being dropped, renamed, ... */
#define WANTED_RETRY_MS		250

/*
 * How long a worker is left alone while another database waits for its place.
 * Not too short: whoever takes up a long recording again has to decode what
 * was transcribed of it.
 */
#define TURN_MS				20000

/* What we know of each database slot beyond what is shared. */
typedef struct Visit
{
	Oid			dbid;			/* for which the rest holds */
	bool		wanted;			/* to be visited once */
	bool		closed;			/* the log says that it takes no connections */
	bool		hinted;			/* it is in the hint */
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

/* Where the search for a database to serve begins, so that all get a turn. */
static int	next_database = 0;

/* How many databases found no place in this round. */
static int	databases_waiting = 0;

/* In this round no process could be had; and when that was said, or 0. */
static bool no_process = false;
static TimestampTz warned_at = 0;

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
 * List all databases: note each as wanting a visit unless it takes no
 * connections, and free the slots of those that are gone.  Templates too, for
 * jobs in them would stand still otherwise.
 */
static void
scan_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	Oid			before[STATE_DATABASES];
	bool		exists[STATE_DATABASES] = {false};

	/* Whoever takes a slot from here on may be newer than what we see. */
	LWLockAcquire(state->lock, LW_SHARED);
	for (int i = 0; i < STATE_DATABASES; i++)
		before[i] = state->databases[i].dbid;
	LWLockRelease(state->lock);

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
		if (db->datconnlimit == -2)
			continue;
		i = db->datallowconn ? plan_visit(db->oid) :
			state_find_database(db->oid, false);
		if (i >= 0)
			exists[i] = true;
	}
	for (int i = 0; i < STATE_DATABASES; i++)
	{
		StateDatabase *db = &state->databases[i];

		if (OidIsValid(db->dbid) && db->dbid == before[i] && !exists[i] &&
			!has_worker(db->dbid))
			db->dbid = InvalidOid;
	}
	LWLockRelease(state->lock);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

/*
 * Whether the database has something to do, now or later.  Under the lock.
 */
static bool
is_at_work(int i)
{
	StateDatabase *db = &state->databases[i];

	if (!OidIsValid(db->dbid))
		return false;
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		if (state->workers[w].in_use && state->workers[w].database == i &&
			state->workers[w].jobs > 0)
			return true;
	}
	return db->next_due != DT_NOEND ||
		pg_atomic_read_u32(&db->pending) != 0 ||
		pg_atomic_read_u32(&db->doubtful) != 0;
}

/*
 * Free the slots of databases that have nothing to do, for others that found
 * none.  Whoever has such a slot in mind for his commit will notice.
 */
static void
forget_resting(void)
{
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < STATE_DATABASES; i++)
	{
		StateDatabase *db = &state->databases[i];

		if (OidIsValid(db->dbid) && !is_at_work(i) && !has_worker(db->dbid))
			db->dbid = InvalidOid;
	}
	LWLockRelease(state->lock);
}

/*
 * Do what was asked: a new round of visits, or the rest of the present one
 * once slots are free again.
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
		return;
	else
		forget_resting();
	more_to_visit = false;
	scan_databases();
}

/* Databases that were at work before we started are served first. */
static void
follow_hint(void)
{
	Oid			hinted[STATE_DATABASES];
	int			count = hint_read(hinted, STATE_DATABASES);

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int n = 0; n < count; n++)
	{
		int			i = OidIsValid(hinted[n]) ? state_find_database(hinted[n], true) : -1;

		if (i < 0)
			continue;
		pg_atomic_write_u32(&state->databases[i].pending, 1);
		visit_of(i)->hinted = true;
	}
	LWLockRelease(state->lock);
}

/*
 * Keep the databases that are at work for the next start, before those that
 * were.  Now and then one is added; at the end those are left out that have
 * nothing to do any more.
 */
static void
keep_hint(bool at_end)
{
	Oid			hinted[STATE_DATABASES];
	Oid			rest[STATE_DATABASES];
	bool		changed = at_end;
	int			count = 0;
	int			nrest = 0;

	LWLockAcquire(state->lock, LW_SHARED);
	for (int i = 0; i < STATE_DATABASES; i++)
	{
		Visit	   *visit = visit_of(i);

		if (is_at_work(i))
		{
			changed |= !visit->hinted;
			visit->hinted = true;
			hinted[count++] = visit->dbid;
		}
		else if (visit->hinted && !at_end)
			rest[nrest++] = visit->dbid;
	}
	LWLockRelease(state->lock);
	if (!changed)
		return;
	memcpy(&hinted[count], rest, nrest * sizeof(Oid));
	hint_write(hinted, count + nrest);
}

/*
 * When to look into a database because prepared transactions may have left
 * jobs in it, or DT_NOEND.
 */
static TimestampTz
doubtful_at(int i, TimestampTz now)
{
	Visit	   *visit = visit_of(i);
	TimestampTz latest = TimestampTzPlusMilliseconds(now,
													 transcribe_naptime * INT64CONST(1000));

	if (pg_atomic_read_u32(&state->databases[i].doubtful) == 0)
		return DT_NOEND;
	if (visit->doubtful_at == 0 || visit->doubtful_at > latest)
		visit->doubtful_at = latest;
	return visit->doubtful_at;
}

/* Whether a visit is under way: there is one at a time.  Under the lock. */
static bool
visit_under_way(void)
{
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		if (state->workers[w].in_use && state->workers[w].looking)
			return true;
	}
	return false;
}

/* When there is something to do in the database.  Under the lock. */
static TimestampTz
due_at(int i, TimestampTz now)
{
	StateDatabase *db = &state->databases[i];

	return pg_atomic_read_u32(&db->pending) != 0 ? now :
		Min(db->next_due, doubtful_at(i, now));
}

/*
 * When the database in this slot wants a worker: in the past means now,
 * DT_NOEND never, or not before something happens of which we are told.
 * Under the lock.
 */
static TimestampTz
wanted_at(int i, TimestampTz now)
{
	Visit	   *visit = visit_of(i);
	TimestampTz when = due_at(i, now);

	if (visit->wanted && !visit_under_way())
		when = now;

	/* A clock that was set back holds nobody up. */
	if (visit->retry_at > now + MAX_BACKOFF_S * USECS_PER_SEC)
		visit->retry_at = 0;
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

/* Take a free worker slot for a database, or return -1.  Under the lock. */
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
		worker->looking = due_at(database, now) > now;
		return w;
	}
	return -1;
}

/*
 * Free the slots of workers that ended without having attached, or that an
 * earlier launcher took.  If one that it started still comes, it finds no slot,
 * or that of another for the same database, which then finds none.
 */
static void
collect_workers(void)
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
		}
		else if (!worker->in_use || worker->pid != 0)
			continue;
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		if (worker->in_use && worker->pid == 0)
		{
			/* Why it was started still holds, if the database is there. */
			pg_atomic_write_u32(&state->databases[worker->database].pending, 1);
			worker->in_use = false;
		}
		LWLockRelease(state->lock);
	}
}

/* The database was tried, or is about to be: the next time is later. */
static void
back_off(int i, TimestampTz now, int seconds)
{
	visit_of(i)->retry_at = seconds == 0 ? 0 :
		TimestampTzPlusMilliseconds(now, Min(seconds, MAX_BACKOFF_S) * INT64CONST(1000));
	state->databases[i].failures++;
}

/* A database gets its worker: count the start, and clear why it was wanted. */
static void
note_start(int i, TimestampTz now)
{
	StateDatabase *db = &state->databases[i];
	Visit	   *visit = visit_of(i);

	/* The worker sets failures back as soon as it has done its first work. */
	if (db->failures == 3)
		ereport(LOG,
				(errmsg("transcribe worker for database %u does not come to work, trying less often",
						db->dbid)));
	back_off(i, now, db->failures == 0 ? 0 : 1 << Min(db->failures - 1, 10));
	visit->wanted = false;
	visit->closed = false;
	visit->doubtful_at = 0;
	db->next_due = DT_NOEND;
}

/*
 * Whether a worker could connect to the database in this slot.  If not, it is
 * tried again later, or its slot is freed.
 */
static bool
may_start(int i, TimestampTz now)
{
	StateDatabase *db = &state->databases[i];
	Visit	   *visit = visit_of(i);
	Oid			owner;
	bool		open;
	bool		found;

	if (database_is_wanted(db->dbid))
	{
		visit->retry_at = TimestampTzPlusMilliseconds(now, WANTED_RETRY_MS);
		return false;
	}
	StartTransactionCommand();
	found = database_find(db->dbid, &owner, &open);
	CommitTransactionCommand();
	if (found && open)
		return true;

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	visit->wanted = false;
	if (!found)
		db->dbid = InvalidOid;
	else
		back_off(i, now, 1 << Min(db->failures, 10));
	LWLockRelease(state->lock);
	if (found && !visit->closed)
	{
		visit->closed = true;
		ereport(LOG,
				(errmsg("transcription jobs in database %u wait until it takes connections",
						db->dbid)));
	}
	return false;
}

/* No process could be had: say so, if that was not said a while ago. */
static void
note_no_process(TimestampTz now)
{
	no_process = true;
	if (warned_at != 0 &&
		!TimestampDifferenceExceeds(warned_at, now, WARNING_INTERVAL_MS))
		return;
	warned_at = now;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("could not start transcribe worker: out of background worker slots"),
			 errhint("Consider increasing max_worker_processes.")));
}

/* Start a worker for the database in this slot; false if there is no room. */
static bool
launch(int i, TimestampTz now)
{
	bool		started = false;
	int			w;

	if (no_process)
		return false;
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	w = take_slot(i, now);
	LWLockRelease(state->lock);
	if (w < 0)
		return false;

	if (may_start(i, now))
	{
		FAILPOINT("launcher_slot_taken");
		started = start_worker(w);
		FAILPOINT("launcher_worker_started");
		if (!started)
		{
			handles[w] = NULL;
			note_no_process(now);
		}
	}
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	if (started)
		note_start(i, now);
	else
		state->workers[w].in_use = false;
	LWLockRelease(state->lock);
	return !no_process;
}

/*
 * Who is to give way next, of the workers that are not chosen yet: one that has
 * nothing to do, else the one that has been there longest; or -1.
 */
static int
choose_worker(const bool *chosen)
{
	int			best = -1;

	for (int w = 0; w < transcribe_max_workers; w++)
	{
		StateWorker *worker = &state->workers[w];
		StateWorker *other = best < 0 ? NULL : &state->workers[best];

		if (!worker->in_use || chosen[w])
			continue;
		if (other == NULL ||
			((worker->jobs == 0) != (other->jobs == 0) ? worker->jobs == 0 :
			 worker->launched_at < other->launched_at))
			best = w;
	}
	return best;
}

/* Tell a worker what is wanted of it, if it does not know. */
static void
tell_worker(StateWorker *worker, bool wanted, bool give_way)
{
	if (worker->wanted == wanted && worker->give_way == give_way)
		return;

	/* It has to look at its queue again if it may go on. */
	if (worker->give_way && !give_way)
		pg_atomic_write_u32(&state->databases[worker->database].pending, 1);
	worker->wanted = wanted;
	worker->give_way = give_way;
	state_wake(&state->databases[worker->database].worker);
}

/*
 * So many databases wait and find no room.  Who has nothing to do shall leave
 * before its time, and as many as there are that wait shall give way as soon
 * as their turn is over.  The end of a worker wakes us.  Returns when the next
 * turn is over.
 */
static TimestampTz
share_places(int waiting, TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	bool		chosen[TRANSCRIBE_MAX_WORKERS] = {false};

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int n = 0; n < waiting; n++)
	{
		int			w = choose_worker(chosen);

		if (w < 0)
			break;
		chosen[w] = true;
	}
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		StateWorker *worker = &state->workers[w];
		TimestampTz over = TimestampTzPlusMilliseconds(worker->launched_at, TURN_MS);

		if (!worker->in_use)
			continue;
		tell_worker(worker, waiting > 0, chosen[w] && over <= now);
		if (chosen[w] && over > now)
			next = Min(next, over);
	}
	LWLockRelease(state->lock);
	return next;
}

/*
 * When there is something to do for us in this slot, see wanted_at(); and
 * whether that is more than a visit.
 */
static TimestampTz
look_at(int i, TimestampTz now, bool *due)
{
	TimestampTz when = DT_NOEND;

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	if (OidIsValid(state->databases[i].dbid))
	{
		if (has_worker(state->databases[i].dbid))
		{
			visit_of(i)->wanted = false;
			when = nudge_worker(i, now);
		}
		else
			when = wanted_at(i, now);
		*due = due_at(i, now) <= now;
	}
	LWLockRelease(state->lock);
	return when;
}

/*
 * Start workers for the databases that want one; return when to look again.
 */
static TimestampTz
launch_workers(TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	int			first = next_database;
	int			waiting = 0;
	bool		visits_wait = false;

	no_process = false;
	for (int n = 0; n < STATE_DATABASES; n++)
	{
		int			i = (first + n) % STATE_DATABASES;
		bool		due;
		TimestampTz when;

		/* Whoever takes it at this moment wakes us when he commits. */
		if (!OidIsValid(state->databases[i].dbid))
			continue;
		when = look_at(i, now, &due);
		if (when <= now && launch(i, now))
			when = look_at(i, now, &due);
		if (when > now)
		{
			next = Min(next, when);
			continue;
		}

		/* It waits; visits want one place together. */
		if (waiting == 0 && !visits_wait)
			next_database = i;
		if (due)
			waiting++;
		else
			visits_wait = true;
	}
	waiting += visits_wait;
	databases_waiting = waiting;
	next = Min(next, share_places(waiting, now));
	if (no_process)
		next = Min(next, TimestampTzPlusMilliseconds(now, NO_PROCESS_RETRY_MS));
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

/* Say in pg_stat_activity what is going on, if it does not say so. */
static void
report_activity(void)
{
	static char said[128];
	char		text[128];
	int			workers = 0;

	for (int w = 0; w < transcribe_max_workers; w++)
		workers += state->workers[w].in_use;
	if (transcribe_max_workers == 0)
		strlcpy(text, "transcribe.max_workers is 0", sizeof(text));
	else
		snprintf(text, sizeof(text), "workers: %d of %d, databases that wait for one: %d%s",
				 workers, transcribe_max_workers,
				 transcribe_enabled ? databases_waiting : 0,
				 transcribe_enabled ? "" : ", transcribe.enabled is off");
	if (strcmp(text, said) == 0)
		return;
	strlcpy(said, text, sizeof(said));
	pgstat_report_activity(STATE_IDLE, text);
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
	report_activity();
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
	{
		keep_hint(true);
		proc_exit(1);
	}
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

	pgstat_report_appname("transcribe launcher");
	before_shmem_exit(leave, (Datum) 0);
	pg_atomic_write_u64(&state->launcher, (uint64) (uintptr_t) MyLatch);

	/* One that restarts knows nothing of what is going on. */
	pg_atomic_write_u32(&state->visit_all, 1);

	follow_hint();

	/* With no worker allowed there is nothing to do, for ever. */
	while (transcribe_max_workers == 0)
		wait_until(DT_NOEND);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next = DT_NOEND;

		collect_workers();
		plan_visits();
		if (transcribe_enabled)
			next = launch_workers(now);
		keep_hint(false);
		wait_until(next);
	}
}
