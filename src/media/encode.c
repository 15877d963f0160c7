/*-------------------------------------------------------------------------
 *
 * encode.c
 *	  Samples to a small audio file in memory.
 *
 * Runs in transcribe_media, inside the sandbox: the muxers write into a
 * buffer, and nothing is opened.  Encoders and muxers are told to be exact
 * (no version strings, no random serial numbers), so that the same samples
 * give the same bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "media/encode.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>

/*
 * The rates are those that speech at 16 kHz does not suffer from.  LAME's
 * quality 7 is half the work of its default, and no word is heard otherwise
 * for it.  Worst cases: MP3 has a constant rate; FLAC stores noise as it is,
 * with 2 % of headers; Opus may spend more than its mean on a passage.
 */
static const EncodeFormat formats[] = {
	{
		"mp3", "audio.mp3", "audio/mpeg", "mp3", "libmp3lame",
		"compression_level=7", AV_SAMPLE_FMT_S16P, 64000, 8100
	},
	{
		"flac", "audio.flac", "audio/flac", "flac", "flac",
		"compression_level=5", AV_SAMPLE_FMT_S16, 0, 32700
	},
	{
		"opus", "audio.ogg", "audio/ogg", "ogg", "libopus",
		"application=voip", AV_SAMPLE_FMT_S16, 32000, 6000
	},
	{
		"wav", "audio.wav", "audio/wav", "wav", "pcm_s16le",
		"", AV_SAMPLE_FMT_S16, 0, 32000
	},
};

/* Samples per frame where the encoder leaves the choice to us. */
#define ANY_FRAME_SIZE	4096

/* So many samples are given back at once, when they are used up: a megabyte. */
#define PIECE_SAMPLES	((size_t) 1 << 19)

/* What is open while a chunk is encoded. */
typedef struct Encoder
{
	AVCodecContext *codec;
	AVFormatContext *muxer;
	AVFrame    *frame;
	AVPacket   *packet;
	size_t		frame_size;		/* samples in each frame but the last */
} Encoder;

/* The format of a name; NULL, with the error set, if there is none. */
const EncodeFormat *
encode_format(const char *name, MediaError *error)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
	{
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	}
	media_fail(error, MEDIA_INTERNAL_ERROR,
			   "audio format \"%.20s\" is not one of mp3, flac, opus and wav",
			   name);
	return NULL;
}

/* Translate what FFmpeg returned. */
static bool
encode_failed(const EncodeFormat *format, int result, MediaError *error)
{
	char		reason[AV_ERROR_MAX_STRING_SIZE];

	if (result == AVERROR(ENOMEM))
		return media_no_memory(error);
	av_strerror(result, reason, sizeof(reason));
	return media_fail(error, MEDIA_INTERNAL_ERROR,
					  "could not encode audio as %s: %s",
					  format->name, reason);
}

/* Open the encoder.  Returns 0 or FFmpeg's error. */
static int
open_codec(Encoder *encoder, const EncodeFormat *format, bool global_header)
{
	const AVCodec *codec = avcodec_find_encoder_by_name(format->encoder);
	AVCodecContext *context;
	AVDictionary *options = NULL;
	int			result;

	if (codec == NULL)
		return AVERROR_ENCODER_NOT_FOUND;
	encoder->codec = context = avcodec_alloc_context3(codec);
	if (context == NULL)
		return AVERROR(ENOMEM);
	context->sample_fmt = format->sample_format;
	context->sample_rate = MEDIA_RATE;
	context->time_base = (AVRational) {1, MEDIA_RATE};
	context->bit_rate = format->bit_rate;
	context->thread_count = 1;
	context->flags |= AV_CODEC_FLAG_BITEXACT;
	if (global_header)
		context->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
	av_channel_layout_default(&context->ch_layout, 1);

	result = av_dict_parse_string(&options, format->options, "=", ",", 0);
	if (result >= 0)
		result = avcodec_open2(context, codec, &options);
	av_dict_free(&options);
	return result;
}

/* Open encoder, muxer and its buffer.  Returns 0 or FFmpeg's error. */
static int
encoder_open(Encoder *encoder, const EncodeFormat *format)
{
	AVStream   *stream;
	int			result;

	result = avformat_alloc_output_context2(&encoder->muxer, NULL,
											format->muxer, NULL);
	if (result < 0)
		return result;
	encoder->muxer->flags |= AVFMT_FLAG_BITEXACT;
	result = avio_open_dyn_buf(&encoder->muxer->pb);
	if (result < 0)
		return result;
	result = open_codec(encoder, format,
						encoder->muxer->oformat->flags & AVFMT_GLOBALHEADER);
	if (result < 0)
		return result;

	encoder->frame_size = encoder->codec->frame_size > 0 ?
		(size_t) encoder->codec->frame_size : ANY_FRAME_SIZE;
	stream = avformat_new_stream(encoder->muxer, NULL);
	encoder->frame = av_frame_alloc();
	encoder->packet = av_packet_alloc();
	if (stream == NULL || encoder->frame == NULL || encoder->packet == NULL)
		return AVERROR(ENOMEM);
	stream->time_base = encoder->codec->time_base;
	result = avcodec_parameters_from_context(stream->codecpar,
											 encoder->codec);
	if (result < 0)
		return result;

	/*
	 * The defaults of the MP3 muxer stand: its first frame tells decoders
	 * how many samples of the encoder's delay (69 ms) to drop, without which
	 * every time in the transcript would be late.
	 */
	return avformat_write_header(encoder->muxer, NULL);
}

