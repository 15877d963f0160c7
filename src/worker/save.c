/*-------------------------------------------------------------------------
 *
 * save.c
 *	  An answer becomes rows.
 *
 * Runs in the worker, in a transaction that saves.  Here a server's times
 * become those of the recording, and what servers leave out is filled in: a
 * missing or reversed time, words that stand apart from their segments, an
 * answer that is text alone.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/save.h"

#include "lib/stringinfo.h"
#include "utils/json.h"

#include "shared/failpoint.h"
#include "worker/queue.h"
#include "worker/timeline.h"

#define BLANKS	" \t\r\n"

/*
 * A text in one line, without the blanks around it, in the current memory
 * context.  Some servers put each of their segments into a line of the text.
 */
static char *
trimmed(const char *text)
{
	char	   *line;
	char	   *end;

	text = text == NULL ? "" : text + strspn(text, BLANKS);
	line = end = palloc(strlen(text) + 1);
	while (*text != '\0')
	{
		size_t		word = strcspn(text, BLANKS);
		size_t		gap = strspn(text + word, BLANKS);

		memcpy(end, text, word);
		end += word;
		text += word;
		if (text[gap] != '\0')
		{
			if (memchr(text, '\n', gap) != NULL || memchr(text, '\r', gap) != NULL)
				*end++ = ' ';
			else
			{
				memcpy(end, text, gap);
				end += gap;
			}
		}
		text += gap;
	}
	*end = '\0';
	return line;
}

/* Append one word as it goes into the column words. */
static void
append_word(StringInfo out, JobChunk *chunk, ResponseWord *word)
{
	double		start = word->start != RESPONSE_NO_NUMBER ? word->start : 0;
	double		end = word->end != RESPONSE_NO_NUMBER ? word->end : start;

	timeline_map(chunk->spans, chunk->nspans, &start, &end);
	if (out->data[out->len - 1] != '[')
		appendStringInfoString(out, ", ");
	appendStringInfoString(out, "{\"word\": ");
	escape_json(out, trimmed(word->word));
	appendStringInfo(out, ", \"start\": %.3f, \"end\": %.3f}", start, end);
}

/*
 * A segment's words as JSON: its own, or those of the whole answer, from *next on,
 * that begin before the following segment does.
 */
static char *
words_text(JobChunk *chunk, ResponseSegment *segment, double until, int *next)
{
	ResponseWords *all = &chunk->response.words;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '[');
	for (int i = 0; i < segment->words.count; i++)
		append_word(&out, chunk, &segment->words.word[i]);
	if (segment->words.count == 0)
	{
		while (*next < all->count && all->word[*next].start < until)
			append_word(&out, chunk, &all->word[(*next)++]);
	}
	appendStringInfoChar(&out, ']');
	return out.data;
}

/*
 * The language of the text that an answer is: that which was reported, else
 * that which was asked for; a translation is always into English.
 */
static const char *
text_language(Job *job, JobChunk *chunk)
{
	if (job->options.translate)
		return "en";
	if (chunk->response.language != NULL)
		return chunk->response.language;
	if (job->language != NULL)
		return job->language;
	return job->options.language != NULL ? job->options.language : job->server.language;
}

/* A segment as it is saved; its times are those of the chunk, and known. */
static QueueSegment *
make_segment(Job *job, JobChunk *chunk, ResponseSegment *answer, int n,
			 double until, int *next_word)
{
	QueueSegment *segment = palloc0(sizeof(QueueSegment));

	segment->job = job;
	segment->chunk = chunk;
	segment->answer = answer;
	segment->n = n;
	segment->language = text_language(job, chunk);
	segment->start = answer->start;
	segment->end = answer->end;
	timeline_map(chunk->spans, chunk->nspans, &segment->start, &segment->end);
	if (job->options.words &&
		(answer->words.count > 0 || chunk->response.words.count > 0))
		segment->words = words_text(chunk, answer, until, next_word);
	return segment;
}

/*
 * Bring the segments into order: drop those without text, fill in times that
 * are missing, turn round those that are reversed.  An answer without
 * segments becomes one, as long as the chunk.
 */
static int
tidy_segments(JobChunk *chunk)
{
	Response   *response = &chunk->response;
	int			kept = 0;

	if (!response->has_segments)
	{
		response->segments = palloc0(sizeof(ResponseSegment));
		response->segments->start = 0;
		response->segments->end = chunk->seconds;
		response->segments->text = response->text;
		response->segments->avg_logprob = RESPONSE_NO_NUMBER;
		response->segments->compression_ratio = RESPONSE_NO_NUMBER;
		response->segments->no_speech_prob = RESPONSE_NO_NUMBER;
		response->nsegments = 1;
		response->has_segments = true;
	}
	for (int i = 0; i < response->nsegments; i++)
	{
		ResponseSegment *segment = &response->segments[i];

		segment->text = trimmed(segment->text);
		if (segment->text[0] == '\0')
			continue;
		if (segment->start == RESPONSE_NO_NUMBER)
			segment->start = kept > 0 ? response->segments[kept - 1].end : 0;
		if (segment->end == RESPONSE_NO_NUMBER)
			segment->end = i == response->nsegments - 1 ? chunk->seconds :
				segment->start;
		if (segment->end < segment->start)
		{
			double		swap = segment->start;

			segment->start = segment->end;
			segment->end = swap;
		}
		response->segments[kept++] = *segment;
	}
	response->nsegments = kept;
	return kept;
}

/* Add the segments of the chunk's answer to those of others. */
static List *
add_answer(List *segments, Job *job, JobChunk *chunk)
{
	MemoryContext oldcontext;
	int			n;
	int			next_word = 0;

	/* What is tidied stays with the answer, in the job's context. */
	oldcontext = MemoryContextSwitchTo(job->context);
	n = tidy_segments(chunk);
	MemoryContextSwitchTo(oldcontext);

	for (int i = 0; i < n; i++)
	{
		double		until = i + 1 < n ? chunk->response.segments[i + 1].start : 1e300;

		segments = lappend(segments,
						   make_segment(job, chunk, &chunk->response.segments[i], i,
										until, &next_word));
	}
	return segments;
}

/*
 * Save all answers that have come for the jobs.  May be called again for the
 * same answers, if the transaction failed.
 */
void
save_answers(int64 incarnation, List *jobs)
{
	List	   *segments = NIL;
	List	   *moved = NIL;
	ListCell   *lc;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);
		ListCell   *cell;

		foreach(cell, job_answered_chunks(job))
			segments = add_answer(segments, job, lfirst(cell));

		/* The row of one that completes in a moment moves only once. */
		if (job->state == JOB_ENDING || !job_all_answered(job))
			moved = lappend(moved, job);
	}
	queue_save_chunks(jobs);
	if (segments != NIL)
		queue_save_segments(segments);
	if (moved != NIL)
		queue_save_progress(incarnation, moved);
	FAILPOINT("save_half");
}
