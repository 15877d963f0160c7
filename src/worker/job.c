/*-------------------------------------------------------------------------
 *
 * job.c
 *	  One job in flight: its states, and what moves it from one to the next.
 *
 * Runs in the worker.  Frames from the agent come in through
 * job_handle_frame(), which touches memory only.  What has to go into the
 * row is written by write.c, inside a transaction that may hold many jobs;
 * job_written() then draws the consequences, once it has committed.
 * Nothing here waits for anything.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/job.h"

#include <math.h>

#include "common/pg_prng.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "shared/failpoint.h"
#include "shared/stats.h"
#include "transcribe.h"
#include "worker/agent.h"
#include "worker/attempts.h"
#include "worker/bring.h"
#include "worker/failure.h"
#include "worker/fit.h"
#include "worker/limits.h"
#include "worker/plan.h"
#include "worker/progress.h"
#include "worker/request.h"
#include "worker/utf8.h"
#include "worker/worker.h"

/*
 * A media child that says nothing for so long, while it is not held up by
 * chunks that wait to be sent, is stuck: on a dead file system, say.
 */
#define MEDIA_SILENCE_MS		120000

/* The agent ends requests in time; one that it does not is its own fault. */
#define REQUEST_OVERTIME_MS		30000

/* A request is noted in the row if it is not over by then. */
#define NOTE_AFTER_MS			100

/*
 * A job whose server has asked for a longer pause goes back to the queue, and
 * makes room for those of other servers; for a shorter one it stays as it is.
 */
#define LONGEST_PAUSE_MS		60000

/* Keys of real services have some dozens of characters. */
#define SHORTEST_KEY			8

/* After an error while writing, the next try. */
#define WRITE_RETRY_MS			1000

/* Bytes of the chunks that the agent holds, for all jobs together. */
static uint64 held_bytes = 0;

/* A name for what the agent does for a job, that no other ever had. */
static uint64
new_tag(void)
{
	static uint64 tag = 0;

	return ++tag;
}

/* A job in a memory context of its own. */
Job *
job_create(int64 id)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "transcribe job",
												  ALLOCSET_SMALL_SIZES);
	Job		   *job = MemoryContextAllocZero(context, sizeof(Job));

	job->context = context;
	job->id = id;
	job->tag = new_tag();
	job->state = JOB_WAITING;
	return job;
}

/* Forget a job; its key is wiped. */
void
job_free(Job *job)
{
	if (job->api_key != NULL)
		explicit_bzero(job->api_key, strlen(job->api_key));
	if (job->held)
		limits_release(job->server.serverid);
	bring_end(job);
	if (job->progress != NULL)
	{
		TranscribeState *state = transcribe_state();

		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		job->progress->job_id = 0;
		LWLockRelease(state->lock);
	}
	MemoryContextDelete(job->context);
}

/* The only door between states. */
void
job_set_state(Job *job, JobState state)
{
	static const uint8 allowed[] = {
		[JOB_WAITING] = 1 << JOB_PREPROCESSING | 1 << JOB_ENDING | 1 << JOB_ENDED,
		[JOB_PREPROCESSING] = 1 << JOB_WAITING | 1 << JOB_TRANSCRIBING |
			1 << JOB_ENDING | 1 << JOB_ENDED,
		[JOB_TRANSCRIBING] = 1 << JOB_WAITING | 1 << JOB_ENDING | 1 << JOB_ENDED,
		[JOB_ENDING] = 1 << JOB_ENDED,
		[JOB_ENDED] = 0
	};

	if ((allowed[job->state] & (1 << state)) == 0)
		elog(ERROR, "transcription job " INT64_FORMAT " cannot go from state %d to %d",
			 job->id, job->state, state);
	job->state = state;
}

/* The number that a chunk of this attempt is saved under. */
int
job_saved_number(Job *job, uint32 chunk_no)
{
	int			first = 0;
	ListCell   *lc;

	foreach(lc, job->saved)
		first = Max(first, ((JobSaved *) lfirst(lc))->chunk_no + 1);
	return first + (int) chunk_no;
}

/* Say what is being done with the job. */
void
job_note(Job *job, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(job->note, sizeof(job->note), fmt, args);
	va_end(args);
	progress_publish(job);
}

/* Finished chunks of the job at one time: those that can be sent, and one. */
static uint32
job_max_held(Job *job)
{
	return job->server.max_requests > 0 ?
		(uint32) job->server.max_requests + 1 : UINT32_MAX;
}

/* How many of the job's chunks are in that state. */
static int
count_chunks(Job *job, ChunkState state)
{
	int			count = 0;
	ListCell   *lc;

	foreach(lc, job->chunks)
		count += ((JobChunk *) lfirst(lc))->state == state;
	return count;
}

