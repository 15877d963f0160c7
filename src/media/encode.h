/*-------------------------------------------------------------------------
 *
 * encode.h
 *	  Samples to a small audio file in memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_ENCODE_H
#define TRANSCRIBE_MEDIA_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "media/media.h"

typedef struct EncodeFormat
{
	const char *name;			/* as in WireOpen.format */
	const char *filename;		/* servers tell formats by the extension */
	const char *content_type;
	const char *muxer;			/* FFmpeg's names */
	const char *encoder;
	const char *options;		/* of the encoder */
	int			sample_format;	/* enum AVSampleFormat: 16 bits, mono */
	int			bit_rate;		/* 0: whatever it takes */
	int			bytes_per_second;	/* the most it can be */
} EncodeFormat;

extern const EncodeFormat *encode_format(const char *name, MediaError *error);
extern bool encode_audio(const EncodeFormat *format, int16_t *pcm,
						 size_t samples, uint8_t **data, size_t *size,
						 MediaError *error);
extern void encode_free(uint8_t *data);

#endif							/* TRANSCRIBE_MEDIA_ENCODE_H */
