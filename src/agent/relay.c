/*-------------------------------------------------------------------------
 *
 * relay.c
 *	  The media side of one recording: its child, its frames, its chunks.
 *
 * Runs in the agent.  The child has read hostile bytes and may be under
 * somebody else's control.  So each of its frames is decoded, checked and
 * encoded again; it must come in its turn; the job's number is ours; and a
 * child that breaks a rule is killed, its job failed.  Nothing that it can
 * send reaches another job.
 *
 * Exactly one END or FAILED is reported for each recording.  With it the
 * conversation is over: what the child may still send is never read.
 *
 * The codes of FAILED that come from here, beside those of the child:
 *
 *	  media_unavailable	no media process could be started
 *	  media_crashed		it ended before it had finished
 *	  media_failed		it said something that it must not say
 *	  other_version		it is not of the same version as we are
 *	  out_of_memory		a chunk could not be kept
 *
 * Back-pressure: a child is not read, and so waits in its next write, while
 * wire_may_bring() says so, or while the worker does not take its frames.
 * Memory is thus bounded by WIRE_MAX_HELD_BYTES and one chunk for each
 * recording, twice while it is copied.
 *
 *-------------------------------------------------------------------------
 */
#include "agent/relay.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/agent.h"

/* Read at once: a little more than a socket's buffer usually holds. */
#define READ_SIZE			(256 * 1024)

/*
 * What a frame may be longer than its audio: the largest number of spans
 * takes 1.6 MB, strings some kB.
 */
#define FRAME_SLACK			(2 * 1024 * 1024)

/* Longest strings taken from a child; a message may hold a whole path. */
#define MAX_NAME			128
#define MAX_MESSAGE			8192

static WireBuffer *out;			/* to the worker */
static size_t held_bytes;		/* of all recordings' chunks */

/* Frames go to the worker's buffer. */
void
relay_start(WireBuffer *worker)
{
	out = worker;
}

/* The conversation is over, after END or FAILED. */
static void
finish(Relay *relay)
{
	if (relay->child != NULL)
		child_release(relay->child);
	relay->child = NULL;
	wire_free(&relay->in);
	wire_free(&relay->out);
}

/* Report a failure that is not the child's own word. */
static void
fail(Relay *relay, const char *code, const char *message)
{
	WireFailed	failed = {.code = code, .message = message};

	wire_put_failed(out, relay->job, &failed);
	if (relay->child != NULL)
		child_kill(relay->child);
	finish(relay);
}

/*
 * Begin with a recording: hand it to the waiting child.  The child answers
 * later; that there is none is reported at once.
 */
void
relay_open(Relay *relay, const WireOpen *open)
{
	char		message[160];

	relay->slot = -1;
	relay->max_held = open->max_held;
	relay->max_frame = open->max_chunk_bytes < WIRE_MAX_PAYLOAD ?
		(size_t) open->max_chunk_bytes + FRAME_SLACK : WIRE_MAX_PAYLOAD;
	relay->child = child_take();
	if (relay->child == NULL)
	{
		snprintf(message, sizeof(message),
				 "could not start media process: %s", strerror(errno));
		fail(relay, "media_unavailable", message);
		return;
	}
	wire_put_hello(&relay->out);
	wire_put_open(&relay->out, relay->job, open);
	if (relay->out.failed)
		fail(relay, "out_of_memory", "out of memory");
}

/* A short name of printable characters: it may go into a header of HTTP. */
static bool
is_name(const char *value, size_t max)
{
	size_t		len = strlen(value);

	for (size_t i = 0; i < len; i++)
	{
		if (value[i] < ' ' || value[i] > '~')
			return false;
	}
	return len > 0 && len <= max;
}

/* A text for people.  Its encoding is for the worker to see to. */
static bool
is_message(const char *value)
{
	return strlen(value) <= MAX_MESSAGE;
}

/* What was found; numbers must fit what the worker keeps them in. */
static bool
take_source(Relay *relay, WireFrame *frame)
{
	WireSource	source;

	if (!wire_get_source(frame, &source) ||
		!is_name(source.container, MAX_NAME) ||
		!is_name(source.codec, MAX_NAME) ||
		source.sample_rate > INT32_MAX || source.channels > INT32_MAX ||
		(source.duration < 0 && source.duration != -1) ||
		source.size > INT64_MAX)
		return false;
	wire_put_source(out, relay->job, &source);
	relay->stage = RELAY_CHUNKS;
	return true;
}

