/*-------------------------------------------------------------------------
 *
 * waiting.h
 *	  What is queued, and from where on to look for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_WAITING_H
#define TRANSCRIBE_WAITING_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

extern void waiting_lower(TimestampTz run_at);
extern void waiting_forget(void);
extern List *waiting_find(void);

#endif							/* TRANSCRIBE_WAITING_H */
