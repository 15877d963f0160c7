/*-------------------------------------------------------------------------
 *
 * wire.c
 *	  Reading and writing the frames of wire.h.
 *
 * Runs in the worker, in the agent and in the media child.  Pure: no
 * PostgreSQL, no libcurl, no FFmpeg, no input or output of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the fields of a frame's header stand. */
#define HEADER_LENGTH	0		/* u32: bytes of payload */
#define HEADER_TYPE		4		/* u16, then two bytes of zero */
#define HEADER_JOB		8		/* u64 */

/*
 * Make room for len more bytes, and return where they go; NULL (and the
 * buffer marked failed) if there is no memory.  Bytes already consumed are
 * given back first, so that a long-lived buffer does not creep.
 */
char *
wire_room(WireBuffer *buf, size_t len)
{
	size_t		need;
	size_t		size;
	char	   *data;

	if (buf->failed)
		return NULL;
	if (buf->start > 0 && buf->start == buf->len)
	{
		buf->start = buf->len = 0;
	}
	else if (buf->start > 0 && buf->len + len > buf->size)
	{
		size_t		kept = buf->len - buf->start;

		memmove(buf->data, buf->data + buf->start, kept);
		explicit_bzero(buf->data + kept, buf->len - kept);
		buf->frame -= buf->frame >= buf->start ? buf->start : buf->frame;
		buf->len = kept;
		buf->start = 0;
	}
	need = buf->len + len;
	if (need <= buf->size)
		return buf->data + buf->len;

	size = buf->size > 0 ? buf->size : 1024;
	while (size < need)
		size *= 2;

	/* Not realloc: what is left behind may hold a key, and is wiped. */
	data = malloc(size);
	if (data == NULL)
	{
		buf->failed = true;
		return NULL;
	}
	if (buf->data != NULL)
	{
		memcpy(data, buf->data, buf->len);
		explicit_bzero(buf->data, buf->size);
		free(buf->data);
	}
	buf->data = data;
	buf->size = size;
	return buf->data + buf->len;
}

/* The caller has put len bytes where wire_room() said. */
void
wire_received(WireBuffer *buf, size_t len)
{
	buf->len += len;
}

/* The first len pending bytes are done with; wipe them, they may be a key. */
void
wire_consumed(WireBuffer *buf, size_t len)
{
	explicit_bzero(buf->data + buf->start, len);
	buf->start += len;
	if (buf->start == buf->len)
		buf->start = buf->len = 0;
}

/* How many bytes are waiting, to be written out or read. */
size_t
wire_pending(const WireBuffer *buf)
{
	return buf->len - buf->start;
}

/* Wipe and free; the buffer may be used again. */
void
wire_free(WireBuffer *buf)
{
	if (buf->data != NULL)
	{
		explicit_bzero(buf->data, buf->size);
		free(buf->data);
	}
	memset(buf, 0, sizeof(*buf));
}

static void
put_raw(WireBuffer *buf, const void *data, size_t len)
{
	char	   *room = wire_room(buf, len);

	if (room == NULL)
		return;
	if (len > 0)
		memcpy(room, data, len);
	buf->len += len;
}

/* Begin a frame; its length is filled in by wire_end(). */
void
wire_begin(WireBuffer *buf, WireType type, uint64_t job)
{
	char		header[WIRE_HEADER_SIZE] = {0};
	uint16_t	type16 = (uint16_t) type;

	memcpy(header + HEADER_TYPE, &type16, sizeof(type16));
	memcpy(header + HEADER_JOB, &job, sizeof(job));

	/* wire_room() may move the bytes; where the frame begins moves along. */
	if (wire_room(buf, sizeof(header)) == NULL)
		return;
	buf->frame = buf->len;
	put_raw(buf, header, sizeof(header));
}

void
wire_put_u32(WireBuffer *buf, uint32_t value)
{
	put_raw(buf, &value, sizeof(value));
}

void
wire_put_u64(WireBuffer *buf, uint64_t value)
{
	put_raw(buf, &value, sizeof(value));
}

