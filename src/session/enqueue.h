/*-------------------------------------------------------------------------
 *
 * enqueue.h
 *	  A recording goes into the queue, for all the ways that lead there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ENQUEUE_H
#define TRANSCRIBE_ENQUEUE_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "session/recording.h"

/* What jobs are enqueued with, beside their recordings. */
typedef struct EnqueueTerms
{
	Oid			caller;
	char	   *servers;		/* as they are stored */
	int32		priority;
	TimestampTz run_at;
	Jsonb	   *options;
	int			max_attempts;
	char	   *on_complete;	/* function to be called, or NULL */
} EnqueueTerms;

extern void enqueue_terms(EnqueueTerms *terms, const char *servers,
						  int32 priority, TimestampTz run_at, Jsonb *options);
extern void enqueue_check_session(text *session_id);
extern int64 enqueue_insert(FunctionCallInfo fcinfo, const EnqueueTerms *terms,
							text *session_id, const Recording *recording);

#endif							/* TRANSCRIBE_ENQUEUE_H */