/* How far it is. */
static bool
take_decoded(Relay *relay, WireFrame *frame)
{
	double		decoded = wire_get_f64(frame);

	if (!wire_done(frame) || decoded < 0)
		return false;
	wire_begin(out, WIRE_DECODED, relay->job);
	wire_put_f64(out, decoded);
	wire_end(out);
	return true;
}

/* Finite, and in the order of the recording: times are mapped by them. */
static bool
spans_are_good(const WireChunk *chunk)
{
	double		at = 0;

	for (uint32_t i = 0; i < chunk->nspans; i++)
	{
		WireSpan	span = wire_span(chunk->spans, i);

		if (!isfinite(span.start) || !isfinite(span.length) ||
			span.start < at || span.length <= 0)
			return false;
		at = span.start;
	}
	return chunk->nspans > 0;
}

/* Keep the audio here; the worker gets everything else. */
static bool
take_chunk(Relay *relay, WireFrame *frame)
{
	WireChunk	chunk;
	Chunk	   *kept;

	if (!wire_get_chunk(frame, &chunk) || chunk.chunk_no != relay->nchunks ||
		chunk.start < 0 || chunk.end < chunk.start || chunk.seconds <= 0 ||
		!spans_are_good(&chunk) ||
		!is_name(chunk.filename, sizeof(kept->audio.filename) - 1) ||
		!is_name(chunk.content_type, sizeof(kept->audio.content_type) - 1) ||
		chunk.audio_len == 0 || chunk.size != chunk.audio_len)
		return false;

	kept = malloc(sizeof(Chunk) + chunk.audio_len);
	if (kept == NULL)
	{
		fail(relay, "out_of_memory", "out of memory");
		return true;
	}
	memset(kept, 0, sizeof(Chunk));
	memcpy(kept->data, chunk.audio, chunk.audio_len);
	kept->audio.chunk_no = chunk.chunk_no;
	kept->audio.data = kept->data;
	kept->audio.size = chunk.audio_len;
	strcpy(kept->audio.filename, chunk.filename);
	strcpy(kept->audio.content_type, chunk.content_type);
	kept->next = relay->chunks;
	relay->chunks = kept;
	relay->nchunks++;
	relay->held++;
	held_bytes += chunk.audio_len;

	chunk.audio_len = 0;
	wire_put_chunk(out, relay->job, &chunk);
	return true;
}

/* All is read.  Its count of the chunks must be ours. */
static bool
take_end(Relay *relay, WireFrame *frame)
{
	WireEnd		end;

	if (!wire_get_end(frame, &end) || end.chunks != relay->nchunks ||
		end.duration < 0 || end.kept < 0 || end.damaged > 1 ||
		(end.missing < 0 && end.missing != -1) ||
		!is_message(end.detail))
		return false;
	wire_put_end(out, relay->job, &end);
	finish(relay);
	return true;
}

/* It gives up, and says why. */
static bool
take_failed(Relay *relay, WireFrame *frame)
{
	WireFailed	failed;

	if (!wire_get_failed(frame, &failed) || !is_name(failed.code, MAX_NAME) ||
		!is_message(failed.message))
		return false;
	wire_put_failed(out, relay->job, &failed);
	finish(relay);
	return true;
}

/* Check and pass on one frame; false if it breaks a rule. */
static bool
take_frame(Relay *relay, WireFrame *frame)
{
	if (relay->stage == RELAY_HELLO)
	{
		relay->stage = RELAY_SOURCE;
		if (frame->type != WIRE_HELLO || !wire_get_hello(frame))
			fail(relay, "other_version",
				 "transcribe_media is of another version than transcribe_agent");
		return true;
	}
	if (frame->type == WIRE_FAILED)
		return take_failed(relay, frame);
	if (relay->stage == RELAY_SOURCE)
		return frame->type == WIRE_SOURCE && take_source(relay, frame);
	switch (frame->type)
	{
		case WIRE_DECODED:
			return take_decoded(relay, frame);
		case WIRE_CHUNK:
			return take_chunk(relay, frame);
		case WIRE_END:
			return take_end(relay, frame);
		default:
			return false;
	}
}

/* May this child say more, or has it to wait? */
static bool
may_read(const Relay *relay)
{
	return relay->child != NULL && wire_pending(out) <= AGENT_OUTPUT_HIGH &&
		wire_may_bring(relay->held, relay->max_held, held_bytes);
}

