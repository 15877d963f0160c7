/*-------------------------------------------------------------------------
 *
 * ended.h
 *	  Telling those who wait for a job that it has ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ENDED_H
#define TRANSCRIBE_ENDED_H

#include "postgres.h"

extern void ended_init(void);
extern void ended_at_commit(int64 job_id);
extern uint32 ended_count(int64 job_id);
extern void ended_wait(int64 job_id, uint32 count, long timeout,
					   uint32 wait_event);

#endif							/* TRANSCRIBE_ENDED_H */
