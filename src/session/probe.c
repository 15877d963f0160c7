/*-------------------------------------------------------------------------
 *
 * probe.c
 *	  A spoken sentence on the way that recordings go, and what comes of it.
 *
 * Runs in the caller's backend.  The probe is a job as the worker has them,
 * and goes through the worker's own code: its key is found by endpoint.c, its
 * agent started by agent.c, its frames read by job.c, its request made by
 * request.c and the answer read by response.c.  It stands in no table, so
 * that nothing of it is ever written; the agent is a child of this backend;
 * and what closes a server to jobs neither stops it nor comes of it.
 *
 * A function cannot end the transaction that it is called in.  So this one
 * waits inside a transaction, which nothing else of ours does: on latch and
 * socket, open to interrupts, and not for long.  probe_end() ends the agent
 * and wipes the key; whoever runs a probe sees to it that it is called, also
 * where the session ends: PG 15's exit closes no socket of ours before the
 * process is gone, and reaps nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "session/probe.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "shared/closure.h"
#include "worker/agent.h"
#include "worker/endpoint.h"
#include "worker/failure.h"
#include "worker/request.h"
#include "worker/worker.h"

/* The recording, beside the extension's SQL. */
#define RECORDING		"transcribe_check.ogg"

/* The longest time until it is prepared; it takes a tenth of a second. */
#define MEDIA_TIMEOUT_MS	30000

/* How often to look whether a time is over. */
#define NAP_MS			1000

static Probe *current = NULL;	/* whose frames come in */

/* What a job would call a refusal. */
static const char *
code_of(const WireResponse *response)
{
	switch (response->status)
	{
		case 401:
		case 403:
			return "unauthorized";
		case 429:
			return response_is_out_of_quota(response->body, response->body_len) ?
				"quota_exhausted" : "rate_limited";
		default:
			return failure_of_status(response->status).code;
	}
}

/* An answer has come; the frame is a copy. */
static void
note_answer(WireFrame frame)
{
	WireResponse response;
	MemoryContext oldcontext;

	if (!wire_get_response(&frame, &response))
		return;
	oldcontext = MemoryContextSwitchTo(current->job->context);
	if (current->status == 0)
	{
		current->reach = response.reach;
		current->reach.address = pstrdup(response.reach.address);
	}
	current->status = response.status;
	current->seconds = response.seconds;
	if (response.status != 200)
	{
		current->code = code_of(&response);
		current->error = response_refusal(response.body, response.body_len,
										  response.status);
		current->refuses_model = response_refuses_model(response.body,
														response.body_len);
	}
	MemoryContextSwitchTo(oldcontext);
}

/* None will come; the frame is a copy. */
static void
note_failure(WireFrame frame)
{
	WireRequestFailed failed;

	if (!wire_get_request_failed(&frame, &failed) || current->status != 0)
		return;
	current->reach = failed.reach;
	current->reach.address = MemoryContextStrdup(current->job->context,
												 failed.reach.address);
}

/* A frame has come from the agent. */
static void
handle_frame(WireFrame *frame)
{
	Job		   *job = current->job;

	if (frame->job != job->tag)
		return;
	if (frame->type == WIRE_RESPONSE)
		note_answer(*frame);
	else if (frame->type == WIRE_REQUEST_FAILED)
		note_failure(*frame);
	job_handle_frame(job, frame);

	/*
	 * If the job asks in another way at once, that is not the verdict.  Else it
	 * is one also where a job would wait and ask again.
	 */
	if ((current->status == 400 || current->status == 422) &&
		job_ready_chunk(job) != NULL)
		current->code = NULL;
	if (current->code != NULL)
		job_fail(job, current->code, false, false, -1, "%s", current->error);
}

/* Whether there is nothing more to come. */
static bool
is_over(Probe *probe)
{
	Job		   *job = probe->job;

	if (job->state >= JOB_ENDING)
		return true;
	if (job->chunks == NIL || probe->media_only)
		return job->media_ended;
	return ((JobChunk *) linitial(job->chunks))->state >= CHUNK_ANSWERED;
}

