/*-------------------------------------------------------------------------
 *
 * prepare.h
 *	  A recording to chunks, from the open descriptor to the end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_PREPARE_H
#define TRANSCRIBE_MEDIA_PREPARE_H

#include <sys/stat.h>

#include "media/media.h"

/* How it ended; detail is what WireEnd.detail points to. */
typedef struct Prepared
{
	WireEnd		end;
	char		detail[256];
} Prepared;

extern void prepare_warm_up(void);
extern void prepare_rehearse(void);
extern bool prepare_lock_in(const WireOpen *open, off_t size,
							bool writes_files,
							unsigned *layers, MediaError *error);
extern bool prepare_recording(int fd, const struct stat *status,
							  const WireOpen *open, unsigned layers,
							  const MediaSink *sink,
							  Prepared *prepared, MediaError *error);

#endif							/* TRANSCRIBE_MEDIA_PREPARE_H */
