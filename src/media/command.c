/*-------------------------------------------------------------------------
 *
 * command.c
 *	  transcribe_media from the command line.
 *
 * Run by a person who wants to hear or see what a server would be sent: the
 * same path through the same functions as in a child of the agent, sandbox
 * included.  As nothing can be opened inside it, the output file is opened
 * before; that is why there is one, and not one for each chunk.
 *
 *-------------------------------------------------------------------------
 */
#include "media/command.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "media/channels.h"
#include "media/media.h"
#include "media/open.h"
#include "media/prepare.h"
#include "media/sandbox.h"
#include "media/silence.h"

#define PROGRAM		"transcribe_media"

/* As long as a chunk can be, so that most recordings are one. */
#define DEFAULT_CHUNK_SECONDS	(4 * 3600.0)

static const char help[] =
	"transcribe_media prepares a recording for transcription: 16 kHz mono, without\n"
	"silence, at an even loudness.\n"
	"\n"
	"Usage:\n"
	"  transcribe_media IN [OPTION]...\n"
	"\n"
	"Options:\n"
	"  -o OUT               write the prepared audio to this file\n"
	"  --format FORMAT      mp3, flac, opus or wav (default: by the name of OUT, or mp3)\n"
	"  --chunk-seconds N    cut into chunks of at most N seconds (default: 14400, which\n"
	"                       is the most)\n"
	"  --channels HOW       mix all channels (mix, the default), or cut each on its own\n"
	"                       (split)\n"
	"  --no-trim            keep silence\n"
	"  --min-silence N      cut down silences longer than N seconds (default: 2)\n"
	"  --pad-before N       keep N seconds before speech (default: 0.2)\n"
	"  --pad-after N        keep N seconds after speech (default: 0.3)\n"
	"  --silence-threshold N\n"
	"                       what is below N dBFS (such as -50) is silence (default: follow\n"
	"                       the noise floor)\n"
	"  --chunk N            write chunk number N to OUT; needed if there are several\n"
	"  --json               describe the recording, its chunks and silences as JSON\n"
	"  --help               show this help\n"
	"  --version            show the version\n"
	"\n"
	"The exit status is 0 on success, 1 if the recording could not be prepared.  OUT\n"
	"is overwritten, and left empty if that fails.\n";

typedef struct Command
{
	WireOpen	open;
	const char *out;
	int			out_fd;			/* -1: none */
	long		only;			/* number of the chunk to write, -1: all */
	bool		json;
	bool		written;		/* OUT has its chunk */
	unsigned	layers;			/* of the sandbox */

	uint32_t	streams;
	bool		split;			/* each of them is a channel */
	double		described[CHANNELS_MAX];	/* seconds of each, so far */

	/* The description, collected until it is known to be whole. */
	FILE	   *text;
	char	   *text_data;
	size_t		text_size;

	/* And of that the silences, which come after the chunks. */
	FILE	   *silences;
	char	   *silences_data;
	size_t		silences_size;
	uint32_t	nsilences;
} Command;

/* Say why it ends, on standard error; returns the exit status. */
static int
fail(const char *message)
{
	fprintf(stderr, PROGRAM ": %s\n", message);
	return 1;
}

static void
describe_source(void *arg, const WireSource *source)
{
	Command    *command = arg;

	command->streams = source->streams;
	command->split = command->open.split_channels &&
		source->streams == source->channels;

	/* Names of FFmpeg's, of letters, digits and commas: no need to quote. */
	if (command->json)
		fprintf(command->text,
				"{\"container\": \"%s\", \"codec\": \"%s\", "
				"\"sample_rate\": %u, \"channels\": %u,\n \"chunks\": [",
				source->container, source->codec,
				source->sample_rate, source->channels);
	else
		fprintf(command->text, "%s, %s, %u Hz, %u channels\n",
				source->container, source->codec,
				source->sample_rate, source->channels);
}

/* Nobody watches progress here. */
static void
ignore_progress(void *arg, double seconds)
{
	(void) arg;
	(void) seconds;
}

