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

/* Transactions. */
extern void queue_begin_transaction(bool durable);
extern void queue_commit(void);
extern void queue_abort(void);
extern bool queue_find_extension(void);

/* Statements, inside a transaction. */
extern void queue_rescue(int64 incarnation, List *jobs);
extern List *queue_waiting(void);
extern List *queue_claim(int64 incarnation, List *groups);
extern bool queue_has_prepared(void);
extern List *queue_lost(int64 incarnation, List *jobs);
extern void queue_give_back(int64 incarnation, List *jobs);
extern bool queue_start_over(int64 incarnation, Job *job);
extern bool queue_transcribing(int64 incarnation, Job *job);
extern bool queue_save_chunk(int64 incarnation, Job *job, JobChunk *chunk,
							 const char *segments);
extern void queue_save_attempts(Job *job);
extern bool queue_complete(int64 incarnation, Job *job, int chunks);
extern char *queue_fail(int64 incarnation, Job *job);
extern int64 queue_purge(TimestampTz failed_before,
						 TimestampTz completed_before, int max_jobs);
extern void queue_oldest(TimestampTz *failed, TimestampTz *completed);
extern void queue_notify(int64 job_id, const char *status);

#endif							/* TRANSCRIBE_QUEUE_H */
