/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  Whether what earlier attempts have saved can be gone on with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_PLAN_H
#define TRANSCRIBE_PLAN_H

#include "worker/job.h"

extern bool plan_splits_channels(const Job *job, const TranscribeServer *server);
extern void plan_make(Job *job);

#endif							/* TRANSCRIBE_PLAN_H */
