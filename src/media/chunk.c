/*-------------------------------------------------------------------------
 *
 * chunk.c
 *	  Samples to chunks.
 *
 * Runs in transcribe_media.  Samples are collected until the buffer is full;
 * then it is cut where that hurts least, what lies before the cut becomes a
 * chunk, to be finished elsewhere, and the rest is carried over.
 *
 * Every sample belongs to the stretch [start, end) of exactly one chunk,
 * whether it was kept or was silence.  A buffer that is wholly silent gives
 * no chunk, and its samples are accounted for by the next one; silence after
 * the last chunk is accounted for by none, and ends with the recording.
 *
 * Where an earlier attempt has saved some stretches, those are left out, and
 * all is cut at their edges: what lies between two of them is as a recording
 * of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "media/chunk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


/*
 * Chunks shorter than a second are no use to a model; those of more than
 * four hours would need more memory than the sandbox gives.
 */
#define MIN_SECONDS		1.0
#define MAX_SECONDS		(4 * 3600.0)

/* Of an encoded chunk's size: headers, and the frame that is rounded up. */
#define HEADER_BYTES	4096

/*
 * Of a recording that needs several chunks anyhow, the first is only this
 * share of the others, so that its text stands in the table soon; but not
 * less than the half minute that Whisper looks at in one go.
 */
#define FIRST_SHARE		6
#define FIRST_SAMPLES	(30 * MEDIA_RATE)

/* Times beyond this are no times; it is more than 30 years. */
#define MAX_TIME		1e9

/* First allocation: half a minute, as long as most voice messages are. */
#define FIRST_SIZE		(30 * MEDIA_RATE)

/* The longest chunk of these options, before its encoded size is looked at. */
size_t
chunk_max_samples(const WireOpen *open)
{
	double		seconds = open->chunk_seconds;

	if (!(seconds > MIN_SECONDS))
		seconds = MIN_SECONDS;
	if (seconds > MAX_SECONDS)
		seconds = MAX_SECONDS;
	return (size_t) (seconds * MEDIA_RATE);
}

/*
 * How many samples fill the buffer: the longest chunk, or what is sure to
 * fit into the largest encoded one.  Whole frames, so that a cut is always
 * between two of them.
 */
static size_t
buffer_limit(const WireOpen *open, const EncodeFormat *format)
{
	size_t		limit = chunk_max_samples(open);
	uint64_t	bytes = open->max_chunk_bytes;
	double		fits;

	if (bytes > 0)
	{
		fits = ((double) bytes - HEADER_BYTES) / format->bytes_per_second *
			MEDIA_RATE;
		if (fits < MIN_SECONDS * MEDIA_RATE)
			fits = MIN_SECONDS * MEDIA_RATE;
		if (fits < (double) limit)
			limit = (size_t) fits;
	}
	return limit / SILENCE_FRAME * SILENCE_FRAME;
}

/* Find the next stretch that is done, of this channel and yet to come. */
static void
find_done(Chunker *chunker)
{
	uint64_t	position = chunk_position(chunker);

	chunker->done_start = chunker->done_end = UINT64_MAX;
	while (chunker->looked_at < chunker->ndone)
	{
		WireStretch stretch = wire_stretch(chunker->done,
										   chunker->looked_at++);
		uint64_t	start;
		uint64_t	end;

		if (stretch.channel != chunker->channel || !(stretch.start >= 0) ||
			!(stretch.end > stretch.start) || !(stretch.end < MAX_TIME))
			continue;
		start = (uint64_t) llround(stretch.start * MEDIA_RATE);
		end = (uint64_t) llround(stretch.end * MEDIA_RATE);
		if (end <= position)
			continue;
		chunker->done_start = start > position ? start : position;
		chunker->done_end = end;
		return;
	}
}

/* Prepare to cut for these options; what chunks go to must outlive it. */
void
chunk_init(Chunker *chunker, const WireOpen *open, uint32_t channel,
		   Finish *finish)
{
	memset(chunker, 0, sizeof(*chunker));
	chunker->silence = silence_options(open->min_silence, open->pad_before,
									   open->pad_after,
									   open->silence_threshold,
									   open->keep_silence);
	chunker->channel = channel;
	chunker->finish = finish;
	chunker->limit = buffer_limit(open, finish->format);
	chunker->first_limit = chunker->limit;
	chunker->done = open->done;
	chunker->ndone = open->ndone;
	find_done(chunker);
}

