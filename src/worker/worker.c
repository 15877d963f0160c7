/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The worker's main loop: one database, many jobs in flight.
 *
 * A background worker, started by the launcher where there is something to
 * do.  It decides and writes; files, bytes and servers are its agent's.  All
 * its waiting happens in one place, wait_for_something(), on its latch and
 * on the agent's socket, outside of any transaction.
 *
 * A turn of the loop: take what the agent sends, write what there is to
 * write (one transaction for all jobs; if that fails, one for each alone),
 * claim what is due, and give the agent what may start.  Old jobs are removed
 * where there is nothing to claim.
 *
 * It leaves when it has had nothing to do for transcribe.idle_timeout, when
 * it is told to, when it is to give way to another database and nothing is
 * under way, and when somebody wants to drop, rename or copy its database.
 * Whatever the reason, on its way out its agent is ended and reaped, its
 * claims are given back, and the launcher is woken.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/worker.h"

#include <signal.h>
#include <time.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "shared/database.h"
#include "shared/failpoint.h"
#include "shared/state.h"
#include "transcribe.h"
#include "worker/agent.h"
#include "worker/bring.h"
#include "worker/callbacks.h"
#include "worker/claim.h"
#include "worker/dispatch.h"
#include "worker/endpoint.h"
#include "worker/job.h"
#include "worker/limits.h"
#include "worker/purge.h"
#include "worker/queue.h"
#include "worker/settings.h"
#include "worker/waiting.h"
#include "worker/write.h"

/* How often to see whether somebody waits for our database. */
#define PROBE_INTERVAL_MS	250

/* The pause before another look at jobs that somebody holds a lock on. */
#define LOCKED_PAUSE_MS		100

/* When our programs are of another version, how soon they are tried again. */
#define PARK_MS				60000

static TranscribeState *state;
static StateWorker *me;			/* our slot */
static StateDatabase *database;
static int	my_slot;
static int64 incarnation;

static MemoryContext turn_context;	/* emptied after each turn */
static List *jobs = NIL;		/* of Job, by priority, then as they were
								 * claimed; in TopMemoryContext */
static List *claimed = NIL;		/* of Job, before the claim has committed */
static TimestampTz next_due = DT_NOEND; /* of the queue */
static bool claim_wanted = true;	/* the queue is worth a look */
static bool lost_wanted = true; /* and so are our claims: somebody may have
								 * cancelled or deleted a job */
static bool queue_has_more = false; /* when last looked at, jobs were due */
static bool room_again = false; /* since then a job has ended */
static int64 claim_after = 0;	/* after an error, not before */
static bool claim_failed = false;	/* the last look at the queue did */
static int64 afresh_after = 0;	/* by then the queue is looked at as if
								 * nothing were known of it */
static int64 next_probe = 0;
static int64 idle_since = -1;	/* -1: not idle */
static bool visiting = true;	/* has found no job yet */
static bool first_claim = true; /* has claimed no job yet */
static bool check_prepared = true;	/* are there prepared transactions? */
static bool no_extension = false;	/* nothing that we serve in this database */
static const char *parked = NULL;	/* this program is of another version */
static int64 wake_at = 0;		/* the next turn is due by then */
static bool activity_said = false;	/* pg_stat_activity says what is under way */

static volatile sig_atomic_t shutdown_requested = false;
static volatile sig_atomic_t in_remote_commit = false;

/* Milliseconds of a clock that nobody sets. */
int64
worker_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64CONST(1000) + ts.tv_nsec / 1000000;
}

void
worker_look_again(void)
{
	claim_wanted = true;
}

bool
worker_is_leaving(void)
{
	return shutdown_requested;
}

/*
 * SIGTERM.  The loop notices within milliseconds; only a commit that waits
 * for a standby has to be told in PostgreSQL's own way.
 */
