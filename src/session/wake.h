/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking the database's worker when this transaction commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_WAKE_H
#define TRANSCRIBE_WAKE_H

#include "datatype/timestamp.h"

extern void wake_init(void);
extern void wake_at_commit(void);
extern void wake_for_job(TimestampTz run_at);
extern void wake_for_servers(void);
extern void wake_for_callback(void);

#endif							/* TRANSCRIBE_WAKE_H */
