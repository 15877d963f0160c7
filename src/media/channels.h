/*-------------------------------------------------------------------------
 *
 * channels.h
 *	  The streams of samples that are cut into chunks, each on its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_CHANNELS_H
#define TRANSCRIBE_MEDIA_CHANNELS_H

#include "media/chunk.h"

/* With more channels than this, all are mixed whatever was asked for. */
#define CHANNELS_MAX	8

typedef struct Channels
{
	int			count;			/* of streams; 1: all channels mixed, or one */
	Finish	   *finish;			/* where their chunks go */
	Chunker		chunker[CHANNELS_MAX];
} Channels;

extern void channels_init(Channels *channels, const WireOpen *open,
						  int source_channels, Finish *finish);
extern void channels_expect(Channels *channels, double seconds);
extern uint64_t channels_position(const Channels *channels);
extern bool channels_add(Channels *channels, int16_t *const *pcm,
						 size_t samples, MediaError *error);
extern bool channels_finish(Channels *channels, MediaError *error);
extern void channels_free(Channels *channels);

#endif							/* TRANSCRIBE_MEDIA_CHANNELS_H */
