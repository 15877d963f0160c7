/*-------------------------------------------------------------------------
 *
 * loudness.c
 *	  How loud a chunk is, and bringing it to one level.
 *
 * Runs in transcribe_media, on samples from which long silences have already
 * been removed.  Loudness is that of EBU R 128, as ears weigh it; peaks are
 * kept below -1 dBTP by taking less gain, never by limiting, because a
 * limiter's distortion is one more thing for a speech model to stumble on.
 *
 *-------------------------------------------------------------------------
 */
#include "media/loudness.h"

#include <ebur128.h>
#include <math.h>

#include "media/media.h"

/*
 * Between broadcast (-23) and podcasts (-16).  Speech peaks some 15 to 18 dB
 * above its loudness, so that at -20 the peak guard seldom has to step in.
 */
#define TARGET			(-20.0)

/*
 * More gain than this would lift the noise of 16 bits to an audible -68 dB;
 * less is never needed, as nothing is louder than about +3.
 */
#define MAX_GAIN		30.0

/*
 * The highest sample after gain: -1 dBTP, and 1 dB for what the waveform
 * does between samples, which true-peak meters find by resampling to four
 * times the rate.  The margin is a tenth of that work.
 */
#define MAX_PEAK		(-2.0)

/* The gate of EBU R 128: what is quieter has no loudness. */
#define QUIETEST		(-70.0)

/* EBU R 128 measures blocks of 400 ms; below that there is none. */
#define GATING_BLOCK	(MEDIA_RATE * 4 / 10)

/* dBFS of a mean square or of a peak's square; QUIETEST for zero. */
static double
decibels(double square)
{
	double		level = square > 0 ? 10 * log10(square) : QUIETEST;

	return level > QUIETEST ? level : QUIETEST;
}

/* Integrated loudness.  Returns false if there is no memory. */
static bool
integrated_loudness(const int16_t *pcm, size_t samples, double *loudness)
{
	ebur128_state *state = ebur128_init(1, MEDIA_RATE, EBUR128_MODE_I);
	bool		ok;

	if (state == NULL)
		return false;
	ok = ebur128_add_frames_short(state, pcm, samples) == EBUR128_SUCCESS &&
		ebur128_loudness_global(state, loudness) == EBUR128_SUCCESS;
	ebur128_destroy(&state);
	return ok;
}

/*
 * Measure samples and choose their gain.  Returns false if there is no
 * memory for it.
 */
bool
loudness_measure(const int16_t *pcm, size_t samples, Loudness *result)
{
	int32_t		peak = 0;
	double		sum = 0;
	double		room;

	for (size_t i = 0; i < samples; i++)
	{
		int32_t		value = pcm[i] < 0 ? -pcm[i] : pcm[i];

		if (value > peak)
			peak = value;
		sum += value * value;
	}

	/* For a short sound its power, on the scale of the standard (-0.691). */
	if (samples < GATING_BLOCK)
		result->loudness = decibels(samples == 0 ? 0 :
									sum / samples / (32768.0 * 32768.0)) -
			0.691;
	else if (!integrated_loudness(pcm, samples, &result->loudness))
		return false;

	/* Everything was below the gate: there is nothing to be made louder. */
	if (!(result->loudness > QUIETEST))
	{
		result->loudness = QUIETEST;
		result->gain = 0;
		return true;
	}
	result->gain = fmax(-MAX_GAIN, fmin(MAX_GAIN, TARGET - result->loudness));
	room = MAX_PEAK - decibels(peak / 32768.0 * (peak / 32768.0));
	if (result->gain > room)
		result->gain = room;
	return true;
}

/* Multiply in place; rounding may reach the limits, so they are kept. */
void
loudness_apply(int16_t *pcm, size_t samples, double gain)
{
	float		factor = (float) pow(10, gain / 20);

	for (size_t i = 0; i < samples; i++)
	{
		float		value = pcm[i] * factor;

		value = value > INT16_MAX ? INT16_MAX : value;
		value = value < INT16_MIN ? INT16_MIN : value;
		pcm[i] = (int16_t) (value + (value < 0 ? -0.5f : 0.5f));
	}
}