static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	shutdown_requested = true;
	if (in_remote_commit)
	{
		InterruptPending = true;
		ProcDiePending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* Begin and end a transaction; see queue.c. */
void
worker_begin(bool durable)
{
	if (IsTransactionState())
		elog(ERROR, "transcribe worker is in a transaction already");
	activity_said = false;
	in_remote_commit = durable &&
		transcribe_synchronous_commit > SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
	queue_begin_transaction(durable);
}

void
worker_commit(void)
{
	queue_commit();
	in_remote_commit = false;
	MemoryContextSwitchTo(turn_context);
}

/*
 * Out of a failed transaction, or whatever it was; the error goes to the log, unless it is one that
 * stops the whole database and stands there already.
 */
void
worker_abort(bool again)
{
	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(turn_context);
	if (!again)
		EmitErrorReport();
	queue_abort();
	LWLockReleaseAll();
	MemoryContextSwitchTo(turn_context);
	FlushErrorState();
	in_remote_commit = false;
	RESUME_INTERRUPTS();
}

/* A slot of shared memory in which the job's progress is shown. */
static void
assign_progress(Job *job)
{
	StateProgress *slots = state_worker_progress(my_slot);

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < transcribe_jobs_per_worker; i++)
	{
		if (slots[i].job_id == 0)
		{
			memset(&slots[i], 0, sizeof(StateProgress));
			slots[i].job_id = job->id;
			slots[i].owner = job->owner_oid;
			job->progress = &slots[i];
			break;
		}
	}
	LWLockRelease(state->lock);
	job_note(job, "waiting for a free media process");
}

/* Tell the launcher how many jobs it would find orphaned. */
static void
publish_job_count(void)
{
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	me->jobs = list_length(jobs);
	LWLockRelease(state->lock);
}

/* Forget the jobs that have ended. */
static void
remove_ended_jobs(void)
{
	ListCell   *lc;
	bool		removed = false;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		if (job->state == JOB_ENDED)
		{
			/* One that is queued again has a time, which is to be learnt. */
			claim_wanted |= job->failure != NULL;
			jobs = foreach_delete_current(jobs, lc);
			job_free(job);
			removed = true;
		}
	}
	if (removed)
	{
		room_again = true;
		callbacks_note_end();
		purge_note_end();
		publish_job_count();
	}
}

/*
 * Our programs turn out to be of another version than we are, as they do from
 * the installation of a new one up to the restart.  No job is begun with them:
 * those that we have go back, those that are queued stay there, and after a
 * while the programs are tried again.
 */
static void
park(const char *program)
{
	static bool warned = false;

	if (!warned)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s is of another version than the library that the server has loaded",
						program),
				 errdetail("Jobs stay queued."),
				 errhint("Restart the server.")));
	warned = true;
	parked = program;
	claim_wanted = true;
	claim_after = worker_clock() + PARK_MS;
}

/*
 * Have something done for one job alone: an error ends its attempt, and is
 * nothing to the others.
 */
void
worker_do_for_job(Job *job, void (*step) (Job *job, void *arg), void *arg)
{
	PG_TRY();
	{
		step(job, arg);
	}
	PG_CATCH();
	{
		worker_abort(false);
		job_fail(job, "internal_error", true, true, -1,
				 "the job met an error; the server's log says which");
	}
	PG_END_TRY();
}

static void
handle_frame_step(Job *job, void *frame)
{
	job_handle_frame(job, frame);
}

/*
 * A frame has come from the agent; one of a job that is gone is old news.  Most
 * often it is of the same job as the last one, or of the next.
 */
static void
handle_frame(WireFrame *frame)
{
	static int	last = 0;
	int			n = list_length(jobs);

	for (int i = 0; i < n; i++)
	{
		int			place = (last + i) % n;
		Job		   *job = list_nth(jobs, place);

		if (job->tag == frame->job)
		{
			last = place;
			worker_do_for_job(job, handle_frame_step, frame);
			if (job_awaits_restart(job))
				park("transcribe_media");
			return;
		}
	}
}

/*
 * The agent is gone: so is what it had under way.  If it went because we are
 * told to go (signals reach our whole process group), that is no crash: the
 * jobs are given back in a moment.
 */
