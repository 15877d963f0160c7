/*-------------------------------------------------------------------------
 *
 * silence.c
 *	  Where speech may be in 16 kHz mono samples, and where to cut.
 *
 * Runs in transcribe_media.  Pure: arithmetic on arrays that the caller
 * owns; no allocation, no FFmpeg, no state, so that the same samples always
 * give the same cuts.
 *
 * The two mistakes are not equal.  Silence that is kept costs a little
 * money; speech that is dropped is gone from the transcript.  So a frame is
 * called silent only if it is quiet compared with the loudest sounds around,
 * stays close to the noise floor of its own neighbourhood, and if that lasts
 * for seconds.  Where loud and quiet cannot be told apart (constant noise,
 * music) everything is kept.
 *
 *-------------------------------------------------------------------------
 */
#include "media/silence.h"

#include <math.h>
#include <string.h>

/* Frames per second, for lengths given in seconds. */
#define SECONDS(s)		((size_t) ((s) * 100))

/* Levels are dBFS; this one stands for no signal at all. */
#define LOWEST_LEVEL	(-100)

/*
 * Below this, a frame is a muted microphone or a gap that was filled, and
 * tells nothing of the noise floor.  One step of 16 bits is -90 dBFS.
 */
#define DIGITAL_SILENCE	(-80)

/*
 * Quieter than this is silence.  Speech that far down would come out, even
 * after the largest gain there is (30 dB), 15 dB below the target.
 */
#define INAUDIBLE		(-65)

/* Louder than this is never silence, whatever surrounds it. */
#define NEVER_SILENT	(-30)

/* Noise floor: the level that one frame in twenty stays below. */
#define FLOOR_SHARE		0.05

/* Loud: the level that is reached for 0.1 s in total, the vowel of one word. */
#define LOUD_FRAMES		SECONDS(0.1)

/* With less than this between floor and loud there is no telling them apart. */
#define MIN_CONTRAST	12

/*
 * The threshold lies so far up the way from floor to loud, but always above
 * what noise does by itself: frames of steady noise vary by 1 or 2 dB, those
 * of a street or a fan by 5.
 */
#define THRESHOLD_SHARE	0.3
#define NOISE_MARGIN	6

/*
 * A second look at what seems a long silence: sounds that stand out so far
 * from its own floor are someone speaking far from the microphone.
 */
#define LOCAL_CONTRAST	12
#define LOCAL_SHARE		0.10

/* Words have holes: quiet stretches up to this long belong to the sound. */
#define HANGOVER		SECONDS(0.2)

/* A sound of up to 30 ms that stands alone is a click, not a syllable. */
#define CLICK			SECONDS(0.03)

/* A cut is looked for in the last part of the buffer, of this share. */
#define CUT_SHARE		0.2

/* Where nothing is silent, the cut goes into the quietest 100 ms. */
#define CUT_FRAMES		SECONDS(0.1)

/* A number as close to what was asked for as the limits allow. */
static double
bounded(double value, double least, double most)
{
	return value > least ? value < most ? value : most : least;
}

/* The same for seconds, as whole frames. */
static size_t
bounded_frames(double seconds, double least, double most)
{
	return (size_t) lround(bounded(seconds, least, most) * SECONDS(1));
}

/*
 * Options from lengths in seconds and a level in dBFS, or 0 for none.  They
 * may come from anywhere; what is beyond the limits is brought to them, and a
 * silence that is cut down is at least as long as what is kept of it.
 */
SilenceOptions
silence_options(double min_seconds, double pad_before, double pad_after,
				double threshold, bool keep)
{
	SilenceOptions options = {
		.keep = keep,
		.min_silence = bounded_frames(min_seconds, SILENCE_LEAST_SECONDS,
									  SILENCE_MOST_SECONDS),
		.pad_before = bounded_frames(pad_before, 0, SILENCE_MOST_PAD),
		.pad_after = bounded_frames(pad_after, 0, SILENCE_MOST_PAD),
		.threshold = threshold < 0 ?
		bounded(threshold, SILENCE_LEAST_LEVEL, SILENCE_MOST_LEVEL) : 0
	};

	if (options.min_silence < options.pad_before + options.pad_after)
		options.min_silence = options.pad_before + options.pad_after;
	return options;
}

