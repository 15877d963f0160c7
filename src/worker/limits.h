/*-------------------------------------------------------------------------
 *
 * limits.h
 *	  What each server may be asked at the same time, how often, and when
 *	  not at all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_LIMITS_H
#define TRANSCRIBE_LIMITS_H

#include "postgres.h"

#include "shared/server.h"
#include "shared/state.h"

/* Jobs that are at a server. */
extern int	limits_room(const TranscribeServer *server, TranscribeKey key,
						bool ahead, int64 now, int64 *closed_until);
extern void limits_hold(Oid serverid);
extern void limits_release(Oid serverid);

/* Requests: whether one may start, that it has, that it is over. */
extern bool limits_may_start(const TranscribeServer *server, TranscribeKey key,
							 int64 now, int64 *wake_at);
extern void limits_started(const TranscribeServer *server, TranscribeKey key,
						   int64 now);
extern void limits_finished(Oid serverid);

/* What the request has shown of the server. */
extern void limits_accepted(Oid serverid, TranscribeKey key);
extern int64 limits_pause(const TranscribeServer *server, int64 now,
						  int64 retry_after);
extern void limits_stop(const TranscribeServer *server, TranscribeKey key,
						int64 now, const char *code, const char *reason);
extern void limits_failed(const TranscribeServer *server, int64 now,
						  const char *code, const char *reason);

extern bool limits_closed(const TranscribeServer *server, TranscribeKey key,
						  int64 now, StateClosure *closure);
extern void limits_reset(void);

#endif							/* TRANSCRIBE_LIMITS_H */