/* Wait for the agent, an interrupt, or a moment. */
static void
wait_for_agent(void)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = transcribe_wait_event("TranscribeCheckServer");
	(void) WaitLatchOrSocket(MyLatch,
							 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT |
							 WL_SOCKET_READABLE |
							 (agent_wants_write() ? WL_SOCKET_WRITEABLE : 0),
							 agent_socket(), NAP_MS, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Do for the job what the worker's loop would do, until it is over. */
static void
drive(Probe *probe)
{
	Job		   *job = probe->job;
	int64		deadline = worker_clock() + MEDIA_TIMEOUT_MS;
	JobChunk   *chunk;

	for (;;)
	{
		if (!agent_pump(handle_frame))
			job_agent_died(job, agent_stop());
		if (is_over(probe))
			return;
		if (!probe->media_only && (chunk = job_ready_chunk(job)) != NULL)
		{
			job_send_chunk(job, chunk);
			continue;
		}
		job_check_deadlines(job, worker_clock());
		if ((job->chunks == NIL || probe->media_only) && worker_clock() > deadline)
			job_fail(job, "media_timeout", true, true, -1,
					 "preparing a sentence took longer than %d s",
					 MEDIA_TIMEOUT_MS / 1000);
		if (!is_over(probe))
			wait_for_agent();
	}
}

/* Make it a job with the recording; which file that is was not said by the role. */
static void
fill_recording(Job *job)
{
	char		share[MAXPGPATH];

	get_share_path(my_exec_path, share);
	job->path = MemoryContextStrdup(job->context,
									psprintf("%s/extension/" RECORDING, share));
	job->any_file = true;
}

/* Make it a job that asks the server for what the recording says. */
static void
fill_job(Job *job, const char *server, Oid roleid, bool words)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);

	job->owner = GetUserNameFromId(roleid, false);
	job->servers = server_list_text(list_make1(unconstify(char *, server)));
	job->options.words = words;
	MemoryContextSwitchTo(oldcontext);
}

/* Free the job of a probe, and what is counted for it. */
static void
forget_job(Probe *probe)
{
	if (probe->job == NULL)
		return;
	if (probe->job->state < JOB_ENDING)
		job_drop(probe->job);
	job_free(probe->job);
	probe->job = NULL;
}

/* Begin anew; an agent that runs is used again. */
static void
begin(Probe *probe)
{
	forget_job(probe);
	memset(probe, 0, sizeof(*probe));
	current = probe;
	closure_set_aside(true);
	probe->job = job_create(0);
}

/* Have the agent do it, and note what came of it. */
static void
run(Probe *probe)
{
	Job		   *job = probe->job;

	if (job->state == JOB_WAITING && !agent_start())
		job_fail(job, "agent_unavailable", true, false, -1,
				 "transcribe_agent could not be started; the server's log says why");
	if (job->state == JOB_WAITING)
	{
		job_open(job);
		drive(probe);
	}
	if (job->failure != NULL)
	{
		if (probe->code == NULL)
			probe->code = job->failure->code;
		probe->error = job->failure->error;
	}
	closure_set_aside(false);
}

/* Have the recording read and encoded, as for a server without options. */
void
probe_media(Probe *probe)
{
	MemoryContext oldcontext;

	begin(probe);
	probe->media_only = true;
	fill_recording(probe->job);
	oldcontext = MemoryContextSwitchTo(probe->job->context);
	server_defaults(&probe->job->server);
	MemoryContextSwitchTo(oldcontext);
	run(probe);
}

/*
 * Send the recording to the server with the rights and the key of the role,
 * asking for times of words or not, and note what happens.  The server must be
 * one that the role may use.  A probe may be run again; an agent that runs is
 * used again.
 */
void
probe_run(Probe *probe, const char *server, Oid roleid, bool words)
{
	Job		   *job;
	EndpointLookup lookup = {0};
	const char *problem;

	begin(probe);
	job = probe->job;
	fill_job(job, server, roleid, words);
	request_forget_text();
	endpoint_resolve(job, &lookup);
	if (job->state == JOB_WAITING && (problem = endpoint_read_key(job)) != NULL)
		job_fail(job, "key_missing", false, true, -1, "%s", problem);

	fill_recording(job);
	job->server.request_timeout = Min(job->server.request_timeout,
									  PROBE_TIMEOUT_MS);
	run(probe);
}

/*
 * End the agent, and forget the probe.  An exit callback, too: the session may
 * end while it waits.
 */
void
probe_end(int code, Datum arg)
{
	Probe	   *probe = (Probe *) DatumGetPointer(arg);

	(void) agent_stop();
	forget_job(probe);
	closure_set_aside(false);
	current = NULL;
}
