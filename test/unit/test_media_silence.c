/*-------------------------------------------------------------------------
 *
 * test_media_silence.c
 *	  What is kept and what is cut, on made-up sounds.
 *
 * sources: src/media/silence.c
 *
 *-------------------------------------------------------------------------
 */
#include "media/silence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define RATE		16000
#define MAX_SAMPLES	(120 * RATE)
#define MAX_FRAMES	(MAX_SAMPLES / SILENCE_FRAME)

static int16_t pcm[MAX_SAMPLES];
static size_t samples;
static float level[MAX_FRAMES];
static bool speech[MAX_FRAMES];
static SilenceSpan spans[MAX_FRAMES];
static size_t nspans;
static SilenceOptions options;

/* A small generator of our own, so that every run sees the same numbers. */
static uint32_t seed = 1;

static uint32_t
next_random(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

/* Noise of so many dBFS; dB below -100 is digital silence. */
static void
add_noise(double seconds, double db)
{
	double		amplitude = db < -100 ? 0 : 32768 * pow(10, db / 20) * sqrt(3);

	for (size_t n = (size_t) lround(seconds * RATE); n > 0; n--)
		pcm[samples++] = (int16_t)
			lround(amplitude * (next_random() / 8388608.0 - 1));
}

/* Syllables: 150 ms of sound, 80 ms of almost none, as long as it takes. */
static void
add_speech(double seconds, double db)
{
	size_t		end = samples + (size_t) lround(seconds * RATE);

	while (samples < end)
	{
		add_noise(0.15, db);
		add_noise(0.08, db - 30);
	}
	samples = end;
}

static void
find(void)
{
	size_t		frames = silence_frames(samples);

	silence_measure(pcm, samples, level);
	silence_mark(&options, level, frames, speech);
	nspans = silence_spans(&options, speech, samples, spans);
}

/* The i-th span begins and ends there, give or take 30 ms. */
static bool
span_is(size_t i, double start, double end)
{
	return i < nspans &&
		fabs((double) spans[i].start / RATE - start) < 0.03 &&
		fabs((double) (spans[i].start + spans[i].length) / RATE - end) < 0.03;
}

static bool
all_is_kept(void)
{
	return nspans == 1 && spans[0].start == 0 && spans[0].length == samples;
}

static void
test_ends(void)
{
	samples = 0;
	add_noise(5, -60);
	add_speech(3.91, -20);
	add_noise(5, -60);
	find();
	ok(nspans == 1 && span_is(0, 4.8, 5 + 3.91 - 0.08 + 0.3),
	   "silence before and after speech goes, but for the padding");

	samples = 0;
	add_speech(3.91, -20);
	find();
	ok(nspans == 1 && spans[0].start == 0 && spans[0].length == samples,
	   "padding ends where the samples do");
}

static void
test_inner(void)
{
	samples = 0;
	add_speech(2.3, -20);
	add_noise(1.5, -60);
	add_speech(2.3, -20);
	find();
	ok(nspans == 1, "a pause of 1.5 s is kept");

	samples = 0;
	add_speech(2.3, -20);
	add_noise(4, -60);
	add_speech(2.3, -20);
	find();
	ok(nspans == 2 && span_is(0, 0, 2.3 - 0.08 + 0.3) && span_is(1, 6.1, 8.6),
	   "a pause of 4 s is cut down to the padding");

	samples = 0;
	add_speech(2.3, -20);
	add_noise(2, -60);
	add_noise(0.02, -10);
	add_noise(2, -60);
	add_speech(2.3, -20);
	find();
	ok(nspans == 2, "a click in a pause is no speech");

	samples = 0;
	add_speech(2.3, -20);
	add_noise(3, -60);
	add_noise(0.1, -25);
	add_noise(3, -60);
	add_speech(2.3, -20);
	find();
	ok(nspans == 3, "a syllable in a pause is kept");
}

static void
test_levels(void)
{
	samples = 0;
	add_noise(5, -85);
	add_speech(4.6, -52);
	add_noise(5, -85);
	find();
	ok(nspans == 1 && span_is(0, 4.8, 9.6 - 0.08 + 0.3),
	   "a quiet recording is judged by its own level");

	samples = 0;
	add_speech(20.01, -15);
	add_noise(3, -70);
	add_speech(4.6, -48);
	add_noise(3, -70);
	add_speech(20.01, -15);
	find();
	ok(nspans == 3 && span_is(1, 20.01 + 3 - 0.2, 20.01 + 7.6 + 0.3 - 0.08),
	   "a speaker far from the microphone is not lost behind a near one");

	samples = 0;
	add_noise(40, -60);
	add_speech(1.15, -25);
	add_noise(40, -60);
	find();
	ok(nspans == 1 && span_is(0, 39.8, 41.15 - 0.08 + 0.3),
	   "one word in a long silence is found");

	samples = 0;
	add_noise(30, -35);
	find();
	ok(all_is_kept(), "constant noise is kept");

	samples = 0;
	add_noise(30, -70);
	find();
	ok(nspans == 0, "noise at -70 dBFS is silence");

	samples = 0;
	add_noise(30, -200);
	find();
	ok(nspans == 0, "digital silence is silence");

	samples = 0;
	add_noise(30, -200);
	add_speech(4.6, -20);
	add_noise(3, -55);
	add_speech(4.6, -20);
	find();
	ok(nspans == 2 && span_is(0, 29.8, 34.6 - 0.08 + 0.3),
	   "digital silence does not hide the noise floor");

	samples = 0;
	add_speech(30, -20);
	find();
	ok(nspans == 1, "speech without a pause is one piece");
}

static void
test_cut(void)
{
	size_t		frames;
	size_t		cut;

	samples = 0;
	add_speech(52, -20);
	add_noise(1, -60);
	add_speech(3, -20);
	add_noise(0.5, -60);
	add_speech(3.5, -20);
	find();
	frames = silence_frames(samples);
	cut = silence_cut(level, speech, frames);
	ok(cut > 5230 && cut < 5270,
	   "a full buffer is cut in the middle of its last long pause");

	samples = 0;
	add_noise(52, -20);
	add_noise(0.1, -24);
	add_noise(7.9, -20);
	find();
	cut = silence_cut(level, speech, silence_frames(samples));
	ok(cut >= 5203 && cut <= 5207, "without a pause, at the quietest point");

	samples = 0;
	add_noise(60, -200);
	find();
	cut = silence_cut(level, speech, silence_frames(samples));
	ok(cut > 0 && cut < silence_frames(samples),
	   "a silent buffer is cut, too");

	samples = 1;
	find();
	ok(silence_cut(level, speech, 1) == 1, "a single frame is cut after it");
	samples = 0;
	find();
	ok(nspans == 0, "no samples, no spans");
}

/* One random pattern: does all that must hold of its spans hold? */
static bool
holds_for_random(bool *covers)
{
	size_t		frames;
	size_t		end = 0;
	bool		ordered = true;

	samples = 0;
	while (samples < MAX_SAMPLES / 2)
	{
		double		seconds = 0.05 + next_random() % 5000 / 1000.0;

		if (next_random() % 2)
			add_speech(seconds, -35.0 + next_random() % 25);
		else
			add_noise(seconds, -75.0 + next_random() % 20);
	}
	samples -= next_random() % SILENCE_FRAME;
	find();
	frames = silence_frames(samples);
	ordered = nspans <= silence_max_spans(&options, frames);
	for (size_t i = 0; i < nspans; i++)
	{
		ordered = ordered && spans[i].length > 0 &&
			(i == 0 || spans[i].start > end);
		end = spans[i].start + spans[i].length;
	}
	ordered = ordered && end <= samples;

	/* Every frame marked, and every run of loud ones, lies in some span. */
	*covers = true;
	for (size_t f = 0; f < frames; f++)
	{
		bool		loud = speech[f];
		bool		inside = false;

		if (f + 5 < frames && !loud)
		{
			loud = true;
			for (size_t k = 0; k < 5; k++)
				loud = loud && level[f + k] > -36;
		}
		for (size_t i = 0; i < nspans; i++)
			inside = inside || (f * SILENCE_FRAME >= spans[i].start &&
								f * SILENCE_FRAME <
								spans[i].start + spans[i].length);
		*covers = *covers && (!loud || inside);
	}
	return ordered;
}

/* Samples joined span by span are those of the source, one by one. */
static bool
maps_back(void)
{
	static int16_t joined[MAX_SAMPLES];
	size_t		at = 0;

	for (size_t i = 0; i < nspans; i++)
	{
		memcpy(joined + at, pcm + spans[i].start,
			   spans[i].length * sizeof(*pcm));
		at += spans[i].length;
	}
	for (size_t k = 0; k < 1000 && at > 0; k++)
	{
		size_t		n = next_random() % at;
		size_t		before = 0;
		size_t		i = 0;

		while (n >= before + spans[i].length)
			before += spans[i++].length;
		if (joined[n] != pcm[spans[i].start + n - before])
			return false;
	}
	return true;
}

static void
test_random(void)
{
	bool		all_ordered = true;
	bool		all_covered = true;
	bool		all_mapped = true;

	for (int i = 0; i < 200; i++)
	{
		bool		covers;

		/* Half of them as they are by default. */
		if (i >= 100)
			options = silence_options(next_random() % 4000 / 1000.0,
									  next_random() % 2000 / 1000.0,
									  next_random() % 2000 / 1000.0, 0, false);
		all_ordered = holds_for_random(&covers) && all_ordered;
		all_covered = covers && all_covered;
		all_mapped = maps_back() && all_mapped;
	}
	ok(all_ordered, "spans are in order, apart, and within the samples");
	ok(all_covered, "spans cover all that is loud");
	ok(all_mapped, "every sample of a chunk is found again in its source");
}

/* Whether two seconds of a level between silences are kept, and how long. */
static double
kept_of(double db)
{
	size_t		kept = 0;

	samples = 0;
	add_noise(3, -80);
	add_speech(2, db);
	add_noise(1.5, -80);
	add_speech(2, db);
	add_noise(3, -80);
	find();
	for (size_t i = 0; i < nspans; i++)
		kept += spans[i].length;
	return (double) kept / RATE;
}

static void
test_options(void)
{
	SilenceOptions defaults = options;

	ok(fabs(kept_of(-30) - 6) < 0.3 && nspans == 1,
	   "a pause shorter than min_silence stays");
	options.min_silence = 100;
	ok(fabs(kept_of(-30) - 5) < 0.3 && nspans == 2, "a longer one is cut down");
	options.pad_before = options.pad_after = 10;
	ok(fabs(kept_of(-30) - 4.4) < 0.3, "to the paddings");

	options = defaults;
	options.threshold = -50;
	ok(kept_of(-60) == 0, "what is below a given threshold is silence");
	ok(kept_of(-40) > 4, "what is above it is not");
	options.threshold = 0;
	ok(kept_of(-60) > 4, "without one, quiet speech is speech");

	options.keep = true;
	ok(fabs(kept_of(-30) - 11.5) < 1e-9 && nspans == 1, "all is kept if that is asked for");
	samples = 0;
	add_noise(3, -90);
	find();
	ok(nspans == 0, "but for what is silent throughout");

	options = silence_options(NAN, -1, INFINITY, NAN, false);
	ok(options.min_silence == 500 && options.pad_before == 0 &&
	   options.pad_after == 500 && options.threshold == 0,
	   "numbers that are none are harmless");
	options = silence_options(0.5, 0.29, 0.31, -1, false);
	ok(options.min_silence == 60 && options.pad_before == 29 &&
	   options.pad_after == 31 && options.threshold == SILENCE_MOST_LEVEL,
	   "a silence is never shorter than what is kept of it");
	options = defaults;
}

int
main(void)
{
	options = silence_options(SILENCE_MIN_SECONDS, SILENCE_PAD_BEFORE,
							  SILENCE_PAD_AFTER, 0, false);
	test_options();
	test_ends();
	test_inner();
	test_levels();
	test_cut();
	test_random();
	return done();
}
