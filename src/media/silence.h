/*-------------------------------------------------------------------------
 *
 * silence.h
 *	  Where speech may be in 16 kHz mono samples, and where to cut.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_SILENCE_H
#define TRANSCRIBE_MEDIA_SILENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A frame is 10 ms: long enough for an energy, shorter than any sound. */
#define SILENCE_FRAME	160

/* What is asked for; lengths are frames. */
typedef struct SilenceOptions
{
	bool		keep;			/* all silence, where there is any sound */
	size_t		min_silence;	/* inner silence longer than this is cut down, */
	size_t		pad_before;		/* to so much before speech, */
	size_t		pad_after;		/* and after it */
	double		threshold;		/* dBFS; 0: follow the noise floor */
} SilenceOptions;

/*
 * Defaults in seconds: pauses of speech are shorter than that; onsets are
 * soft, and the ends of words fade.
 */
#define SILENCE_MIN_SECONDS		2.0
#define SILENCE_PAD_BEFORE		0.2
#define SILENCE_PAD_AFTER		0.3

/*
 * Limits.  The shortest silence bounds how many spans a chunk can have, and
 * with them the frame that it is sent in.
 */
#define SILENCE_LEAST_SECONDS	0.5
#define SILENCE_MOST_SECONDS	600.0
#define SILENCE_MOST_PAD		5.0
#define SILENCE_LEAST_LEVEL		(-90.0)
#define SILENCE_MOST_LEVEL		(-20.0)

/* A stretch to be kept, in samples. */
typedef struct SilenceSpan
{
	size_t		start;
	size_t		length;
} SilenceSpan;

/* How many frames so many samples fill; the last one may be short. */
static inline size_t
silence_frames(size_t samples)
{
	return (samples + SILENCE_FRAME - 1) / SILENCE_FRAME;
}

extern SilenceOptions silence_options(double min_seconds, double pad_before,
									  double pad_after, double threshold,
									  bool keep);
extern void silence_measure(const int16_t *pcm, size_t samples, float *level);
extern void silence_mark(const SilenceOptions *options, const float *level,
						 size_t frames, bool *speech);
extern size_t silence_cut(const float *level, const bool *speech,
						  size_t frames);
extern size_t silence_max_spans(const SilenceOptions *options, size_t frames);
extern size_t silence_spans(const SilenceOptions *options, const bool *speech,
							size_t samples, SilenceSpan *spans);

#endif							/* TRANSCRIBE_MEDIA_SILENCE_H */
