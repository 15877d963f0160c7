/*-------------------------------------------------------------------------
 *
 * endpoint.h
 *	  Where a claimed job goes, with whose key, and what it may read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ENDPOINT_H
#define TRANSCRIBE_ENDPOINT_H

#include "worker/job.h"

/* A server that a job may go to. */
typedef struct EndpointCandidate
{
	TranscribeServer server;
	TranscribeKey key;
	bool		last;			/* of the list, as it was enqueued */
} EndpointCandidate;

/*
 * What was looked up last in a transaction, in the memory context of then: most
 * jobs are like the one before.
 */
typedef struct EndpointLookup
{
	const char *servers;		/* NULL: nothing yet */
	const char *owner;
	const char *model;
	List	   *candidates;		/* of EndpointCandidate */
} EndpointLookup;

extern List *endpoint_look_up(EndpointLookup *lookup, const char *servers,
							  const char *owner, const char *model);
extern void endpoint_resolve(Job *job, EndpointLookup *lookup);
extern const char *endpoint_read_key(Job *job);

#endif							/* TRANSCRIBE_ENDPOINT_H */
