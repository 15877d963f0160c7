/*-------------------------------------------------------------------------
 *
 * write.c
 *	  What the jobs of a turn have to write, all together.
 *
 * Runs in the worker, inside a transaction that may yet fail: nothing of a
 * job is changed here but what job_written(), or another write_rows(), sets
 * right.  There is one statement for each kind of change, however many jobs
 * want it: where jobs are short, planning a statement takes longer than what
 * it does for one of them.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/write.h"

#include "worker/queue.h"
#include "worker/save.h"
#include "worker/worker.h"

static bool
has_requests(Job *job)
{
	return job->ended_requests != NIL;
}

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
 * Make a change to those of the jobs that want it.  A claim counts as lost
 * until the statement has found that it holds; then the row has the status, if
 * one is given.
 */
static void
change(int64 incarnation, List *jobs, bool (*wants) (Job *),
	   void (*make) (int64 incarnation, List *jobs), const char *status)
{
	List	   *selected = select_jobs(jobs, wants);
	ListCell   *lc;

	if (selected == NIL)
		return;
	foreach(lc, selected)
		((Job *) lfirst(lc))->write_lost = true;
	make(incarnation, selected);
	foreach(lc, selected)
	{
		Job		   *job = lfirst(lc);

		if (status != NULL && !job->write_lost)
			job->write_status = status;
	}
}

/* Put into the rows of the jobs, and beside them, whatever there is to put. */
void
write_rows(int64 incarnation, List *jobs)
{
	List	   *requested;
	ListCell   *lc;

	jobs = queue_by_id(jobs);
	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		job->write_lost = false;
		job->write_status = NULL;
	}
	requested = select_jobs(jobs, has_requests);
	if (requested != NIL)
		queue_save_attempts(requested);
	change(incarnation, jobs, starts_over, queue_start_over, NULL);
	change(incarnation, jobs, begins_transcribing, queue_transcribing, "transcribing");
	change(incarnation, jobs, job_has_answers, save_answers, NULL);
	change(incarnation, jobs, fails, queue_fail, NULL);
	change(incarnation, jobs, completes, queue_complete, "completed");
}
