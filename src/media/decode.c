/*-------------------------------------------------------------------------
 *
 * decode.c
 *	  Packets to samples, at the time at which a player shows them.
 *
 * Runs in transcribe_media, inside the sandbox.  What comes out is 16 kHz,
 * 16 bits, mono or a stream for each channel, in which sample n is what a
 * player plays at n / 16000 s: if
 * the audio starts later than the picture, or pieces of it are missing,
 * silence takes their place.  Frames that come early or overlap are appended
 * as they are; as the comparison is with the absolute position, the next
 * gap makes up for it.
 *
 * A packet that cannot be decoded is skipped: most of a damaged recording is
 * better than none of it.
 *
 *-------------------------------------------------------------------------
 */
#include "media/decode.h"

#include <string.h>
#include <time.h>

#include <libavutil/mathematics.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>

/* Rates that are no mistake: from old telephony to DSD. */
#define MIN_RATE		1000
#define MAX_RATE		6000000

/* Most channels that the resampler takes. */
#define MAX_CHANNELS	64

/*
 * A frame that is late by less is not: containers round times to
 * milliseconds, and codecs have frames of 20 to 64 ms.
 */
#define MIN_GAP			(MEDIA_RATE / 20)

/*
 * Containers made for broadcasting start their clock anew now and then, and
 * players take a jump of more than ten seconds for that.  Elsewhere a gap is
 * believed up to a day.
 */
#define MAX_GAP_DISCONT	((int64_t) 10 * MEDIA_RATE)
#define MAX_GAP			((int64_t) 86400 * MEDIA_RATE)

/* Progress is told every 5 s of audio, and not more than ten times a second. */
#define REPORT_SAMPLES	(5 * MEDIA_RATE)
#define REPORT_NS		100000000

typedef struct Decoding
{
	Source	   *source;
	Channels   *channels;
	Decoded    *decoded;
	MediaError *error;
	uint64_t	max_samples;	/* 0: no limit */
	uint64_t	reported;		/* position last told */
	int64_t		reported_ns;	/* and when */
	int64_t		max_gap;
	int64_t		base;			/* pts of position 0, in stream time */
	bool		based;			/* base is known */

	/* What makes streams of frames, and the input that it was made for. */
	SwrContext *mixer;			/* NULL: each channel is a stream already */
	SwrContext *resampler;
	int			rate;
	int			format;
	AVChannelLayout layout;
	float	   *mixed;			/* of all streams, one after the other */
	unsigned	mixed_size;		/* bytes */
	int16_t    *output;			/* the same, resampled */
	unsigned	output_size;
} Decoding;

/* Add samples, or silence if pcm is NULL; keep the limit, tell progress. */
static bool
add(Decoding *decoding, int16_t *const *pcm, size_t samples)
{
	Channels   *channels = decoding->channels;
	const MediaSink *sink = channels->finish->sink;
	uint64_t	position = channels_position(channels) + samples;
	struct timespec now;
	int64_t		now_ns;

	if (decoding->max_samples > 0 && position > decoding->max_samples)
		return media_fail(decoding->error, MEDIA_RECORDING_TOO_LONG,
						  "recording is longer than the %.0f seconds that are allowed",
						  (double) decoding->max_samples / MEDIA_RATE);
	if (!channels_add(channels, pcm, samples, decoding->error))
		return false;

	if (position - decoding->reported < REPORT_SAMPLES)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
	if (now_ns - decoding->reported_ns >= REPORT_NS)
	{
		decoding->reported = position;
		decoding->reported_ns = now_ns;
		sink->decoded(sink->arg, (double) position / MEDIA_RATE);
	}
	return true;
}

/*
 * Mix the channels of a frame into streams, in room of our own.  Returns how
 * many samples each has, or FFmpeg's error.
 */
static int
mix(Decoding *decoding, const AVFrame *frame, float *streams[CHANNELS_MAX])
{
	int			count = decoding->channels->count;
	int			samples = frame->nb_samples;

	av_fast_malloc(&decoding->mixed, &decoding->mixed_size,
				   (size_t) samples * count * sizeof(float));
	if (decoding->mixed == NULL)
		return AVERROR(ENOMEM);
	for (int i = 0; i < count; i++)
		streams[i] = decoding->mixed + (size_t) samples * i;
	return swr_convert(decoding->mixer, (uint8_t **) streams, samples,
					   (const uint8_t **) frame->extended_data, samples);
}

