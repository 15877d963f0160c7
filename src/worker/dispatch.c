/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *	  Which recordings are begun, and which chunks are sent.
 *
 * Runs in the worker, each turn and outside of any transaction.  What there is
 * to do for the agent is chosen here, by what may be read at the same time and
 * by what the servers have room for.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/dispatch.h"

#include "transcribe.h"
#include "worker/agent.h"
#include "worker/bring.h"
#include "worker/endpoint.h"
#include "worker/job.h"
#include "worker/limits.h"
#include "worker/worker.h"

/* Say what a job waits for, unless that is said already. */
static void
note_waiting(Job *job, const char *what)
{
	if (strcmp(job->note, what) != 0)
		job_note(job, "%s", what);
}

/*
 * Whether the agent's memory is full, and of that some waits for the job's
 * server: another recording for it would only lie about.
 */
static bool
enough_prepared(Job *job, List *senders)
{
	ListCell   *lc;

	foreach(lc, senders)
	{
		Job		   *other = lfirst(lc);

		if (other->server.serverid == job->server.serverid)
			return job_memory_full();
	}
	return false;
}

/* Begin to read a job's recording, which may have to be brought first. */
static void
open_step(Job *job, void *arg)
{
	if (bring_is_wanted(job))
		bring_begin(job);
	else if (agent_start())
		job_open(job);
	else
		job_fail(job, "agent_unavailable", true, false, -1,
				 "transcribe_agent could not be started; the server's log says why");
}

/*
 * Start as many recordings as may be read at the same time; none where the
 * worker gives way.
 */
void
dispatch_recordings(List *jobs, bool give_way)
{
	List	   *senders = NIL;
	int			busy = 0;
	ListCell   *lc;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		job_cut_again(job);
		busy += job_media_busy(job) || bring_is_under_way(job);
		if (job_ready_chunk(job) != NULL)
			senders = lappend(senders, job);
	}
	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);
		bool		has_place = bring_is_under_way(job);

		if (give_way)
			break;
		if ((busy >= transcribe_media_processes && !has_place) ||
			job->state != JOB_WAITING || job_give_way(job))
			continue;
		if (has_place)
		{
			if (bring_is_whole(job))
				worker_do_for_job(job, open_step, NULL);
			continue;
		}
		if (enough_prepared(job, senders))
		{
			note_waiting(job, "waiting for its turn at the server");
			continue;
		}
		worker_do_for_job(job, open_step, NULL);
		busy += job_media_busy(job) || bring_is_under_way(job);
	}
	list_free(senders);
}

/*
 * The job that sends next, of those whose servers have room; NULL if there is
 * none.  Where the worker gives way, only one of which nothing is saved since it
 * was claimed: each gets on, however long its recording and short our turn.
 */
static Job *
next_sender(List *jobs, bool give_way, int64 now, int64 *wake_at)
{
	Job		   *next = NULL;
	ListCell   *lc;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		if (job_ready_chunk(job) != NULL &&
			!(give_way && job_has_saved(job)) &&
			(next == NULL || job_goes_before(job, next)) &&
			limits_may_start(&job->server, job->key, now, wake_at))
			next = job;
	}
	return next;
}

/* Send a job's next chunk. */
static void
send_step(Job *job, void *arg)
{
	const char *problem = endpoint_read_key(job);

	if (problem != NULL)
		job_stop_server(job, "key_missing", problem);
	else
		job_send_chunk(job, job_ready_chunk(job));
}

/*
 * Start as many requests as their servers have room for.  When more may be done
 * is put into wake_at, if that is sooner.
 */
void
dispatch_requests(List *jobs, bool give_way, int64 *wake_at)
{
	int64		now = worker_clock();
	Job		   *next;
	ListCell   *lc;

	foreach(lc, jobs)
		job_check_deadlines(lfirst(lc), now);
	while ((next = next_sender(jobs, give_way, now, wake_at)) != NULL)
		worker_do_for_job(next, send_step, NULL);
	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);
		StateClosure closure;

		if (job->write_after > now)
			*wake_at = Min(*wake_at, job->write_after);
		if (job->state == JOB_TRANSCRIBING && !job->noted_transcribing)
			*wake_at = Min(*wake_at, job->note_after);
		if (job_ready_chunk(job) != NULL && !job_give_way(job) &&
			job->requests == 0)
			note_waiting(job, limits_closed(&job->server, job->key, now, &closure) ?
						 "waiting until the server takes requests again" :
						 "waiting for its turn at the server");
	}
}
