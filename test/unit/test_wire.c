/*-------------------------------------------------------------------------
 *
 * test_wire.c
 *	  The frames of src/wire: what is put in comes out, and nothing else does.
 *
 * A plain program; prints TAP.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "wire/wire.h"

/* Read the next frame of that type and job; false if there is none. */
static bool
next_is(WireBuffer *buf, WireFrame *frame, WireType type, uint64_t job)
{
	return wire_next(buf, frame) == 1 && frame->type == type &&
		frame->job == job;
}

/* Done with a frame: was it the last one in the buffer? */
static bool
was_last(WireBuffer *buf, const WireFrame *frame)
{
	wire_consumed(buf, WIRE_HEADER_SIZE + frame->len);
	return wire_pending(buf) == 0;
}

/* The greeting, of this version and of another. */
static void
test_hello(void)
{
	WireBuffer	buf = {0};
	WireFrame	frame;

	wire_put_hello(&buf);
	ok(next_is(&buf, &frame, WIRE_HELLO, 0) && wire_get_hello(&frame) &&
	   was_last(&buf, &frame), "hello comes through");

	wire_begin(&buf, WIRE_HELLO, 0);
	wire_put_u32(&buf, WIRE_VERSION + 1);
	wire_end(&buf);
	ok(wire_next(&buf, &frame) == 1 && !wire_get_hello(&frame),
	   "hello of another version is refused");
	wire_free(&buf);
}

/* OPEN, with as many roots as there may be, and one more. */
static void
test_open(void)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	WireStretch done[2] = {{0.5, 10, 0}, {20.25, 30, WIRE_MIXED}};
	WireOpen	open = {
		.path = "/srv/audio/caf\xc3\xa9 \"1\".m4a", .nroots = WIRE_MAX_ROOTS,
		.format = "mp3", .chunk_seconds = 600.5,
		.max_chunk_bytes = 24 << 20, .max_held = 9, .max_source_bytes = UINT64_MAX,
		.max_seconds = 43200, .require_sandbox = 1, .split_channels = 1,
		.keep_silence = 1, .min_silence = 0.5, .pad_before = 0.25,
		.pad_after = 0.125, .silence_threshold = -50,
		.done_of = "1-2-3-4", .ndone = 2, .done = (const char *) done,
	};
	WireOpen	got;
	bool		same = true;

	for (int i = 0; i < WIRE_MAX_ROOTS; i++)
		open.roots[i] = i % 2 ? "/srv/audio" : "";
	wire_put_open(&buf, UINT64_MAX, &open);
	ok(next_is(&buf, &frame, WIRE_OPEN, UINT64_MAX) &&
	   wire_get_open(&frame, &got), "open is read");
	for (int i = 0; i < WIRE_MAX_ROOTS; i++)
		same = same && strcmp(got.roots[i], open.roots[i]) == 0;
	ok(same && got.nroots == open.nroots, "roots come through");
	ok(got.ndone == 2 && wire_stretch(got.done, 0).start == 0.5 &&
	   wire_stretch(got.done, 0).end == 10 &&
	   wire_stretch(got.done, 0).channel == 0 &&
	   wire_stretch(got.done, 1).start == 20.25 &&
	   wire_stretch(got.done, 1).end == 30 &&
	   wire_stretch(got.done, 1).channel == WIRE_MIXED,
	   "what is done comes through");
	ok(strcmp(got.path, open.path) == 0 &&
	   strcmp(got.format, open.format) == 0 &&
	   got.chunk_seconds == open.chunk_seconds &&
	   got.max_chunk_bytes == open.max_chunk_bytes &&
	   got.max_held == 9 && got.max_source_bytes == open.max_source_bytes &&
	   got.max_seconds == open.max_seconds &&
	   got.keep_silence == 1 && got.min_silence == 0.5 &&
	   got.pad_before == 0.25 && got.pad_after == 0.125 &&
	   got.silence_threshold == -50 &&
	   got.require_sandbox == 1 && got.split_channels == 1 &&
	   strcmp(got.done_of, "1-2-3-4") == 0 && was_last(&buf, &frame),
	   "open comes through");

	open.nroots = WIRE_MAX_ROOTS;
	wire_put_open(&buf, 1, &open);
	{
		/* The count stands behind the path and its length. */
		uint32_t	count = WIRE_MAX_ROOTS + 1;

		memcpy(buf.data + buf.start + WIRE_HEADER_SIZE + 4 +
			   strlen(open.path) + 1, &count, sizeof(count));
	}
	ok(wire_next(&buf, &frame) == 1 && !wire_get_open(&frame, &got) &&
	   got.nroots == 0, "too many roots are refused");
	wire_free(&buf);
}

