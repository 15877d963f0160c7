/*-------------------------------------------------------------------------
 *
 * decode.h
 *	  Packets to samples, at the time at which a player shows them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_DECODE_H
#define TRANSCRIBE_MEDIA_DECODE_H

#include "media/channels.h"
#include "media/media.h"
#include "media/source.h"

/* How decoding went. */
typedef struct Decoded
{
	uint64_t	frames;			/* that were decoded */
	uint64_t	errors;			/* packets that could not be */
	bool		cut_short;		/* reading stopped before the end */
} Decoded;

extern bool decode_recording(Source *source, Channels *channels,
							 double max_seconds, Decoded *decoded,
							 MediaError *error);

#endif							/* TRANSCRIBE_MEDIA_DECODE_H */
