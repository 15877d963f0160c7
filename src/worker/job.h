/*-------------------------------------------------------------------------
 *
 * job.h
 *	  One job in flight.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_JOB_H
#define TRANSCRIBE_JOB_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "shared/server.h"
#include "shared/state.h"
#include "wire/wire.h"
#include "worker/response.h"

/*
 * The life of a claim.  job_set_state() in job.c is the only door between
 * states, and the list of those who may pass:
 *
 *	  WAITING -> PREPROCESSING -> TRANSCRIBING -> ENDING -> ENDED
 *
 * and from each of the first three to ENDING (it failed) or ENDED (the claim
 * was lost, or is given back); and from PREPROCESSING and TRANSCRIBING back to
 * WAITING, where the recording has to be cut into smaller chunks.
 */
typedef enum JobState
{
	JOB_WAITING,				/* for a free media process */
	JOB_PREPROCESSING,			/* the recording is read, nothing was sent */
	JOB_TRANSCRIBING,			/* a first request was sent */
	JOB_ENDING,					/* done or failed; its row does not say so yet */
	JOB_ENDED					/* nothing more to do; to be freed */
} JobState;

typedef enum ChunkState
{
	CHUNK_READY,				/* waits to be sent */
	CHUNK_SENT,					/* waits for an answer */
	CHUNK_ANSWERED,				/* the answer waits to be saved */
	CHUNK_SAVED
} ChunkState;

typedef struct JobChunk
{
	uint32		chunk_no;		/* in this attempt, from 0 */
	uint32		channel;		/* of the recording, or WIRE_MIXED */
	ChunkState	state;
	double		start;			/* source seconds it accounts for */
	double		end;
	double		seconds;		/* of audio in it */
	double		loudness;		/* LUFS before correction */
	uint64		size;			/* bytes of its audio that the agent holds */
	WireSpan   *spans;
	int			nspans;
	uint32		request_no;		/* of the request that is under way */
	TimestampTz started;		/* when that was sent */
	const char *asked_format;	/* that it asks for */
	int64		deadline;		/* of the request, on the worker's clock */
	Response	response;		/* once answered */
} JobChunk;

/* Room for a hash of options, see plan.c. */
#define PLAN_HASH_SIZE	17

/* What is saved, by an earlier attempt or before the recording is cut again. */
typedef struct JobSaved
{
	int			chunk_no;
	WireStretch stretch;
	double		seconds;		/* of audio in it */
	double		loudness;		/* LUFS before correction */
	char	   *plan;
	char	   *server;			/* that answered */
} JobSaved;

/* The options a job was enqueued with, in UTF-8; NULL where not given. */
typedef struct JobOptions
{
	char	   *language;
	char	   *prompt;
	char	   *model;
	char	   *temperature;
	bool		words;
	bool		translate;
	char	   *channels;
} JobOptions;

/* How a job ends that does not complete. */
typedef struct JobFailure
{
	char	   *error;
	char	   *code;
	bool		retry;
	bool		charge;			/* it counts as an attempt */
	bool		crashed;		/* it counts as a crash */
	int64		delay;			/* milliseconds until the retry */
} JobFailure;