/* Whether the job's media child is at work, not waiting for its chunks to go. */
bool
job_media_busy(Job *job)
{
	return job->media_running &&
		wire_may_bring(count_chunks(job, CHUNK_READY) + job->requests,
					   job_max_held(job), held_bytes);
}

/* Whether the agent holds as much as it may. */
bool
job_memory_full(void)
{
	return held_bytes >= WIRE_MAX_HELD_BYTES;
}

/* How much that is. */
uint64
job_held_bytes(void)
{
	return held_bytes;
}

/* The agent has let go of the chunk's audio, or is about to. */
static void
forget_audio(JobChunk *chunk)
{
	held_bytes -= chunk->size;
	chunk->size = 0;
}

/* The chunk's request is over; for now it is one that may be sent. */
static void
end_request(Job *job, JobChunk *chunk)
{
	limits_finished(job->server.serverid);
	job->requests--;
	chunk->state = CHUNK_READY;
}

/*
 * Stop all that the agent does for the job.  It says nothing more of it, so
 * the requests under way count as finished here.
 */
void
job_drop(Job *job)
{
	ListCell   *lc;

	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		if (chunk->state == CHUNK_SENT)
			end_request(job, chunk);
		forget_audio(chunk);
	}
	job->media_running = false;
	bring_end(job);
	if (agent_running())
	{
		wire_begin(agent_output(), WIRE_DROP, job->tag);
		wire_end(agent_output());
	}
}

/*
 * Servers quote the key that they refuse, some of them whole.  What stands for
 * a key where none is asked for ("none") is too short to be one.
 */
static void
hide_key(char *text, const char *key)
{
	size_t		len = key != NULL ? strlen(key) : 0;
	size_t		left = strlen(text);

	if (len < SHORTEST_KEY)
		return;
	for (char *found = text; (found = strstr(found, key)) != NULL;)
		memset(found, '*', len);

	/* Long words are cut off, perhaps in the middle of it. */
	while (--len >= SHORTEST_KEY)
	{
		if (left >= len && strncmp(text + left - len, key, len) == 0)
			memset(text + left - len, '*', len);
	}
}

/*
 * The attempt has failed.  retry_after is what a server asked to wait, in
 * milliseconds, or -1.  Answers that have come already are saved all the
 * same, before the row says that it failed.
 */
void
job_fail(Job *job, const char *code, bool retry, bool charge,
		 int64 retry_after, const char *fmt,...)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);
	StringInfoData raw;
	StringInfoData clean;
	JobFailure *failure;
	int			save_errno = errno;

	if (job->state >= JOB_ENDING)
	{
		MemoryContextSwitchTo(oldcontext);
		return;
	}
	initStringInfo(&raw);
	for (;;)
	{
		va_list		args;
		int			needed;

		errno = save_errno;
		va_start(args, fmt);
		needed = appendStringInfoVA(&raw, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&raw, needed);
	}
	initStringInfo(&clean);
	utf8_append_clean(&clean, raw.data, raw.len);
	hide_key(clean.data, job->api_key);

	failure = palloc0(sizeof(JobFailure));
	failure->error = clean.data;
	failure->code = pstrdup(code);
	failure->retry = retry;
	failure->charge = charge;
	failure->delay = failure_backoff(job->attempts, job->server.retry_interval,
									 job->server.retry_max_interval, retry_after,
									 pg_prng_double(&pg_global_prng_state));
	job->failure = failure;
	MemoryContextSwitchTo(oldcontext);
	job_drop(job);
	job_set_state(job, JOB_ENDING);
}

/* A program of ours is of another version: the job goes back, at no cost. */
void
job_await_restart(Job *job, const char *program)
{
	job_fail(job, "other_version", true, false, -1,
			 "%s is of another version than the library that the server has loaded",
			 program);
}

/* Whether that is why it has failed, or that media is of another version. */
bool
job_awaits_restart(Job *job)
{
	return job->failure != NULL &&
		strcmp(job->failure->code, "other_version") == 0;
}

/* The agent is gone, and with it everything that was under way. */
void
job_agent_died(Job *job, const char *how)
{
	if (agent_is_stranger())
		job_await_restart(job, "transcribe_agent");
	if (job->state == JOB_WAITING || job->state >= JOB_ENDING)
		return;
	job_fail(job, "crashed", true, false, -1, "transcribe_agent %s", how);
	job->failure->crashed = true;
}

/*
 * That the attempt failed was its server's fault: if another one follows in
 * the list, the job goes there at once.
 */
static void
blame_server(Job *job)
{
	if (job->failure == NULL || job->last_server)
		return;
	job->failure->retry = true;
	job->failure->delay = 0;
}

/*
 * The server is closed to the job: it waits in the queue, at no cost, until
 * there is a place for it again, there or elsewhere.
 */