static void
lose_agent(void)
{
	const char *how = agent_stop();
	ListCell   *lc;

	if (shutdown_requested)
		return;
	if (agent_is_stranger())
		park("transcribe_agent");
	else
		ereport(LOG, (errmsg("transcribe_agent %s", how)));
	foreach(lc, jobs)
		job_agent_died(lfirst(lc), how);
	limits_reset();
}

/* Take what the agent sends, and send what it is to get. */
static void
pump_agent(void)
{
	if (agent_running() && !agent_pump(handle_frame))
		lose_agent();
}

/* Only send: what came now would have to wait until something else happens. */
static void
flush_agent(void)
{
	if (agent_running() && !agent_flush())
		lose_agent();
}

/* Inside the claim's transaction: drop what was cancelled or deleted. */
static void
drop_lost_jobs(void)
{
	List	   *lost;
	ListCell   *lc;

	if (!lost_wanted || jobs == NIL)
		return;
	lost = queue_lost(incarnation, jobs);

	foreach(lc, lost)
	{
		Job		   *job = lfirst(lc);

		if (job->state == JOB_ENDED)
			continue;
		if (job->state < JOB_ENDING)
			job_drop(job);
		job_set_state(job, JOB_ENDED);
	}
}

/* Put a claimed job behind those of its priority. */
static void
enlist(Job *job)
{
	int			place = list_length(jobs);
	MemoryContext oldcontext;

	while (place > 0 &&
		   ((Job *) list_nth(jobs, place - 1))->priority < job->priority)
		place--;
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	jobs = list_insert_nth(jobs, place, job);
	MemoryContextSwitchTo(oldcontext);
	assign_progress(job);
}

/*
 * Inside the claim's transaction: rescue orphans, and forget what is known of
 * the queue, if nothing is certain: at first, after an error, and from time to
 * time, because a superuser may write our tables and tell nobody.  Not always:
 * it reads the index entries of all that has run of late, which are many where
 * an old snapshot keeps them from being removed.
 */
static void
look_afresh(void)
{
	int64		now = worker_clock();

	if (now < afresh_after)
		return;
	queue_rescue(incarnation, jobs);
	callbacks_look_again();
	waiting_forget();
	lost_wanted = true;
	afresh_after = now + transcribe_naptime * INT64CONST(1000);
}

/*
 * Inside the claim's transaction: prepared transactions may hold jobs, and tell
 * nobody when they commit; after a restart nobody tells that there are any.
 * They are looked for before the jobs are, else one could commit in between.
 */
static void
look_for_prepared(void)
{
	uint32		doubts = pg_atomic_read_u32(&database->doubtful);

	if (doubts == 0 && !check_prepared)
		return;
	waiting_forget();
	if (!queue_has_prepared())
		(void) pg_atomic_compare_exchange_u32(&database->doubtful, &doubts, 0);
	else if (doubts == 0)
	{
		pg_atomic_fetch_add_u32(&database->doubtful, 1);
		state_wake(&state->launcher);
	}
}

/*
 * To whoever may terminate sessions of the database's owner we are one of them:
 * else DROP DATABASE ... WITH (FORCE) would fail at once for all but
 * superusers, and that is what it asks for.  No right comes with it.
 */
static void
belong_to_owner(void)
{
	Oid			owner;
	bool		open;

	if (database_find(MyDatabaseId, &owner, &open))
		MyProc->roleId = owner;
}

/* Whether jobs may be begun: not where all shall rest, or we give way. */
static bool
may_begin(void)
{
	return transcribe_enabled && !me->give_way;
}

/*
 * Look at the queue: rescue orphans, notice which jobs are no longer ours,
 * claim what is due and there is room for, and learn when the next is due.
 * Returns whether anything was claimed.
 */
