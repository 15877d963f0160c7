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

extern void endpoint_resolve(Job *job);

#endif							/* TRANSCRIBE_ENDPOINT_H */
