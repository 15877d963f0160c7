/*-------------------------------------------------------------------------
 *
 * write.h
 *	  What the jobs of a turn have to write, all together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_WRITE_H
#define TRANSCRIBE_WRITE_H

#include "worker/job.h"

extern bool write_may_wait(List *jobs);
extern void write_turn(int64 incarnation, List *jobs);

#endif							/* TRANSCRIBE_WRITE_H */
