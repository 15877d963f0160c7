/*-------------------------------------------------------------------------
 *
 * write.c
 *	  What the jobs of a turn have to write, all together.
 *
 * Runs in the worker.  All of it goes into one transaction; if that fails, each
 * job is tried alone.  Inside of it nothing of a job is changed but what
 * job_written(), or another write_rows(), sets right.  There is one statement
 * for each kind of change, however many jobs want it: where jobs are short,
 * planning a statement takes longer than what it does for one of them.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/write.h"

#include "utils/timestamp.h"

#include "shared/failpoint.h"
#include "transcribe.h"
#include "worker/queue.h"
#include "worker/save.h"
#include "worker/worker.h"

/* An error that one job's row keeps raising ends its attempt. */
#define MAX_WRITE_ERRORS	5

/* How long an answer waits for others. */
#define GATHER_US			1000

/* How long jobs are tried alone in one turn where each may wait for a lock. */
#define WRITE_ALONE_MS		1000

static bool
starts_over(Job *job)
{
	return job->starts_over;
}

static bool
begins_transcribing(Job *job)
{
	return job_notes_transcribing(job, worker_clock());
}

static bool
fails(Job *job)
{
	return job->state == JOB_ENDING;
}

static bool
completes(Job *job)
{
	return job->state != JOB_ENDING && job_all_answered(job);
}

/* Those of the jobs that want a change, and whose claims are not lost. */
static List *
select_jobs(List *jobs, bool (*wants) (Job *))
{
	List	   *selected = NIL;
	ListCell   *lc;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		if (!job->write_lost && wants(job))
			selected = lappend(selected, job);
	}
	return selected;
}

/*
 * Make a change to those of the jobs that want it; then the row has the status,
 * if one is given.
 */
static void
change(int64 incarnation, List *jobs, bool (*wants) (Job *),
	   void (*make) (int64 incarnation, List *jobs), const char *status)
{
	List	   *selected = select_jobs(jobs, wants);
	ListCell   *lc;

	if (selected == NIL)
		return;
	make(incarnation, selected);
	foreach(lc, selected)
	{
		Job		   *job = lfirst(lc);

		if (status != NULL && !job->write_lost)
			job->write_status = status;
	}
}

/*
 * Put into the rows of the jobs, and beside them, whatever there is to put.  Of
 * one whose claim is lost only what was asked of servers.
 *
 * Which claims hold is found out by locking the rows: those of jobs that
 * complete by the statement that completes them, the others by one that does
 * nothing else.  What stands beside a row comes after that.
 */
static void
write_rows(int64 incarnation, List *jobs)
{
	List	   *completing;
	List	   *there;
	List	   *requested = NIL;
	ListCell   *lc;

	jobs = queue_by_id(jobs);
	foreach(lc, jobs)
	{
		((Job *) lfirst(lc))->write_status = NULL;
		((Job *) lfirst(lc))->write_lost = false;
	}
	change(incarnation, jobs, starts_over, queue_start_over, NULL);
	change(incarnation, jobs, completes, queue_complete, "completed");
	completing = select_jobs(jobs, completes);
	there = queue_by_id(list_concat(queue_hold(incarnation,
											   list_difference_ptr(jobs, completing)),
									completing));
	foreach(lc, there)
	{
		if (((Job *) lfirst(lc))->ended_requests != NIL)
			requested = lappend(requested, lfirst(lc));
	}
	if (requested != NIL)
		queue_save_attempts(requested);
	change(incarnation, there, begins_transcribing, queue_transcribing, "transcribing");
	change(incarnation, there, job_has_answers, save_answers, NULL);
	change(incarnation, there, fails, queue_fail, NULL);
}

/* Whether a change of the job is one that is announced. */
static bool
wants_notify(Job *job)
{
	if (job->write_status == NULL || transcribe_notify == TRANSCRIBE_NOTIFY_OFF)
		return false;
	return transcribe_notify == TRANSCRIBE_NOTIFY_ALL ||
		strcmp(job->write_status, "completed") == 0 ||
		strcmp(job->write_status, "failed") == 0;
}

/*
 * Announce changes, in a transaction of its own: a commit with NOTIFY waits
 * for a lock that is global to the cluster.  Losing it loses nothing, the
 * table is the truth.
 */
