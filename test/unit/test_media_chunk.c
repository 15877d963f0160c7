/*-------------------------------------------------------------------------
 *
 * test_media_chunk.c
 *	  Whatever is added in whatever pieces: every sound is in one chunk.
 *
 * Links all of the media program but its main functions (MEDIA_PARTS of the
 * Makefile), and encodes as WAV, so that what comes out can be compared
 * sample by sample with what went in.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "media/channels.h"
#include "media/loudness.h"

#include "tap.h"

#define SECONDS		60
#define SAMPLES		(SECONDS * MEDIA_RATE)
#define STREAMS		3
#define MAX_DONE	6
#define ROUNDS		150

/* Sounds of 30 ms and less are clicks, see silence.c; and two cut frames. */
#define CLICK		(MEDIA_RATE * 5 / 100)

/* The recording: what is loud, and what was done before. */
static int16_t pcm[STREAMS][SAMPLES];
static bool loud[STREAMS][SAMPLES];
static size_t samples;
static int	streams;
static WireStretch saved[MAX_DONE];
static WireOpen options;

/* How often each sample came out, and up to where chunks account. */
static uint8_t heard[STREAMS][SAMPLES];
static uint64_t accounted[STREAMS];
static uint32_t chunks;

/* What did not hold, in any round. */
static struct
{
	bool		number;
	bool		stretch;
	bool		spans;
	bool		samples;
	bool		limit;
	bool		done;
}			wrong;

/* A small generator of our own, so that every run sees the same numbers. */
static uint32_t seed = 1;

static uint32_t
next_random(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t) (((uint64_t) (seed >> 8) * below) >> 24);
}


/* The first sample of a canonical WAV file. */
static const uint8_t *
wav_data(const WireChunk *chunk, size_t *len)
{
	for (size_t at = 12; at + 8 <= chunk->audio_len;)
	{
		const uint8_t *piece = (const uint8_t *) chunk->audio + at;
		uint32_t	size;

		memcpy(&size, piece + 4, sizeof(size));
		if (memcmp(piece, "data", 4) == 0)
		{
			*len = chunk->audio_len - at - 8;
			return piece + 8;
		}
		at += 8 + size;
	}
	*len = 0;
	return NULL;
}

/* The next stretch of a stream that is done and ends behind a position. */
static const WireStretch *
done_at(uint32_t channel, double position)
{
	for (uint32_t i = 0; i < options.ndone; i++)
	{
		if (saved[i].channel == channel && saved[i].end > position)
			return &saved[i];
	}
	return NULL;
}

static bool
take_chunk(void *arg, const WireChunk *chunk, MediaError *error)
{
	int			stream = chunk->channel == WIRE_MIXED ? 0 : (int) chunk->channel;
	uint64_t	start = (uint64_t) llround(chunk->start * MEDIA_RATE);
	uint64_t	end = (uint64_t) llround(chunk->end * MEDIA_RATE);
	uint64_t	after = start;
	size_t		total = 0;
	size_t		len;
	const uint8_t *data = wav_data(chunk, &len);
	const WireStretch *before;

	(void) arg;
	(void) error;
	if (chunk->chunk_no != chunks++)
		wrong.number = true;
	if (chunk->seconds > options.chunk_seconds)
		wrong.limit = true;

	/* It goes on where the last one ended, or behind what was done. */
	before = done_at(chunk->channel, (double) accounted[stream] / MEDIA_RATE);
	while (start != accounted[stream] && before != NULL &&
		   before->end <= chunk->start)
	{
		accounted[stream] = (uint64_t) llround(before->end * MEDIA_RATE);
		before = done_at(chunk->channel, before->end);
	}
	if (start != accounted[stream] || end <= start || end > samples)
		wrong.stretch = true;
	if (before != NULL && before->start < chunk->end)
		wrong.done = true;
	accounted[stream] = end;

	for (uint32_t i = 0; i < chunk->nspans; i++)
	{
		WireSpan	span = wire_span(chunk->spans, i);
		size_t		from = (size_t) llround(span.start * MEDIA_RATE);
		size_t		n = (size_t) llround(span.length * MEDIA_RATE);
		int16_t    *expected;

		if (from < after || n == 0 || from + n > end ||
			total + n > len / sizeof(int16_t))
		{
			wrong.spans = true;
			return true;
		}
		after = from + n;

		/* Sample by sample what was there, times the gain. */
		expected = malloc(n * sizeof(*expected));
		memcpy(expected, pcm[stream] + from, n * sizeof(*expected));
		loudness_apply(expected, n, chunk->gain);
		if (memcmp(expected, data + total * sizeof(int16_t),
				   n * sizeof(*expected)) != 0)
			wrong.samples = true;
		free(expected);
		for (size_t k = from; k < from + n; k++)
			heard[stream][k]++;
		total += n;
	}
	if (total * sizeof(int16_t) != len ||
		total != (size_t) llround(chunk->seconds * MEDIA_RATE))
		wrong.spans = true;
	return true;
}

