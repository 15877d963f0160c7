/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  How far a job is: for its row, for transcribe_progress and transcribe_stats.
 *
 * Runs in the worker.  All of it is counted in seconds of the recording, by the
 * stretches that chunks account for; where channels are sent apart, each is a
 * part of them.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/progress.h"

#include "utils/timestamp.h"

#include "shared/stats.h"

/* Share of the whole that reading a recording counts for, in percent. */
#define PERCENT_READING			20

/* Seconds of the recording, as far as they are known. */
static double
total_seconds(Job *job)
{
	return job->media_ended ? job->end.duration :
		Max(job->source.duration, job->decoded);
}

/* Seconds of the recording that earlier attempts have saved. */
static double
saved_seconds(Job *job)
{
	double		seconds = 0;
	ListCell   *lc;

	foreach(lc, job->saved)
	{
		WireStretch *stretch = &((JobSaved *) lfirst(lc))->stretch;

		seconds += stretch->end - stretch->start;
	}
	return seconds / Max(job->source.streams, 1);
}

/* Seconds of the recording that were answered since it was opened. */
static double
answered_seconds(Job *job)
{
	double		seconds = 0;
	ListCell   *lc;

	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		if (chunk->state >= CHUNK_ANSWERED)
			seconds += chunk->end - chunk->start;
	}
	return seconds / Max(job->source.streams, 1);
}

/* Percent done, by seconds of audio; 100 is for the row alone to say. */
int
progress_percent(Job *job)
{
	double		total = total_seconds(job);
	double		done = saved_seconds(job) + answered_seconds(job);

	if (!(total > 0))
		return 1;
	return Max(1, Min(99, (int) (PERCENT_READING * Min(1, job->decoded / total) +
								 (99 - PERCENT_READING) * Min(1, done / total))));
}

/* Say in shared memory how far the job is. */
void
progress_publish(Job *job)
{
	TranscribeState *state = transcribe_state();
	StateProgress *slot = job->progress;
	int			saved = list_length(job->saved);
	double		fresh;
	double		done;
	double		total;
	ListCell   *lc;

	if (slot == NULL)
		return;
	foreach(lc, job->chunks)
		saved += ((JobChunk *) lfirst(lc))->state == CHUNK_SAVED;
	fresh = answered_seconds(job);
	done = saved_seconds(job) + fresh;
	total = job->media_ended || job->source.duration > 0 ? total_seconds(job) : 0;

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	slot->transcribing = job->state >= JOB_TRANSCRIBING;
	slot->percent = job->state == JOB_WAITING ? 0 : progress_percent(job);
	slot->chunk = saved;
	slot->chunks = list_length(job->saved) + list_length(job->chunks);
	slot->serverid = job->server.serverid;
	slot->requests = job->requests;
	slot->done = done;
	slot->total = total;
	slot->opened = job->opened;
	if (fresh > slot->fresh)
		slot->advanced = GetCurrentTimestamp();
	slot->fresh = fresh;
	if (strcmp(slot->message, job->note) != 0)
	{
		slot->since = GetCurrentTimestamp();
		strlcpy(slot->message, job->note, sizeof(slot->message));
	}
	LWLockRelease(state->lock);
}

/*
 * Seconds of a recording that has been read, of all its channels, that no chunk
 * accounts for: there was nothing to send.
 */
static double
silent_rest(Job *job)
{
	return (job->end.duration - saved_seconds(job) - answered_seconds(job)) *
		Max(job->source.streams, 1);
}

/* Count for its server what has been written of the job. */
void
progress_count(Job *job)
{
	double		trimmed = 0;
	ListCell   *lc;

	if (!OidIsValid(job->server.serverid))
		return;
	foreach(lc, job->chunks)
	{
		JobChunk   *chunk = lfirst(lc);

		if (chunk->state == CHUNK_ANSWERED)
			trimmed += chunk->end - chunk->start - chunk->seconds;
	}
	if (job->write_status != NULL && strcmp(job->write_status, "completed") == 0)
		stats_count_end(job->server.serverid, STATS_COMPLETED,
						trimmed + silent_rest(job));
	else if (job->write_status != NULL && strcmp(job->write_status, "failed") == 0)
		stats_count_end(job->server.serverid, STATS_FAILED, trimmed);
	else if (job->state == JOB_ENDING && job->failure->charge)
		stats_count_end(job->server.serverid, STATS_RETRIED, trimmed);
	else if (trimmed != 0)
		stats_count_trimmed(job->server.serverid, trimmed);
}
