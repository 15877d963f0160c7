/*-------------------------------------------------------------------------
 *
 * wire.h
 *	  The frames between worker, agent and media child.
 *
 * One header and one encoding for all three processes, over stream sockets
 * of one machine.  A frame is a fixed header (payload length, type, job) and
 * a payload of fields in the order that the table below gives.  Numbers are
 * in the machine's own byte order: both ends are installed together, and a
 * first HELLO frame with WIRE_VERSION says when they were not.  Therefore the
 * header and HELLO are the same in all versions, and whatever else changes
 * raises WIRE_VERSION.
 *
 * This code is linked into a background worker as well as into plain
 * programs.  It therefore knows neither palloc nor ereport: it allocates
 * with malloc and remembers failure.  Readers treat the other side as
 * hostile: every length is checked against the frame, and the frame against
 * WIRE_MAX_PAYLOAD.  A field that is not there reads as zero or as an empty
 * string and marks the frame bad, so that a whole struct can be read and
 * judged once, with wire_done().
 *
 *	  frame			  from -> to				  fields
 *	  ------------------------------------------------------------------
 *	  HELLO			  each side, first			  u32 WIRE_VERSION
 *	  OPEN			  worker -> agent -> media	  WireOpen
 *	  SEND			  worker -> agent			  WireSend
 *	  RELEASE		  worker -> agent			  u32 chunk_no
 *	  DROP			  worker -> agent			  none
 *	  SOURCE		  media -> agent -> worker	  WireSource
 *	  DECODED		  media -> agent -> worker	  f64 seconds decoded so far
 *	  CHUNK			  media -> agent -> worker	  WireChunk
 *	  END			  media -> agent -> worker	  WireEnd
 *	  FAILED		  media -> agent -> worker	  WireFailed
 *	  UPLOADED		  agent -> worker			  u32 chunk_no, u64 sent, u64 total
 *	  RESPONSE		  agent -> worker			  WireResponse
 *	  REQUEST_FAILED  agent -> worker			  WireRequestFailed
 *
 * A job that was opened ends with exactly one END or FAILED from the media
 * side, unless it is dropped before; each SEND is answered by exactly one
 * RESPONSE or REQUEST_FAILED, unless its job is dropped before.  After DROP
 * the agent says nothing more of that job.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_WIRE_H
#define TRANSCRIBE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION		7
#define WIRE_HEADER_SIZE	16

/*
 * The largest payload either side accepts.  It bounds an encoded chunk
 * (WAV at 16 kHz is 32,000 bytes a second, so half an hour of it fits) and
 * an HTTP response, whose own limit is lower.
 */
#define WIRE_MAX_PAYLOAD	(64 * 1024 * 1024)

/* Upper bounds of repeated fields, so that a count is never an allocation. */
#define WIRE_MAX_ROOTS		64
#define WIRE_MAX_HEADERS	16
#define WIRE_MAX_FIELDS		32
#define WIRE_MAX_SPANS		100000

/* Finished chunks of all recordings together, see wire_may_bring(). */
#define WIRE_MAX_HELD_BYTES	(UINT64_C(64) * 1024 * 1024)

typedef enum WireType
{
	WIRE_HELLO = 1,
	WIRE_OPEN,
	WIRE_SEND,
	WIRE_RELEASE,
	WIRE_DROP,
	WIRE_SOURCE,
	WIRE_DECODED,
	WIRE_CHUNK,
	WIRE_END,
	WIRE_FAILED,
	WIRE_UPLOADED,
	WIRE_RESPONSE,
	WIRE_REQUEST_FAILED
} WireType;

/* An output buffer that grows; frames are appended, bytes taken from start. */
typedef struct WireBuffer
{
	char	   *data;
	size_t		start;			/* first byte not yet written out or read */
	size_t		len;			/* end of the bytes held */
	size_t		size;			/* bytes allocated */
	size_t		frame;			/* where the frame being built begins */
	bool		failed;			/* out of memory, or a frame too long */
} WireBuffer;

/* A frame being read.  Strings point into the buffer it was read from. */
typedef struct WireFrame
{
	uint16_t	type;
	uint64_t	job;
	const char *payload;
	size_t		len;
	size_t		pos;
	bool		bad;			/* a field was missing or malformed */
} WireFrame;

/* A stretch of the source recording that is part of a chunk, in seconds. */
typedef struct WireSpan
{
	double		start;
	double		length;
} WireSpan;

/* A stretch of a recording whose text is saved, on one channel or mixed. */
typedef struct WireStretch
{
	double		start;
	double		end;
	uint64_t	channel;
} WireStretch;

/* A name and a value: a form field. */
typedef struct WirePair
{
	const char *name;
	const char *value;
} WirePair;

