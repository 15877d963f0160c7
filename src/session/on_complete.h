/*-------------------------------------------------------------------------
 *
 * on_complete.h
 *	  Asking for a function to be called when a job has ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ON_COMPLETE_H
#define TRANSCRIBE_ON_COMPLETE_H

#include "postgres.h"

#include "fmgr.h"

extern bool on_complete_ask(FunctionCallInfo fcinfo, int64 job_id,
							const char *function);

#endif							/* TRANSCRIBE_ON_COMPLETE_H */