/* SEND, and that its key is wiped when it has been consumed. */
static void
test_send(void)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	WireSend	send = {
		.chunk_no = 3, .request_no = 4, .url = "https://host/v1",
		.connect_timeout_ms = 5000, .timeout_ms = UINT32_MAX,
		.max_response = 1 << 20, .flags = WIRE_SEND_LINK_LOCAL,
		.ca_file = "/etc/ca.pem", .file_field = "file", .nheaders = 2,
		.headers = {"Authorization: Bearer key", "X: y"}, .nfields = 2,
		.fields = {{"model", "tiny.en"}, {"prompt", ""}},
	};
	WireSend	got;

	wire_put_send(&buf, 9, &send);
	ok(next_is(&buf, &frame, WIRE_SEND, 9) && wire_get_send(&frame, &got) &&
	   got.chunk_no == 3 && got.request_no == 4 &&
	   strcmp(got.url, send.url) == 0 && got.connect_timeout_ms == 5000 &&
	   got.timeout_ms == UINT32_MAX && got.max_response == 1 << 20 &&
	   got.flags == WIRE_SEND_LINK_LOCAL &&
	   strcmp(got.ca_file, "/etc/ca.pem") == 0 &&
	   strcmp(got.file_field, "file") == 0, "send comes through");
	ok(got.nheaders == 2 && strcmp(got.headers[0], send.headers[0]) == 0 &&
	   strcmp(got.headers[1], "X: y") == 0 && got.nfields == 2 &&
	   strcmp(got.fields[0].name, "model") == 0 &&
	   strcmp(got.fields[1].name, "prompt") == 0 &&
	   got.fields[1].value[0] == '\0', "headers and fields come through");
	ok(was_last(&buf, &frame) &&
	   memmem(buf.data, buf.size, "Bearer", 6) == NULL,
	   "a key does not stay in the buffer");
	wire_free(&buf);
}

/* SOURCE, END and FAILED, one behind the other in one buffer. */
static void
test_media(void)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	WireSource	source = {
		.container = "mov,mp4,m4a", .codec = "aac", .sample_rate = 44100,
		.channels = 2, .duration = -1, .size = 123,
		.mtime_ns = INT64_MIN, .device = 5, .inode = UINT64_MAX,
		.sandbox = WIRE_SANDBOX_SECCOMP,
	};
	WireSource	source2;
	WireEnd		end = {7, 60.25, 50.5, 9.5, -23.5, 1, "3 packets"};
	WireEnd		end2;
	WireFailed	failed = {"not_audio", NULL};
	WireFailed	failed2;

	wire_put_source(&buf, 1, &source);
	wire_put_end(&buf, 2, &end);
	wire_put_failed(&buf, 3, &failed);

	ok(next_is(&buf, &frame, WIRE_SOURCE, 1) &&
	   wire_get_source(&frame, &source2) &&
	   strcmp(source2.container, source.container) == 0 &&
	   strcmp(source2.codec, "aac") == 0 && source2.sample_rate == 44100 &&
	   source2.channels == 2 && source2.duration == -1 &&
	   source2.size == 123 && source2.mtime_ns == INT64_MIN &&
	   source2.device == 5 && source2.inode == UINT64_MAX &&
	   source2.sandbox == WIRE_SANDBOX_SECCOMP &&
	   !was_last(&buf, &frame), "source comes through");
	ok(next_is(&buf, &frame, WIRE_END, 2) && wire_get_end(&frame, &end2) &&
	   end2.chunks == 7 && end2.duration == 60.25 && end2.kept == 50.5 &&
	   end2.missing == 9.5 && end2.loudness == -23.5 &&
	   end2.damaged == 1 && strcmp(end2.detail, "3 packets") == 0 &&
	   !was_last(&buf, &frame), "end comes through");
	ok(next_is(&buf, &frame, WIRE_FAILED, 3) &&
	   wire_get_failed(&frame, &failed2) &&
	   strcmp(failed2.code, "not_audio") == 0 && failed2.message[0] == '\0' &&
	   was_last(&buf, &frame), "failed comes through, no text as empty text");
	wire_free(&buf);
}

