/*-------------------------------------------------------------------------
 *
 * limits.h
 *	  What each server may be asked at the same time, and how often.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_LIMITS_H
#define TRANSCRIBE_LIMITS_H

#include "postgres.h"

#include "shared/server.h"

extern bool limits_may_start(const TranscribeServer *server, int64 now,
							 int64 *wake_at);
extern void limits_started(const TranscribeServer *server, int64 now);
extern void limits_finished(Oid serverid);
extern int64 limits_refused(const TranscribeServer *server, int64 now,
							int64 retry_after);
extern void limits_accepted(Oid serverid);
extern int64 limits_pause(Oid serverid, int64 now);
extern void limits_reset(void);

#endif							/* TRANSCRIBE_LIMITS_H */