static void
fail_closed(Job *job, const StateClosure *closure)
{
	job_fail(job, closure->code, true, false, -1, "%s", closure->reason);
	job->failure->delay = 0;
}

/*
 * Tell what is saved already.  Whether it is of the same file is for the one
 * to say who opens it.
 */
static void
put_saved(Job *job, WireOpen *open)
{
	const char *plan;
	MemoryContext oldcontext;
	WireStretch *done;
	ListCell   *lc;

	if (job->saved == NIL || list_length(job->saved) > WIRE_MAX_SPANS)
		return;
	plan = ((JobSaved *) linitial(job->saved))->plan;
	oldcontext = MemoryContextSwitchTo(job->context);
	open->done_of = pnstrdup(plan, strcspn(plan, "/"));
	if (job->file != NULL)
		open->done_of = bring_done_of(job, open->done_of);
	done = palloc_array(WireStretch, list_length(job->saved));
	foreach(lc, job->saved)
		done[open->ndone++] = ((JobSaved *) lfirst(lc))->stretch;
	open->done = (const char *) done;
	MemoryContextSwitchTo(oldcontext);
}

/* Have the agent read the recording. */
void
job_open(Job *job)
{
	WireOpen	open = {0};

	FAILPOINT("open");
	open.path = job->path;
	if (job->file != NULL)
		open.path = bring_path(job);
	else if (!job->any_file)
	{
		ListCell   *lc;

		foreach(lc, transcribe_media_directory_list())
		{
			if (open.nroots < WIRE_MAX_ROOTS)
				open.roots[open.nroots++] = lfirst(lc);
		}
		if (open.nroots == 0)
		{
			job_fail(job, "permission_denied", false, true, -1,
					 "role \"%s\" may not read files of the server", job->owner);
			return;
		}
	}
	open.format = job->server.audio_format;
	job->chunk_seconds = request_chunk_seconds(job);
	open.chunk_seconds = job->chunk_seconds;
	open.max_chunk_bytes = job->server.max_upload_bytes;
	fit_open(job->server.serverid, request_model(job), &open);
	open.max_held = job_max_held(job);
	open.max_source_bytes = (uint64) transcribe_max_file_size * 1024 * 1024;
	open.max_seconds = transcribe_max_duration;
	open.keep_silence = job->server.keep_silence;
	open.min_silence = job->server.min_silence / 1000.0;
	open.pad_before = job->server.pad_before / 1000.0;
	open.pad_after = job->server.pad_after / 1000.0;
	open.silence_threshold = job->server.silence_threshold;
	open.split_channels = plan_splits_channels(job, &job->server);
	put_saved(job, &open);
	open.require_sandbox = transcribe_sandbox == TRANSCRIBE_SANDBOX_REQUIRE;
	wire_put_open(agent_output(), job->tag, &open);
	job->media_running = true;
	job->opened = GetCurrentTimestamp();
	job->last_frame = job->last_check = worker_clock();
	job_set_state(job, JOB_PREPROCESSING);
	job_note(job, "reading the recording");

	/* What a check asks for is not counted: it is in no table either. */
	if (job->id != 0)
		stats_begin(job->server.serverid);
}

/* By channel and time, as they go to the media child. */
static int
compare_saved(const ListCell *a, const ListCell *b)
{
	const WireStretch *one = &((JobSaved *) lfirst(a))->stretch;
	const WireStretch *other = &((JobSaved *) lfirst(b))->stretch;

	if (one->channel != other->channel)
		return one->channel < other->channel ? -1 : 1;
	return one->start < other->start ? -1 : one->start > other->start;
}

/* What this attempt has saved joins what earlier ones have. */
static void
keep_saved(Job *job)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);
	int			first = job_saved_number(job, 0);
	char	   *plan = pstrdup(job->plan);
	ListCell   *lc;

	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);
		JobSaved   *saved;

		if (chunk->state != CHUNK_SAVED)
			continue;
		saved = palloc(sizeof(JobSaved));
		saved->chunk_no = first + (int) chunk->chunk_no;
		saved->stretch = (WireStretch) {chunk->start, chunk->end, chunk->channel};
		saved->seconds = chunk->seconds;
		saved->loudness = chunk->loudness;
		saved->plan = plan;
		saved->server = job->server.name;
		job->saved = lappend(job->saved, saved);
	}
	list_sort(job->saved, compare_saved);
	if (job->saved != NIL)
		job->row_progress = Max(job->row_progress, 1);
	MemoryContextSwitchTo(oldcontext);
}

/* Whether a chunk, made for answers with times, is too long for one without. */
static bool
is_too_long(Job *job, JobChunk *chunk)
{
	int			longest = request_chunk_seconds(job);

	return longest < job->chunk_seconds && chunk->seconds > longest;
}

