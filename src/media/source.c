/*-------------------------------------------------------------------------
 *
 * source.c
 *	  The container: which stream is decoded, and by which clock.
 *
 * Runs in transcribe_media, inside the sandbox.  FFmpeg reads through one
 * descriptor that is already open, and is told so in three ways: by an input
 * context of our own, by a list of protocols that holds none, and by refusing
 * whatever a container asks to have opened besides.  Demuxers that exist to
 * follow references (playlists, concatenations, image sequences) are not on
 * the list, and only audio decoders are ever opened.
 *
 *-------------------------------------------------------------------------
 */
#include "media/source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <libavutil/avstring.h>
#include <libavutil/bprint.h>

/* One read; large enough that system calls do not show in a profile. */
#define READ_SIZE		65536

/*
 * How much of a file may be looked at to find out what it is, and how many
 * streams it may claim to have.  A film of two hours with ten languages
 * needs a tenth of each.
 */
#define PROBE_SIZE		(5 * 1024 * 1024)
#define ANALYZE_SECONDS	5
#define MAX_STREAMS		100

/* We never seek: what FFmpeg notes down for that, an hour of MP3 a megabyte. */
#define INDEX_SIZE		4096

/* What people record with, and what archives hold. */
static const char demuxers[] =
	"wav,w64,aiff,au,caf,voc,sox,ircam,nistsphere,avr,paf,pvf,"
	"mp3,aac,loas,flac,ogg,ac3,eac3,dts,dtshd,truehd,mlp,"
	"mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,avi,flv,live_flv,"
	"mpeg,mpegts,rm,nut,dv,mxf,"
	"amr,amrnb,amrwb,gsm,g722,g729,g723_1,g726,g726le,ilbc,qcp,sbc,aptx,"
	"codec2,ape,tta,tak,wv,mpc,mpc8,shn,dsf,iff,oma,act,daud,wtv";

