/*-------------------------------------------------------------------------
 *
 * channels.c
 *	  The streams of samples that are cut into chunks, each on its own.
 *
 * Runs in transcribe_media.  A recording is one stream, all channels mixed;
 * or, where its channels are to be transcribed apart, as those of a call with
 * a party on each, one stream for each of them.
 *
 * Many a stereo file says the same on both sides, and would be paid twice.
 * So where a channel is only a copy of another one, louder or softer, it is
 * muted, and what is silent is not sent.  This is judged for every 10 ms, so
 * that a voice placed to one side, or a voice that is heard on both sides in
 * only a part of the recording, is told from two that speak at once.
 *
 *-------------------------------------------------------------------------
 */
#include "media/channels.h"

#include <string.h>

#include "media/silence.h"

/*
 * A channel is a copy if no more than this part of its power is left when
 * the other one, brought to the same level, is subtracted: -20 dB.  Lossy
 * codecs keep equal channels equal.  A softer copy they make its own, by more
 * than can be told from another voice; that is kept, and paid.
 */
#define COPY_RESIDUE	0.01

/* In less than 5 ms any two sounds may look alike. */
#define SHORTEST_MOMENT	(SILENCE_FRAME / 2)

/* Of two copies the softer one goes; within 3 dB, the later one. */
#define LOUDER			2.0

/* Prepare for a recording of so many channels. */
void
channels_init(Channels *channels, const WireOpen *open, int source_channels,
			  Finish *finish)
{
	bool		split = open->split_channels && source_channels > 0 &&
		source_channels <= CHANNELS_MAX;

	channels->count = split ? source_channels : 1;
	channels->finish = finish;
	for (int i = 0; i < channels->count; i++)
		chunk_init(&channels->chunker[i], open,
				   split ? (uint32_t) i : WIRE_MIXED, finish);
}

/* So long is the recording, as its container has it; see chunk_expect(). */
void
channels_expect(Channels *channels, double seconds)
{
	for (int i = 0; i < channels->count; i++)
		chunk_expect(&channels->chunker[i], seconds);
}

/* How many samples were added, ever; the same for all. */
uint64_t
channels_position(const Channels *channels)
{
	return chunk_position(&channels->chunker[0]);
}

/* Power of a stream, or what two have in common. */
static double
product(const int16_t *a, const int16_t *b, size_t samples)
{
	int64_t		sum = 0;

	for (size_t i = 0; i < samples; i++)
		sum += (int32_t) a[i] * b[i];
	return (double) sum;
}

/* Mute what is a copy among samples of one moment. */
static void
mute_moment(int16_t *const *pcm, int count, size_t at, size_t samples)
{
	double		power[CHANNELS_MAX];

	for (int i = 0; i < count; i++)
		power[i] = product(pcm[i] + at, pcm[i] + at, samples);
	for (int i = 0; i < count; i++)
	{
		for (int other = 0; other < count && power[i] > 0; other++)
		{
			double		common;

			if (other == i || power[other] < power[i] / LOUDER ||
				(other > i && power[other] < power[i] * LOUDER))
				continue;
			common = product(pcm[i] + at, pcm[other] + at, samples);
			if (common * common < (1 - COPY_RESIDUE) * power[i] * power[other])
				continue;
			memset(pcm[i] + at, 0, samples * sizeof(*pcm[i]));
			power[i] = 0;
		}
	}
}

/*
 * Mute the channels that are copies of others, moment by moment.  At least
 * one of those that are alike stays: a channel goes only for one that is
 * still there.  The last moment takes what would be too short for another.
 */
static void
mute_copies(int16_t *const *pcm, int count, size_t samples)
{
	size_t		at = 0;

	while (count > 1 && samples - at >= SHORTEST_MOMENT)
	{
		size_t		n = samples - at;

		if (n >= SILENCE_FRAME + SHORTEST_MOMENT)
			n = SILENCE_FRAME;
		mute_moment(pcm, count, at, n);
		at += n;
	}
}

/*
 * Add samples of each stream, or as much silence if pcm is NULL.  They are
 * spoilt by it.
 */
bool
channels_add(Channels *channels, int16_t *const *pcm, size_t samples,
			 MediaError *error)
{
	if (pcm != NULL)
		mute_copies(pcm, channels->count, samples);
	for (int i = 0; i < channels->count; i++)
	{
		if (!chunk_add(&channels->chunker[i], pcm != NULL ? pcm[i] : NULL,
					   samples, error))
			return false;
	}
	return true;
}

/* The recording has ended: what is left are the last chunks. */
bool
channels_finish(Channels *channels, MediaError *error)
{
	channels->finish->ending = true;
	for (int i = 0; i < channels->count; i++)
	{
		if (!chunk_finish(&channels->chunker[i], error))
			return false;
	}
	return finish_wait(channels->finish, error);
}

void
channels_free(Channels *channels)
{
	for (int i = 0; i < channels->count; i++)
		chunk_free(&channels->chunker[i]);
}
