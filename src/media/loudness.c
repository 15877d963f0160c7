/*-------------------------------------------------------------------------
 *
 * loudness.c
 *	  How loud a chunk is, and bringing it to one level.
 *
 * Runs in transcribe_media, on samples from which long silences have already
 * been removed.  Loudness is that of EBU R 128, as ears weigh it; true peaks
 * are kept below -1 dBTP by taking less gain, never by limiting, because a
 * limiter's distortion is one more thing for a speech model to stumble on.
 *
 *-------------------------------------------------------------------------
 */
#include "media/loudness.h"

#include <ebur128.h>
#include <math.h>
#include <string.h>

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
 * The highest peak after gain, in dBTP: of the waveform, which between two
 * samples may be higher than both, and would clip in a decoder.  A little is
 * for rounding to 16 bits.
 */
#define MAX_PEAK		(-1.05)

/*
 * Measuring true peaks is resampling to four times the rate, as much work as
 * all the rest.  So it is done only for the 5 ms around samples that are
 * within 6 dB of the highest, as no waveform of a voice rises that far
 * between two samples; and only if the gain makes it matter.
 */
#define PEAK_BLOCK		(MEDIA_RATE / 200)
#define MAX_OVERSHOOT	6.0
#define FILTER_SAMPLES	32		/* more than the meter's filter looks at */

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

/* The highest absolute value of samples. */
static int32_t
sample_peak(const int16_t *pcm, size_t samples)
{
	int32_t		peak = 0;

	for (size_t i = 0; i < samples; i++)
	{
		int32_t		value = pcm[i] < 0 ? -pcm[i] : pcm[i];

		if (value > peak)
			peak = value;
	}
	return peak;
}

/*
 * The true peak of a block and its surroundings.  What the meter's filter
 * still holds of another block is flushed by what comes before this one.
 */
static bool
block_peak(ebur128_state *state, const int16_t *pcm, size_t samples,
		   size_t at, double *peak)
{
	size_t		start = at > FILTER_SAMPLES ? at - FILTER_SAMPLES : 0;
	size_t		end = at + PEAK_BLOCK + FILTER_SAMPLES;
	int16_t		flush[FILTER_SAMPLES] = {0};

	if (end > samples)
		end = samples;
	memcpy(flush + FILTER_SAMPLES - (at - start), pcm + start,
		   (at - start) * sizeof(*pcm));
	return ebur128_add_frames_short(state, flush,
									FILTER_SAMPLES) == EBUR128_SUCCESS &&
		ebur128_add_frames_short(state, pcm + at, end - at) == EBUR128_SUCCESS &&
		ebur128_prev_true_peak(state, 0, peak) == EBUR128_SUCCESS;
}

/*
 * The true peak of samples whose highest is known, where 1 is full scale.
 * Returns false if there is no memory.
 */
static bool
true_peak(const int16_t *pcm, size_t samples, int32_t highest, double *result)
{
	ebur128_state *state = ebur128_init(1, MEDIA_RATE, EBUR128_MODE_TRUE_PEAK);
	double		least = highest * pow(10, -MAX_OVERSHOOT / 20);
	bool		ok = state != NULL;

	*result = highest / 32768.0;
	for (size_t at = 0; ok && at < samples; at += PEAK_BLOCK)
	{
		size_t		n = samples - at < PEAK_BLOCK ? samples - at : PEAK_BLOCK;
		double		peak = 0;

		if (sample_peak(pcm + at, n) < least)
			continue;
		ok = block_peak(state, pcm, samples, at, &peak);
		if (peak > *result)
			*result = peak;
	}
	if (state != NULL)
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
	int32_t		highest = sample_peak(pcm, samples);
	double		peak = highest / 32768.0;
	double		sum = 0;
	double		room;

	/* For a short sound its power, on the scale of the standard (-0.691). */
	for (size_t i = 0; i < samples && samples < GATING_BLOCK; i++)
		sum += (double) pcm[i] * pcm[i];
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
	if (decibels(peak * peak) + result->gain > MAX_PEAK - MAX_OVERSHOOT &&
		!true_peak(pcm, samples, highest, &peak))
		return false;
	room = MAX_PEAK - decibels(peak * peak);
	if (result->gain > room)
		result->gain = room;
	return true;
}

/*
 * Multiply in place.  The limits are kept after rounding, which may reach
 * them; it is whole numbers that compilers can compare several at a time.
 */
void
loudness_apply(int16_t *pcm, size_t samples, double gain)
{
	float		factor = (float) pow(10, gain / 20);

	for (size_t i = 0; i < samples; i++)
	{
		float		value = pcm[i] * factor;
		int32_t		rounded = (int32_t) (value + copysignf(0.5f, value));

		rounded = rounded > INT16_MAX ? INT16_MAX : rounded;
		rounded = rounded < INT16_MIN ? INT16_MIN : rounded;
		pcm[i] = (int16_t) rounded;
	}
}
