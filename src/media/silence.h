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

extern void silence_measure(const int16_t *pcm, size_t samples, float *level);
extern void silence_mark(const float *level, size_t frames, bool *speech);
extern size_t silence_cut(const float *level, const bool *speech,
						  size_t frames);
extern size_t silence_max_spans(size_t frames);
extern size_t silence_spans(const bool *speech, size_t samples,
							SilenceSpan *spans);

#endif							/* TRANSCRIBE_MEDIA_SILENCE_H */