/* CHUNK: its bytes and spans, and spans that are not there. */
static void
test_chunk(void)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	WireSpan	spans[2] = {{0.5, 10}, {20.25, 1e-5}};
	WireChunk	chunk = {
		.chunk_no = 1, .channel = 7, .start = 0, .end = 30, .seconds = 10.00001,
		.loudness = -23.5, .gain = 3.5, .nspans = 2,
		.spans = (const char *) spans, .filename = "audio.mp3",
		.content_type = "audio/mpeg", .size = 5, .audio = "a\0b\0c",
		.audio_len = 5,
	};
	WireChunk	got;
	uint32_t	count = 3;

	wire_put_chunk(&buf, 6, &chunk);
	ok(next_is(&buf, &frame, WIRE_CHUNK, 6) && wire_get_chunk(&frame, &got) &&
	   got.chunk_no == 1 && got.channel == 7 && got.start == 0 && got.end == 30 &&
	   got.seconds == chunk.seconds && got.loudness == -23.5 &&
	   got.gain == 3.5 && strcmp(got.filename, "audio.mp3") == 0 &&
	   strcmp(got.content_type, "audio/mpeg") == 0 && got.size == 5,
	   "chunk comes through");
	ok(got.audio_len == 5 && memcmp(got.audio, "a\0b\0c", 5) == 0,
	   "audio comes through, zeros included");
	ok(got.nspans == 2 && wire_span(got.spans, 0).start == 0.5 &&
	   wire_span(got.spans, 0).length == 10 &&
	   wire_span(got.spans, 1).start == 20.25 &&
	   wire_span(got.spans, 1).length == 1e-5, "spans come through");

	/* The number of spans stands behind two u32 and five f64. */
	memcpy(buf.data + buf.start + WIRE_HEADER_SIZE + 48, &count,
		   sizeof(count));
	ok(wire_next(&buf, &frame) == 1 && !wire_get_chunk(&frame, &got),
	   "more spans than there are bytes for are refused");
	wire_free(&buf);
}

/* RESPONSE and REQUEST_FAILED. */
static void
test_answers(void)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	WireResponse response = {
		.chunk_no = 1, .request_no = 2, .status = 429,
		.content_type = "application/json", .retry_after_ms = -1,
		.should_retry = WIRE_ADVICE_STOP,
		.request_id = "req_1", .seconds = 1.5, .sent = 1 << 20,
		.reach = {"127.0.0.1", 0.25, 0.5, 0.75},
		.body = "{}", .body_len = 2,
	};
	WireResponse response2;
	WireRequestFailed failed = {1, 2, "timeout", "after 5 s", 1, 5.0, 77,
		{"::1", 0.5, 0, 0}
	};
	WireRequestFailed failed2;

	wire_put_response(&buf, 1, &response);
	ok(next_is(&buf, &frame, WIRE_RESPONSE, 1) &&
	   wire_get_response(&frame, &response2) && response2.chunk_no == 1 &&
	   response2.request_no == 2 && response2.status == 429 &&
	   strcmp(response2.content_type, "application/json") == 0 &&
	   response2.retry_after_ms == -1 &&
	   response2.should_retry == WIRE_ADVICE_STOP &&
	   strcmp(response2.request_id, "req_1") == 0 &&
	   response2.seconds == 1.5 && response2.sent == 1 << 20 &&
	   strcmp(response2.reach.address, "127.0.0.1") == 0 &&
	   response2.reach.resolved == 0.25 && response2.reach.connected == 0.5 &&
	   response2.reach.secured == 0.75 &&
	   response2.body_len == 2 && memcmp(response2.body, "{}", 2) == 0 &&
	   was_last(&buf, &frame), "response comes through");

	response.body = NULL;
	response.body_len = 0;
	wire_put_response(&buf, 1, &response);
	ok(wire_next(&buf, &frame) == 1 && wire_get_response(&frame, &response2) &&
	   response2.body_len == 0 && was_last(&buf, &frame),
	   "response without a body comes through");

	wire_put_request_failed(&buf, 1, &failed);
	ok(next_is(&buf, &frame, WIRE_REQUEST_FAILED, 1) &&
	   wire_get_request_failed(&frame, &failed2) && failed2.chunk_no == 1 &&
	   failed2.request_no == 2 && strcmp(failed2.code, "timeout") == 0 &&
	   strcmp(failed2.message, "after 5 s") == 0 && failed2.retry == 1 &&
	   failed2.seconds == 5.0 && failed2.sent == 77 &&
	   strcmp(failed2.reach.address, "::1") == 0 &&
	   failed2.reach.resolved == 0.5 && failed2.reach.connected == 0 &&
	   failed2.reach.secured == 0 && was_last(&buf, &frame),
	   "failed request comes through");
	wire_free(&buf);
}

