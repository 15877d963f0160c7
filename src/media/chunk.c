/*-------------------------------------------------------------------------
 *
 * chunk.c
 *	  Samples to chunks.
 *
 * Runs in transcribe_media.  Samples are collected until the buffer is full;
 * then it is cut where that hurts least, what lies before the cut becomes a
 * chunk, and the rest is carried over.  Memory is that of one buffer and of
 * one encoded chunk.
 *
 * Every sample belongs to the stretch [start, end) of exactly one chunk,
 * whether it was kept or was silence.  A buffer that is wholly silent gives
 * no chunk, and its samples are accounted for by the next one; silence after
 * the last chunk is accounted for by none, and ends with the recording.
 *
 *-------------------------------------------------------------------------
 */
#include "media/chunk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "media/loudness.h"
#include "media/silence.h"

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
#define FIRST_SHARE		4
#define FIRST_SAMPLES	(30 * MEDIA_RATE)

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

/* Prepare to cut for these options; the sink must outlive the chunker. */
bool
chunk_init(Chunker *chunker, const WireOpen *open, const MediaSink *sink,
		   MediaError *error)
{
	memset(chunker, 0, sizeof(*chunker));
	chunker->sink = sink;
	chunker->format = encode_format(open->format, error);
	if (chunker->format == NULL)
		return false;
	chunker->limit = buffer_limit(open, chunker->format);
	chunker->first_limit = chunker->limit;
	return true;
}

/*
 * So long is the recording, as its container has it; -1 if it does not say.
 * To be called before the first sample is added.
 */
void
chunk_expect(Chunker *chunker, double seconds)
{
	size_t		first = chunker->limit / FIRST_SHARE;

	if (seconds * MEDIA_RATE < 2.0 * chunker->limit)
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

/* Loudness of all chunks before correction, in LUFS; 0 if there is none. */
double
chunk_loudness(const Chunker *chunker)
{
	return chunker->kept == 0 ? 0 :
		10 * log10(chunker->power / chunker->kept);
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

/*
 * Make a chunk of the spans of the first length samples, and hand it over.
 * The samples before length are spoilt by it.
 */
static bool
emit(Chunker *chunker, const SilenceSpan *spans, size_t nspans,
	 size_t length, MediaError *error)
{
	WireChunk	chunk = {0};
	WireSpan   *times = malloc(nspans * sizeof(*times));
	Loudness	loudness;
	size_t		kept = join_spans(chunker->pcm, spans, nspans);
	uint8_t    *data;
	bool		ok;

	if (times == NULL || !loudness_measure(chunker->pcm, kept, &loudness))
	{
		free(times);
		return media_no_memory(error);
	}
	loudness_apply(chunker->pcm, kept, loudness.gain);
	if (!encode_audio(chunker->format, chunker->pcm, kept, &data,
					  &chunk.audio_len, error))
	{
		free(times);
		return false;
	}
	for (size_t i = 0; i < nspans; i++)
	{
		times[i].start = (double) (chunker->base + spans[i].start) /
			MEDIA_RATE;
		times[i].length = (double) spans[i].length / MEDIA_RATE;
	}
	chunk.chunk_no = chunker->chunks++;
	chunk.start = (double) chunker->accounted / MEDIA_RATE;
	chunker->accounted = chunker->base + length;
	chunk.end = (double) chunker->accounted / MEDIA_RATE;
	chunk.seconds = (double) kept / MEDIA_RATE;
	chunk.loudness = loudness.loudness;
	chunk.gain = loudness.gain;
	chunk.nspans = (uint32_t) nspans;
	chunk.spans = (const char *) times;
	chunk.filename = chunker->format->filename;
	chunk.content_type = chunker->format->content_type;
	chunk.size = chunk.audio_len;
	chunk.audio = (const char *) data;
	chunker->kept += kept;
	chunker->power += kept * pow(10, loudness.loudness / 10);

	ok = chunker->sink->chunk(chunker->sink->arg, &chunk, error);
	encode_free(data);
	free(times);
	return ok;
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
	SilenceSpan *spans = malloc(silence_max_spans(frames) * sizeof(*spans));
	bool		ok = level != NULL && speech != NULL && spans != NULL;

	if (!ok)
		media_no_memory(error);
	else
	{
		silence_measure(chunker->pcm, chunker->len, level);
		silence_mark(level, frames, speech);
		if (!last)
			length = silence_cut(level, speech, frames) * SILENCE_FRAME;
		nspans = silence_spans(speech, length, spans);
		if (nspans > 0)
			ok = emit(chunker, spans, nspans, length, error);
		chunker->base += length;
		chunker->len -= length;
		memmove(chunker->pcm, chunker->pcm + length,
				chunker->len * sizeof(*chunker->pcm));
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

/* Add samples, or as much silence if pcm is NULL. */
bool
chunk_add(Chunker *chunker, const int16_t *pcm, size_t samples,
		  MediaError *error)
{
	while (samples > 0)
	{
		size_t		limit = chunker->chunks == 0 ?
			chunker->first_limit : chunker->limit;
		size_t		n = limit - chunker->len;

		if (n > samples)
			n = samples;
		if (!grow(chunker, n, error))
			return false;
		if (pcm != NULL)
		{
			memcpy(chunker->pcm + chunker->len, pcm, n * sizeof(*pcm));
			pcm += n;
		}
		else
			memset(chunker->pcm + chunker->len, 0, n * sizeof(*pcm));
		chunker->len += n;
		samples -= n;

		/* Not when exactly full: the recording may end here. */
		if (samples > 0 && !cut(chunker, false, error))
			return false;
	}
	return true;
}

/* The recording has ended: what is left is the last chunk. */
bool
chunk_finish(Chunker *chunker, MediaError *error)
{
	return chunker->len == 0 || cut(chunker, true, error);
}