/* Sounds and silences in turn, of up to so many milliseconds. */
static void
make_stream(int stream)
{
	size_t		at = 0;
	bool		sounding = next_random(2) != 0;

	memset(loud[stream], 0, sizeof(loud[stream]));
	while (at < samples)
	{
		size_t		n = (100 + next_random(sounding ? 4000 : 6000)) *
			(MEDIA_RATE / 1000);

		for (; n > 0 && at < samples; n--, at++)
		{
			int			range = sounding ? 8000 : 20;

			pcm[stream][at] = (int16_t) ((int) next_random(2 * range) - range);
			loud[stream][at] = sounding;
		}
		sounding = !sounding;
	}
}

/* Some stretches that were done before, in order. */
static void
make_done(void)
{
	static const uint32_t odds = 3;

	options.ndone = 0;
	options.done = (const char *) saved;
	for (int stream = 0; stream < streams; stream++)
	{
		uint32_t	at = 0;

		while (next_random(odds) == 0 && options.ndone < MAX_DONE)
		{
			WireStretch *stretch = &saved[options.ndone++];

			at += next_random(10 * MEDIA_RATE);
			stretch->start = (double) at / MEDIA_RATE;
			at += 1 + next_random(10 * MEDIA_RATE);
			stretch->end = (double) at / MEDIA_RATE;
			stretch->channel = options.split_channels ?
				(uint32_t) stream : WIRE_MIXED;
		}
	}
}

/* Add all, in pieces of any size. */
static bool
add_all(Channels *channels, MediaError *error)
{
	static int16_t piece[STREAMS][MEDIA_RATE * 20];
	int16_t    *planes[STREAMS];
	size_t		n;

	for (size_t at = 0; at < samples; at += n)
	{
		n = 1 + next_random(next_random(4) == 0 ? MEDIA_RATE * 20 : 3000);
		if (n > samples - at)
			n = samples - at;
		for (int i = 0; i < streams; i++)
		{
			memcpy(piece[i], pcm[i] + at, n * sizeof(int16_t));
			planes[i] = piece[i];
		}
		if (!channels_add(channels, planes, n, error) ||
			!finish_poll(channels->finish, error))
			return false;
	}
	return channels_finish(channels, error);
}

/*
 * Whether each sample came out once if it should, and else at most once.  What
 * a cut or an edge leaves of a sound may be so short that it counts as a
 * click.
 */
static bool
all_heard(void)
{
	for (int stream = 0; stream < streams; stream++)
	{
		uint32_t	channel = options.split_channels ?
			(uint32_t) stream : WIRE_MIXED;
		size_t		missed = 0;

		for (size_t at = 0; at < samples; at++)
		{
			double		middle = (at + 0.5) / MEDIA_RATE;
			const WireStretch *stretch = done_at(channel, middle);
			bool		before = stretch != NULL && stretch->start < middle;

			if (heard[stream][at] > (before ? 0 : 1))
				return false;
			missed = loud[stream][at] && !before && heard[stream][at] == 0 ?
				missed + 1 : 0;
			if (missed > CLICK)
				return false;
		}
	}
	return true;
}

/* One recording of any kind, with any options. */
static bool
play_round(void)
{
	MediaSink	sink = {.chunk = take_chunk};
	MediaError	error = {0};
	Channels	channels = {0};
	Finish		finish = {.sink = &sink};
	bool		ok;

	samples = 1 + next_random(SAMPLES);
	memset(&options, 0, sizeof(options));
	options.split_channels = next_random(2);
	streams = options.split_channels ? 1 + (int) next_random(STREAMS) : 1;
	options.keep_silence = next_random(8) == 0;
	options.min_silence = next_random(5000) / 1000.0;
	options.pad_before = next_random(2000) / 1000.0;
	options.pad_after = next_random(2000) / 1000.0;
	options.silence_threshold = next_random(3) == 0 ? -45 : 0;
	options.chunk_seconds = 1 + next_random(30000) / 1000.0;
	for (int i = 0; i < streams; i++)
		make_stream(i);
	make_done();
	memset(heard, 0, sizeof(heard));
	memset(accounted, 0, sizeof(accounted));
	chunks = 0;

	finish.format = encode_format("wav", &error);
	channels_init(&channels, &options, streams, &finish);
	if (next_random(2) == 0)
		channels_expect(&channels, (double) samples / MEDIA_RATE);
	ok = add_all(&channels, &error) && channels_position(&channels) == samples;
	channels_free(&channels);
	return ok && all_heard();
}

int
main(void)
{
	int			bad = 0;

	finish_start_thread();
	for (int round = 0; round < ROUNDS; round++)
	{
		uint32_t	began = seed;

		if (!play_round() && bad++ == 0)
			printf("# round %d, seed %u\n", round, began);
	}
	ok(bad == 0, "every sound is in one chunk, and none in two");
	ok(!wrong.number, "chunks are numbered in the order of their delivery");
	ok(!wrong.limit, "no chunk is longer than asked for");
	ok(!wrong.stretch, "chunks account for the recording without a hole");
	ok(!wrong.spans, "spans are in order, inside their chunk, and all of it");
	ok(!wrong.samples, "every sample is where its span says, times the gain");
	ok(!wrong.done, "what was done before is in no chunk");
	return done();
}
