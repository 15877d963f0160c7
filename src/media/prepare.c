/*-------------------------------------------------------------------------
 *
 * prepare.c
 *	  A recording to chunks, from the open descriptor to the end.
 *
 * Runs in transcribe_media; the one path that both a child of the agent and
 * the command line take.  prepare_warm_up() may be called long before,
 * prepare_lock_in() comes between opening the file and reading it.
 *
 *-------------------------------------------------------------------------
 */
#include "media/prepare.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavutil/log.h>

#include "media/channels.h"
#include "media/decode.h"
#include "media/finish.h"
#include "media/sandbox.h"
#include "media/source.h"

/*
 * Address space: what FFmpeg, its libraries and the index of a long film
 * take (a tenth of this, measured), and 12 bytes for each sample of a chunk:
 * two in the chunk being encoded, two in the buffer, twice that while it
 * grows, and as WAV two encoded and half as much again in spare.  Each
 * further channel that is transcribed apart has a buffer of its own.
 */
#define BASE_MEMORY			(UINT64_C(1) << 30)
#define MEMORY_PER_SAMPLE	12
#define MEMORY_PER_CHANNEL	6

/*
 * Processor time: the slowest codecs decode at 50 times real time on a slow
 * machine; a minute on top for the rest.  With no limit on the recording
 * there is none on the work: 100 hours of it are legitimate.
 */
#define BASE_CPU_SECONDS	60
#define SECONDS_PER_CPU		20

/* Buffers of this size are large. */
#define LARGE_BUFFER		(1 << 17)

/*
 * A recording may be so much shorter than its container promised, in part
 * and in seconds: containers round, and count what encoders pad.
 */
#define SHORTFALL_SHARE		0.01
#define SHORTFALL_SECONDS	1.0

/* Set the error, unless an earlier one is the reason for this one. */
bool
media_fail(MediaError *error, const char *code, const char *format,...)
{
	va_list		args;

	if (error->code != NULL)
		return false;
	error->code = code;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return false;
}

bool
media_no_memory(MediaError *error)
{
	return media_fail(error, MEDIA_OUT_OF_MEMORY, "out of memory");
}

/*
 * Do once what the first use of libraries costs (pages read from disk,
 * tables computed), and what can be done of the sandbox.  The template does it
 * for all its copies; encoding a moment of silence in the usual format touches
 * most of what the first chunk will need.
 */
void
prepare_warm_up(void)
{
	static int16_t silence[MEDIA_RATE / 5];
	MediaError *ignored = calloc(1, sizeof(*ignored));
	uint8_t    *data;
	size_t		size;

	av_log_set_level(AV_LOG_QUIET);
	if (ignored != NULL &&
		encode_audio(encode_format("mp3", ignored), silence,
					 sizeof(silence) / sizeof(silence[0]), &data, &size,
					 ignored))
		encode_free(data);
	free(ignored);

	/* Large buffers come from the system, and go back to it at once. */
	mallopt(M_MMAP_THRESHOLD, LARGE_BUFFER);
	sandbox_prepare();
}

/*
 * Lock the process in, and say which layers hold, see sandbox.h.  Returns
 * false if that is less than was required.
 */
bool
prepare_lock_in(const WireOpen *open, bool writes_files, unsigned *layers,
				MediaError *error)
{
	uint64_t	per_sample = MEMORY_PER_SAMPLE +
		(open->split_channels ? (CHANNELS_MAX - 1) * MEMORY_PER_CHANNEL : 0);
	SandboxLimits limits = {
		.memory = BASE_MEMORY +
		(uint64_t) chunk_max_samples(open) * per_sample,
		.cpu_seconds = open->max_seconds > 0 ? BASE_CPU_SECONDS +
		(uint64_t) (open->max_seconds / SECONDS_PER_CPU) : 0,
		.writes_files = writes_files
	};

	/* The thread first: what the process gives up, it needs to enter. */
	finish_start_thread();
	*layers = finish_lock_in(SANDBOX_LANDLOCK | SANDBOX_SECCOMP) |
		SANDBOX_LIMITS;
	*layers &= sandbox_enter(&limits, SANDBOX_ALL);
	if (!open->require_sandbox || *layers == SANDBOX_ALL)
		return true;
	return media_fail(error, MEDIA_SANDBOX_UNAVAILABLE,
					  "system does not allow all of the sandbox (missing:%s%s%s), and transcribe.sandbox requires it",
					  *layers & SANDBOX_LIMITS ? "" : " limits",
					  *layers & SANDBOX_LANDLOCK ? "" : " Landlock",
					  *layers & SANDBOX_SECCOMP ? "" : " seccomp");
}