/*
 * So long is the recording, as its container has it; -1 if it does not say.
 * To be called before the first sample is added.  Where something is done,
 * the first text stands already.
 */
void
chunk_expect(Chunker *chunker, double seconds)
{
	size_t		first = chunker->limit / FIRST_SHARE;

	if (chunker->ndone > 0 || seconds * MEDIA_RATE < 2.0 * chunker->limit)
		return;
	if (first < FIRST_SAMPLES)
		first = FIRST_SAMPLES;
	if (first < chunker->limit)
		chunker->first_limit = first / SILENCE_FRAME * SILENCE_FRAME;
}

void
chunk_free(Chunker *chunker)
{
	free(chunker->pcm);
	chunker->pcm = NULL;
}

/* How many samples were added, ever. */
uint64_t
chunk_position(const Chunker *chunker)
{
	return chunker->base + chunker->len;
}

/* Move the kept stretches together; returns how many samples they are. */
static size_t
join_spans(int16_t *pcm, const SilenceSpan *spans, size_t nspans)
{
	size_t		kept = 0;

	for (size_t i = 0; i < nspans; i++)
	{
		memmove(pcm + kept, pcm + spans[i].start,
				spans[i].length * sizeof(*pcm));
		kept += spans[i].length;
	}
	return kept;
}

/* The spans of the buffer, as times of the recording; NULL without memory. */
static WireSpan *
span_times(const Chunker *chunker, const SilenceSpan *spans, size_t nspans)
{
	WireSpan   *times = malloc(nspans * sizeof(*times));

	for (size_t i = 0; times != NULL && i < nspans; i++)
	{
		times[i].start = (double) (chunker->base + spans[i].start) /
			MEDIA_RATE;
		times[i].length = (double) spans[i].length / MEDIA_RATE;
	}
	return times;
}

/*
 * Let go of the first length samples of the buffer, which become the chunk's
 * if there is one; what follows them is carried over into a new buffer.
 */
static bool
split_buffer(Chunker *chunker, size_t length, Chunk *chunk)
{
	size_t		rest = chunker->len - length;
	int16_t    *carried = NULL;

	if (chunk == NULL)
		memmove(chunker->pcm, chunker->pcm + length,
				rest * sizeof(*chunker->pcm));
	else
	{
		if (rest > 0)
		{
			carried = malloc(rest * sizeof(*carried));
			if (carried == NULL)
				return false;
			memcpy(carried, chunker->pcm + length, rest * sizeof(*carried));
		}
		chunk->pcm = chunker->pcm;
		chunker->pcm = carried;
		chunker->size = rest;
	}
	chunker->base += length;
	chunker->len = rest;
	return true;
}

/* Make a chunk of the spans of the first length samples, and hand it over. */
static bool
emit(Chunker *chunker, const SilenceSpan *spans, size_t nspans,
	 size_t length, MediaError *error)
{
	Chunk	   *chunk = calloc(1, sizeof(*chunk));
	int16_t    *shrunk;

	if (chunk == NULL)
		return media_no_memory(error);
	chunk->spans = span_times(chunker, spans, nspans);
	if (chunk->spans == NULL || !split_buffer(chunker, length, chunk))
	{
		finish_free_chunk(chunk);
		return media_no_memory(error);
	}
	chunk->samples = join_spans(chunk->pcm, spans, nspans);
	shrunk = realloc(chunk->pcm, chunk->samples * sizeof(*shrunk));
	if (shrunk != NULL)
		chunk->pcm = shrunk;

	chunk->wire.channel = chunker->channel;
	chunk->wire.start = (double) chunker->accounted / MEDIA_RATE;
	chunker->accounted = chunker->base;
	chunk->wire.end = (double) chunker->accounted / MEDIA_RATE;
	chunk->wire.seconds = (double) chunk->samples / MEDIA_RATE;
	chunk->wire.nspans = (uint32_t) nspans;
	chunk->wire.spans = (const char *) chunk->spans;
	chunker->chunks++;
	return finish_chunk(chunker->finish, chunk, error);
}