static bool
claim_jobs(void)
{
	bool		any;
	bool		fewer;
	bool		looked = true;
	int			room = transcribe_jobs_per_worker - list_length(jobs);
	List	   *groups;
	EndpointLookup lookup = {0};
	TimestampTz now;
	ListCell   *lc;

	/*
	 * The first claim must not be lost: where a job kills its worker at once,
	 * it is what the crash is counted by.
	 */
	worker_begin(first_claim);
	if (pg_atomic_exchange_u32(&database->altered, 0) != 0)
		InvalidateSystemCaches();
	look_for_prepared();
	if (!queue_find_extension() || !queue_serves_extension())
	{
		worker_commit();
		no_extension = true;
		shutdown_requested = true;
		return false;
	}
	look_afresh();
	FAILPOINT("claim_rescued");
	drop_lost_jobs();
	waiting_lower((TimestampTz) pg_atomic_exchange_u64(&database->earliest,
													   DT_NOEND));
	now = GetCurrentTimestamp();
	groups = may_begin() ? waiting_groups(room, now, &looked) : NIL;
	if (looked)
		belong_to_owner();
	queue_has_more = room_again = false;
	foreach(lc, groups)
		queue_has_more |= ((ClaimGroup *) lfirst(lc))->due <= now;
	next_due = claim_plan(groups, jobs, room, now, &lookup);
	claimed = queue_claim(incarnation, groups);
	fewer = list_length(claimed) < claim_places(groups);
	foreach(lc, claimed)
		endpoint_resolve(lfirst(lc), &lookup);
	FAILPOINT("claim_done");
	worker_commit();
	lost_wanted = check_prepared = false;
	FAILPOINT("claim_committed");
	if (claimed != NIL)
		first_claim = false;
	else if (fewer && looked)
	{
		/* Somebody holds locks on what is due, and will let go of it. */
		next_due = Min(next_due, TimestampTzPlusMilliseconds(now, LOCKED_PAUSE_MS));
	}
	foreach(lc, claimed)
		enlist(lfirst(lc));

	/* Where all places are taken the next look is worth it when a job ends. */
	any = fewer && (claimed != NIL || !looked);
	if (any)
		waiting_look();
	any |= !looked && waiting_wants_look();
	list_free(claimed);
	claimed = NIL;
	publish_job_count();
	return any;
}

/* The claim's transaction failed: nothing was claimed. */
static void
forget_claim(void)
{
	ListCell   *lc;

	foreach(lc, claimed)
		job_free(lfirst(lc));
	list_free(claimed);
	claimed = NIL;
	claim_failed = true;
	afresh_after = 0;
	claim_after = worker_clock() + ERROR_PAUSE_MS;
}

/*
 * Whether a job that has ended makes room for another: not if the queue had no
 * more, and not yet while there are jobs for all media processes to go on with.
 */
static bool
room_is_of_use(void)
{
	int			waiting = 0;
	ListCell   *lc;

	if (!room_again || !queue_has_more)
		return false;
	foreach(lc, jobs)
		waiting += ((Job *) lfirst(lc))->state == JOB_WAITING;
	return waiting < transcribe_media_processes;
}

/* Look at the queue if there is a reason to. */
static void
claim_turn(void)
{
	if (pg_atomic_exchange_u32(&database->pending, 0) != 0)
	{
		claim_wanted = lost_wanted = true;
		waiting_look();
	}
	if (next_due <= GetCurrentTimestamp() || room_is_of_use())
		claim_wanted = true;
	if (worker_clock() >= afresh_after)
		claim_wanted = true;
	if (!claim_wanted || worker_clock() < claim_after)
		return;

	if (parked != NULL && jobs == NIL)
		(void) agent_stop();
	parked = NULL;

	PG_TRY();
	{
		/* There may be more where those came from. */
		claim_wanted = claim_jobs();
		claim_failed = false;
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		database->failures = database->reported = 0;
		LWLockRelease(state->lock);
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		worker_abort(code == database->reported);
		database->reported = code;
		forget_claim();
	}
	PG_END_TRY();
	remove_ended_jobs();

	/* Whoever woke us may have cancelled a job that waited. */
	purge_note_end();
}

