/*-------------------------------------------------------------------------
 *
 * job.c
 *	  The jobs that the agent carries: what the worker says of them.
 *
 * Runs in the agent.  A job is in the table while it has a media child or
 * holds a chunk; after that there is nothing to know of it, and it leaves the
 * table by itself.  The worker may therefore name jobs that are not here: to
 * drop or release them is done already, to send of them is refused.
 *
 * A worker carries some tens of jobs, and looks one up a few times for each
 * request, so that a list is all the table there has to be.
 *
 *-------------------------------------------------------------------------
 */
#include "agent/job.h"

#include <stdlib.h>

#include "agent/agent.h"
#include "agent/relay.h"

typedef struct Job
{
	Relay		relay;			/* relay.job is the number */
	struct Job *next;
} Job;

static Job *jobs;

/* The place in the list that points to the job, or to its end. */
static Job **
find(uint64_t id)
{
	Job		  **link = &jobs;

	while (*link != NULL && (*link)->relay.job != id)
		link = &(*link)->next;
	return link;
}

/*
 * OPEN: prepare a recording.  What is left of an earlier try of the same job
 * is dropped: the worker has moved on.
 */
void
job_open(uint64_t id, const WireOpen *open)
{
	Job		   *job;

	job_drop(id);
	job = calloc(1, sizeof(Job));
	if (job == NULL)
		agent_fatal("out of memory");
	job->relay.job = id;
	job->next = jobs;
	jobs = job;
	relay_open(&job->relay, open);
}

/* SEND: one chunk to one server.  There will be an answer, whatever it is. */
void
job_send(uint64_t id, const WireSend *send)
{
	Job		   *job = *find(id);
	Chunk	   *chunk = NULL;

	if (job != NULL)
		chunk = relay_chunk(&job->relay, send->chunk_no);
	http_send(id, chunk != NULL ? &chunk->audio : NULL, send);
}

/* RELEASE: the chunk will not be sent again.  One being sent stays so long. */
void
job_release(uint64_t id, uint32_t chunk_no)
{
	Job		   *job = *find(id);
	Chunk	   *chunk = NULL;

	if (job != NULL)
		chunk = relay_chunk(&job->relay, chunk_no);
	if (chunk != NULL)
		chunk->released = true;
}

/*
 * DROP: end all that is done for the job, and say nothing more of it.  (What
 * has been said may still be on its way to the worker.)
 */
void
job_drop(uint64_t id)
{
	Job		  **link = find(id);
	Job		   *job = *link;

	http_drop(id);
	if (job == NULL)
		return;
	relay_drop(&job->relay);
	*link = job->next;
	free(job);
}

/*
 * Before the wait: free what is done with, watch what may come.  All chunks
 * are freed first, since the memory of one job may be what another waits for.
 */
void
job_watch_all(void)
{
	Job		  **link = &jobs;

	for (Job *job = jobs; job != NULL; job = job->next)
		relay_sweep(&job->relay);
	while (*link != NULL)
	{
		Job		   *job = *link;

		relay_watch(&job->relay);
		if (job->relay.child == NULL && job->relay.chunks == NULL)
		{
			*link = job->next;
			free(job);
		}
		else
			link = &job->next;
	}
}

/* After the wait: let every job's media side do what it can. */
void
job_turn_all(void)
{
	for (Job *job = jobs; job != NULL; job = job->next)
		relay_turn(&job->relay);
}

/* The agent ends. */
void
job_drop_all(void)
{
	while (jobs != NULL)
		job_drop(jobs->relay.job);
}
