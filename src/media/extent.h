/*-------------------------------------------------------------------------
 *
 * extent.h
 *	  Whether all of a file is there, as far as the file itself tells.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_EXTENT_H
#define TRANSCRIBE_MEDIA_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Extent
{
	int64_t		announced;		/* size by its own header; -1: says none */
	bool		torn;			/* ends in the middle of a page or packet */
} Extent;

extern Extent extent_of(int fd, int64_t size);

#endif							/* TRANSCRIBE_MEDIA_EXTENT_H */