/*
 * Resample streams, or flush with NULL, and add what comes out.  The room is
 * kept tight: swresample touches buffers as large as the room it is given.
 */
static bool
resample(Decoding *decoding, const uint8_t **streams, int samples)
{
	int64_t		room = 64 +
		swr_get_delay(decoding->resampler, MEDIA_RATE) +
		av_rescale_rnd(samples, MEDIA_RATE, decoding->rate, AV_ROUND_UP);
	int			count = decoding->channels->count;
	int16_t    *output[CHANNELS_MAX];
	int			n;

	av_fast_malloc(&decoding->output, &decoding->output_size,
				   (size_t) (room * count) * sizeof(int16_t));
	if (decoding->output == NULL)
		return media_no_memory(decoding->error);
	for (int i = 0; i < count; i++)
		output[i] = decoding->output + room * i;
	n = swr_convert(decoding->resampler, (uint8_t **) output, (int) room,
					streams, samples);
	if (n == AVERROR(ENOMEM))
		return media_no_memory(decoding->error);
	if (n < 0)
	{
		decoding->decoded->errors++;
		return true;
	}
	return n == 0 || add(decoding, output, (size_t) n);
}

/* Mix and resample a frame, and add what comes out. */
static bool
convert(Decoding *decoding, const AVFrame *frame)
{
	float	   *streams[CHANNELS_MAX];
	int			samples;

	if (decoding->mixer == NULL)
		return resample(decoding, (const uint8_t **) frame->extended_data,
						frame->nb_samples);
	samples = mix(decoding, frame, streams);
	if (samples == AVERROR(ENOMEM))
		return media_no_memory(decoding->error);
	if (samples >= 0)
		return resample(decoding, (const uint8_t **) streams, samples);
	decoding->decoded->errors++;
	return true;
}

/* Get the rest out of the resampler, and free it. */
static bool
drop_resampler(Decoding *decoding)
{
	bool		ok = decoding->resampler == NULL ||
		resample(decoding, NULL, 0);

	swr_free(&decoding->mixer);
	swr_free(&decoding->resampler);
	av_channel_layout_uninit(&decoding->layout);
	return ok;
}

/*
 * How the channels of a frame become the streams: all in equal parts where
 * there is one; else each its own, one that there is no stream for mixed into
 * one that there is, and a single channel into all.
 */
static void
fill_matrix(double *matrix, int streams, int channels)
{
	for (int out = 0; out < streams; out++)
	{
		int			sources = 0;

		for (int in = out % channels; in < channels; in += streams)
			sources++;
		for (int in = 0; in < channels; in++)
			matrix[out * channels + in] = in % streams == out % channels ?
				1.0 / sources : 0;
	}
}

/*
 * Make what mixes the channels of frames like this one, at their own rate: to
 * resample the few that come out is half the work of resampling all.  Mixing
 * follows the places of the channels if they are known.  Returns 0 or FFmpeg's
 * error.
 */
static int
make_mixer(Decoding *decoding, const AVFrame *frame,
		   AVChannelLayout *streams)
{
	AVChannelLayout layout = {0};
	int			channels = frame->ch_layout.nb_channels;
	int			count = streams->nb_channels;
	bool		by_place = count == 1 &&
		frame->ch_layout.order == AV_CHANNEL_ORDER_NATIVE;
	int			result = 0;

	if (by_place)
		result = av_channel_layout_copy(&layout, &frame->ch_layout);
	else
		av_channel_layout_default(&layout, channels);
	if (result >= 0)
		result = swr_alloc_set_opts2(&decoding->mixer, streams,
									 AV_SAMPLE_FMT_FLTP, frame->sample_rate,
									 &layout, frame->format,
									 frame->sample_rate, 0, NULL);

	/* The sum of full channels is a full one, as if it were whole numbers. */
	if (result >= 0)
		result = av_opt_set_double(decoding->mixer, "rematrix_maxval", 1, 0);
	if (result >= 0 && !by_place)
	{
		double		matrix[CHANNELS_MAX * MAX_CHANNELS];

		fill_matrix(matrix, count, channels);
		result = swr_set_matrix(decoding->mixer, matrix, channels);
	}
	if (result >= 0)
		result = swr_init(decoding->mixer);
	av_channel_layout_uninit(&layout);
	return result;
}