/* What to prepare, and how. */
typedef struct WireOpen
{
	const char *path;			/* absolute */
	uint32_t	nroots;			/* 0: any regular file may be read */
	const char *roots[WIRE_MAX_ROOTS];	/* else only below one of these */
	const char *format;			/* mp3, flac, opus or wav */
	double		chunk_seconds;	/* longest chunk, after silence is cut */
	uint64_t	max_chunk_bytes;	/* largest encoded chunk */
	uint32_t	max_held;		/* finished chunks that may wait or be sent */
	uint64_t	max_source_bytes;	/* largest file; 0: no limit */
	double		max_seconds;	/* longest recording, as decoded; 0: no limit */
	uint32_t	require_sandbox;	/* 1: without all its layers, do not read */
	uint32_t	keep_silence;	/* 1: send all of what is not silent throughout */
	double		min_silence;	/* seconds: longer ones are cut down, */
	double		pad_before;		/* to so much before speech, */
	double		pad_after;		/* and after it */
	double		silence_threshold;	/* dBFS; 0: by the noise floor */
	uint32_t	split_channels; /* 1: a stream for each channel, not mixed */
	const char *done_of;		/* wire_identity() of what is done in part */
	uint32_t	ndone;			/* stretches that are, by time on each channel */
	const char *done;			/* read with wire_stretch() */
} WireOpen;

/* The layers of the media process's sandbox, as bits; see media/sandbox.h. */
#define WIRE_SANDBOX_LIMITS		0x01	/* resource limits */
#define WIRE_SANDBOX_LANDLOCK	0x02	/* no file may be opened */
#define WIRE_SANDBOX_SECCOMP	0x04	/* system calls are filtered */
#define WIRE_SANDBOX_ALL		0x07

/* What was found when the recording was opened. */
typedef struct WireSource
{
	const char *container;		/* FFmpeg's short name */
	const char *codec;
	uint32_t	sample_rate;
	uint32_t	channels;
	uint32_t	streams;		/* that are cut and sent: 1, or as channels */
	double		duration;		/* as the container claims; -1: unknown */
	uint64_t	size;			/* identity of the file: size, */
	int64_t		mtime_ns;		/* time of change, */
	uint64_t	device;			/* device */
	uint64_t	inode;			/* and inode */
	uint32_t	sandbox;		/* layers that hold, see above */
	uint32_t	resumed;		/* 1: what is done is left out */
} WireSource;

/* Room for wire_identity(). */
#define WIRE_IDENTITY_SIZE	80

/* The channel of a chunk that is of all of them. */
#define WIRE_MIXED		UINT32_MAX

/* A finished chunk. */
typedef struct WireChunk
{
	uint32_t	chunk_no;		/* from 0, in the order of being cut */
	uint32_t	channel;		/* of the recording, from 0; or WIRE_MIXED */
	double		start;			/* the source's seconds that it accounts for, */
	double		end;			/* silence left out included */
	double		seconds;		/* of audio in it */
	double		loudness;		/* LUFS before correction */
	double		gain;			/* dB applied */
	uint32_t	nspans;			/* spans of the source, in order */
	const char *spans;			/* read with wire_span() */
	const char *filename;		/* as servers accept it: audio.mp3 */
	const char *content_type;
	uint64_t	size;			/* of the encoded audio */
	const char *audio;			/* the bytes; none from agent to worker */
	size_t		audio_len;
} WireChunk;

/* The recording has been read to its end. */
typedef struct WireEnd
{
	uint32_t	chunks;
	double		duration;		/* seconds decoded */
	double		kept;			/* seconds that are in chunks */
	double		missing;		/* seconds not there; -1: not known, or none */
	double		loudness;		/* LUFS of what was kept; 0 if nothing was */
	uint32_t	damaged;		/* 1: some of it could not be decoded */
	const char *detail;			/* what was damaged, or empty */
} WireEnd;

/* The recording cannot be prepared: see media/failure codes in media.h. */
typedef struct WireFailed
{
	const char *code;
	const char *message;
} WireFailed;

/* A request: one chunk to one server. */
#define WIRE_SEND_LINK_LOCAL	0x01	/* link-local addresses are allowed */
#define WIRE_SEND_STAY_HERE		0x02	/* only to the loopback: a key in clear */

typedef struct WireSend
{
	uint32_t	chunk_no;
	uint32_t	request_no;		/* comes back in the answer */
	const char *url;
	uint32_t	connect_timeout_ms;
	uint32_t	timeout_ms;
	uint64_t	max_response;	/* bytes */
	uint32_t	flags;
	const char *ca_file;		/* certificates to trust; empty: the system's */
	const char *file_field;		/* name of the part that carries the audio */
	uint32_t	nheaders;
	const char *headers[WIRE_MAX_HEADERS];	/* whole lines; may hold a key */
	uint32_t	nfields;
	WirePair	fields[WIRE_MAX_FIELDS];
} WireSend;

/* What a server says itself about trying again. */
typedef enum WireAdvice
{
	WIRE_ADVICE_NONE,
	WIRE_ADVICE_RETRY,
	WIRE_ADVICE_STOP
} WireAdvice;

