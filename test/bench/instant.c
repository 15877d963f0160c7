/*-------------------------------------------------------------------------
 *
 * instant.c
 *	  An agent that has done everything at once.
 *
 * Takes the place of transcribe_agent where queueing.py measures the queue alone:
 * the worker, its statements and its commits.  It reads no file and asks no
 * server.  OPEN is answered by one second of mono sound in one chunk, SEND by
 * one segment.  What the segment says is when the OPEN was read, in seconds
 * of CLOCK_MONOTONIC, so that the latency can be told from the rows.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "wire/wire.h"

/* Read in one go. */
#define READ_SIZE		(256 * 1024)

/* Jobs are told apart by their tags, which are numbered from 1 on. */
#define MAX_JOBS		65536

/* The worker's end of the socket. */
#define WORKER			0

static double opened[MAX_JOBS];

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

/* The recording is read, from its beginning to its end. */
static void
answer_open(WireBuffer *out, uint64_t job)
{
	WireSource	source = {
		.container = "wav", .codec = "pcm_s16le", .sample_rate = 16000,
		.channels = 1, .streams = 1, .duration = 1, .size = 32044,
		.sandbox = WIRE_SANDBOX_ALL
	};
	WireSpan	span = {0, 1};
	WireChunk	chunk = {
		.channel = WIRE_MIXED, .end = 1, .seconds = 1, .loudness = -23,
		.nspans = 1, .spans = (const char *) &span, .filename = "audio.mp3",
		.content_type = "audio/mpeg", .size = 4000
	};
	WireEnd		end = {
		.chunks = 1, .duration = 1, .kept = 1, .missing = -1, .loudness = -23,
		.detail = ""
	};

	opened[job % MAX_JOBS] = now();
	wire_put_source(out, job, &source);
	wire_put_chunk(out, job, &chunk);
	wire_put_end(out, job, &end);
}

/* The server has answered. */
static void
answer_send(WireBuffer *out, uint64_t job, const WireSend *request)
{
	char		body[256];
	WireResponse response = {
		.chunk_no = request->chunk_no, .request_no = request->request_no,
		.status = 200, .content_type = "application/json",
		.retry_after_ms = -1, .request_id = "", .sent = 4000,
		.reach = {.address = ""}, .body = body
	};

	response.body_len = (size_t) snprintf(body, sizeof(body),
										  "{\"language\": \"english\", \"segments\": "
										  "[{\"start\": 0, \"end\": 1, \"text\": \"%.6f\"}]}",
										  opened[job % MAX_JOBS]);
	wire_put_response(out, job, &response);
}

/* Answer a frame; false: it is not as agreed. */
static bool
answer(WireBuffer *out, WireFrame *frame)
{
	WireSend	request;

	switch (frame->type)
	{
		case WIRE_HELLO:
			return wire_get_hello(frame);
		case WIRE_OPEN:
			answer_open(out, frame->job);
			return true;
		case WIRE_SEND:
			if (!wire_get_send(frame, &request))
				return false;
			answer_send(out, frame->job, &request);
			return true;
		default:
			return true;
	}
}

/* Write out what is in the buffer; false: the worker is gone. */
static bool
flush(WireBuffer *out)
{
	while (!out->failed && wire_pending(out) > 0)
	{
		ssize_t		n = write(WORKER, out->data + out->start, wire_pending(out));

		if (n > 0)
			wire_consumed(out, (size_t) n);
		else if (errno != EINTR)
			return false;
	}
	return !out->failed;
}

int
main(void)
{
	WireBuffer	in = {0};
	WireBuffer	out = {0};
	WireFrame	frame;

	wire_put_hello(&out);
	while (flush(&out))
	{
		char	   *room = wire_room(&in, READ_SIZE);
		ssize_t		n = room != NULL ? read(WORKER, room, READ_SIZE) : 0;

		if (n <= 0)
			break;
		wire_received(&in, (size_t) n);
		while (wire_next(&in, &frame) > 0)
		{
			if (!answer(&out, &frame))
				return 1;
			wire_consumed(&in, WIRE_HEADER_SIZE + frame.len);
		}
	}
	return 0;
}