static void
notify(List *written)
{
	bool		any = false;
	ListCell   *lc;

	foreach(lc, written)
		any |= wants_notify(lfirst(lc));
	if (!any)
		return;
	PG_TRY();
	{
		worker_begin(false);
		foreach(lc, written)
		{
			Job		   *job = lfirst(lc);

			if (wants_notify(job))
				queue_notify(job->id, job->write_status);
		}
		FAILPOINT("notify_done");
		worker_commit();
		FAILPOINT("notify_committed");
	}
	PG_CATCH();
	{
		worker_abort(false);
	}
	PG_END_TRY();
}

/*
 * Whether an error is nothing to do with what we do, and passes by itself: a
 * full disk, want of memory, a lock that is held.
 */
static bool
may_pass(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
		case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
		case ERRCODE_TO_CATEGORY(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE):
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR):
			return true;
		default:
			return false;
	}
}

/*
 * Write what the jobs have to write, in one transaction; false if it failed,
 * and whether that may pass.
 */
static bool
write_jobs(int64 incarnation, List *writers, bool *passes)
{
	volatile bool good = false;
	ListCell   *lc;

	PG_TRY();
	{
		bool		durable = false;

		foreach(lc, writers)
			durable |= job_wants_durable_write(lfirst(lc));
		worker_begin(durable);
		if (durable)
			FAILPOINT("save_begun");
		if (queue_find_extension())
			write_rows(incarnation, writers);
		else
		{
			/* Dropped, and with it all that they are jobs of. */
			foreach(lc, writers)
				((Job *) lfirst(lc))->write_lost = true;
			worker_look_again();
		}
		if (durable)
			FAILPOINT("save_done");
		worker_commit();
		good = true;
		if (durable)
			FAILPOINT("save_committed");
	}
	PG_CATCH();
	{
		*passes = may_pass(geterrcode());
		worker_abort(false);
	}
	PG_END_TRY();

	if (good)
	{
		foreach(lc, writers)
			job_written(lfirst(lc));
		notify(writers);
	}
	return good;
}

/*
 * One job's transaction fails by itself.  The answer, which is paid for, stays
 * in memory and its turn comes again: a lock that is held is let go some time, a
 * full disk is emptied.  Any other error that comes over and over ends the
 * attempt; but what it is about may be the requests only, whose numbers come from
 * a sequence that others may set back.
 */
static void
defer_write(Job *job, bool passes)
{
	int64		now = worker_clock();

	job->write_errors++;
	job->write_after = now + ERROR_PAUSE_MS * Min(job->write_errors, 60);

	/* A result is worth more than the history of its requests. */
	if (!passes && job->write_errors > 1)
		job->ended_requests = NIL;
	if (!passes && job->write_errors >= MAX_WRITE_ERRORS && job->state < JOB_ENDING)
	{
		job_fail(job, "internal_error", true, true, -1,
				 "the result could not be saved; the server's log says why");
		list_free(job->chunks);
		job->chunks = NIL;
	}
}

/*
 * Whether what is to be saved had better wait a moment for more: requests have
 * only just been sent, and others have answers already.  A commit that is durable
 * takes longer than answers that come so fast, and serves all that are there.
 */
bool
write_may_wait(List *jobs)
{
	static TimestampTz since = 0;	/* something to save waits */
	TimestampTz now = GetCurrentTimestamp();
	bool		answers = false;
	bool		fresh = false;
	ListCell   *lc;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		answers |= job_wants_durable_write(job);
		fresh |= job->requests > 0 && now < job->last_sent + GATHER_US;
	}
	if (!answers || !fresh || (since != 0 && now >= since + GATHER_US))
	{
		since = 0;
		return false;
	}
	if (since == 0)
		since = now;
	return true;
}

/*
 * Write for all jobs that have something to write.  If that fails each is tried
 * alone; but those behind some that wait in vain for a lock have to wait for
 * the next turn, since there is more to do than that.
 */
void
write_turn(int64 incarnation, List *jobs)
{
	List	   *writers = NIL;
	int64		now = worker_clock();
	int64		alone_until;
	bool		passes = false;
	ListCell   *lc;

	foreach(lc, jobs)
	{
		if (job_wants_write(lfirst(lc), now))
			writers = lappend(writers, lfirst(lc));
	}
	if (writers != NIL && !write_jobs(incarnation, writers, &passes))
	{
		alone_until = worker_clock() + WRITE_ALONE_MS;
		foreach(lc, writers)
		{
			List	   *alone = list_make1(lfirst(lc));

			if (worker_clock() > alone_until || worker_is_leaving())
				break;
			if (list_length(writers) == 1 || !write_jobs(incarnation, alone, &passes))
				defer_write(lfirst(lc), passes);
			list_free(alone);
		}
	}
	list_free(writers);
}
