/*-------------------------------------------------------------------------
 *
 * relay.h
 *	  The media side of one recording: its child, its frames, its chunks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_AGENT_RELAY_H
#define TRANSCRIBE_AGENT_RELAY_H

#include "agent/child.h"
#include "agent/http.h"

/* A finished chunk, kept until the worker releases it. */
typedef struct Chunk
{
	HttpAudio	audio;			/* its bytes are data */
	bool		released;		/* freed when no transfer reads it any more */
	struct Chunk *next;
	char		data[];
} Chunk;

/* What the child may say next. */
typedef enum RelayStage
{
	RELAY_HELLO,				/* HELLO */
	RELAY_SOURCE,				/* SOURCE or FAILED */
	RELAY_CHUNKS				/* DECODED, CHUNK, END or FAILED */
} RelayStage;

typedef struct Relay
{
	uint64_t	job;			/* ours: what the child says is not believed */
	Child	   *child;			/* NULL: END or FAILED was reported */
	RelayStage	stage;
	int			slot;			/* of http_watch(); -1: not watched */
	WireBuffer	in;				/* from the child */
	WireBuffer	out;			/* to it */
	size_t		max_frame;		/* longest frame that is waited for */
	uint32_t	nchunks;		/* seen; the next one's number */
	uint32_t	held;			/* in chunks, */
	uint32_t	max_held;		/* and how many may be */
	Chunk	   *chunks;
} Relay;

extern void relay_start(WireBuffer *out);
extern void relay_open(Relay *relay, const WireOpen *open);
extern void relay_watch(Relay *relay);
extern void relay_turn(Relay *relay);
extern Chunk *relay_chunk(const Relay *relay, uint32_t chunk_no);
extern void relay_sweep(Relay *relay);
extern void relay_drop(Relay *relay);

#endif							/* TRANSCRIBE_AGENT_RELAY_H */
