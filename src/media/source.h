/*-------------------------------------------------------------------------
 *
 * source.h
 *	  The container: which stream is decoded, and by which clock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_SOURCE_H
#define TRANSCRIBE_MEDIA_SOURCE_H

#include <sys/stat.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "media/extent.h"
#include "media/media.h"

typedef struct Source
{
	int			fd;				/* the recording; the caller's */
	int64_t		size;
	Extent		extent;			/* as the file itself tells */
	int			io_errno;		/* of the first read that failed, or 0 */
	AVIOContext *io;
	AVFormatContext *container;
	AVStream   *stream;			/* the one that is decoded */
	AVCodecContext *decoder;
} Source;

extern bool source_open(Source *source, int fd, const struct stat *status,
						MediaError *error);
extern void source_describe(const Source *source, const struct stat *status,
							WireSource *description);
extern double source_promise(const Source *source, double decoded);
extern bool source_failed(const Source *source, int result, const char *code,
						  const char *message, MediaError *error);
extern void source_close(Source *source);

#endif							/* TRANSCRIBE_MEDIA_SOURCE_H */