/* Whether such a chunk waits to be sent. */
static bool
has_too_long(Job *job)
{
	ListCell   *lc;

	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		if (chunk->state == CHUNK_READY && is_too_long(job, chunk))
			return true;
	}
	return false;
}

/*
 * The server has refused a chunk for its size, or a chunk that waits is too
 * long for a model that gives no times.  When all that was under way has been
 * answered and saved, the recording is read again, and what is not saved is
 * cut by what has been learnt.  The claim stays, the attempt goes on, and
 * nothing is sent twice that was answered.
 */
void
job_cut_again(Job *job)
{
	if ((job->state != JOB_PREPROCESSING && job->state != JOB_TRANSCRIBING) ||
		(!job->cuts_again && !has_too_long(job)) ||
		job->requests > 0 || job_has_answers(job))
		return;
	job_drop(job);
	keep_saved(job);
	job->tag = new_tag();
	job->chunks = NIL;
	job->cuts_again = false;
	job->media_ended = false;
	job->begun = false;
	job->decoded = 0;
	job->media_time = 0;
	job_set_state(job, JOB_WAITING);
	job_note(job, "waiting for a free media process");
}

/*
 * Say once in the life of the worker what the system does not allow of the
 * sandbox.  It is the same for all recordings, and for an administrator to
 * know and not for the job's owner.
 */
static void
report_sandbox(uint32 layers)
{
	static bool reported = false;

	if (layers == WIRE_SANDBOX_ALL || reported)
		return;
	reported = true;
	ereport(LOG,
			(errmsg("recordings are read without all of the sandbox, missing:%s%s%s",
					layers & WIRE_SANDBOX_LIMITS ? "" : " limits",
					layers & WIRE_SANDBOX_LANDLOCK ? "" : " Landlock",
					layers & WIRE_SANDBOX_SECCOMP ? "" : " seccomp"),
			 errhint("The kernel or the container runtime does not allow it. Set transcribe.sandbox to \"require\" to read no recording then.")));
}

/*
 * The recording was opened.  What earlier attempts have saved is gone on with
 * if it is of this very recording; else it has to be forgotten.
 */
static void
handle_source(Job *job, WireFrame *frame)
{
	char		identity[WIRE_IDENTITY_SIZE];

	if (!wire_get_source(frame, &job->source))
		return;
	report_sandbox(job->source.sandbox);
	job->source.container = MemoryContextStrdup(job->context, job->source.container);
	job->source.codec = MemoryContextStrdup(job->context, job->source.codec);
	if (job->file != NULL)
	{
		bring_identity(job, identity);
		bring_close(job);
	}
	else
		wire_identity(&job->source, identity);
	snprintf(job->plan, sizeof(job->plan), "%s/%s", identity, job->plan_hash);

	if (!job->source.resumed)
	{
		job->starts_over = job->row_progress > 0;
		job->saved = NIL;
		job->language = NULL;
	}
	job->begun = !job->starts_over;
}

/* The chunk's audio is not needed any more. */
static void
release_chunk(Job *job, JobChunk *chunk)
{
	wire_begin(agent_output(), WIRE_RELEASE, job->tag);
	wire_put_u32(agent_output(), chunk->chunk_no);
	wire_end(agent_output());
	forget_audio(chunk);
}

/* A chunk is ready to be sent. */
static void
handle_chunk(Job *job, WireFrame *frame)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);
	WireChunk	wire;
	JobChunk   *chunk;

	FAILPOINT("chunk_received");
	if (wire_get_chunk(frame, &wire))
	{
		chunk = palloc0(sizeof(JobChunk));
		chunk->chunk_no = wire.chunk_no;
		chunk->channel = wire.channel;
		chunk->start = wire.start;
		chunk->end = wire.end;
		chunk->seconds = wire.seconds;
		chunk->loudness = wire.loudness;
		chunk->nspans = wire.nspans;
		chunk->spans = palloc_array(WireSpan, wire.nspans + 1);
		for (uint32 i = 0; i < wire.nspans; i++)
			chunk->spans[i] = wire_span(wire.spans, i);
		job->chunks = lappend(job->chunks, chunk);
		chunk->size = wire.size;
		held_bytes += wire.size;
		progress_publish(job);
	}
	MemoryContextSwitchTo(oldcontext);
}

/* The recording has been read to its end. */
static void
handle_end(Job *job, WireFrame *frame)
{
	if (!wire_get_end(frame, &job->end))
		return;
	job->end.detail = MemoryContextStrdup(job->context, job->end.detail);
	job->media_running = false;
	job->media_ended = true;
	job->decoded = job->end.duration;
	progress_publish(job);
}

