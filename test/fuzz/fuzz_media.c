/*-------------------------------------------------------------------------
 *
 * fuzz_media.c
 *	  Any bytes at all, prepared as a recording.
 *
 * A target for libFuzzer, made of MEDIA_PARTS of the Makefile.  The input is
 * the file, so that every recording is a valid one; its last two bytes also
 * choose the options.  Whatever is in it, the chunks must be of one piece:
 * numbered in order, on each channel without a hole between them, made of
 * spans that lie in them, as long as they say; and they must fit through the
 * socket.
 *
 * FFmpeg is the system's and not instrumented.  The fuzzer is therefore led
 * by our code alone, and an error inside FFmpeg is seen if it crashes, hangs,
 * leaks, or passes a bad pointer to a function that the sanitizers replace.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <libavutil/mem.h>

#include "media/channels.h"
#include "media/finish.h"
#include "media/prepare.h"

/* What the limit on address space is to the real process, roughly. */
#define MOST_MEMORY		(512 * 1024 * 1024)

/* Positions are samples; as seconds they are off by less than half of one. */
#define NEARLY			(0.5 / MEDIA_RATE)

#define LENGTH(array)	(sizeof(array) / sizeof((array)[0]))

/* What has been heard of one recording. */
typedef struct Heard
{
	const WireOpen *open;
	bool		source;
	double		decoded;
	uint32_t	chunks;
	uint32_t	streams;
	double		end[CHANNELS_MAX];	/* of each one's last chunk */
	double		last;			/* of all */
	double		kept;			/* of all chunks */
} Heard;

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *__asan_default_options(void);

/* Memory that is refused is something to be dealt with, not a finding. */
const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void
check_at(bool cond, const char *text, int line)
{
	if (cond)
		return;
	fprintf(stderr, "fuzz_media: line %d: %s does not hold\n", line, text);
	abort();
}

#define check(cond)	check_at(cond, #cond, __LINE__)

static void
hear_source(void *arg, const WireSource *source)
{
	Heard	   *heard = arg;

	check(!heard->source && heard->chunks == 0);
	heard->source = true;
	heard->streams = source->streams;
	check(source->streams >= 1 && source->streams <= CHANNELS_MAX);
	check(source->container[0] != '\0' && source->codec[0] != '\0');
	check(source->duration == -1 || source->duration >= 0);
}

static void
hear_decoded(void *arg, double seconds)
{
	Heard	   *heard = arg;

	check(heard->source && seconds >= heard->decoded);
	heard->decoded = seconds;
}

/* The spans: in order, inside the chunk, together as long as its audio. */
static void
check_spans(const WireChunk *chunk)
{
	double		after = chunk->start;
	double		sum = 0;

	check(chunk->nspans > 0);
	for (uint32_t i = 0; i < chunk->nspans; i++)
	{
		WireSpan	span = wire_span(chunk->spans, i);

		check(span.length > 0 && span.start >= after - NEARLY);
		after = span.start + span.length;
		sum += span.length;
	}
	check(after <= chunk->end + NEARLY);
	check(fabs(sum - chunk->seconds) <= 1.0 / MEDIA_RATE);
}

/* The reader of the frame must take what the writer made. */
static void
check_wire(const WireChunk *chunk)
{
	WireBuffer	buffer = {0};
	WireFrame	frame;
	WireChunk	again;

	wire_put_chunk(&buffer, 1, chunk);
	check(wire_next(&buffer, &frame) == 1 && wire_get_chunk(&frame, &again));
	check(again.audio_len == chunk->audio_len);
	wire_free(&buffer);
}

static bool
hear_chunk(void *arg, const WireChunk *chunk, MediaError *error)
{
	Heard	   *heard = arg;
	double	   *end;

	(void) error;
	check(heard->source && chunk->chunk_no == heard->chunks);
	if (heard->open->split_channels && chunk->channel != WIRE_MIXED)
		check(chunk->channel < heard->streams);
	else
		check(chunk->channel == WIRE_MIXED && heard->streams == 1);
	end = &heard->end[chunk->channel == WIRE_MIXED ? 0 : chunk->channel];
	check(chunk->start == *end && chunk->end >= chunk->start);
	check(chunk->end <= heard->open->max_seconds + NEARLY);
	check(chunk->seconds > 0 &&
		  chunk->seconds <= heard->open->chunk_seconds + NEARLY);
	check(isfinite(chunk->loudness) && isfinite(chunk->gain));
	check(chunk->audio_len > 0 && chunk->size == chunk->audio_len);
	check(heard->open->max_chunk_bytes == 0 ||
		  chunk->size <= heard->open->max_chunk_bytes);
	check_spans(chunk);
	check_wire(chunk);
	heard->chunks++;
	*end = chunk->end;
	heard->last = fmax(heard->last, chunk->end);
	heard->kept += chunk->seconds;
	return true;
}

/* Options from a byte: two bits for each. */
static void
choose(uint8_t byte, WireOpen *open)
{
	static const char *const formats[] = {"wav", "mp3", "flac", "opus"};
	static const double chunk_seconds[] = {1, 7, 60, 14400};
	static const uint64_t max_bytes[] = {0, 40000, 250000, 16000000};
	static const double max_seconds[] = {30, 5, 600, 0.5};

	open->format = formats[byte & 3];
	open->chunk_seconds = chunk_seconds[byte >> 2 & 3];
	open->max_chunk_bytes = max_bytes[byte >> 4 & 3];
	open->max_seconds = max_seconds[byte >> 6 & 3];
}

/* A file without a name. */
static int
make_file(const uint8_t *data, size_t size)
{
	int			fd = memfd_create("recording", MFD_CLOEXEC);

	check(fd >= 0);
	check(write(fd, data, size) == (ssize_t) size);
	check(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void) argc;
	(void) argv;
	prepare_warm_up();
	finish_start_thread();
	av_max_alloc(MOST_MEMORY);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WireOpen	open = {.path = "recording"};
	Heard		heard = {.open = &open};
	MediaSink	sink = {&heard, hear_source, hear_decoded, hear_chunk};
	MediaError *error = calloc(1, sizeof(*error));
	Prepared	prepared;
	struct stat status;
	int			fd;

	check(error != NULL);
	choose(size > 0 ? data[size - 1] : 0, &open);
	open.split_channels = size > 1 ? data[size - 2] & 1 : 0;
	open.keep_silence = size > 1 ? data[size - 2] >> 1 & 1 : 0;
	open.silence_threshold = size > 1 && (data[size - 2] & 4) ? -50 : 0;
	open.min_silence = size > 1 && (data[size - 2] & 8) ? 0.5 : 2;
	open.pad_before = size > 1 && (data[size - 2] & 16) ? 1 : 0.2;
	open.pad_after = 0.3;
	fd = make_file(data, size);
	check(fstat(fd, &status) == 0);
	if (prepare_recording(fd, &status, &open, 0, &sink, &prepared, error))
	{
		const WireEnd *end = &prepared.end;

		check(error->code == NULL && heard.source);
		check(end->chunks == heard.chunks);
		check(fabs(end->kept - heard.kept) <= 1.0 / MEDIA_RATE);
		check(end->kept <= end->duration * heard.streams &&
			  heard.last <= end->duration);
		check(end->duration <= open.max_seconds);
		check((end->damaged != 0) == (end->detail[0] != '\0'));
	}
	else
		check(error->code != NULL && error->message[0] != '\0');
	close(fd);
	free(error);
	return 0;
}
