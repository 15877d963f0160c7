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
#include <sys/mman.h>
#include <unistd.h>

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

/*
 * A smaller file is not worth a second thread: it is one chunk, or decoded
 * before that could help.
 */
#define THREAD_SIZE			(1 << 20)

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

/* Do what has to be done once in a process, and can be before it is locked in. */
void
prepare_warm_up(void)
{
	av_log_set_level(AV_LOG_QUIET);

	/* Large buffers come from the system, and go back to it at once. */
	mallopt(M_MMAP_THRESHOLD, LARGE_BUFFER);
	sandbox_prepare();
}

static void
ignore_source(void *arg, const WireSource *source)
{
	(void) arg;
	(void) source;
}

static void
ignore_progress(void *arg, double seconds)
{
	(void) arg;
	(void) seconds;
}

static bool
ignore_chunk(void *arg, const WireChunk *chunk, MediaError *error)
{
	(void) arg;
	(void) chunk;
	(void) error;
	return true;
}

/* A file in memory with a moment of sound; -1 if there can be none. */
static int
make_sound(MediaError *error)
{
	static int16_t sound[MEDIA_RATE / 2];
	uint8_t    *data;
	size_t		size;
	int			fd;

	for (size_t i = 0; i < sizeof(sound) / sizeof(sound[0]); i++)
		sound[i] = i / 50 % 2 ? 8000 : -8000;
	if (!encode_audio(encode_format("wav", error), sound,
					  sizeof(sound) / sizeof(sound[0]), &data, &size, error))
		return -1;
	fd = memfd_create("rehearsal", MFD_CLOEXEC);
	if (fd >= 0 && (write(fd, data, size) != (ssize_t) size ||
					lseek(fd, 0, SEEK_SET) != 0))
	{
		close(fd);
		fd = -1;
	}
	encode_free(data);
	return fd;
}

/*
 * Prepare a recording of no use.  What the first use of libraries costs (pages
 * read from disk, symbols looked up, tables computed) is then paid, for this
 * process and for its copies.  Nothing depends on its success.
 */
void
prepare_rehearse(void)
{
	WireOpen	open = {
		.format = "mp3", .chunk_seconds = 1, .min_silence = SILENCE_MIN_SECONDS,
		.done_of = ""
	};
	MediaSink	sink = {NULL, ignore_source, ignore_progress, ignore_chunk};
	MediaError *error = calloc(1, sizeof(*error));
	Prepared	prepared;
	struct stat status;
	int			fd = error != NULL ? make_sound(error) : -1;

	if (fd >= 0 && fstat(fd, &status) == 0)
		(void) prepare_recording(fd, &status, &open, 0, &sink, &prepared, error);
	if (fd >= 0)
		close(fd);
	free(error);
}

/*
 * Lock the process in, to read a file of that size, and say which layers hold,
 * see sandbox.h.  Returns
 * false if that is less than was required.
 */
bool
prepare_lock_in(const WireOpen *open, off_t size, bool writes_files,
				unsigned *layers, MediaError *error)
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
	if (size >= THREAD_SIZE)
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