/*
 * Pass on the frames that have been received, as far as they may be.  When
 * the child has hung up and nothing whole is left, it has failed; why is
 * known as soon as it is reaped, or has been killed because it would not go.
 */
static void
take_frames(Relay *relay)
{
	WireFrame	frame = {0};
	char		message[128];

	while (may_read(relay))
	{
		int			found = wire_next(&relay->in, &frame);

		if (found > 0)
		{
			if (!take_frame(relay, &frame))
				found = -1;
			else if (relay->child != NULL)
				wire_consumed(&relay->in, WIRE_HEADER_SIZE + frame.len);
		}
		else if (found == 0 && wire_pending(&relay->in) > relay->max_frame)
			found = -1;
		if (found == 0)
			break;
		if (found < 0 && relay->in.failed)
			fail(relay, "out_of_memory", "out of memory");
		else if (found < 0)
		{
			snprintf(message, sizeof(message),
					 "media process sent an invalid message (type %u)",
					 frame.type);
			fail(relay, "media_failed", message);
		}
	}
	if (relay->child == NULL)
		return;
	if (relay->child->fd < 0 && may_read(relay) &&
		(relay->child->exited || relay->child->killed))
	{
		child_describe(relay->child, message, sizeof(message));
		fail(relay, relay->child->error != 0 ? "media_unavailable" :
			 "media_crashed", message);
	}
	else if (wire_pending(&relay->in) == 0)
		wire_free(&relay->in);	/* it may have grown to a chunk's size */
}

/*
 * Before the wait: pass on what may be passed on by now, then watch the
 * child's socket.  A child that is watched has no whole frame left in our
 * buffer, and one that is not watched waits for something that will end the
 * wait by itself; so nothing is ever forgotten.
 */
void
relay_watch(Relay *relay)
{
	take_frames(relay);
	relay->slot = -1;
	if (relay->child != NULL && relay->child->fd >= 0 && may_read(relay))
		relay->slot = http_watch(relay->child->fd, true,
								 wire_pending(&relay->out) > 0);
}

/* After the wait: write to the child and read from it, as far as it goes. */
void
relay_turn(Relay *relay)
{
	ssize_t		done;
	char	   *room;

	if (relay->slot < 0 || relay->child == NULL)
		return;
	if (wire_pending(&relay->out) > 0)
	{
		done = send(relay->child->fd, relay->out.data + relay->out.start,
					wire_pending(&relay->out), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (done > 0)
			wire_consumed(&relay->out, (size_t) done);
		else if (done < 0 && errno != EAGAIN && errno != EINTR)
			wire_free(&relay->out); /* it is gone: reading will tell */
	}
	if (!http_readable(relay->slot))
		return;
	room = wire_room(&relay->in, READ_SIZE);
	if (room != NULL)
	{
		done = recv(relay->child->fd, room, READ_SIZE, MSG_DONTWAIT);
		if (done > 0)
			wire_received(&relay->in, (size_t) done);
		else if (done == 0 || (errno != EAGAIN && errno != EINTR))
			child_hang_up(relay->child);
	}
	take_frames(relay);
}

/* The chunk of that number, if it is held and has not been released. */
Chunk *
relay_chunk(const Relay *relay, uint32_t chunk_no)
{
	Chunk	   *chunk = relay->chunks;

	while (chunk != NULL &&
		   (chunk->audio.chunk_no != chunk_no || chunk->released))
		chunk = chunk->next;
	return chunk;
}

/* Free the chunks that have been released and that no transfer reads. */
void
relay_sweep(Relay *relay)
{
	Chunk	  **link = &relay->chunks;

	while (*link != NULL)
	{
		Chunk	   *chunk = *link;

		if (chunk->released && chunk->audio.users == 0)
		{
			*link = chunk->next;
			held_bytes -= chunk->audio.size;
			relay->held--;
			free(chunk);
		}
		else
			link = &chunk->next;
	}
}

/* Forget it all, and say nothing.  Its transfers must have been dropped. */
void
relay_drop(Relay *relay)
{
	if (relay->child != NULL)
		child_kill(relay->child);
	finish(relay);
	for (Chunk *chunk = relay->chunks; chunk != NULL; chunk = chunk->next)
		chunk->released = true;
	relay_sweep(relay);
}