/* The level of each frame; level has room for silence_frames(samples). */
void
silence_measure(const int16_t *pcm, size_t samples, float *level)
{
	for (size_t at = 0; at < samples; at += SILENCE_FRAME)
	{
		size_t		n = samples - at;
		int64_t		sum = 0;

		if (n > SILENCE_FRAME)
			n = SILENCE_FRAME;
		for (size_t i = 0; i < n; i++)
			sum += (int32_t) pcm[at + i] * pcm[at + i];
		level[at / SILENCE_FRAME] = sum == 0 ? LOWEST_LEVEL :
			(float) (10 * log10((double) sum / n / (32768.0 * 32768.0)));
	}
}

/*
 * How many frames there are of each whole decibel, from LOWEST_LEVEL to 0.
 * Frames of digital silence are left out.  Returns how many were counted.
 */
static size_t
histogram(const float *level, size_t frames,
		  size_t count[1 - LOWEST_LEVEL])
{
	size_t		total = 0;

	memset(count, 0, (1 - LOWEST_LEVEL) * sizeof(count[0]));
	for (size_t i = 0; i < frames; i++)
	{
		if (level[i] < DIGITAL_SILENCE)
			continue;
		count[(int) level[i] - LOWEST_LEVEL]++;
		total++;
	}
	return total;
}

/* The level that the given number of the quietest counted frames reach. */
static int
level_of(const size_t count[1 - LOWEST_LEVEL], size_t rank)
{
	size_t		seen = 0;
	int			i;

	for (i = 0; i < -LOWEST_LEVEL; i++)
	{
		seen += count[i];
		if (seen > rank)
			break;
	}
	return i + LOWEST_LEVEL;
}

/* The end of the run of equal marks that begins at the given frame. */
static size_t
run_end(const bool *speech, size_t start, size_t frames)
{
	size_t		end = start;

	while (end < frames && speech[end] == speech[start])
		end++;
	return end;
}

/*
 * Look again at each long silence, and mark what stands out from its own
 * floor.  The first threshold is taken from the whole buffer, where a loud
 * speaker near the microphone hides a quiet one far from it.
 */
static void
look_again(const SilenceOptions *options, const float *level, size_t frames,
		   int lowest, bool *speech)
{
	size_t		end;

	for (size_t start = 0; start < frames; start = end)
	{
		size_t		count[1 - LOWEST_LEVEL];
		size_t		total;
		int			threshold;

		end = run_end(speech, start, frames);
		if (speech[start] || end - start <= options->min_silence)
			continue;
		total = histogram(level + start, end - start, count);
		if (total == 0)
			continue;
		threshold = level_of(count, total * LOCAL_SHARE) + LOCAL_CONTRAST;
		if (threshold < lowest)
			threshold = lowest;
		for (size_t i = start; i < end; i++)
			speech[i] = level[i] >= threshold;
	}
}

/*
 * Join sounds that are less than the hangover apart, then drop those that
 * are only clicks.  In this order, or the plosives of a word would be lost.
 */
static void
join_and_drop(bool *speech, size_t frames)
{
	size_t		i = 0;

	while (i < frames)
	{
		size_t		start;
		size_t		last;
		size_t		sounding = 0;

		if (!speech[i])
		{
			i++;
			continue;
		}
		start = last = i;
		for (; i < frames && i - last <= HANGOVER; i++)
		{
			if (speech[i])
			{
				last = i;
				sounding++;
			}
		}
		for (size_t k = start; k <= last; k++)
			speech[k] = sounding > CLICK;
		i = last + 1;
	}
}

/* Mark what reaches a level. */
static void
mark_from(const float *level, size_t frames, double threshold, bool *speech)
{
	for (size_t i = 0; i < frames; i++)
		speech[i] = level[i] >= threshold;
}

/*
 * Mark the frames that may be speech, without padding.  Marks of the whole
 * buffer are needed at once: quiet has a meaning only beside loud.
 */
