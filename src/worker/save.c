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
	StringInfoData line;

	initStringInfo(&line);
	if (text == NULL)
		return line.data;
	text += strspn(text, BLANKS);
	while (*text != '\0')
	{
		size_t		word = strcspn(text, BLANKS);
		size_t		gap = strspn(text + word, BLANKS);

		appendBinaryStringInfo(&line, text, word);
		text += word;
		if (text[gap] != '\0')
		{
			if (memchr(text, '\n', gap) != NULL || memchr(text, '\r', gap) != NULL)
				appendStringInfoChar(&line, ' ');
			else
				appendBinaryStringInfo(&line, text, gap);
		}
		text += gap;
	}
	return line.data;
}

/* Append "name": number, or nothing if there is none. */
static void
append_number(StringInfo out, const char *name, double value)
{
	if (value != RESPONSE_NO_NUMBER)
		appendStringInfo(out, ", \"%s\": %.17g", name, value);
}

/* Append the start and end of something, in the recording's time. */
static void
append_times(StringInfo out, JobChunk *chunk, const char *start_name,
			 const char *end_name, double start, double end)
{
	timeline_map(chunk->spans, chunk->nspans, &start, &end);
	appendStringInfo(out, "\"%s\": %.3f, \"%s\": %.3f",
					 start_name, start, end_name, end);
}

/* Append one word as it goes into the column words. */
static void
append_word(StringInfo out, JobChunk *chunk, ResponseWord *word)
{
	double		start = word->start != RESPONSE_NO_NUMBER ? word->start : 0;
	double		end = word->end != RESPONSE_NO_NUMBER ? word->end : start;

	if (out->data[out->len - 1] != '[')
		appendStringInfoString(out, ", ");
	appendStringInfoString(out, "{\"word\": ");
	escape_json(out, trimmed(word->word));
	appendStringInfoString(out, ", ");
	append_times(out, chunk, "start", "end", start, end);
	appendStringInfoChar(out, '}');
}

/*
 * Append a segment's words: its own, or those of the whole answer, from
 * *next on, that begin before the following segment does.
 */
static void
append_words(StringInfo out, JobChunk *chunk, ResponseSegment *segment,
			 double until, int *next)
{
	ResponseWords *all = &chunk->response.words;

	appendStringInfoString(out, ", \"words\": [");
	for (int i = 0; i < segment->words.count; i++)
		append_word(out, chunk, &segment->words.word[i]);
	if (segment->words.count == 0)
	{
		while (*next < all->count && all->word[*next].start < until)
			append_word(out, chunk, &all->word[(*next)++]);
	}
	appendStringInfoChar(out, ']');
}

/* Append one segment; its times are those of the chunk, and known. */
static void
append_segment(StringInfo out, Job *job, JobChunk *chunk,
			   ResponseSegment *segment, int n, double until, int *next_word)
{
	if (out->len > 1)
		appendStringInfoString(out, ", ");
	appendStringInfo(out, "{\"job_id\": " INT64_FORMAT ", \"chunk_no\": %d, \"n\": %d, ",
					 job->id, job_saved_number(job, chunk->chunk_no), n);
	append_times(out, chunk, "start_s", "end_s", segment->start, segment->end);
	appendStringInfoString(out, ", \"text\": ");
	escape_json(out, segment->text);
	if (segment->speaker != NULL && segment->speaker[0] != '\0')
	{
		appendStringInfoString(out, ", \"speaker\": ");
		escape_json(out, segment->speaker);
	}
	append_number(out, "avg_logprob", segment->avg_logprob);
	append_number(out, "compression_ratio", segment->compression_ratio);
	append_number(out, "no_speech_prob", segment->no_speech_prob);
	if (job->options.words &&
		(segment->words.count > 0 || chunk->response.words.count > 0))
		append_words(out, chunk, segment, until, next_word);
	appendStringInfoChar(out, '}');
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

/* Append the segments of the chunk's answer to those of others. */
static void
append_answer(StringInfo out, Job *job, JobChunk *chunk)
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

		append_segment(out, job, chunk, &chunk->response.segments[i], i, until,
					   &next_word);
	}
}

/*
 * Save all answers that have come for the jobs.  May be called again for the
 * same answers, if the transaction failed.
 */
void
save_answers(int64 incarnation, List *jobs)
{
	StringInfoData out;
	ListCell   *lc;

	initStringInfo(&out);
	appendStringInfoChar(&out, '[');
	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);
		ListCell   *cell;

		foreach(cell, job_answered_chunks(job))
			append_answer(&out, job, lfirst(cell));
	}
	appendStringInfoChar(&out, ']');
	queue_save_chunks(incarnation, jobs, out.data);
	FAILPOINT("save_half");
}
