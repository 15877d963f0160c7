/*-------------------------------------------------------------------------
 *
 * attempts.h
 *	  The history of a job's requests, for transcribe_attempts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ATTEMPTS_H
#define TRANSCRIBE_ATTEMPTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

/* A request that has ended, until that is written; texts are UTF-8. */
typedef struct AttemptRequest
{
	int			attempt;		/* of the job, from 1 */
	int			chunk_no;		/* as it is saved */
	const char *server;
	const char *model;			/* or NULL */
	TimestampTz started;
	double		elapsed;		/* seconds */
	double		audio;			/* likewise */
	uint64		sent;			/* bytes */
	int			status;			/* of HTTP; 0: no answer came */
	const char *code;			/* what was wrong, or NULL */
	const char *error;
	const char *request_id;		/* the server's; may be empty */
	const char *usage;			/* JSON, or NULL */
} AttemptRequest;

extern void attempts_append(StringInfo json, int64 job_id,
							const AttemptRequest *request);

#endif							/* TRANSCRIBE_ATTEMPTS_H */