/* Remove some of the jobs that are not to be kept any longer. */
static void
purge_turn(void)
{
	if (claim_wanted || shutdown_requested ||
		GetCurrentTimestamp() < purge_due())
		return;
	PG_TRY();
	{
		worker_begin(false);
		if (queue_find_extension())
			purge_batch();
		else
			purge_put_off();
		FAILPOINT("purge_done");
		worker_commit();
		FAILPOINT("purge_committed");
	}
	PG_CATCH();
	{
		worker_abort(false);
		purge_put_off();
	}
	PG_END_TRY();
}

/* See whether somebody wants our database: then it is time to leave. */
static bool
probe_turn(void)
{
	int64		now = worker_clock();

	if (now >= next_probe)
	{
		next_probe = now + PROBE_INTERVAL_MS;
		FAILPOINT("probe");
		if (database_is_wanted(MyDatabaseId))
			return false;
	}
	wake_at = Min(wake_at, next_probe);
	return true;
}

/*
 * Whether something is under way that would have to be done again if we left:
 * a request, an answer that is not saved, a recording of which nothing is.
 */
static bool
anything_under_way(void)
{
	ListCell   *lc;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		if (job->requests > 0 || job_wants_write(job, PG_INT64_MAX) ||
			(job_media_busy(job) && !job_has_saved(job)))
			return true;
	}
	return false;
}

/* We have found a job: others may be visited meanwhile. */
static void
stop_looking(void)
{
	visiting = false;
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	me->looking = false;
	LWLockRelease(state->lock);
	state_wake(&state->launcher);
}

/*
 * Whether to stay.  One that only looked in leaves at once; one that worked
 * stays for a while, and for a job that comes due within that, unless
 * another database waits for a worker.
 */
static bool
idle_turn(void)
{
	int64		now = worker_clock();
	int64		timeout = transcribe_idle_timeout * INT64CONST(1000);

	/* What is being called would have to be called again. */
	if (callbacks_running())
	{
		if (visiting)
			stop_looking();
		idle_since = -1;
		return true;
	}

	/*
	 * One that cannot even claim leaves its place; the launcher backs off.  So
	 * does one that may not; the launcher starts another when it may.
	 */
	if (jobs == NIL ? claim_failed || !may_begin() :
		me->give_way && !anything_under_way())
	{
		pg_atomic_write_u32(&database->pending, 1);
		return false;
	}

	/* One that waits for a restart may wait long: it comes back. */
	if (jobs == NIL && parked != NULL && me->wanted)
	{
		claim_wanted = false;
		next_due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PARK_MS);
		return false;
	}
	if (jobs != NIL && visiting)
		stop_looking();
	if (jobs != NIL || claim_wanted ||
		((purge_has_more() || bring_has_leftovers()) && !me->wanted))
	{
		idle_since = -1;
		return true;
	}
	if (me->wanted)
		return false;
	if (idle_since < 0)
		idle_since = now;
	if (next_due != DT_NOEND && !visiting)
	{
		int64		due_in = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
															 next_due);

		if (due_in <= timeout)
			return true;
	}
	if (visiting || now >= idle_since + timeout)
		return false;
	wake_at = Min(wake_at, idle_since + timeout);
	return true;
}

/*
 * Say what is under way, in transcribe_workers and pg_stat_activity, if that is
 * not what they say.
 */
static void
report_activity(void)
{
	StateWorker now = {0};
	char		text[128];
	ListCell   *lc;

	now.jobs = list_length(jobs);
	now.agent_pid = agent_pid();
	now.held_bytes = job_held_bytes();
	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		now.requests += job->requests;
		now.recordings += job->media_running;
	}
	if (activity_said && now.jobs == me->jobs && now.requests == me->requests &&
		now.recordings == me->recordings && now.agent_pid == me->agent_pid &&
		now.held_bytes == me->held_bytes)
		return;

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	me->jobs = now.jobs;
	me->requests = now.requests;
	me->recordings = now.recordings;
	me->agent_pid = now.agent_pid;
	me->held_bytes = now.held_bytes;
	LWLockRelease(state->lock);

	snprintf(text, sizeof(text), "jobs: %d, recordings being read: %d, requests under way: %d",
			 now.jobs, now.recordings, now.requests);
	pgstat_report_activity(STATE_IDLE, text);
	activity_said = true;
}