static void
handle_failed(Job *job, WireFrame *frame)
{
	WireFailed	failed;

	if (!wire_get_failed(frame, &failed))
		return;
	job->media_running = false;
	job_fail(job, failed.code, failure_media_may_pass(failed.code), true, -1,
			 "%s", failed.message);
	if (job_awaits_restart(job))
		job->failure->charge = false;
}

static JobChunk *
find_chunk(Job *job, uint32 chunk_no, uint32 request_no)
{
	ListCell   *lc;

	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		if (chunk->chunk_no == chunk_no && chunk->state == CHUNK_SENT &&
			chunk->request_no == request_no)
			return chunk;
	}
	return NULL;
}

/* What the server said when it refused, but for the key. */
static char *
refusal_of(Job *job, WireResponse *response)
{
	char	   *refusal = response_refusal(response->body, response->body_len,
										   response->status);

	hide_key(refusal, job->api_key);
	return refusal;
}

/*
 * The server refuses the key, or the account is used up.  A refusal that names no key is, most of the time, a
 * missing user mapping: say so, since the server cannot.
 */
static void
refuse_key(Job *job, WireResponse *response)
{
	char	   *refusal = refusal_of(job, response);
	const char *code = response->status == 429 ? "quota_exhausted" :
		job->api_key == NULL ? "key_missing" : "unauthorized";
	char	   *reason = job->api_key != NULL ? refusal :
		psprintf("%s (no user mapping of server \"%s\" gives a key to this role)",
				 refusal, job->server.name);

	job_stop_server(job, code, reason);
}

/*
 * No request with the job's key is of use: the server is stopped for all who
 * have it, and this job goes back to the queue when nothing is under way.
 */
void
job_stop_server(Job *job, const char *code, const char *reason)
{
	limits_stop(&job->server, job->key, worker_clock(), code, reason);
	(void) job_give_way(job);
}

/* The server has refused this request, or failed at it. */
static void
fail_refused(Job *job, WireResponse *response)
{
	FailureVerdict verdict = failure_of_status(response->status);
	char	   *refusal = refusal_of(job, response);

	if (response->status >= 500)
		limits_failed(&job->server, worker_clock(), verdict.code, refusal);
	else
		limits_accepted(job->server.serverid, job->key);
	if (response->should_retry != WIRE_ADVICE_NONE)
		verdict.retry = response->should_retry == WIRE_ADVICE_RETRY;
	job_fail(job, verdict.code, verdict.retry, verdict.charge,
			 response->retry_after_ms, "%s", refusal);
	if (verdict.elsewhere)
		blame_server(job);
}

/*
 * Give up for now if the job's server is closed for long, or another one may
 * be open, and nothing is under way there.  True if that was so; it costs no
 * attempt.
 */
bool
job_give_way(Job *job)
{
	int64		now = worker_clock();
	StateClosure closure;

	if (job->state >= JOB_ENDING || job->requests > 0 ||
		!limits_closed(&job->server, job->key, now, &closure))
		return false;
	if (closure.kind != CLOSURE_STOPPED && !job->alternatives &&
		closure.until - now <= LONGEST_PAUSE_MS)
		return false;
	fail_closed(job, &closure);
	return true;
}

/*
 * The server has asked for less: the chunk is sent again later, and until
 * then nobody's.
 */
static void
wait_for_server(Job *job, WireResponse *response)
{
	int64		wait = limits_pause(&job->server, worker_clock(),
									response->retry_after_ms);

	if (!job_give_way(job))
		job_note(job, "server asks for a pause of %.1f s", wait / 1000.0);
}

/*
 * The server takes no chunk of this size: smaller ones are tried, down to what
 * is hardly worth a request.
 */
static void
cut_smaller(Job *job, JobChunk *chunk, WireResponse *response,
			const ResponseLimit *limit)
{
	limits_accepted(job->server.serverid, job->key);
	if (!fit_refused(job->server.serverid, request_model(job), limit,
					 chunk->seconds, chunk->size))
		job_fail(job, "too_large_for_server", false, true, -1, "%s",
				 refusal_of(job, response));
	else
	{
		job->cuts_again = true;
		job_note(job, "cutting smaller chunks, as the server asks for");
	}
}

/* Learn from an answer that it has no times, although they were asked for. */
static void
look_for_times(Job *job, JobChunk *chunk)
{
	Response   *response = &chunk->response;

	if (!response->has_segments && response->words.count == 0 &&
		response->text[strspn(response->text, " \t\r\n")] != '\0' &&
		(strcmp(chunk->asked_format, "verbose_json") == 0 ||
		 strcmp(chunk->asked_format, "diarized_json") == 0))
		request_learn_text(job, false);
}