/* Read a frame of one f64 that holds value. */
static bool
f64_is_read(double value)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	bool		good;

	wire_begin(&buf, WIRE_DECODED, 1);
	wire_put_f64(&buf, value);
	wire_end(&buf);
	good = wire_next(&buf, &frame) == 1 && wire_get_f64(&frame) == value &&
		wire_done(&frame);
	wire_free(&buf);
	return good;
}

/* Times: finite ones only. */
static void
test_numbers(void)
{
	ok(f64_is_read(0) && f64_is_read(-1) && f64_is_read(1e15),
	   "times are read");
	ok(!f64_is_read(NAN) && !f64_is_read(INFINITY) &&
	   !f64_is_read(-INFINITY) && !f64_is_read(1e16),
	   "what is no time is refused");
}

/* Read a frame whose payload is those bytes as one string. */
static bool
string_is_read(const char *payload, size_t len)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	bool		good;

	wire_begin(&buf, WIRE_FAILED, 1);
	memcpy(wire_room(&buf, len), payload, len);
	wire_received(&buf, len);
	wire_end(&buf);
	good = wire_next(&buf, &frame) == 1;
	good = wire_get_str(&frame) != NULL && wire_done(&frame) && good;
	wire_free(&buf);
	return good;
}

/* Strings: one zero, at the end. */
static void
test_strings(void)
{
	ok(string_is_read("\3\0\0\0ab\0", 7), "a string is read");
	ok(string_is_read("\1\0\0\0\0", 5), "an empty string is read");
	ok(!string_is_read("\0\0\0\0", 4), "a string without its zero is refused");
	ok(!string_is_read("\3\0\0\0abc", 7), "an unended string is refused");
	ok(!string_is_read("\3\0\0\0a\0\0", 7), "a zero inside is refused");
	ok(!string_is_read("\4\0\0\0ab\0", 7), "a length past the end is refused");
	ok(!string_is_read("\377\377\377\377ab\0", 7), "a huge length is refused");
	ok(!string_is_read("\2\0\0\0a\0b", 7), "bytes left over are refused");
	ok(!string_is_read("\2\0", 2), "half a length is refused");
}

/* Headers: parts of frames, and frames that cannot be. */
static void
test_headers(void)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	bool		waits = true;
	bool		reads = true;
	size_t		whole;
	uint32_t	length = WIRE_MAX_PAYLOAD + 1;

	ok(wire_next(&buf, &frame) == 0, "an empty buffer holds no frame");

	wire_put_hello(&buf);
	whole = wire_pending(&buf);
	for (size_t cut = 0; cut < whole; cut++)
	{
		buf.len = cut;
		waits = waits && wire_next(&buf, &frame) == 0;
	}
	buf.len = whole;
	ok(waits && wire_next(&buf, &frame) == 1,
	   "a frame is read when it is whole");

	for (int type = 0; type < 65536; type++)
	{
		uint16_t	type16 = (uint16_t) type;

		memcpy(buf.data + 4, &type16, sizeof(type16));
		reads = reads && wire_next(&buf, &frame) ==
			(type >= WIRE_HELLO && type <= WIRE_REQUEST_FAILED ? 1 : -1);
	}
	ok(reads, "types that do not exist are refused");

	wire_free(&buf);
	wire_put_hello(&buf);
	buf.data[6] = 1;
	ok(wire_next(&buf, &frame) == -1, "bytes that must be zero are");

	wire_free(&buf);
	wire_put_hello(&buf);
	memcpy(buf.data, &length, sizeof(length));
	ok(wire_next(&buf, &frame) == -1,
	   "a frame that is too long is refused by its header");
	wire_free(&buf);
}