typedef struct Job
{
	/* from its row; fixed */
	int64		id;
	char	   *path;			/* or what else the recording is, see
								 * shared/recording.h */
	char	   *owner;
	char	   *servers;		/* one name, or a list */
	char	   *served_by;		/* server of the last attempt, if that failed */
	JobOptions	options;
	int			attempts;
	int			max_attempts;
	int			row_progress;
	TimestampTz run_at;
	int			priority;
	List	   *saved;			/* of JobSaved, by channel and time */

	/* found when it was claimed */
	Oid			owner_oid;
	TranscribeServer server;	/* its texts in UTF-8 */
	char	   *api_key;		/* or NULL; wiped when the job is freed */
	char	   *api_key_file;	/* or NULL: api_key is read from it */
	TranscribeKey key;			/* whose it is */
	bool		held;			/* it is counted as a job of the server */
	bool		alternatives;	/* it might go to another server, */
	bool		last_server;	/* which does not come later in the list */
	char		plan_hash[PLAN_HASH_SIZE];	/* of what its text depends on */
	bool		any_file;		/* the owner may read any file of the server */

	/* the attempt */
	MemoryContext context;		/* holds all of this */
	uint64		tag;			/* on the wire: no other reading ever has it */
	JobState	state;
	StateProgress *progress;
	char		note[STATE_MESSAGE_SIZE];	/* what is being done, for people */
	int			chunk_seconds;	/* longest chunk that was asked for */
	struct JobFile *file;		/* that the recording was brought to; or NULL */
	bool		media_running;
	bool		media_ended;
	bool		cuts_again;		/* smaller, once nothing is under way */
	bool		starts_over;	/* what is saved has to be forgotten first */
	bool		begun;			/* answers may be saved */
	bool		asked;			/* a request was sent */
	bool		noted_transcribing; /* the row says so, */
	int64		note_after;		/* or shall from then on */
	int64		last_frame;		/* when media was last heard of */
	TimestampTz opened;			/* when its reading began */
	int64		last_check;		/* when it was last looked at, */
	int64		media_time;		/* and how long it was busy until then, in ms */
	WireSource	source;			/* its strings live in context */
	char		plan[WIRE_IDENTITY_SIZE + PLAN_HASH_SIZE];	/* identity/hash */
	double		decoded;		/* seconds read so far */
	WireEnd		end;			/* once media_ended */
	char	   *language;		/* as the first answer told it */
	List	   *chunks;			/* of JobChunk, in order */
	int			requests;		/* that are under way */
	TimestampTz last_sent;		/* when the last of them was sent */
	uint32		last_request;	/* number of the newest; 0: none was made */
	List	   *ended_requests; /* of AttemptRequest: not yet written */
	JobFailure *failure;		/* NULL in JOB_ENDING: it completes */

	/* writing to the row */
	int64		write_after;	/* after an error, not before */
	int			write_errors;
	bool		write_lost;		/* a statement found the claim lost */
	const char *write_status;	/* the status that the row now has */
} Job;

/* What a job of the worker's list needs from it. */
extern Job *job_create(int64 id);
extern void job_free(Job *job);
extern void job_set_state(Job *job, JobState state);
extern void job_open(Job *job);
extern void job_cut_again(Job *job);
extern void job_handle_frame(Job *job, WireFrame *frame);
extern JobChunk *job_ready_chunk(Job *job);
extern void job_send_chunk(Job *job, JobChunk *chunk);
extern void job_fail(Job *job, const char *code, bool retry, bool charge,
					 int64 retry_after, const char *fmt,...) pg_attribute_printf(6, 7);
extern void job_agent_died(Job *job, const char *how);
extern void job_await_restart(Job *job, const char *program);
extern bool job_awaits_restart(Job *job);
extern void job_drop(Job *job);
extern void job_check_deadlines(Job *job, int64 now);
extern bool job_wants_write(Job *job, int64 now);
extern bool job_notes_transcribing(Job *job, int64 now);
extern bool job_wants_durable_write(Job *job);
extern bool job_all_answered(Job *job);
extern bool job_has_answers(Job *job);
extern List *job_answered_chunks(Job *job);
extern bool job_has_saved(Job *job);
extern void job_measure(Job *job, double *seconds, double *loudness);
extern void job_written(Job *job);
extern int	job_saved_number(Job *job, uint32 chunk_no);
extern bool job_goes_before(Job *job, Job *other);
extern bool job_media_busy(Job *job);
extern bool job_memory_full(void);
extern uint64 job_held_bytes(void);
extern bool job_give_way(Job *job);
extern void job_stop_server(Job *job, const char *code, const char *reason);
extern void job_note(Job *job, const char *fmt,...) pg_attribute_printf(2, 3);

#endif							/* TRANSCRIBE_JOB_H */
