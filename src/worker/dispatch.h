/*-------------------------------------------------------------------------
 *
 * dispatch.h
 *	  Which recordings are begun, and which chunks are sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_DISPATCH_H
#define TRANSCRIBE_DISPATCH_H

#include "postgres.h"

#include "nodes/pg_list.h"

extern void dispatch_recordings(List *jobs, bool give_way);
extern void dispatch_requests(List *jobs, bool give_way, int64 *wake_at);

#endif							/* TRANSCRIBE_DISPATCH_H */
