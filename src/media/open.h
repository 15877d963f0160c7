/*-------------------------------------------------------------------------
 *
 * open.h
 *	  Finding a recording, and making sure that it may be read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_OPEN_H
#define TRANSCRIBE_MEDIA_OPEN_H

#include <sys/stat.h>

#include "media/media.h"

extern int	open_recording(const WireOpen *open, struct stat *status,
						   MediaError *error);

#endif							/* TRANSCRIBE_MEDIA_OPEN_H */