/*
 * Make mixer and resampler for frames like this one.  Returns 0 or FFmpeg's
 * error.
 */
static int
make_resampler(Decoding *decoding, const AVFrame *frame)
{
	AVChannelLayout streams = {0};
	int			format = frame->format;
	int			result;

	/* The layout as it came is what the next frame is compared with. */
	result = av_channel_layout_copy(&decoding->layout, &frame->ch_layout);
	if (result < 0)
		return result;
	decoding->rate = frame->sample_rate;
	decoding->format = frame->format;

	av_channel_layout_default(&streams, decoding->channels->count);
	if (frame->ch_layout.nb_channels != streams.nb_channels)
	{
		result = make_mixer(decoding, frame, &streams);
		format = AV_SAMPLE_FMT_FLTP;
	}
	if (result >= 0)
		result = swr_alloc_set_opts2(&decoding->resampler, &streams,
									 AV_SAMPLE_FMT_S16P, MEDIA_RATE, &streams,
									 format, frame->sample_rate, 0, NULL);
	if (result >= 0)
		result = swr_init(decoding->resampler);
	return result;
}

/*
 * Have a resampler that fits the frame.  Streams change their rate, format
 * or channels midway (and hostile ones do so between any two frames); to
 * feed the old resampler then would read beyond the frame.  Returns false on
 * an error that ends the recording; *usable says whether the frame is one.
 */
static bool
fit_resampler(Decoding *decoding, const AVFrame *frame, bool *usable)
{
	int			result;

	*usable = false;
	if (frame->sample_rate < MIN_RATE || frame->sample_rate > MAX_RATE ||
		frame->ch_layout.nb_channels < 1 ||
		frame->ch_layout.nb_channels > MAX_CHANNELS ||
		frame->nb_samples < 1)
		return true;
	*usable = true;
	if (decoding->resampler != NULL &&
		decoding->rate == frame->sample_rate &&
		decoding->format == frame->format &&
		av_channel_layout_compare(&decoding->layout, &frame->ch_layout) == 0)
		return true;
	if (!drop_resampler(decoding))
		return false;
	result = make_resampler(decoding, frame);
	if (result >= 0)
		return true;
	swr_free(&decoding->mixer);
	swr_free(&decoding->resampler);
	if (result == AVERROR(ENOMEM))
		return media_no_memory(decoding->error);
	*usable = false;
	return true;
}

/*
 * Where the container's clock starts: at its earliest stream, as players
 * have it, so that audio which begins later begins later here too.
 */
static int64_t
clock_start(const Source *source, int64_t first)
{
	if (source->container->start_time == AV_NOPTS_VALUE)
		return first;
	return av_rescale_q(source->container->start_time, AV_TIME_BASE_Q,
						source->stream->time_base);
}

/*
 * Fill the gap between what was decoded and this frame, if there is one.
 * Time that is in the resampler counts as decoded.
 */
static bool
fill_gap(Decoding *decoding, const AVFrame *frame)
{
	AVRational	unit = decoding->source->stream->time_base;
	AVRational	samples = {1, MEDIA_RATE};
	int64_t		pts = frame->best_effort_timestamp;
	int64_t		position = (int64_t) channels_position(decoding->channels);
	int64_t		gap;

	if (pts == AV_NOPTS_VALUE)
		return true;
	if (!decoding->based)
	{
		decoding->base = clock_start(decoding->source, pts);
		decoding->based = true;
	}
	if (decoding->resampler != NULL)
		position += swr_get_delay(decoding->resampler, MEDIA_RATE);

	/* The difference saturates: both may be anything that fits 64 bits. */
	gap = av_rescale_q(av_sat_sub64(pts, decoding->base), unit, samples);
	gap = av_sat_sub64(gap, position);
	if (gap > decoding->max_gap || gap < -decoding->max_gap)
	{
		/* Not a gap but another clock: go on from here by that one. */
		decoding->base = av_sat_sub64(pts,
									  av_rescale_q(position, samples, unit));
		return true;
	}
	if (gap <= MIN_GAP)
		return true;
	return drop_resampler(decoding) && add(decoding, NULL, (size_t) gap);
}