void
wire_put_f64(WireBuffer *buf, double value)
{
	put_raw(buf, &value, sizeof(value));
}

void
wire_put_bytes(WireBuffer *buf, const char *data, size_t len)
{
	if (len > WIRE_MAX_PAYLOAD)
	{
		buf->failed = true;
		return;
	}
	wire_put_u32(buf, (uint32_t) len);
	put_raw(buf, data, len);
}

/* A string travels with its terminating zero, so that it is read in place. */
void
wire_put_str(WireBuffer *buf, const char *value)
{
	if (value == NULL)
		value = "";
	wire_put_bytes(buf, value, strlen(value) + 1);
}

/*
 * End a frame of which so many bytes are not in the buffer, but will be sent
 * after it.  One that is too long spoils the buffer: the peer would quit.
 */
static void
end_with_tail(WireBuffer *buf, size_t tail)
{
	size_t		payload;
	uint32_t	length;

	if (buf->failed)
		return;
	payload = buf->len - buf->frame - WIRE_HEADER_SIZE + tail;
	if (payload > WIRE_MAX_PAYLOAD)
	{
		buf->failed = true;
		return;
	}
	length = (uint32_t) payload;
	memcpy(buf->data + buf->frame + HEADER_LENGTH, &length, sizeof(length));
}

void
wire_end(WireBuffer *buf)
{
	end_with_tail(buf, 0);
}

/*
 * Read the next frame.  It stays in the buffer, where its strings point,
 * until the caller says wire_consumed(buf, WIRE_HEADER_SIZE + frame->len).
 */
int
wire_next(WireBuffer *buf, WireFrame *frame)
{
	size_t		have = wire_pending(buf);
	const char *head;
	uint32_t	length;

	if (buf->failed)
		return -1;
	if (have < WIRE_HEADER_SIZE)
		return 0;
	head = buf->data + buf->start;
	memcpy(&length, head + HEADER_LENGTH, sizeof(length));
	memset(frame, 0, sizeof(*frame));
	memcpy(&frame->type, head + HEADER_TYPE, sizeof(frame->type));
	memcpy(&frame->job, head + HEADER_JOB, sizeof(frame->job));
	if (length > WIRE_MAX_PAYLOAD ||
		frame->type < WIRE_HELLO || frame->type > WIRE_REQUEST_FAILED ||
		head[HEADER_TYPE + 2] != 0 || head[HEADER_TYPE + 3] != 0)
		return -1;
	if (have - WIRE_HEADER_SIZE < length)
		return 0;
	frame->payload = head + WIRE_HEADER_SIZE;
	frame->len = length;
	return 1;
}

static void
get_raw(WireFrame *frame, void *value, size_t len)
{
	if (frame->bad || frame->len - frame->pos < len)
	{
		frame->bad = true;
		memset(value, 0, len);
		return;
	}
	memcpy(value, frame->payload + frame->pos, len);
	frame->pos += len;
}

uint32_t
wire_get_u32(WireFrame *frame)
{
	uint32_t	value;

	get_raw(frame, &value, sizeof(value));
	return value;
}

uint64_t
wire_get_u64(WireFrame *frame)
{
	uint64_t	value;

	get_raw(frame, &value, sizeof(value));
	return value;
}

/* Neither infinite nor not-a-number: such a time would poison every sum. */
double
wire_get_f64(WireFrame *frame)
{
	double		value;

	get_raw(frame, &value, sizeof(value));
	if (!(value >= -1e15 && value <= 1e15))
	{
		frame->bad = true;
		return 0;
	}
	return value;
}

const char *
wire_get_bytes(WireFrame *frame, size_t *len)
{
	uint32_t	length = wire_get_u32(frame);
	const char *data;

	*len = 0;
	if (frame->bad || frame->len - frame->pos < length)
	{
		frame->bad = true;
		return "";
	}
	data = frame->payload + frame->pos;
	frame->pos += length;
	*len = length;
	return data;
}