/* The only place where the worker waits. */
static void
wait_for_something(void)
{
	static WaitEventSet *set = NULL;
	static int	set_socket = -1;
	static int	socket_pos;
	static uint32 wait_event = 0;
	WaitEvent	event;
	int64		timeout = wake_at - worker_clock();

	if (IsTransactionState())
		elog(ERROR, "transcribe worker must not wait in a transaction");
	if (wait_event == 0)
		wait_event = transcribe_wait_event("TranscribeWorkerMain");

	/* A set cannot forget a socket, so each agent gets a new one. */
	if (set == NULL || set_socket != agent_socket())
	{
		if (set != NULL)
			FreeWaitEventSet(set);
		set = transcribe_create_wait_event_set(3);
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		set_socket = agent_socket();
		if (set_socket >= 0)
			socket_pos = AddWaitEventToSet(set, WL_SOCKET_READABLE, set_socket,
										   NULL, NULL);
	}
	if (set_socket >= 0)
		ModifyWaitEvent(set, socket_pos, WL_SOCKET_READABLE |
						(agent_wants_write() ? WL_SOCKET_WRITEABLE : 0), NULL);

	if (claim_wanted || next_due != DT_NOEND)
	{
		int64		due = claim_wanted ? 0 :
			TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_due);

		timeout = Min(timeout, Max(due, claim_after - worker_clock()));
	}
	/* Nobody waits for our statistics, as jobs do for us. */
	pgstat_report_stat(true);
	(void) WaitEventSetWait(set, Max(timeout, 0), &event, 1, wait_event);
	ResetLatch(MyLatch);

	/* A query cancel ends a statement, and there is none. */
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);

		/* More may be allowed now, or less is to be kept. */
		claim_wanted = true;
		callbacks_look_again();
		purge_reset();
	}
}

/* Give back what is not finished; it costs the jobs nothing. */
static void
give_back_jobs(void)
{
	if (jobs == NIL)
		return;
	PG_TRY();
	{
		worker_begin(false);
		if (queue_find_extension())
			queue_give_back(incarnation, jobs);
		FAILPOINT("give_back_done");
		worker_commit();
		FAILPOINT("give_back_committed");
		pg_atomic_write_u32(&database->pending, 1);
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		me->jobs = 0;
		LWLockRelease(state->lock);
	}
	PG_CATCH();
	{
		worker_abort(false);
	}
	PG_END_TRY();
}

/*
 * Exit callback, on every way out: no child is left behind, nobody takes us
 * for alive, and the launcher sees to what is left to do.
 */
static void
leave(int code, Datum arg)
{
	FAILPOINT("leave_begun");
	callbacks_terminate();
	(void) agent_stop();

	pg_atomic_write_u64(&database->worker, 0);
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	if (me->jobs > 0 || claim_wanted)
		pg_atomic_write_u32(&database->pending, 1);
	database->next_due = no_extension ? DT_NOEND :
		Min(callbacks_due(), Min(next_due, purge_due()));
	memset(state_worker_progress(my_slot), 0,
		   sizeof(StateProgress) * transcribe_jobs_per_worker);
	memset(me, 0, sizeof(*me));
	if (no_extension && pg_atomic_read_u32(&database->pending) == 0 &&
		pg_atomic_read_u32(&database->doubtful) == 0)
		database->dbid = InvalidOid;
	LWLockRelease(state->lock);
	FAILPOINT("leave_done");
	pg_memory_barrier();
	state_wake(&state->launcher);
}

/*
 * Take the slot that the launcher took for us; false if it is gone, since the
 * launcher has started anew before we came.
 */
static bool
attach(int slot)
{
	bool		mine;

	state = transcribe_state();
	my_slot = slot;
	me = &state->workers[slot];
	if (!pg_strong_random(&incarnation, sizeof(incarnation)))
		elog(ERROR, "could not generate random number");

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	mine = me->in_use && me->pid == 0 && me->dbid == MyDatabaseId;
	if (mine)
	{
		database = &state->databases[me->database];
		me->incarnation = incarnation;
		me->pid = MyProcPid;
	}
	LWLockRelease(state->lock);
	return mine;
}