void
silence_mark(const SilenceOptions *options, const float *level, size_t frames,
			 bool *speech)
{
	size_t		count[1 - LOWEST_LEVEL];
	size_t		total = histogram(level, frames, count);
	size_t		loudest = LOUD_FRAMES;
	int			floor;
	int			loud;
	int			lowest;
	double		threshold;

	if (options->threshold < 0)
	{
		mark_from(level, frames, options->threshold, speech);
		join_and_drop(speech, frames);
		return;
	}
	memset(speech, 0, frames * sizeof(*speech));
	if (total == 0)
		return;

	/* Of less than 0.4 s, the loudest quarter has to do. */
	if (loudest > total / 4 + 1)
		loudest = total / 4 + 1;
	floor = level_of(count, total * FLOOR_SHARE);
	loud = level_of(count, total - loudest);
	if (loud < INAUDIBLE)
		return;

	/* A recording that is quiet as a whole is judged by its own loud parts. */
	lowest = loud - 20 < INAUDIBLE ? loud - 20 : INAUDIBLE;
	threshold = THRESHOLD_SHARE * (loud - floor);
	threshold = floor + (threshold > NOISE_MARGIN ? threshold : NOISE_MARGIN);
	if (loud - floor < MIN_CONTRAST || threshold < lowest)
		threshold = lowest;
	if (threshold > NEVER_SILENT)
		threshold = NEVER_SILENT;

	mark_from(level, frames, threshold, speech);
	look_again(options, level, frames, lowest, speech);
	join_and_drop(speech, frames);
}

/*
 * The frame before which a full buffer is best cut: in the middle of the
 * longest silence of its last fifth, the earlier of equals, or else of the
 * quietest 100 ms there.  Never 0, so that every cut makes progress.
 */
size_t
silence_cut(const float *level, const bool *speech, size_t frames)
{
	size_t		from = frames - (size_t) (frames * CUT_SHARE);
	size_t		longest = 0;
	size_t		cut = frames;
	size_t		end;
	double		quietest = HUGE_VAL;

	for (size_t start = from; start < frames; start = end)
	{
		end = run_end(speech, start, frames);
		if (!speech[start] && end - start > longest)
		{
			longest = end - start;
			cut = start + longest / 2;
		}
	}
	if (longest >= CUT_FRAMES)
		return cut;

	for (size_t start = from; start + CUT_FRAMES <= frames; start++)
	{
		double		power = 0;

		for (size_t i = 0; i < CUT_FRAMES; i++)
			power += pow(10, level[start + i] / 10);
		if (power < quietest)
		{
			quietest = power;
			cut = start + CUT_FRAMES / 2;
		}
	}
	return cut;
}

/* How many spans so many frames can give: a long silence lies between two. */
size_t
silence_max_spans(const SilenceOptions *options, size_t frames)
{
	return frames / options->min_silence + 1;
}

/*
 * Which stretches of the samples are kept: speech and its padding, inner
 * silences that are short.  Silence at either end goes whatever its length,
 * so that one long silence that was cut in two is not kept as two short
 * ones.  Returns how many spans there are; none if nothing is speech.  Where
 * silence is to be kept it is one.
 */
size_t
silence_spans(const SilenceOptions *options, const bool *speech,
			  size_t samples, SilenceSpan *spans)
{
	size_t		frames = silence_frames(samples);
	size_t		nspans = 0;
	size_t		previous = 0;	/* frame after the last speech */
	size_t		end;

	for (size_t start = 0; start < frames; start = end)
	{
		size_t		first;
		size_t		after;

		end = run_end(speech, start, frames);
		if (!speech[start])
			continue;
		if (options->keep)
		{
			spans[0].start = 0;
			spans[0].length = samples;
			return 1;
		}
		first = start > options->pad_before ? start - options->pad_before : 0;
		after = (end + options->pad_after) * SILENCE_FRAME;
		if (after > samples)
			after = samples;
		if (nspans == 0 || start - previous > options->min_silence)
			spans[nspans++].start = first * SILENCE_FRAME;
		spans[nspans - 1].length = after - spans[nspans - 1].start;
		previous = end;
	}
	return nspans;
}