/* A string must end where its length says, and nowhere before. */
const char *
wire_get_str(WireFrame *frame)
{
	size_t		len;
	const char *data = wire_get_bytes(frame, &len);

	if (frame->bad || len == 0 || memchr(data, '\0', len) != data + len - 1)
	{
		frame->bad = true;
		return "";
	}
	return data;
}

/* Everything was there, and nothing was left over. */
bool
wire_done(const WireFrame *frame)
{
	return !frame->bad && frame->pos == frame->len;
}

/* Read a count that must not pass its limit. */
static uint32_t
get_count(WireFrame *frame, uint32_t max)
{
	uint32_t	count = wire_get_u32(frame);

	if (count > max)
	{
		frame->bad = true;
		return 0;
	}
	return count;
}

void
wire_put_hello(WireBuffer *buf)
{
	wire_begin(buf, WIRE_HELLO, 0);
	wire_put_u32(buf, WIRE_VERSION);
	wire_end(buf);
}

bool
wire_get_hello(WireFrame *frame)
{
	uint32_t	version = wire_get_u32(frame);

	return wire_done(frame) && version == WIRE_VERSION;
}

void
wire_put_open(WireBuffer *buf, uint64_t job, const WireOpen *open)
{
	wire_begin(buf, WIRE_OPEN, job);
	wire_put_str(buf, open->path);
	wire_put_u32(buf, open->nroots);
	for (uint32_t i = 0; i < open->nroots; i++)
		wire_put_str(buf, open->roots[i]);
	wire_put_str(buf, open->format);
	wire_put_f64(buf, open->chunk_seconds);
	wire_put_u64(buf, open->max_chunk_bytes);
	wire_put_u32(buf, open->max_held);
	wire_put_u64(buf, open->max_source_bytes);
	wire_put_f64(buf, open->max_seconds);
	wire_put_u32(buf, open->require_sandbox);
	wire_put_u32(buf, open->keep_silence);
	wire_put_f64(buf, open->min_silence);
	wire_put_f64(buf, open->pad_before);
	wire_put_f64(buf, open->pad_after);
	wire_put_f64(buf, open->silence_threshold);
	wire_put_u32(buf, open->split_channels);
	wire_put_str(buf, open->done_of);
	wire_put_u32(buf, open->ndone);
	wire_put_bytes(buf, open->done, open->ndone * sizeof(WireStretch));
	wire_end(buf);
}

bool
wire_get_open(WireFrame *frame, WireOpen *open)
{
	size_t		len;

	memset(open, 0, sizeof(*open));
	open->path = wire_get_str(frame);
	open->nroots = get_count(frame, WIRE_MAX_ROOTS);
	for (uint32_t i = 0; i < open->nroots; i++)
		open->roots[i] = wire_get_str(frame);
	open->format = wire_get_str(frame);
	open->chunk_seconds = wire_get_f64(frame);
	open->max_chunk_bytes = wire_get_u64(frame);
	open->max_held = wire_get_u32(frame);
	open->max_source_bytes = wire_get_u64(frame);
	open->max_seconds = wire_get_f64(frame);
	open->require_sandbox = wire_get_u32(frame);
	open->keep_silence = wire_get_u32(frame);
	open->min_silence = wire_get_f64(frame);
	open->pad_before = wire_get_f64(frame);
	open->pad_after = wire_get_f64(frame);
	open->silence_threshold = wire_get_f64(frame);
	open->split_channels = wire_get_u32(frame);
	open->done_of = wire_get_str(frame);
	open->ndone = get_count(frame, WIRE_MAX_SPANS);
	open->done = wire_get_bytes(frame, &len);
	if (len != open->ndone * sizeof(WireStretch))
		frame->bad = true;
	return wire_done(frame);
}