/* Encode one frame, or NULL to flush.  Returns 0 or FFmpeg's error. */
static int
encode_frame(Encoder *encoder, const AVFrame *frame)
{
	int			result = avcodec_send_frame(encoder->codec, frame);

	while (result >= 0)
	{
		result = avcodec_receive_packet(encoder->codec, encoder->packet);
		if (result == AVERROR(EAGAIN) || result == AVERROR_EOF)
			return 0;
		if (result < 0)
			break;
		av_packet_rescale_ts(encoder->packet, encoder->codec->time_base,
							 encoder->muxer->streams[0]->time_base);
		encoder->packet->stream_index = 0;
		result = av_write_frame(encoder->muxer, encoder->packet);
		av_packet_unref(encoder->packet);
	}
	return result;
}

/*
 * Nobody needs a piece of the samples any more: give its pages back to the
 * system, because the next chunk is collected meanwhile.  They read as zeros
 * then.
 */
static void
give_back(void *opaque, uint8_t *data)
{
	size_t		page = (size_t) sysconf(_SC_PAGESIZE);
	uint8_t    *end = data + (uintptr_t) opaque;
	uint8_t    *first = data + (page - (uintptr_t) data % page) % page;
	uint8_t    *last = end - (uintptr_t) end % page;

	if (first < last)
		madvise(first, (size_t) (last - first), MADV_DONTNEED);
}

/*
 * Encode a piece of the samples, which begins at the given time.  Frames point
 * into it.  Returns 0 or FFmpeg's error.
 */
static int
encode_piece(Encoder *encoder, AVBufferRef *piece, int64_t time)
{
	AVFrame    *frame = encoder->frame;
	size_t		samples = piece->size / sizeof(int16_t);
	size_t		room = encoder->frame_size;
	int			result = 0;

	for (size_t at = 0; at < samples && result >= 0; at += room)
	{
		size_t		n = samples - at < room ? samples - at : room;

		frame->format = encoder->codec->sample_fmt;
		frame->sample_rate = MEDIA_RATE;
		frame->nb_samples = (int) n;
		frame->pts = time + (int64_t) at;
		frame->data[0] = piece->data + at * sizeof(int16_t);
		frame->linesize[0] = (int) (n * sizeof(int16_t));
		frame->buf[0] = av_buffer_ref(piece);
		if (frame->buf[0] == NULL)
			return AVERROR(ENOMEM);
		result = av_channel_layout_copy(&frame->ch_layout,
										&encoder->codec->ch_layout);
		if (result >= 0)
			result = encode_frame(encoder, frame);
		av_frame_unref(frame);
	}
	return result;
}

/*
 * Encode all samples and end the file, giving them back as they are used up.
 * Returns 0 or FFmpeg's error.
 */
static int
encode_samples(Encoder *encoder, int16_t *pcm, size_t samples)
{
	size_t		room = PIECE_SAMPLES / encoder->frame_size *
		encoder->frame_size;
	int			result = 0;

	for (size_t at = 0; at < samples && result >= 0; at += room)
	{
		size_t		n = samples - at < room ? samples - at : room;
		size_t		bytes = n * sizeof(*pcm);
		AVBufferRef *piece = av_buffer_create((uint8_t *) (pcm + at), bytes,
											  give_back, (void *) bytes,
											  AV_BUFFER_FLAG_READONLY);

		if (piece == NULL)
			return AVERROR(ENOMEM);
		result = encode_piece(encoder, piece, (int64_t) at);
		av_buffer_unref(&piece);
	}
	if (result >= 0)
		result = encode_frame(encoder, NULL);
	if (result >= 0)
		result = av_write_trailer(encoder->muxer);
	return result;
}

/*
 * Encode samples as a whole file; they are spoilt by it.  The data is the
 * caller's, to be given back with encode_free().
 */
bool
encode_audio(const EncodeFormat *format, int16_t *pcm, size_t samples,
			 uint8_t **data, size_t *size, MediaError *error)
{
	Encoder		encoder = {0};
	int			result = encoder_open(&encoder, format);
	int			length = 0;

	*data = NULL;
	if (result >= 0)
		result = encode_samples(&encoder, pcm, samples);
	if (encoder.muxer != NULL && encoder.muxer->pb != NULL)
	{
		/* The buffer reports that it ran out of memory only here. */
		if (result >= 0 && encoder.muxer->pb->error < 0)
			result = encoder.muxer->pb->error;
		length = avio_close_dyn_buf(encoder.muxer->pb, data);
	}
	avformat_free_context(encoder.muxer);
	avcodec_free_context(&encoder.codec);
	av_frame_free(&encoder.frame);
	av_packet_free(&encoder.packet);
	if (result < 0)
	{
		av_freep(data);
		return encode_failed(format, result, error);
	}
	*size = (size_t) length;
	return true;
}

void
encode_free(uint8_t *data)
{
	av_free(data);
}