/* How far a request got: seconds from its start, 0 where it did not get to. */
typedef struct WireReach
{
	const char *address;		/* connected to, or tried last; or empty */
	double		resolved;		/* the host's name had an address */
	double		connected;
	double		secured;		/* TLS was agreed upon */
} WireReach;

/* The server answered. */
typedef struct WireResponse
{
	uint32_t	chunk_no;
	uint32_t	request_no;
	uint32_t	status;			/* of HTTP */
	const char *content_type;
	int64_t		retry_after_ms; /* -1: not said */
	uint32_t	should_retry;	/* a WireAdvice */
	const char *request_id;		/* the server's, or empty */
	double		seconds;		/* from start to end of the transfer */
	uint64_t	sent;			/* bytes */
	WireReach	reach;
	const char *body;			/* not terminated */
	size_t		body_len;
} WireResponse;

/* It did not. */
typedef struct WireRequestFailed
{
	uint32_t	chunk_no;
	uint32_t	request_no;
	const char *code;			/* see agent/http.c */
	const char *message;		/* in which phase, and libcurl's words */
	uint32_t	retry;			/* 1: trying again may help */
	double		seconds;
	uint64_t	sent;
	WireReach	reach;
} WireRequestFailed;

/* Writing.  Between begin and end come the puts; errors stick to the buffer. */
extern void wire_begin(WireBuffer *buf, WireType type, uint64_t job);
extern void wire_put_u32(WireBuffer *buf, uint32_t value);
extern void wire_put_u64(WireBuffer *buf, uint64_t value);
extern void wire_put_f64(WireBuffer *buf, double value);
extern void wire_put_bytes(WireBuffer *buf, const char *data, size_t len);
extern void wire_put_str(WireBuffer *buf, const char *value);
extern void wire_end(WireBuffer *buf);

/* Buffers: room to receive into, bytes taken out, freed (and wiped). */
extern char *wire_room(WireBuffer *buf, size_t len);
extern void wire_received(WireBuffer *buf, size_t len);
extern void wire_consumed(WireBuffer *buf, size_t len);
extern size_t wire_pending(const WireBuffer *buf);
extern void wire_free(WireBuffer *buf);

/* Reading: 1 a frame was read, 0 more bytes are needed, -1 it is no frame. */
extern int	wire_next(WireBuffer *buf, WireFrame *frame);
extern uint32_t wire_get_u32(WireFrame *frame);
extern uint64_t wire_get_u64(WireFrame *frame);
extern double wire_get_f64(WireFrame *frame);
extern const char *wire_get_bytes(WireFrame *frame, size_t *len);
extern const char *wire_get_str(WireFrame *frame);
extern bool wire_done(const WireFrame *frame);

/* Whole frames.  The get functions return wire_done(). */
extern void wire_put_hello(WireBuffer *buf);
extern bool wire_get_hello(WireFrame *frame);
extern void wire_put_open(WireBuffer *buf, uint64_t job, const WireOpen *open);
extern bool wire_get_open(WireFrame *frame, WireOpen *open);
extern void wire_put_send(WireBuffer *buf, uint64_t job, const WireSend *send);
extern bool wire_get_send(WireFrame *frame, WireSend *send);
extern void wire_put_source(WireBuffer *buf, uint64_t job,
							const WireSource *source);
extern bool wire_get_source(WireFrame *frame, WireSource *source);
extern void wire_put_chunk_head(WireBuffer *buf, uint64_t job,
								const WireChunk *chunk);
extern void wire_put_chunk(WireBuffer *buf, uint64_t job,
						   const WireChunk *chunk);
extern bool wire_get_chunk(WireFrame *frame, WireChunk *chunk);
extern bool wire_may_bring(uint32_t held, uint32_t max_held,
						   uint64_t held_bytes);
extern WireStretch wire_stretch(const char *stretches, uint32_t i);
extern void wire_identity(const WireSource *source,
						  char identity[WIRE_IDENTITY_SIZE]);
extern WireSpan wire_span(const char *spans, uint32_t i);
extern void wire_put_end(WireBuffer *buf, uint64_t job, const WireEnd *end);
extern bool wire_get_end(WireFrame *frame, WireEnd *end);
extern void wire_put_failed(WireBuffer *buf, uint64_t job,
							const WireFailed *failed);
extern bool wire_get_failed(WireFrame *frame, WireFailed *failed);
extern void wire_put_response(WireBuffer *buf, uint64_t job,
							  const WireResponse *response);
extern bool wire_get_response(WireFrame *frame, WireResponse *response);
extern void wire_put_request_failed(WireBuffer *buf, uint64_t job,
									const WireRequestFailed *failed);
extern bool wire_get_request_failed(WireFrame *frame,
									WireRequestFailed *failed);

#endif							/* TRANSCRIBE_WIRE_H */
