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
extern void waiting_look(void);
extern bool waiting_wants_look(void);
extern List *waiting_groups(int room, TimestampTz now, bool *looked);

#endif							/* TRANSCRIBE_WAITING_H */