/* The longest frame, and longer ones. */
static void
test_limits(void)
{
	WireBuffer	buf = {0};
	WireFrame	frame;
	char	   *big = calloc(1, WIRE_MAX_PAYLOAD + 1);
	size_t		len;

	if (big == NULL)
		return;
	wire_begin(&buf, WIRE_RESPONSE, 1);
	wire_put_bytes(&buf, big, WIRE_MAX_PAYLOAD - 4);
	wire_end(&buf);
	ok(!buf.failed && wire_next(&buf, &frame) == 1 &&
	   wire_get_bytes(&frame, &len) != NULL && len == WIRE_MAX_PAYLOAD - 4 &&
	   wire_done(&frame), "the longest frame is read");
	wire_free(&buf);

	wire_begin(&buf, WIRE_RESPONSE, 1);
	wire_put_bytes(&buf, big, WIRE_MAX_PAYLOAD - 3);
	wire_end(&buf);
	ok(buf.failed && wire_next(&buf, &frame) == -1,
	   "a longer one spoils the buffer");
	wire_free(&buf);

	wire_begin(&buf, WIRE_RESPONSE, 1);
	wire_put_bytes(&buf, big, WIRE_MAX_PAYLOAD + 1);
	ok(buf.failed && wire_room(&buf, 1) == NULL, "and so do bytes too many");
	wire_free(&buf);
	ok(!buf.failed && wire_room(&buf, 1) != NULL, "a freed buffer is as new");
	wire_free(&buf);
	free(big);
}

/*
 * Frames of all lengths go through two buffers in pieces of all lengths, as
 * they do through sockets, with room made and bytes moved in between.
 */
static void
test_pieces(void)
{
	WireBuffer	from = {0};
	WireBuffer	to = {0};
	WireFrame	frame;
	unsigned	seed = 1;
	uint64_t	put = 0;
	uint64_t	got = 0;
	bool		same = true;

	while (got < 5000 && same)
	{
		size_t		piece;

		for (int i = rand_r(&seed) % 3; i > 0; i--)
		{
			wire_begin(&from, WIRE_UPLOADED, put);
			for (uint64_t k = 0; k < put % 301; k++)
				wire_put_u64(&from, put + k);
			wire_end(&from);
			put++;
		}
		piece = (size_t) rand_r(&seed) % 4096;
		if (piece > wire_pending(&from))
			piece = wire_pending(&from);
		if (piece > 0)
		{
			memcpy(wire_room(&to, piece), from.data + from.start, piece);
			wire_received(&to, piece);
			wire_consumed(&from, piece);
		}
		while (wire_next(&to, &frame) == 1)
		{
			same = same && frame.job == got && frame.len == got % 301 * 8;
			for (uint64_t k = 0; k < got % 301; k++)
				same = same && wire_get_u64(&frame) == got + k;
			same = same && wire_done(&frame);
			wire_consumed(&to, WIRE_HEADER_SIZE + frame.len);
			got++;
		}
	}
	ok(same, "frames come through in pieces, whole and in order");
	ok(from.size < 1 << 20 && to.size < 1 << 20,
	   "buffers do not grow with what has passed through them");
	wire_free(&from);
	wire_free(&to);
}

/* How much a recording may hold. */
static void
test_pressure(void)
{
	ok(wire_may_bring(8, 9, 0) && !wire_may_bring(9, 9, 0),
	   "a recording holds as many chunks as it may");
	ok(wire_may_bring(1, 9, WIRE_MAX_HELD_BYTES - 1) &&
	   !wire_may_bring(1, 9, WIRE_MAX_HELD_BYTES),
	   "all of them together hold a bounded number of bytes");
	ok(wire_may_bring(0, 9, UINT64_MAX) && wire_may_bring(0, 0, UINT64_MAX),
	   "one that holds none may always bring one");
}

/* All of them. */
int
main(void)
{
	test_hello();
	test_open();
	test_send();
	test_media();
	test_chunk();
	test_answers();
	test_numbers();
	test_strings();
	test_headers();
	test_limits();
	test_pieces();
	test_pressure();
	return done();
}