/* Say what was wrong with a recording of which chunks were made. */
static void
judge(const Source *source, const Decoded *decoded, Prepared *prepared)
{
	double		promise = source_promise(source, prepared->end.duration);
	double		missing = promise - prepared->end.duration;
	bool		shortfall = missing >
		SHORTFALL_SECONDS + promise * SHORTFALL_SHARE;

	if (source->io_errno != 0)
		snprintf(prepared->detail, sizeof(prepared->detail),
				 "could not read beyond %.1f s: %s",
				 prepared->end.duration, strerror(source->io_errno));
	else if (decoded->cut_short)
		snprintf(prepared->detail, sizeof(prepared->detail),
				 "the file is damaged after %.1f s", prepared->end.duration);
	else if (shortfall)
		snprintf(prepared->detail, sizeof(prepared->detail),
				 "the recording ends at %.1f s, of %.1f s that its container announces",
				 prepared->end.duration, promise);
	else if (source->extent.torn)
		snprintf(prepared->detail, sizeof(prepared->detail),
				 "the file was cut off after %.1f s", prepared->end.duration);
	else if (decoded->errors > 0)
		snprintf(prepared->detail, sizeof(prepared->detail),
				 "%llu packets could not be decoded",
				 (unsigned long long) decoded->errors);
	prepared->end.missing = shortfall ? missing : -1;
	prepared->end.damaged = prepared->detail[0] != '\0';
	prepared->end.detail = prepared->detail;
}

/* Whether what is done is of this recording, and of it as it is now. */
static bool
is_done_in_part(const WireOpen *open, const WireSource *source)
{
	char		identity[WIRE_IDENTITY_SIZE];

	wire_identity(source, identity);
	return open->ndone > 0 && strcmp(identity, open->done_of) == 0;
}

/*
 * Prepare the recording behind a descriptor.  Returns true and how it ended,
 * or false and the error; chunks may have been handed over in either case.
 */
bool
prepare_recording(int fd, const struct stat *status, const WireOpen *open,
				  unsigned layers, const MediaSink *sink,
				  Prepared *prepared, MediaError *error)
{
	Source		source = {0};
	Channels	channels = {0};
	Finish		finish = {.sink = sink};
	WireOpen	options = *open;
	Decoded		decoded;
	WireSource	description;
	bool		ok;

	memset(prepared, 0, sizeof(*prepared));
	finish.format = encode_format(open->format, error);
	ok = finish.format != NULL && source_open(&source, fd, status, error);
	if (ok)
	{
		source_describe(&source, status, &description);
		description.sandbox = layers;
		description.resumed = is_done_in_part(open, &description);
		if (!description.resumed)
			options.ndone = 0;
		channels_init(&channels, &options, (int) description.channels,
					  &finish);
		channels_expect(&channels, description.duration);
		description.streams = (uint32_t) channels.count;
		sink->source(sink->arg, &description);
		ok = decode_recording(&source, &channels, open->max_seconds, &decoded,
							  error) &&
			channels_finish(&channels, error);
	}
	if (ok)
	{
		prepared->end.chunks = finish.chunks;
		prepared->end.duration = (double) channels_position(&channels) /
			MEDIA_RATE;
		prepared->end.loudness = finish_loudness(&finish);
		prepared->end.kept = (double) finish.kept / MEDIA_RATE;
		judge(&source, &decoded, prepared);
	}
	finish_abandon();
	source_close(&source);
	channels_free(&channels);
	return ok;
}