/* Remember a request that has ended; the texts are kept as they are. */
static void
note_request(Job *job, JobChunk *chunk, AttemptRequest *request)
{
	AttemptRequest *noted = palloc(sizeof(AttemptRequest));

	*noted = *request;
	noted->attempt = job->attempts + 1;
	noted->chunk_no = job_saved_number(job, chunk->chunk_no);
	noted->server = job->server.name;
	noted->model = request_model(job);
	noted->started = chunk->started;
	noted->audio = chunk->seconds;
	noted->request_id = pstrdup(noted->request_id);
	job->ended_requests = lappend(job->ended_requests, noted);
	if (job->id != 0)
		stats_count_request(job->server.serverid, request->code,
							request->elapsed, chunk->seconds, request->sent);
}

/*
 * Remember one that was answered.  What was wrong with the answer is what the
 * attempt failed by; or the status says it, where the job goes on.
 */
static void
note_response(Job *job, JobChunk *chunk, WireResponse *response)
{
	AttemptRequest request = {
		.elapsed = response->seconds, .sent = response->sent,
		.status = response->status, .request_id = response->request_id
	};

	if (chunk->state == CHUNK_ANSWERED)
		request.usage = chunk->response.usage;
	else if (job->state == JOB_ENDING)
	{
		request.code = job->failure->code;
		request.error = job->failure->error;
	}
	else
	{
		request.code = response->status == 401 || response->status == 403 ?
			"unauthorized" : response->status == 429 || response->status == 503 ?
			"rate_limited" : failure_of_status(response->status).code;
		request.error = refusal_of(job, response);
	}
	note_request(job, chunk, &request);
}

/* The server has answered. */
static void
handle_response(Job *job, WireFrame *frame)
{
	WireResponse response;
	ResponseLimit limit;
	JobChunk   *chunk;
	MemoryContext oldcontext;
	const char *problem = NULL;
	bool		good;

	FAILPOINT("response_received");
	if (!wire_get_response(frame, &response))
		return;
	chunk = find_chunk(job, response.chunk_no, response.request_no);
	if (chunk == NULL)
		return;
	end_request(job, chunk);

	oldcontext = MemoryContextSwitchTo(job->context);
	if ((response.status == 400 || response.status == 422) &&
		strcmp(chunk->asked_format, "json") != 0 &&
		response_refuses_format(response.body, response.body_len,
								chunk->asked_format))
	{
		request_learn_text(job, true);
		job_note(job, "asking for json instead");
	}
	else if (response.status == 401 || response.status == 403 ||
			 (response.status == 429 &&
			  response_is_out_of_quota(response.body, response.body_len)))
		refuse_key(job, &response);
	else if (response.status == 429 ||
			 (response.status == 503 && response.retry_after_ms > 0))
		wait_for_server(job, &response);
	else if (response_refuses_size(response.body, response.body_len,
								   response.status, &limit))
		cut_smaller(job, chunk, &response, &limit);
	else if (response.status != 200)
		fail_refused(job, &response);
	else
	{
		good = response_parse(response.body, response.body_len,
							  response.content_type, &chunk->response, &problem);
		limits_accepted(job->server.serverid, job->key);
		if (!good)
		{
			job_fail(job, "bad_response", true, true, -1,
					 "the server's answer cannot be used: %s", problem);
			blame_server(job);
		}
		else
		{
			chunk->state = CHUNK_ANSWERED;
			look_for_times(job, chunk);
			if (job->language == NULL)
				job->language = chunk->response.language;
			release_chunk(job, chunk);
			job_note(job, "saving what the server answered");
		}
	}
	FAILPOINT("response_parsed");
	note_response(job, chunk, &response);
	MemoryContextSwitchTo(oldcontext);
}

/* No answer came. */
static void
handle_request_failed(Job *job, WireFrame *frame)
{
	WireRequestFailed failed;
	AttemptRequest request = {0};
	MemoryContext oldcontext;
	JobChunk   *chunk;

	if (!wire_get_request_failed(frame, &failed))
		return;
	chunk = find_chunk(job, failed.chunk_no, failed.request_no);
	if (chunk == NULL)
		return;
	end_request(job, chunk);
	if (failure_is_of_server(failed.code))
		limits_failed(&job->server, worker_clock(), failed.code, failed.message);
	job_fail(job, failed.code, failed.retry, true, -1, "%s", failed.message);
	blame_server(job);

	oldcontext = MemoryContextSwitchTo(job->context);
	request.elapsed = failed.seconds;
	request.sent = failed.sent;
	request.request_id = "";
	request.code = job->failure->code;
	request.error = job->failure->error;
	note_request(job, chunk, &request);
	MemoryContextSwitchTo(oldcontext);
}

