/*-------------------------------------------------------------------------
 *
 * attempts.h
 *	  The history of a job's requests, for transcribe_attempts.
 *
 * A request is written when it has ended, with whatever else there is to write
 * of its job then.  One that is broken off, because the job was cancelled or the
 * worker has to go, leaves no row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ATTEMPTS_H
#define TRANSCRIBE_ATTEMPTS_H

#include "postgres.h"

#include "datatype/timestamp.h"

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
	const char *request_id;		/* the server's, or NULL */
	const char *usage;			/* JSON, or NULL */
} AttemptRequest;

#endif							/* TRANSCRIBE_ATTEMPTS_H */
