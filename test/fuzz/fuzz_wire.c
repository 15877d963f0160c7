/*-------------------------------------------------------------------------
 *
 * fuzz_wire.c
 *	  Any bytes at all, read as frames.
 *
 * A target for libFuzzer (clang -fsanitize=fuzzer,address,undefined).  The
 * input is received in two pieces; each frame found is read by the getter of
 * its type.  What a getter accepts is used: strings to their ends, spans and
 * bytes to theirs; and written again it must give the same payload, so that
 * there is one way only to say a thing.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

/* A frame of any type, as its getter reads it. */
typedef union Any
{
	WireOpen	open;
	WireSend	send;
	WireSource	source;
	WireChunk	chunk;
	WireEnd		end;
	WireFailed	failed;
	WireResponse response;
	WireRequestFailed request_failed;
} Any;

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Read it; if it is accepted, write it again.  Types without a struct pass. */
static bool
again(WireFrame *frame, WireBuffer *out)
{
	Any			any;

#define AGAIN(name) \
	(wire_get_##name(frame, &any.name) && \
	 (wire_put_##name(out, frame->job, &any.name), true))

	switch (frame->type)
	{
		case WIRE_HELLO:
			if (!wire_get_hello(frame))
				return false;
			wire_begin(out, WIRE_HELLO, frame->job);
			wire_put_u32(out, WIRE_VERSION);
			wire_end(out);
			return true;
		case WIRE_OPEN:
			return AGAIN(open);
		case WIRE_SEND:
			return AGAIN(send);
		case WIRE_SOURCE:
			return AGAIN(source);
		case WIRE_CHUNK:
			if (!AGAIN(chunk))
				return false;
			for (uint32_t i = 0; i < any.chunk.nspans; i++)
				(void) wire_span(any.chunk.spans, i);
			return true;
		case WIRE_END:
			return AGAIN(end);
		case WIRE_FAILED:
			return AGAIN(failed);
		case WIRE_RESPONSE:
			return AGAIN(response);
		case WIRE_REQUEST_FAILED:
			return AGAIN(request_failed);
		default:
			(void) wire_get_u32(frame);
			(void) wire_get_u64(frame);
			(void) wire_get_f64(frame);
			(void) wire_done(frame);
			return false;
	}
#undef AGAIN
}

/* Bytes arrive; as from a socket, never none. */
static void
receive(WireBuffer *buf, const uint8_t *data, size_t size)
{
	char	   *room;

	if (size == 0)
		return;
	room = wire_room(buf, size);
	if (room == NULL)
		abort();
	memcpy(room, data, size);
	wire_received(buf, size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WireBuffer	in = {0};
	WireBuffer	out = {0};
	WireFrame	frame;
	size_t		first = size > 0 ? data[size - 1] % size : 0;

	receive(&in, data, first);
	for (int piece = 0; piece < 2; piece++)
	{
		while (wire_next(&in, &frame) == 1)
		{
			if (again(&frame, &out) &&
				(wire_pending(&out) != WIRE_HEADER_SIZE + frame.len ||
				 memcmp(out.data + out.start, in.data + in.start,
						WIRE_HEADER_SIZE + frame.len) != 0))
				abort();
			wire_free(&out);
			wire_consumed(&in, WIRE_HEADER_SIZE + frame.len);
		}
		if (piece == 0)
			receive(&in, data + first, size - first);
	}
	wire_free(&in);
	wire_free(&out);
	return 0;
}