/* Connect, and be known. */
static void
start(int slot)
{
	char		title[BGW_MAXLEN];
	Oid			dbid;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, handle_sigterm);
	BackgroundWorkerUnblockSignals();

	/*
	 * The slot is ours only once we are connected: until then an early exit
	 * is a failed start, which the launcher collects.
	 */
	dbid = transcribe_state()->workers[slot].dbid;
	BackgroundWorkerInitializeConnectionByOid(dbid, InvalidOid, 0);
	settings_override();
	if (!attach(slot))
		proc_exit(0);
	before_shmem_exit(leave, (Datum) 0);
	pg_atomic_write_u64(&database->worker, (uint64) (uintptr_t) MyLatch);
	FAILPOINT("worker_attached");

	StartTransactionCommand();
	belong_to_owner();
	snprintf(title, sizeof(title), "transcribe worker: %s",
			 get_database_name(MyDatabaseId));
	CommitTransactionCommand();
	pgstat_report_appname(title);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Take what the agent has done, and give it at once what may start. */
static void
dispatch(void)
{
	ListCell   *lc;

	pump_agent();
	if (jobs == NIL)
		return;
	foreach(lc, jobs)
	{
		if (parked != NULL && ((Job *) lfirst(lc))->state == JOB_WAITING)
			job_await_restart(lfirst(lc), parked);
	}
	dispatch_recordings(jobs, me->give_way);
	dispatch_requests(jobs, me->give_way, &wake_at);
	flush_agent();
}

/*
 * Everything that is done without waiting; false: it is time to leave.  The
 * agent gets its work before each transaction and after, so that it waits for
 * no more than one of them; what failed on the way is written in the next turn.
 */
static bool
turn(void)
{
	bool		gathering;
	int64		now;

	wake_at = worker_clock() + PROBE_INTERVAL_MS * 4;
	dispatch();
	gathering = !shutdown_requested && write_may_wait(jobs);
	if (!gathering)
	{
		write_turn(incarnation, jobs);
		remove_ended_jobs();
		dispatch();
	}
	claim_turn();
	dispatch();
	purge_turn();
	bring_turn(jobs, &wake_at);
	bring_forget_turn(&wake_at);
	if (pg_atomic_exchange_u32(&database->callbacks, 0) != 0)
		callbacks_look_again();
	callbacks_turn(may_begin());
	if (shutdown_requested || !probe_turn())
	{
		if (gathering)
			write_turn(incarnation, jobs);
		return false;
	}
	now = worker_clock();
	for (ListCell *lc = list_head(jobs); lc != NULL; lc = lnext(jobs, lc))
	{
		if (job_wants_write(lfirst(lc), now))
			wake_at = gathering ? now + 1 : 0;
	}
	return idle_turn();
}

/*
 * A turn that goes on after an error of ours: jobs are under way, and answers
 * in memory that are paid for.  Where there are none the worker leaves, and the
 * launcher sees when to start the next.
 */
static bool
safe_turn(void)
{
	volatile bool stay = false;

	PG_TRY();
	{
		stay = turn();
	}
	PG_CATCH();
	{
		worker_abort(false);
		wake_at = worker_clock() + ERROR_PAUSE_MS;
		stay = jobs != NIL && !shutdown_requested;
	}
	PG_END_TRY();
	return stay;
}

/* Entry point, by name: see launcher.c. */
void
transcribe_worker_main(Datum arg)
{
	start(DatumGetInt32(arg));

	turn_context = AllocSetContextCreate(TopMemoryContext, "transcribe turn",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_context);
	while (safe_turn())
	{
		report_activity();
		wait_for_something();
		MemoryContextReset(turn_context);
	}

	(void) agent_stop();
	callbacks_stop();
	give_back_jobs();

	/* Not registered for restart: the launcher starts another when needed. */
	proc_exit(0);
}
