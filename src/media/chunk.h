/*-------------------------------------------------------------------------
 *
 * chunk.h
 *	  Samples to chunks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_CHUNK_H
#define TRANSCRIBE_MEDIA_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#include "media/finish.h"
#include "media/silence.h"

/* All positions are samples of the recording at MEDIA_RATE. */
typedef struct Chunker
{
	Finish	   *finish;			/* where chunks go */
	SilenceOptions silence;
	uint32_t	channel;		/* that the samples are of, or WIRE_MIXED */
	size_t		limit;			/* samples in a full buffer, */
	size_t		first_limit;	/* until there is a first chunk */
	int16_t    *pcm;			/* the buffer, */
	size_t		len;			/* samples in it, */
	size_t		size;			/* and allocated */
	uint64_t	base;			/* position of the buffer's first sample */
	uint64_t	accounted;		/* position up to which chunks account */
	uint32_t	chunks;

	/* Stretches that are done already, and the next of them here. */
	const char *done;
	uint32_t	ndone;
	uint32_t	looked_at;
	uint64_t	done_start;		/* UINT64_MAX: there is none any more */
	uint64_t	done_end;
} Chunker;

extern void chunk_init(Chunker *chunker, const WireOpen *open,
					   uint32_t channel, Finish *finish);
extern void chunk_expect(Chunker *chunker, double seconds);
extern size_t chunk_max_samples(const WireOpen *open);
extern uint64_t chunk_position(const Chunker *chunker);
extern bool chunk_add(Chunker *chunker, const int16_t *pcm, size_t samples,
					  MediaError *error);
extern bool chunk_finish(Chunker *chunker, MediaError *error);
extern void chunk_free(Chunker *chunker);

#endif							/* TRANSCRIBE_MEDIA_CHUNK_H */