/* Before this, and after what was described, is a silence that was left out. */
static void
describe_silence(Command *command, uint32_t stream, double end)
{
	double		start = command->described[stream];

	/* Times are whole samples, but for the last digits. */
	if (end - start < 0.5 / MEDIA_RATE)
		return;
	fprintf(command->silences, "%s\n  {", command->nsilences++ > 0 ? "," : "");
	if (command->split)
		fprintf(command->silences, "\"channel\": %u, ", stream);
	fprintf(command->silences, "\"start\": %.4f, \"length\": %.4f}",
			start, end - start);
}

/* The spans of a chunk, and the silences before them. */
static void
describe_spans(Command *command, const WireChunk *chunk)
{
	uint32_t	stream = chunk->channel == WIRE_MIXED ? 0 : chunk->channel;

	for (uint32_t i = 0; i < chunk->nspans; i++)
	{
		WireSpan	span = wire_span(chunk->spans, i);

		describe_silence(command, stream, span.start);
		command->described[stream] = span.start + span.length;
		fprintf(command->text, "%s{\"start\": %.4f, \"length\": %.4f}",
				i > 0 ? ", " : "", span.start, span.length);
	}
}

static void
describe_chunk(Command *command, const WireChunk *chunk)
{
	char		channel[40] = "";

	if (!command->json)
	{
		if (chunk->channel != WIRE_MIXED)
			snprintf(channel, sizeof(channel), " channel %u,",
					 chunk->channel);
		fprintf(command->text,
				"chunk %u:%s %.2f to %.2f s, %.2f s in %u spans, %.1f LUFS, gain %.1f dB, %llu bytes\n",
				chunk->chunk_no, channel, chunk->start, chunk->end, chunk->seconds,
				chunk->nspans, chunk->loudness, chunk->gain,
				(unsigned long long) chunk->size);
		return;
	}
	if (chunk->channel != WIRE_MIXED)
		snprintf(channel, sizeof(channel), "\"channel\": %u, ",
				 chunk->channel);
	fprintf(command->text,
			"%s\n  {\"chunk\": %u, %s\"start\": %.4f, \"end\": %.4f, "
			"\"seconds\": %.4f, \"loudness\": %.2f, \"gain\": %.2f, "
			"\"bytes\": %llu,\n   \"spans\": [",
			chunk->chunk_no > 0 ? "," : "", chunk->chunk_no, channel, chunk->start,
			chunk->end, chunk->seconds, chunk->loudness, chunk->gain,
			(unsigned long long) chunk->size);
	describe_spans(command, chunk);
	fprintf(command->text, "]}");
}

/* Write the chunk's audio to OUT. */
static bool
write_chunk(Command *command, const WireChunk *chunk, MediaError *error)
{
	size_t		done = 0;

	if (command->written)
		return media_fail(error, MEDIA_INTERNAL_ERROR,
						  "could not write \"%s\": recording needs several chunks, choose one with --chunk",
						  command->out);
	while (done < chunk->audio_len)
	{
		ssize_t		n = write(command->out_fd, chunk->audio + done,
							  chunk->audio_len - done);

		if (n < 0 && errno != EINTR)
			return media_fail(error, MEDIA_IO_ERROR,
							  "could not write \"%s\": %s",
							  command->out, strerror(errno));
		if (n > 0)
			done += (size_t) n;
	}
	command->written = true;
	return true;
}

static bool
take_chunk(void *arg, const WireChunk *chunk, MediaError *error)
{
	Command    *command = arg;

	describe_chunk(command, chunk);
	if (command->out_fd < 0 ||
		(command->only >= 0 && chunk->chunk_no != command->only))
		return true;
	return write_chunk(command, chunk, error);
}