/* Read for FFmpeg; remembers an error, which FFmpeg reports as it likes. */
static int
read_source(void *arg, uint8_t *buffer, int len)
{
	Source	   *source = arg;
	ssize_t		n;

	do
		n = read(source->fd, buffer, (size_t) len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
	{
		if (source->io_errno == 0)
			source->io_errno = errno;
		return AVERROR(errno);
	}
	return n == 0 ? AVERROR_EOF : (int) n;
}

/* Seek for FFmpeg, or answer how large the file is. */
static int64_t
seek_source(void *arg, int64_t offset, int whence)
{
	Source	   *source = arg;
	off_t		at;

	if (whence & AVSEEK_SIZE)
		return source->size;
	at = lseek(source->fd, offset, whence & ~AVSEEK_FORCE);
	return at < 0 ? AVERROR(errno) : at;
}

/* A container wants another file: references are not followed. */
static int
refuse_open(AVFormatContext *container, AVIOContext **io, const char *url,
			int flags, AVDictionary **options)
{
	(void) container;
	(void) url;
	(void) flags;
	(void) options;
	*io = NULL;
	return AVERROR(EACCES);
}

/*
 * Set the error for what FFmpeg returned: a failed read and missing memory
 * are what they are, wherever they show; everything else is the given code
 * and message.
 */
bool
source_failed(const Source *source, int result, const char *code,
			  const char *message, MediaError *error)
{
	char		reason[AV_ERROR_MAX_STRING_SIZE];

	if (source->io_errno != 0)
		return media_fail(error, MEDIA_IO_ERROR,
						  "could not read audio file: %s",
						  strerror(source->io_errno));
	if (result == AVERROR(ENOMEM))
		return media_no_memory(error);
	if (result >= 0)
		return media_fail(error, code, "%s", message);
	av_strerror(result, reason, sizeof(reason));
	return media_fail(error, code, "%s: %s", message, reason);
}

/*
 * The names of all audio decoders, to be the only ones that may be opened:
 * looking into a container would else start its video decoders, which are
 * most of FFmpeg's code and of its history of vulnerabilities.  Returns NULL
 * if there is no memory.
 */
static char *
audio_decoders(void)
{
	AVBPrint	names;
	const AVCodec *codec;
	void	   *position = NULL;
	char	   *result;

	av_bprint_init(&names, 0, AV_BPRINT_SIZE_UNLIMITED);
	while ((codec = av_codec_iterate(&position)) != NULL)
	{
		if (av_codec_is_decoder(codec) && codec->type == AVMEDIA_TYPE_AUDIO &&
			!(codec->capabilities & AV_CODEC_CAP_EXPERIMENTAL))
			av_bprintf(&names, "%s%s", names.len > 0 ? "," : "", codec->name);
	}
	return av_bprint_finalize(&names, &result) < 0 ? NULL : result;
}

/* Make a container that reads our descriptor, and nothing else. */
static int
alloc_container(Source *source)
{
	AVFormatContext *container = avformat_alloc_context();
	uint8_t    *buffer = av_malloc(READ_SIZE);

	source->container = container;
	if (buffer != NULL)
		source->io = avio_alloc_context(buffer, READ_SIZE, 0, source,
										read_source, NULL, seek_source);
	if (source->io == NULL)
		av_free(buffer);
	if (container == NULL || source->io == NULL)
		return AVERROR(ENOMEM);
	container->pb = source->io;
	container->flags |= AVFMT_FLAG_CUSTOM_IO;
	container->io_open = refuse_open;
	container->probesize = PROBE_SIZE;
	container->max_index_size = INDEX_SIZE;
	container->max_analyze_duration = ANALYZE_SECONDS * (int64_t) AV_TIME_BASE;
	container->max_streams = MAX_STREAMS;
	container->format_whitelist = av_strdup(demuxers);
	container->codec_whitelist = audio_decoders();

	/* No protocol has this name; an empty list would mean all. */
	container->protocol_whitelist = av_strdup("none");
	if (container->format_whitelist == NULL ||
		container->codec_whitelist == NULL ||
		container->protocol_whitelist == NULL)
		return AVERROR(ENOMEM);
	return 0;
}

/* Have the demuxer skip all streams but the chosen one. */
static void
discard_others(Source *source)
{
	for (unsigned i = 0; i < source->container->nb_streams; i++)
	{
		AVStream   *stream = source->container->streams[i];

		stream->discard = stream == source->stream ?
			AVDISCARD_DEFAULT : AVDISCARD_ALL;
	}
}

/*
 * Find out which container it is, and read its header.  The two are told
 * apart, because they are two different mistakes: a file that is no recording
 * at all, and one of which the end, where some cameras and phones put the
 * header, has not arrived.
 */
static bool
open_container(Source *source, MediaError *error)
{
	const AVInputFormat *format = NULL;
	int			result = alloc_container(source);

	if (result < 0)
		return media_no_memory(error);
	result = av_probe_input_buffer2(source->io, &format, NULL, NULL, 0, 0);
	if (result == AVERROR(ENOMEM) || source->io_errno != 0)
		return source_failed(source, result, MEDIA_IO_ERROR,
							 "could not read audio file", error);
	if (result < 0 || av_match_list(format->name, demuxers, ',') <= 0)
		return media_fail(error, MEDIA_NOT_AUDIO,
						  "file is not in a known audio or video format");

	/* On failure FFmpeg frees the container, and sets our pointer to NULL. */
	result = avformat_open_input(&source->container, NULL, format, NULL);
	if (result >= 0)
		return true;
	return source_failed(source, result, MEDIA_UNDECODABLE,
						 "file is incomplete or damaged, its header could not be read",
						 error);
}

/* Choose the stream that a player would: by default flags, then by size. */
static bool
choose_stream(Source *source, MediaError *error)
{
	int			result;
	int			best;

	/* Pictures are looked at too: the clock starts with whoever is first. */
	result = avformat_find_stream_info(source->container, NULL);

	/* What was found is often enough; if not, the result says why. */
	best = av_find_best_stream(source->container, AVMEDIA_TYPE_AUDIO, -1, -1,
							   NULL, 0);
	if (best < 0 && result < 0)
		return source_failed(source, result, MEDIA_UNDECODABLE,
							 "could not find out what the file contains",
							 error);
	if (best < 0)
		return source_failed(source, 0, MEDIA_NO_AUDIO_STREAM,
							 "file has no audio stream", error);
	source->stream = source->container->streams[best];
	discard_others(source);
	return true;
}

/* Open the decoder of the chosen stream. */
static bool
open_decoder(Source *source, MediaError *error)
{
	const AVCodecParameters *parameters = source->stream->codecpar;
	const AVCodec *codec = avcodec_find_decoder(parameters->codec_id);
	int			result;

	if (parameters->codec_id == AV_CODEC_ID_NONE)
		return media_fail(error, MEDIA_UNDECODABLE,
						  "audio is in a codec that is not known");
	if (codec == NULL)
		return media_fail(error, MEDIA_UNDECODABLE,
						  "audio codec \"%s\" is not supported",
						  avcodec_get_name(parameters->codec_id));
	source->decoder = avcodec_alloc_context3(codec);
	if (source->decoder == NULL)
		return media_no_memory(error);
	result = avcodec_parameters_to_context(source->decoder, parameters);
	if (result >= 0)
	{
		/* One thread: the sandbox allows no other. */
		source->decoder->thread_count = 1;
		source->decoder->pkt_timebase = source->stream->time_base;
		result = avcodec_open2(source->decoder, codec, NULL);
	}
	if (result < 0)
		return source_failed(source, result, MEDIA_UNDECODABLE,
							 "could not open the decoder", error);
	return true;
}

/*
 * Find the audio in the file.  source_close() is due in either case; the
 * descriptor remains the caller's.
 */
bool
source_open(Source *source, int fd, const struct stat *status,
			MediaError *error)
{
	memset(source, 0, sizeof(*source));
	source->fd = fd;
	source->size = status->st_size;
	source->extent = extent_of(fd, source->size);
	return open_container(source, error) && choose_stream(source, error) &&
		open_decoder(source, error);
}

/* Say what was found; the strings belong to FFmpeg. */
void
source_describe(const Source *source, const struct stat *status,
				WireSource *description)
{
	const AVCodecParameters *parameters = source->stream->codecpar;
	int64_t		duration = source->container->duration;

	memset(description, 0, sizeof(*description));
	description->container = source->container->iformat->name;
	description->codec = avcodec_get_name(parameters->codec_id);
	description->sample_rate = (uint32_t) parameters->sample_rate;
	description->channels = (uint32_t) parameters->ch_layout.nb_channels;
	description->duration = duration == AV_NOPTS_VALUE || duration < 0 ? -1 :
		(double) duration / AV_TIME_BASE;
	description->size = (uint64_t) status->st_size;
	description->mtime_ns = status->st_mtim.tv_sec * INT64_C(1000000000) +
		status->st_mtim.tv_nsec;
	description->device = status->st_dev;
	description->inode = status->st_ino;
}

/*
 * How many seconds the container says the audio has, where that is a promise
 * and no guess: -1 if it was computed from a bit rate, or is that of another
 * stream.  Where it says how many bytes it has, and they are not all there,
 * those that are tell how long they would be.
 */
double
source_promise(const Source *source, double decoded)
{
	const AVFormatContext *container = source->container;
	const AVStream *stream = source->stream;

	if (source->extent.announced > source->size)
		return decoded * (double) source->extent.announced /
			(double) source->size;
	if (container->duration_estimation_method == AVFMT_DURATION_FROM_BITRATE)
		return -1;
	if (stream->duration != AV_NOPTS_VALUE)
		return (double) stream->duration * av_q2d(stream->time_base);
	if (container->nb_streams == 1 && container->duration != AV_NOPTS_VALUE)
		return (double) container->duration / AV_TIME_BASE;
	return -1;
}

/* Free everything; the descriptor stays open. */
void
source_close(Source *source)
{
	avcodec_free_context(&source->decoder);
	avformat_close_input(&source->container);
	if (source->io != NULL)
		av_freep(&source->io->buffer);
	avio_context_free(&source->io);
}