void
wire_put_send(WireBuffer *buf, uint64_t job, const WireSend *send)
{
	wire_begin(buf, WIRE_SEND, job);
	wire_put_u32(buf, send->chunk_no);
	wire_put_u32(buf, send->request_no);
	wire_put_str(buf, send->url);
	wire_put_u32(buf, send->connect_timeout_ms);
	wire_put_u32(buf, send->timeout_ms);
	wire_put_u64(buf, send->max_response);
	wire_put_u32(buf, send->flags);
	wire_put_str(buf, send->ca_file);
	wire_put_str(buf, send->file_field);
	wire_put_u32(buf, send->nheaders);
	for (uint32_t i = 0; i < send->nheaders; i++)
		wire_put_str(buf, send->headers[i]);
	wire_put_u32(buf, send->nfields);
	for (uint32_t i = 0; i < send->nfields; i++)
	{
		wire_put_str(buf, send->fields[i].name);
		wire_put_str(buf, send->fields[i].value);
	}
	wire_end(buf);
}

bool
wire_get_send(WireFrame *frame, WireSend *send)
{
	memset(send, 0, sizeof(*send));
	send->chunk_no = wire_get_u32(frame);
	send->request_no = wire_get_u32(frame);
	send->url = wire_get_str(frame);
	send->connect_timeout_ms = wire_get_u32(frame);
	send->timeout_ms = wire_get_u32(frame);
	send->max_response = wire_get_u64(frame);
	send->flags = wire_get_u32(frame);
	send->ca_file = wire_get_str(frame);
	send->file_field = wire_get_str(frame);
	send->nheaders = get_count(frame, WIRE_MAX_HEADERS);
	for (uint32_t i = 0; i < send->nheaders; i++)
		send->headers[i] = wire_get_str(frame);
	send->nfields = get_count(frame, WIRE_MAX_FIELDS);
	for (uint32_t i = 0; i < send->nfields; i++)
	{
		send->fields[i].name = wire_get_str(frame);
		send->fields[i].value = wire_get_str(frame);
	}
	return wire_done(frame);
}

void
wire_put_source(WireBuffer *buf, uint64_t job, const WireSource *source)
{
	wire_begin(buf, WIRE_SOURCE, job);
	wire_put_str(buf, source->container);
	wire_put_str(buf, source->codec);
	wire_put_u32(buf, source->sample_rate);
	wire_put_u32(buf, source->channels);
	wire_put_u32(buf, source->streams);
	wire_put_f64(buf, source->duration);
	wire_put_u64(buf, source->size);
	wire_put_u64(buf, (uint64_t) source->mtime_ns);
	wire_put_u64(buf, source->device);
	wire_put_u64(buf, source->inode);
	wire_put_u32(buf, source->sandbox);
	wire_put_u32(buf, source->resumed);
	wire_end(buf);
}

bool
wire_get_source(WireFrame *frame, WireSource *source)
{
	memset(source, 0, sizeof(*source));
	source->container = wire_get_str(frame);
	source->codec = wire_get_str(frame);
	source->sample_rate = wire_get_u32(frame);
	source->channels = wire_get_u32(frame);
	source->streams = wire_get_u32(frame);
	source->duration = wire_get_f64(frame);
	source->size = wire_get_u64(frame);
	source->mtime_ns = (int64_t) wire_get_u64(frame);
	source->device = wire_get_u64(frame);
	source->inode = wire_get_u64(frame);
	source->sandbox = wire_get_u32(frame);
	source->resumed = wire_get_u32(frame);
	return wire_done(frame);
}

/* Spans go as pairs of f64; put takes an array of WireSpan as it stands. */
/*
 * All of a chunk's frame but the audio, which the caller sends after it: as
 * it may be large, it is not copied.
 */
void
wire_put_chunk_head(WireBuffer *buf, uint64_t job, const WireChunk *chunk)
{
	wire_begin(buf, WIRE_CHUNK, job);
	wire_put_u32(buf, chunk->chunk_no);
	wire_put_u32(buf, chunk->channel);
	wire_put_f64(buf, chunk->start);
	wire_put_f64(buf, chunk->end);
	wire_put_f64(buf, chunk->seconds);
	wire_put_f64(buf, chunk->loudness);
	wire_put_f64(buf, chunk->gain);
	wire_put_u32(buf, chunk->nspans);
	wire_put_bytes(buf, chunk->spans, chunk->nspans * sizeof(WireSpan));
	wire_put_str(buf, chunk->filename);
	wire_put_str(buf, chunk->content_type);
	wire_put_u64(buf, chunk->size);
	wire_put_u32(buf, (uint32_t) chunk->audio_len);
	end_with_tail(buf, chunk->audio_len);
}