/* What follows the chunks in JSON. */
static void
describe_end_json(Command *command, const WireEnd *end)
{
	for (uint32_t i = 0; i < command->streams; i++)
		describe_silence(command, i, end->duration);
	fflush(command->silences);
	fprintf(command->text, "%s],\n \"silences\": [%s%s],\n",
			end->chunks > 0 ? "\n " : "", command->silences_data,
			command->nsilences > 0 ? "\n " : "");

	/* The detail is a sentence of ours, of numbers and strerror(). */
	fprintf(command->text,
			" \"duration\": %.4f, \"kept\": %.4f, \"trimmed\": %.4f, "
			"\"loudness\": %.2f, \"missing\": %.4f,\n "
			"\"damaged\": %s, \"detail\": \"%s\",\n \"sandbox\": "
			"{\"limits\": %s, \"landlock\": %s, \"seccomp\": %s}}\n",
			end->duration, end->kept,
			command->streams * end->duration - end->kept,
			end->loudness, end->missing > 0 ? end->missing : 0,
			end->damaged ? "true" : "false", end->detail,
			command->layers & SANDBOX_LIMITS ? "true" : "false",
			command->layers & SANDBOX_LANDLOCK ? "true" : "false",
			command->layers & SANDBOX_SECCOMP ? "true" : "false");
}

static void
describe_end(Command *command, const WireEnd *end)
{
	if (command->json)
		describe_end_json(command, end);
	else
		fprintf(command->text, "%u chunks, %.2f s of %.2f s kept%s%s\n",
				end->chunks, end->kept, end->duration,
				end->damaged ? "; " : "", end->detail);
}

/* The format that a file's name asks for. */
static const char *
format_of(const char *name)
{
	const char *dot = name != NULL ? strrchr(name, '.') : NULL;

	if (dot == NULL)
		return "mp3";
	if (strcasecmp(dot, ".flac") == 0)
		return "flac";
	if (strcasecmp(dot, ".ogg") == 0 || strcasecmp(dot, ".opus") == 0)
		return "opus";
	if (strcasecmp(dot, ".wav") == 0)
		return "wav";
	return "mp3";
}

/*
 * Open OUT, and empty it; not if it is the recording itself, under whatever
 * name.
 */
static bool
open_output(Command *command, const struct stat *source, MediaError *error)
{
	struct stat status;

	if (command->out == NULL)
		return true;
	command->out_fd = open(command->out, O_WRONLY | O_CREAT | O_CLOEXEC,
						   0666);
	if (command->out_fd < 0 || fstat(command->out_fd, &status) != 0)
		return media_fail(error, MEDIA_IO_ERROR,
						  "could not open \"%s\": %s",
						  command->out, strerror(errno));
	if (status.st_dev == source->st_dev && status.st_ino == source->st_ino)
		return media_fail(error, MEDIA_IO_ERROR,
						  "could not write \"%s\": it is the recording itself",
						  command->out);
	if (S_ISREG(status.st_mode) && ftruncate(command->out_fd, 0) != 0)
		return media_fail(error, MEDIA_IO_ERROR,
						  "could not write \"%s\": %s",
						  command->out, strerror(errno));
	return true;
}

/* Prepare the recording; the description is complete if that succeeds. */
static bool
prepare(Command *command, MediaError *error)
{
	MediaSink	sink = {
		command, describe_source, ignore_progress, take_chunk
	};
	Prepared	prepared;
	struct stat status;
	int			fd = open_recording(&command->open, &status, error);

	if (fd < 0 || !open_output(command, &status, error))
		return false;
	prepare_warm_up();
	if (!prepare_lock_in(&command->open, status.st_size, true,
						 &command->layers, error) ||
		!prepare_recording(fd, &status, &command->open, command->layers,
						   &sink, &prepared, error))
		return false;
	if (command->out_fd >= 0 && !command->written)
		return media_fail(error, MEDIA_INTERNAL_ERROR,
						  "could not write \"%s\": %s", command->out,
						  command->only >= 0 ? "there is no such chunk" :
						  "recording is silent");
	describe_end(command, &prepared.end);
	return true;
}

/* A number of an option; returns false if the text is none. */
static bool
parse_number(const char *text, double *value)
{
	char	   *end;

	errno = 0;
	*value = strtod(text, &end);
	return errno == 0 && end != text && *end == '\0' && *value >= 0 &&
		*value < 1e9;
}

/*
 * Read the options.  Returns -1 to go on, or the exit status if that is all.
 */
