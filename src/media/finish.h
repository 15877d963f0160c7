/*-------------------------------------------------------------------------
 *
 * finish.h
 *	  A chunk's samples to what is sent: loudness, encoding, delivery.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_FINISH_H
#define TRANSCRIBE_MEDIA_FINISH_H

#include <stddef.h>
#include <stdint.h>

#include "media/encode.h"
#include "media/media.h"

/* A chunk on its way: cut, and not yet told to the sink. */
typedef struct Chunk
{
	WireChunk	wire;			/* what the sink is told; audio comes last */
	WireSpan   *spans;
	int16_t    *pcm;			/* what is kept of the recording */
	size_t		samples;
	uint8_t    *audio;			/* encoded; NULL until then */
} Chunk;

/* All chunks of one recording. */
typedef struct Finish
{
	const EncodeFormat *format;
	const MediaSink *sink;
	uint32_t	chunks;			/* that were handed over */
	bool		ending;			/* the main thread has nothing else to do */
	uint64_t	kept;			/* samples that were delivered */
	double		power;			/* sum over them, by their loudness */
} Finish;

/* Once in the life of the process. */
extern void finish_start_thread(void);
extern unsigned finish_lock_in(unsigned wanted);

/* Take a chunk over, from malloc() with all that hangs on it. */
extern bool finish_chunk(Finish *finish, Chunk *chunk, MediaError *error);
extern bool finish_poll(Finish *finish, MediaError *error);
extern bool finish_wait(Finish *finish, MediaError *error);
extern void finish_abandon(void);
extern void finish_free_chunk(Chunk *chunk);
extern double finish_loudness(const Finish *finish);

#endif							/* TRANSCRIBE_MEDIA_FINISH_H */
