/*-------------------------------------------------------------------------
 *
 * probe.h
 *	  A spoken sentence on the way that recordings go, and what comes of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_PROBE_H
#define TRANSCRIBE_PROBE_H

#include "postgres.h"

#include "worker/job.h"

/* The longest time that a server is given to answer. */
#define PROBE_TIMEOUT_MS	60000

/* What is said in the recording. */
#define PROBE_WORDS			"he might even have been made amiable himself"

typedef struct Probe
{
	Job		   *job;			/* in no table; its memory holds what is here */
	bool		media_only;		/* no server is asked */
	const char *code;			/* as transcribe_jobs.error_code; NULL: good */
	const char *error;			/* why, in UTF-8 */
	bool		refuses_model;	/* the server says that it has no such model */
	uint32		status;			/* of its last answer; 0: none came */
	double		seconds;		/* that the answer took */
	WireReach	reach;			/* of the first request */
} Probe;

extern void probe_run(Probe *probe, const char *server, Oid roleid,
					  bool words);
extern void probe_media(Probe *probe);
extern void probe_end(int code, Datum probe);

#endif							/* TRANSCRIBE_PROBE_H */