/* Cut the buffer: at its end if that is the recording's, else where best. */
static bool
cut(Chunker *chunker, bool last, MediaError *error)
{
	size_t		frames = silence_frames(chunker->len);
	size_t		length = chunker->len;
	size_t		nspans;
	float	   *level = malloc(frames * sizeof(*level));
	bool	   *speech = malloc(frames * sizeof(*speech));
	SilenceSpan *spans = malloc(silence_max_spans(&chunker->silence, frames) *
								sizeof(*spans));
	bool		ok = level != NULL && speech != NULL && spans != NULL;

	if (!ok)
		media_no_memory(error);
	else
	{
		silence_measure(chunker->pcm, chunker->len, level);
		silence_mark(&chunker->silence, level, frames, speech);
		if (!last)
			length = silence_cut(level, speech, frames) * SILENCE_FRAME;
		nspans = silence_spans(&chunker->silence, speech, length, spans);
		if (nspans > 0)
			ok = emit(chunker, spans, nspans, length, error);
		else
			split_buffer(chunker, length, NULL);
	}
	free(level);
	free(speech);
	free(spans);
	return ok;
}

/* Make room in the buffer for as many samples as it may hold at most. */
static bool
grow(Chunker *chunker, size_t samples, MediaError *error)
{
	size_t		size = chunker->size > 0 ? chunker->size : FIRST_SIZE;
	int16_t    *pcm;

	if (chunker->len + samples <= chunker->size)
		return true;
	while (size < chunker->len + samples)
		size *= 2;
	if (size > chunker->limit)
		size = chunker->limit;
	pcm = realloc(chunker->pcm, size * sizeof(*pcm));
	if (pcm == NULL)
		return media_no_memory(error);
	chunker->pcm = pcm;
	chunker->size = size;
	return true;
}

/* Put samples, or silence if pcm is NULL, into the buffer. */
static bool
collect(Chunker *chunker, const int16_t *pcm, size_t samples,
		MediaError *error)
{
	int16_t    *room;

	if (!grow(chunker, samples, error))
		return false;
	room = chunker->pcm + chunker->len;
	if (pcm != NULL)
		memcpy(room, pcm, samples * sizeof(*pcm));
	else
		memset(room, 0, samples * sizeof(*room));
	chunker->len += samples;
	return true;
}

/*
 * Pass over samples that are done: what was collected before them is cut off
 * as a recording that ends there, and after them a new one begins.
 */
static bool
pass_over(Chunker *chunker, size_t samples, MediaError *error)
{
	if (chunker->len > 0 && !cut(chunker, true, error))
		return false;
	chunker->base += samples;
	if (chunker->base == chunker->done_end)
	{
		chunker->accounted = chunker->base;
		find_done(chunker);
	}
	return true;
}

/* Add samples, or as much silence if pcm is NULL. */
bool
chunk_add(Chunker *chunker, const int16_t *pcm, size_t samples,
		  MediaError *error)
{
	while (samples > 0)
	{
		uint64_t	position = chunk_position(chunker);
		bool		done = position >= chunker->done_start;
		size_t		limit = chunker->chunks == 0 ?
			chunker->first_limit : chunker->limit;
		uint64_t	n;
		bool		ok;

		/* Not when exactly full: the recording may end here. */
		if (!done && chunker->len >= limit)
		{
			if (!cut(chunker, false, error))
				return false;
			continue;
		}
		n = done ? chunker->done_end - position :
			chunker->done_start - position;
		if (!done && n > limit - chunker->len)
			n = limit - chunker->len;
		if (n > samples)
			n = samples;
		ok = done ? pass_over(chunker, (size_t) n, error) :
			collect(chunker, pcm, (size_t) n, error);
		if (!ok)
			return false;
		if (pcm != NULL)
			pcm += n;
		samples -= (size_t) n;
	}
	return true;
}

/* The recording has ended: what is left is the last chunk. */
bool
chunk_finish(Chunker *chunker, MediaError *error)
{
	return chunker->len == 0 || cut(chunker, true, error);
}