static int
parse_options(Command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{"format", required_argument, NULL, 'f'},
		{"chunk-seconds", required_argument, NULL, 's'},
		{"channels", required_argument, NULL, 'm'},
		{"no-trim", no_argument, NULL, 'n'},
		{"min-silence", required_argument, NULL, 'l'},
		{"pad-before", required_argument, NULL, 'b'},
		{"pad-after", required_argument, NULL, 'a'},
		{"silence-threshold", required_argument, NULL, 't'},
		{"chunk", required_argument, NULL, 'c'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0}
	};
	double		number;
	int			option;

	while ((option = getopt_long(argc, argv, "o:", options, NULL)) != -1)
	{
		switch (option)
		{
			case 'o':
				command->out = optarg;
				break;
			case 'f':
				command->open.format = optarg;
				break;
			case 's':
				if (!parse_number(optarg, &command->open.chunk_seconds))
					return fail("--chunk-seconds must be a number");
				break;
			case 'm':
				command->open.split_channels = strcmp(optarg, "split") == 0;
				if (!command->open.split_channels && strcmp(optarg, "mix") != 0)
					return fail("--channels must be mix or split");
				break;
			case 'n':
				command->open.keep_silence = true;
				break;
			case 'l':
				if (!parse_number(optarg, &command->open.min_silence) ||
					command->open.min_silence < SILENCE_LEAST_SECONDS)
					return fail("--min-silence must be a number from 0.5 on");
				break;
			case 'b':
				if (!parse_number(optarg, &command->open.pad_before))
					return fail("--pad-before must be a number");
				break;
			case 'a':
				if (!parse_number(optarg, &command->open.pad_after))
					return fail("--pad-after must be a number");
				break;
			case 't':
				if (optarg[0] != '-' || !parse_number(optarg + 1, &number) ||
					-number < SILENCE_LEAST_LEVEL || -number > SILENCE_MOST_LEVEL)
					return fail("--silence-threshold must be a number from -90 to -20");
				command->open.silence_threshold = -number;
				break;
			case 'c':
				if (!parse_number(optarg, &number))
					return fail("--chunk must be a number");
				command->only = (long) number;
				break;
			case 'j':
				command->json = true;
				break;
			case 'h':
				fputs(help, stdout);
				return 0;
			case 'v':
				puts(PROGRAM " " TRANSCRIBE_VERSION);
				return 0;
			default:
				return fail("try \"" PROGRAM " --help\"");
		}
	}
	if (optind != argc - 1)
		return fail("exactly one recording must be named; try \"" PROGRAM " --help\"");
	command->open.path = argv[optind];
	if (command->open.format == NULL)
		command->open.format = format_of(command->out);
	return -1;
}

/*
 * Prepare the recording, and print its description if that succeeds.  Returns
 * the exit status.
 */
static int
run(Command *command, MediaError *error)
{
	bool		ok = prepare(command, error);
	bool		whole = fclose(command->silences) == 0;

	whole = fclose(command->text) == 0 && whole;
	if (!whole)
		return fail("out of memory");
	if (!ok)
		return fail(error->message);
	if (fputs(command->text_data, stdout) == EOF || fflush(stdout) != 0)
		return fail("could not write to standard output");
	return 0;
}

/* Be a program like others.  Returns the exit status. */
int
command_main(int argc, char **argv)
{
	Command		command = {
		.open = {
			.chunk_seconds = DEFAULT_CHUNK_SECONDS,
			.min_silence = SILENCE_MIN_SECONDS,
			.pad_before = SILENCE_PAD_BEFORE,
			.pad_after = SILENCE_PAD_AFTER
		},
		.out_fd = -1,
		.only = -1
	};
	MediaError *error;
	int			result = parse_options(&command, argc, argv);

	if (result >= 0)
		return result;
	error = calloc(1, sizeof(*error));
	command.text = open_memstream(&command.text_data, &command.text_size);
	command.silences = open_memstream(&command.silences_data,
									  &command.silences_size);
	if (error == NULL || command.text == NULL || command.silences == NULL)
		return fail("out of memory");
	result = run(&command, error);
	free(command.text_data);
	free(command.silences_data);
	free(error);
	return result;
}
