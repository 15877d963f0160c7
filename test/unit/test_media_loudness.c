/*-------------------------------------------------------------------------
 *
 * test_media_loudness.c
 *	  One loudness for all, and no peak too high, on made-up sounds.
 *
 * sources: src/media/loudness.c
 *
 *-------------------------------------------------------------------------
 */
#include "media/loudness.h"

#include <ebur128.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define RATE		16000
#define MAX_SAMPLES	(10 * RATE)

static int16_t pcm[MAX_SAMPLES];
static size_t samples;

/* A small generator of our own, so that every run sees the same numbers. */
static uint32_t seed = 1;

static double
next_random(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) / 16777216.0;
}

static void
put(double value)
{
	value = fmin(32767, fmax(-32768, value * 32768));
	pcm[samples++] = (int16_t) lrint(value);
}

/* A tone, at a phase in parts of a circle. */
static void
add_tone(double seconds, double hertz, double phase, double amplitude)
{
	size_t		n = (size_t) (seconds * RATE);

	for (size_t i = 0; i < n && samples < MAX_SAMPLES; i++)
		put(amplitude * sin(2 * M_PI * (hertz * i / RATE + phase)));
}

/* Syllables: bursts of a buzzing voice, of different strength. */
static void
add_speech(double seconds, double amplitude)
{
	size_t		end = samples + (size_t) (seconds * RATE);

	while (samples < end)
	{
		double		hertz = 90 + 120 * next_random();
		double		strength = amplitude * (0.3 + 0.7 * next_random());
		size_t		n = (size_t) ((0.1 + 0.2 * next_random()) * RATE);

		for (size_t i = 0; i < n && samples < end; i++)
		{
			double		value = 0;

			for (int k = 1; k <= 20; k++)
				value += sin(2 * M_PI * k * hertz * i / RATE + k) / k;
			put(strength * value / 2 * sin(M_PI * i / n));
		}
		for (size_t i = 0; i < n / 2 && samples < end; i++)
			put(amplitude * 0.001 * (next_random() - 0.5));
	}
}

/* Correct what there is; returns its loudness after that. */
static double
correct(Loudness *found, double *true_peak, bool *clips)
{
	ebur128_state *state = ebur128_init(1, RATE, EBUR128_MODE_I | EBUR128_MODE_TRUE_PEAK);
	double		loudness;

	loudness_measure(pcm, samples, found);
	loudness_apply(pcm, samples, found->gain);
	*clips = false;
	for (size_t i = 0; i < samples; i++)
		*clips = *clips || pcm[i] == INT16_MAX || pcm[i] == INT16_MIN;
	ebur128_add_frames_short(state, pcm, samples);
	ebur128_loudness_global(state, &loudness);
	ebur128_true_peak(state, 0, true_peak);
	*true_peak = 20 * log10(fmax(*true_peak, 1e-9));
	ebur128_destroy(&state);
	samples = 0;
	return loudness;
}

int
main(void)
{
	Loudness	found;
	double		peak;
	double		whisper;
	double		shout;
	double		highest = -100;
	bool		clips;
	bool		any_clips = false;

	add_speech(8, 0.02);
	whisper = correct(&found, &peak, &clips);
	ok(found.loudness < -45, "a whisper is found to be quiet");
	add_speech(8, 0.9);
	shout = correct(&found, &peak, &clips);
	ok(found.loudness > -20, "a shout is found to be loud");
	ok(fabs(whisper - shout) < 1, "both come out alike");
	ok(fabs(shout + 20) < 0.5, "at the loudness that is aimed for");

	memset(pcm, 0, sizeof(pcm));
	samples = MAX_SAMPLES;
	correct(&found, &peak, &clips);
	ok(found.gain == 0, "silence is left as it is");
	for (int i = 0; i < MAX_SAMPLES; i++)
		put((next_random() - 0.5) * 4 / 32768);
	correct(&found, &peak, &clips);
	ok(found.gain == 0, "and so is what is all but silent");

	/* A tone of which no sample shows the height, in a quiet surrounding. */
	add_speech(5, 0.05);
	add_tone(0.005, 4000, 0.125, 0.4);
	add_speech(4, 0.05);
	correct(&found, &peak, &clips);
	ok(peak <= -1 && peak > -1.2, "a peak between samples is found, and met");
	ok(!clips, "without clipping");

	/* The same at a place that is not whole blocks, at the very ends too. */
	add_tone(0.0053, 4000, 0.125, 0.4);
	add_speech(5, 0.05);
	add_tone(0.0053, 4000, 0.125, 0.4);
	correct(&found, &peak, &clips);
	ok(peak <= -1 && peak > -1.2 && !clips, "also where the sound begins and ends");

	/* Whatever it is. */
	for (int round = 0; round < 300; round++)
	{
		double		quiet = pow(10, -3 * next_random());

		add_speech(0.1 + 3 * next_random(), quiet);
		switch (round % 4)
		{
			case 0:
				add_tone(0.1 * next_random(), 200 + 7700 * next_random(),
						 next_random(), 1);
				break;
			case 1:				/* clipped */
				add_speech(0.5, 8);
				break;
			case 2:				/* clicks */
				for (int i = 0; i < 20; i++)
					put(next_random() < 0.5 ? -quiet : next_random());
				break;
			default:
				for (int i = 0; i < 3000; i++)
					put((next_random() - 0.5) * 2);
		}
		add_speech(0.1 + 3 * next_random(), quiet);
		correct(&found, &peak, &clips);
		any_clips = any_clips || clips;
		if (peak > highest)
			highest = peak;
	}
	ok(!any_clips, "nothing ever clips");
	if (!ok(highest <= -1, "nothing ever peaks above -1 dBTP"))
		printf("# %.3f dBTP\n", highest);
	return done();
}
