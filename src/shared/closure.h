/*-------------------------------------------------------------------------
 *
 * closure.h
 *	  Servers that are not to be asked for a while, and why.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_CLOSURE_H
#define TRANSCRIBE_CLOSURE_H

#include "postgres.h"

#include "shared/state.h"

extern void closure_set_aside(bool aside);
extern void closure_put(const StateClosure *closure);
extern bool closure_get(const TranscribeServer *server, TranscribeKey key,
						StateClosure *closure);
extern void closure_remove(Oid serverid, TranscribeKey key);
extern void closure_remove_all(Oid serverid);
extern StateClosure *closure_list(int *n);

#endif							/* TRANSCRIBE_CLOSURE_H */