/* Take all frames that the decoder has.  Returns false to end in failure. */
static bool
receive_frames(Decoding *decoding, AVFrame *frame)
{
	for (;;)
	{
		int			result = avcodec_receive_frame(decoding->source->decoder,
												   frame);
		bool		usable = false;
		bool		ok;

		if (result == AVERROR(EAGAIN) || result == AVERROR_EOF)
			return true;
		if (result == AVERROR(ENOMEM))
			return media_no_memory(decoding->error);
		if (result < 0)
		{
			decoding->decoded->errors++;
			return true;
		}
		ok = fill_gap(decoding, frame) &&
			fit_resampler(decoding, frame, &usable);
		if (ok && usable)
		{
			decoding->decoded->frames++;
			ok = convert(decoding, frame);
		}
		else if (ok)
			decoding->decoded->errors++;
		av_frame_unref(frame);
		if (!ok)
			return false;
	}
}

/* Decode one packet, or flush the decoder with NULL. */
static bool
decode_packet(Decoding *decoding, const AVPacket *packet, AVFrame *frame)
{
	int			result = avcodec_send_packet(decoding->source->decoder,
											 packet);

	if (result == AVERROR(ENOMEM))
		return media_no_memory(decoding->error);
	if (result < 0 && result != AVERROR_EOF)
		decoding->decoded->errors++;
	return receive_frames(decoding, frame);
}

/* Read packets to the end, decode ours. */
static bool
decode_packets(Decoding *decoding, AVPacket *packet, AVFrame *frame)
{
	Source	   *source = decoding->source;

	for (;;)
	{
		int			result = av_read_frame(source->container, packet);
		bool		ok = true;

		if (result == AVERROR(EAGAIN))
			continue;
		if (result == AVERROR(ENOMEM))
			return media_no_memory(decoding->error);
		if (result < 0)
		{
			/* Any error ends it: a demuxer may repeat one for ever. */
			decoding->decoded->cut_short = result != AVERROR_EOF ||
				source->io_errno != 0;
			break;
		}
		if (packet->stream_index == source->stream->index)
			ok = decode_packet(decoding, packet, frame) &&
				finish_poll(decoding->channels->finish, decoding->error);
		av_packet_unref(packet);
		if (!ok)
			return false;
	}
	return decode_packet(decoding, NULL, frame) && drop_resampler(decoding);
}

/*
 * Decode a recording into its streams.  Returns false if that ended in a
 * failure; a damaged recording is none as long as something was decoded.
 */
bool
decode_recording(Source *source, Channels *channels, double max_seconds,
				 Decoded *decoded, MediaError *error)
{
	Decoding	decoding = {
		.source = source,
		.channels = channels,
		.decoded = decoded,
		.error = error,
		.max_samples = max_seconds > 0 ?
		(uint64_t) (max_seconds * MEDIA_RATE) : 0,
		.max_gap = source->container->iformat->flags & AVFMT_TS_DISCONT ?
		MAX_GAP_DISCONT : MAX_GAP
	};
	AVPacket   *packet = av_packet_alloc();
	AVFrame    *frame = av_frame_alloc();
	bool		ok;

	memset(decoded, 0, sizeof(*decoded));
	if (packet != NULL && frame != NULL)
		ok = decode_packets(&decoding, packet, frame);
	else
		ok = media_no_memory(error);
	if (ok && decoded->frames == 0)
		ok = source_failed(source, 0, MEDIA_UNDECODABLE,
						   "file has an audio stream, but none of it could be decoded",
						   error);
	av_packet_free(&packet);
	av_frame_free(&frame);
	swr_free(&decoding.mixer);
	swr_free(&decoding.resampler);
	av_channel_layout_uninit(&decoding.layout);
	av_freep(&decoding.mixed);
	av_freep(&decoding.output);
	return ok;
}
