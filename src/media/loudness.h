/*-------------------------------------------------------------------------
 *
 * loudness.h
 *	  How loud a chunk is, and bringing it to one level.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_LOUDNESS_H
#define TRANSCRIBE_MEDIA_LOUDNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A chunk's loudness in LUFS, and the gain in dB that corrects it. */
typedef struct Loudness
{
	double		loudness;
	double		gain;
} Loudness;

extern bool loudness_measure(const int16_t *pcm, size_t samples,
							 Loudness *result);
extern void loudness_apply(int16_t *pcm, size_t samples, double gain);

#endif							/* TRANSCRIBE_MEDIA_LOUDNESS_H */
