/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  Every statement of the worker on the tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_QUEUE_H
#define TRANSCRIBE_QUEUE_H

#include "postgres.h"

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "worker/claim.h"
#include "worker/job.h"

/* A segment of an answer, as it is saved; texts are UTF-8. */
typedef struct QueueSegment
{
	Job		   *job;
	JobChunk   *chunk;
	ResponseSegment *answer;	/* its text and its marks */
	int			n;				/* its position in the chunk, from 0 */
	double		start;			/* seconds of the recording */
	double		end;
	const char *words;			/* JSON, or NULL */
	const char *language;		/* of the text, or NULL */
} QueueSegment;

/* Transactions. */
extern void queue_begin_transaction(bool durable);
extern void queue_commit(void);
extern void queue_abort(void);
extern bool queue_find_extension(void);
extern bool queue_serves_extension(void);

/* Statements, inside a transaction. */
extern void queue_rescue(int64 incarnation, List *jobs);
extern List *queue_waiting(List *known);
extern List *queue_claim(int64 incarnation, List *groups);
extern bool queue_has_prepared(void);
extern List *queue_lost(int64 incarnation, List *jobs);
extern void queue_give_back(int64 incarnation, List *jobs);
extern int64 queue_purge(TimestampTz failed_before,
						 TimestampTz completed_before, int max_jobs);
extern void queue_oldest(TimestampTz *failed, TimestampTz *completed);

/* The same for all jobs of a list by id.  What saves comes after queue_hold(). */
extern List *queue_by_id(List *jobs);
extern List *queue_hold(int64 incarnation, List *jobs);
extern void queue_start_over(int64 incarnation, List *jobs);
extern void queue_transcribing(int64 incarnation, List *jobs);
extern void queue_save_chunks(List *jobs);
extern void queue_save_segments(List *segments);
extern void queue_save_progress(int64 incarnation, List *jobs);
extern void queue_save_attempts(List *jobs);
extern void queue_complete(int64 incarnation, List *jobs);
extern void queue_fail(int64 incarnation, List *jobs);

/* Recordings that stand in the database. */
extern bytea *queue_piece(int64 job_id, int piece_no);
extern int64 queue_forget_recordings(int64 first_job, int64 last_job,
									 int max_pieces);

extern void queue_notify(int64 job_id, const char *status);

#endif							/* TRANSCRIBE_QUEUE_H */
