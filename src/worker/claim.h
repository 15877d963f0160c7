/*-------------------------------------------------------------------------
 *
 * claim.h
 *	  Which of the jobs that wait are claimed in this turn.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_CLAIM_H
#define TRANSCRIBE_CLAIM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "worker/endpoint.h"

/* Queued jobs that are alike in all that decides when their turn comes. */
typedef struct ClaimGroup
{
	char	   *queue;			/* as it stands in the index */
	char	   *servers;		/* as in the row: one name, or a list */
	char	   *owner;
	int			priority;
	TimestampTz due;			/* when the first of them may start, */
	int64		first;			/* and its id; 0: there is none */

	/* the plan */
	int			room;			/* how many to claim */
	bool		looked_up;		/* candidates are known */
	bool		full;			/* no server has room for another one */
	List	   *candidates;		/* of EndpointCandidate */
} ClaimGroup;

extern TimestampTz claim_plan(List *groups, List *jobs, int room,
							  TimestampTz now, EndpointLookup *lookup);
extern int	claim_places(List *groups);

#endif							/* TRANSCRIBE_CLAIM_H */
