/*-------------------------------------------------------------------------
 *
 * media.h
 *	  What the parts of transcribe_media share: failures, and the receiver
 *	  of what was prepared.
 *
 * transcribe_media turns one recording into chunks of speech, 16 kHz mono:
 *
 *	  open.c	  finds the file and makes sure that it may be read
 *	  sandbox.c	  gives up every right that decoding does not need
 *	  source.c	  the container: which stream, which clock
 *	  extent.c	  whether all of the file is there
 *	  decode.c	  packets to samples, at the time a player shows them
 *	  channels.c  samples to streams: all mixed, or each channel apart
 *	  chunk.c	  a stream to chunks, by silence.c
 *	  finish.c	  chunks to what is sent, by loudness.c and encode.c
 *	  prepare.c	  the above, in order
 *	  child.c	  run by the agent: frames in, frames out
 *	  command.c	  run by a person: the same, to a file and standard output
 *
 * Rules: one recording per process; one thread, but for encoding, see
 * finish.c; nothing of the file's content is touched before sandbox_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_H
#define TRANSCRIBE_MEDIA_H

#include <limits.h>
#include <stdbool.h>

#include "wire/wire.h"

/* Everything is prepared at this rate, which is the one Whisper works at. */
#define MEDIA_RATE		16000

/*
 * Why a recording cannot be prepared: the codes of a FAILED frame.  They end
 * up in the job's row, so that a word once given is never given again with
 * another meaning.
 */
#define MEDIA_NOT_FOUND				"not_found"
#define MEDIA_PERMISSION_DENIED		"permission_denied"
#define MEDIA_IS_DIRECTORY			"is_directory"
#define MEDIA_NOT_REGULAR_FILE		"not_regular_file"
#define MEDIA_NOT_ALLOWED			"not_allowed"	/* below none of the roots */
#define MEDIA_EMPTY_FILE			"empty_file"
#define MEDIA_FILE_TOO_LARGE		"file_too_large"
#define MEDIA_NOT_AUDIO				"not_audio" /* no container we know */
#define MEDIA_NO_AUDIO_STREAM		"no_audio_stream"
#define MEDIA_UNDECODABLE			"undecodable"	/* not a single sample */
#define MEDIA_RECORDING_TOO_LONG	"recording_too_long"
#define MEDIA_OUT_OF_MEMORY			"out_of_memory"
#define MEDIA_IO_ERROR				"io_error"
#define MEDIA_SANDBOX_UNAVAILABLE	"sandbox_unavailable"
#define MEDIA_INTERNAL_ERROR		"internal_error"

/* A failure; code is NULL while there is none.  A message may name a path. */
typedef struct MediaError
{
	const char *code;
	char		message[PATH_MAX + 512];
} MediaError;

/*
 * Who receives what is prepared, in this order: source once, then decoded
 * and chunk as they come.  The strings and bytes are valid during the call
 * only.  chunk returns false, with the error set, if it cannot go on.
 */
typedef struct MediaSink
{
	void	   *arg;
	void		(*source) (void *arg, const WireSource *source);
	void		(*decoded) (void *arg, double seconds);
	bool		(*chunk) (void *arg, const WireChunk *chunk,
						  MediaError *error);
} MediaSink;

/* Set the error, unless there is one already; returns false, to be returned. */
extern bool media_fail(MediaError *error, const char *code,
					   const char *format,...)
			__attribute__((format(printf, 3, 4)));
extern bool media_no_memory(MediaError *error);

#endif							/* TRANSCRIBE_MEDIA_H */