/* How far reading or sending has come. */
static void
handle_advance(Job *job, WireFrame *frame)
{
	if (frame->type == WIRE_DECODED)
	{
		double		decoded = wire_get_f64(frame);

		job->decoded = Max(job->decoded, decoded);
		if (job->state == JOB_PREPROCESSING)
			job_note(job, "reading the recording");
	}
	else
	{
		uint32		chunk_no = wire_get_u32(frame);
		uint64		sent = wire_get_u64(frame);
		uint64		total = wire_get_u64(frame);

		if (!frame->bad && sent < total)
			job_note(job, "sending chunk %d, %llu of %llu kB",
					 job_saved_number(job, chunk_no) + 1,
					 (unsigned long long) sent / 1024,
					 (unsigned long long) total / 1024);
		else if (!frame->bad)
			job_note(job, "waiting for the server");
	}
}

/* A frame of this job has come from the agent. */
void
job_handle_frame(Job *job, WireFrame *frame)
{
	job->last_frame = worker_clock();
	if (job->state >= JOB_ENDING)
		return;
	switch (frame->type)
	{
		case WIRE_SOURCE:
			handle_source(job, frame);
			break;
		case WIRE_CHUNK:
			handle_chunk(job, frame);
			break;
		case WIRE_END:
			handle_end(job, frame);
			break;
		case WIRE_FAILED:
			handle_failed(job, frame);
			break;
		case WIRE_RESPONSE:
			handle_response(job, frame);
			break;
		case WIRE_REQUEST_FAILED:
			handle_request_failed(job, frame);
			break;
		case WIRE_DECODED:
		case WIRE_UPLOADED:
			handle_advance(job, frame);
			break;
		default:
			frame->bad = true;
			break;
	}
	if (frame->bad)
		job_fail(job, "internal_error", true, true, -1,
				 "transcribe_agent sent a malformed frame of type %d", frame->type);
}

/*
 * A chunk that may be sent, or NULL.  None while an answer is not saved: so a
 * crash costs at most one request for each that its server takes of the job.
 */
JobChunk *
job_ready_chunk(Job *job)
{
	ListCell   *lc;

	if ((job->state != JOB_PREPROCESSING && job->state != JOB_TRANSCRIBING) ||
		!job->begun || job->cuts_again || job_has_answers(job))
		return NULL;
	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		if (chunk->state == CHUNK_READY && !is_too_long(job, chunk))
			return chunk;
	}
	return NULL;
}

/*
 * Whether a job's next chunk goes before another job's, where both wait for
 * room at one server: the larger priority first; then the job that has fewer
 * requests under way, so that a long recording leaves room for others; then
 * the one whose last request is longer ago.  Of two that have sent nothing
 * yet neither goes before the other.
 */
bool
job_goes_before(Job *job, Job *other)
{
	if (job->priority != other->priority)
		return job->priority > other->priority;
	if (job->requests != other->requests)
		return job->requests < other->requests;
	return job->last_request < other->last_request;
}

/* Send a chunk to the job's server, whose limits allow it. */
void
job_send_chunk(Job *job, JobChunk *chunk)
{
	static uint32 request_no = 0;
	int64		now = worker_clock();

	FAILPOINT("send");
	/* What may go wrong comes before it counts as sent. */
	chunk->request_no = job->last_request = ++request_no;
	chunk->asked_format = request_format(job);
	request_put(agent_output(), job, chunk, chunk->request_no);
	chunk->deadline = now + request_timeout(&job->server, chunk->seconds) +
		REQUEST_OVERTIME_MS;
	chunk->state = CHUNK_SENT;
	chunk->started = job->last_sent = GetCurrentTimestamp();
	job->requests++;
	limits_started(&job->server, job->key, now);
	job->asked = true;
	if (job->state == JOB_PREPROCESSING)
	{
		job_set_state(job, JOB_TRANSCRIBING);
		job->note_after = now + NOTE_AFTER_MS;
	}
	job_note(job, "sending chunk %d", job_saved_number(job, chunk->chunk_no) + 1);
}

/* Notice what should have come to an end by itself, and has not. */
void
job_check_deadlines(Job *job, int64 now)
{
	ListCell   *lc;

	if (job->state != JOB_PREPROCESSING && job->state != JOB_TRANSCRIBING)
		return;
	if (job_media_busy(job))
		job->media_time += now - job->last_check;
	job->last_check = now;
	if (transcribe_media_timeout > 0 &&
		job->media_time / 1000 >= transcribe_media_timeout)
	{
		job_fail(job, "media_timeout", true, true, -1,
				 "reading the recording took longer than %d s",
				 transcribe_media_timeout);
		return;
	}
	if (job_media_busy(job) && job_ready_chunk(job) == NULL &&
		now - job->last_frame > MEDIA_SILENCE_MS)
	{
		job_fail(job, "media_timeout", true, true, -1,
				 "reading the recording made no progress for %d s",
				 MEDIA_SILENCE_MS / 1000);
		return;
	}
	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		if (chunk->state == CHUNK_SENT && now > chunk->deadline)
		{
			job_fail(job, "timeout", true, true, -1,
					 "the request did not end in time");
			return;
		}
	}
}