void
wire_put_chunk(WireBuffer *buf, uint64_t job, const WireChunk *chunk)
{
	wire_put_chunk_head(buf, job, chunk);
	put_raw(buf, chunk->audio, chunk->audio_len);
}

bool
wire_get_chunk(WireFrame *frame, WireChunk *chunk)
{
	size_t		len;

	memset(chunk, 0, sizeof(*chunk));
	chunk->chunk_no = wire_get_u32(frame);
	chunk->channel = wire_get_u32(frame);
	chunk->start = wire_get_f64(frame);
	chunk->end = wire_get_f64(frame);
	chunk->seconds = wire_get_f64(frame);
	chunk->loudness = wire_get_f64(frame);
	chunk->gain = wire_get_f64(frame);
	chunk->nspans = get_count(frame, WIRE_MAX_SPANS);
	chunk->spans = wire_get_bytes(frame, &len);
	if (len != chunk->nspans * sizeof(WireSpan))
		frame->bad = true;
	chunk->filename = wire_get_str(frame);
	chunk->content_type = wire_get_str(frame);
	chunk->size = wire_get_u64(frame);
	chunk->audio = wire_get_bytes(frame, &chunk->audio_len);
	return wire_done(frame);
}

/*
 * What tells a file from any other, and from itself once it has been changed:
 * for comparing, and for keeping.
 */
void
wire_identity(const WireSource *source, char identity[WIRE_IDENTITY_SIZE])
{
	snprintf(identity, WIRE_IDENTITY_SIZE, "%llx-%llx-%llx-%llx",
			 (unsigned long long) source->device,
			 (unsigned long long) source->inode,
			 (unsigned long long) source->size,
			 (unsigned long long) source->mtime_ns);
}

/*
 * Back-pressure: whether a recording that holds so many finished chunks may
 * bring another one, where all recordings of the agent hold so many bytes.
 * Agent and worker ask the same question, the one to let a media child go on,
 * the other to know whether it does.
 *
 * What can be sent at the same time and one chunk ahead is enough for one
 * recording.  One that holds none may always bring one, so that a full memory
 * slows down but never locks up.
 */
bool
wire_may_bring(uint32_t held, uint32_t max_held, uint64_t held_bytes)
{
	return held == 0 || (held < max_held && held_bytes < WIRE_MAX_HELD_BYTES);
}

/* The i-th stretch; the bytes need not be aligned. */
WireStretch
wire_stretch(const char *stretches, uint32_t i)
{
	WireStretch stretch;

	memcpy(&stretch, stretches + i * sizeof(stretch), sizeof(stretch));
	return stretch;
}

/* The i-th span; the bytes need not be aligned. */
WireSpan
wire_span(const char *spans, uint32_t i)
{
	WireSpan	span;

	memcpy(&span, spans + i * sizeof(span), sizeof(span));
	return span;
}

void
wire_put_end(WireBuffer *buf, uint64_t job, const WireEnd *end)
{
	wire_begin(buf, WIRE_END, job);
	wire_put_u32(buf, end->chunks);
	wire_put_f64(buf, end->duration);
	wire_put_f64(buf, end->kept);
	wire_put_f64(buf, end->missing);
	wire_put_f64(buf, end->loudness);
	wire_put_u32(buf, end->damaged);
	wire_put_str(buf, end->detail);
	wire_end(buf);
}

bool
wire_get_end(WireFrame *frame, WireEnd *end)
{
	memset(end, 0, sizeof(*end));
	end->chunks = wire_get_u32(frame);
	end->duration = wire_get_f64(frame);
	end->kept = wire_get_f64(frame);
	end->missing = wire_get_f64(frame);
	end->loudness = wire_get_f64(frame);
	end->damaged = wire_get_u32(frame);
	end->detail = wire_get_str(frame);
	return wire_done(frame);
}

void
wire_put_failed(WireBuffer *buf, uint64_t job, const WireFailed *failed)
{
	wire_begin(buf, WIRE_FAILED, job);
	wire_put_str(buf, failed->code);
	wire_put_str(buf, failed->message);
	wire_end(buf);
}

bool
wire_get_failed(WireFrame *frame, WireFailed *failed)
{
	memset(failed, 0, sizeof(*failed));
	failed->code = wire_get_str(frame);
	failed->message = wire_get_str(frame);
	return wire_done(frame);
}

/* The same in an answer and where none came. */
static void
put_reach(WireBuffer *buf, const WireReach *reach)
{
	wire_put_str(buf, reach->address);
	wire_put_f64(buf, reach->resolved);
	wire_put_f64(buf, reach->connected);
	wire_put_f64(buf, reach->secured);
}

static void
get_reach(WireFrame *frame, WireReach *reach)
{
	reach->address = wire_get_str(frame);
	reach->resolved = wire_get_f64(frame);
	reach->connected = wire_get_f64(frame);
	reach->secured = wire_get_f64(frame);
}

void
wire_put_response(WireBuffer *buf, uint64_t job, const WireResponse *response)
{
	wire_begin(buf, WIRE_RESPONSE, job);
	wire_put_u32(buf, response->chunk_no);
	wire_put_u32(buf, response->request_no);
	wire_put_u32(buf, response->status);
	wire_put_str(buf, response->content_type);
	wire_put_u64(buf, (uint64_t) response->retry_after_ms);
	wire_put_u32(buf, response->should_retry);
	wire_put_str(buf, response->request_id);
	wire_put_f64(buf, response->seconds);
	wire_put_u64(buf, response->sent);
	put_reach(buf, &response->reach);
	wire_put_bytes(buf, response->body, response->body_len);
	wire_end(buf);
}

bool
wire_get_response(WireFrame *frame, WireResponse *response)
{
	memset(response, 0, sizeof(*response));
	response->chunk_no = wire_get_u32(frame);
	response->request_no = wire_get_u32(frame);
	response->status = wire_get_u32(frame);
	response->content_type = wire_get_str(frame);
	response->retry_after_ms = (int64_t) wire_get_u64(frame);
	response->should_retry = wire_get_u32(frame);
	response->request_id = wire_get_str(frame);
	response->seconds = wire_get_f64(frame);
	response->sent = wire_get_u64(frame);
	get_reach(frame, &response->reach);
	response->body = wire_get_bytes(frame, &response->body_len);
	return wire_done(frame);
}

void
wire_put_request_failed(WireBuffer *buf, uint64_t job,
						const WireRequestFailed *failed)
{
	wire_begin(buf, WIRE_REQUEST_FAILED, job);
	wire_put_u32(buf, failed->chunk_no);
	wire_put_u32(buf, failed->request_no);
	wire_put_str(buf, failed->code);
	wire_put_str(buf, failed->message);
	wire_put_u32(buf, failed->retry);
	wire_put_f64(buf, failed->seconds);
	wire_put_u64(buf, failed->sent);
	put_reach(buf, &failed->reach);
	wire_end(buf);
}

bool
wire_get_request_failed(WireFrame *frame, WireRequestFailed *failed)
{
	memset(failed, 0, sizeof(*failed));
	failed->chunk_no = wire_get_u32(frame);
	failed->request_no = wire_get_u32(frame);
	failed->code = wire_get_str(frame);
	failed->message = wire_get_str(frame);
	failed->retry = wire_get_u32(frame);
	failed->seconds = wire_get_f64(frame);
	failed->sent = wire_get_u64(frame);
	get_reach(frame, &failed->reach);
	return wire_done(frame);
}