/* Whether all chunks there are have been saved, or are about to be. */
bool
job_all_answered(Job *job)
{
	ListCell   *lc;

	if (!job->media_ended || !job->begun)
		return false;
	foreach(lc, job->chunks)
	{
		if (((JobChunk *) lfirst(lc))->state < CHUNK_ANSWERED)
			return false;
	}
	return true;
}

/* Whether answers wait to be saved. */
bool
job_has_answers(Job *job)
{
	return count_chunks(job, CHUNK_ANSWERED) > 0;
}

/* The chunks whose answers are not saved yet. */
List *
job_answered_chunks(Job *job)
{
	List	   *answered = NIL;
	ListCell   *lc;

	foreach(lc, job->chunks)
	{
		if (((JobChunk *) lfirst(lc))->state == CHUNK_ANSWERED)
			answered = lappend(answered, lfirst(lc));
	}
	return answered;
}

/*
 * Whether the row is to say that a request was sent, and does not yet.  Not
 * right away, since an answer that comes soon says more; but before any part of
 * the result is saved.
 */
bool
job_notes_transcribing(Job *job, int64 now)
{
	return job->state == JOB_TRANSCRIBING && !job->noted_transcribing &&
		(now >= job->note_after || job_has_answers(job)) &&
		!job_all_answered(job);
}

/* Whether answers were saved since it was claimed. */
bool
job_has_saved(Job *job)
{
	return count_chunks(job, CHUNK_SAVED) > 0;
}

/* Seconds of audio in all of its chunks, and their loudness together, in LUFS. */
void
job_measure(Job *job, double *seconds, double *loudness)
{
	double		power = 0;
	ListCell   *lc;

	*seconds = 0;
	foreach(lc, job->saved)
	{
		JobSaved   *saved = lfirst(lc);

		*seconds += saved->seconds;
		power += saved->seconds * pow(10, saved->loudness / 10);
	}
	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		*seconds += chunk->seconds;
		power += chunk->seconds * pow(10, chunk->loudness / 10);
	}
	*loudness = 10 * log10(power / *seconds);
}

/* Whether there is anything to put into the row. */
bool
job_wants_write(Job *job, int64 now)
{
	if (job->state == JOB_ENDED || now < job->write_after)
		return false;
	return job->state == JOB_ENDING || job->starts_over ||
		job->ended_requests != NIL || job_all_answered(job) ||
		job_notes_transcribing(job, now) || job_has_answers(job);
}

/* Whether that is something that must not be lost: a result, or an end. */
bool
job_wants_durable_write(Job *job)
{
	return job->state == JOB_ENDING || job_all_answered(job) ||
		job_has_answers(job);
}

/* One line in the log for each attempt that failed. */
static void
log_failure(Job *job)
{
	if (strcmp(job->write_status, "failed") == 0)
		ereport(LOG,
				(errmsg("transcription job " INT64_FORMAT " failed: %s",
						job->id, job->failure->error)));
	else if (job->failure->delay == 0)
		ereport(LOG,
				(errmsg("transcription job " INT64_FORMAT " goes back to the queue: %s",
						job->id, job->failure->error)));
	else
		ereport(LOG,
				(errmsg("transcription job " INT64_FORMAT " will be tried again in %.1f s: %s",
						job->id, job->failure->delay / 1000.0, job->failure->error)));
}

/* What write_rows() wrote of the job has been committed. */
void
job_written(Job *job)
{
	ListCell   *lc;

	job->write_errors = 0;
	job->ended_requests = NIL;
	if (job->write_lost)
	{
		/* Cancelled, or deleted: nobody waits for this. */
		if (job->state < JOB_ENDING)
			job_drop(job);
		job->write_status = NULL;
		job_set_state(job, JOB_ENDED);
		return;
	}
	if (job->starts_over)
	{
		job->starts_over = false;
		job->begun = true;
	}
	progress_count(job);
	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		if (chunk->state == CHUNK_ANSWERED)
			chunk->state = CHUNK_SAVED;
	}
	progress_publish(job);
	if (job->write_status != NULL && strcmp(job->write_status, "transcribing") == 0)
		job->noted_transcribing = true;
	if (job->state == JOB_ENDING)
	{
		log_failure(job);
		job_set_state(job, JOB_ENDED);
	}
	else if (job->write_status != NULL && strcmp(job->write_status, "completed") == 0)
	{
		bring_note_completed(job);
		job_drop(job);
		job_set_state(job, JOB_ENDED);
	}
}
