/*-------------------------------------------------------------------------
 *
 * fit.h
 *	  How large a chunk a server takes, as its refusals have taught.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_FIT_H
#define TRANSCRIBE_FIT_H

#include "postgres.h"

#include "wire/wire.h"
#include "worker/response.h"

extern void fit_open(Oid serverid, const char *model, WireOpen *open);
extern bool fit_refused(Oid serverid, const char *model,
						const ResponseLimit *said, double seconds, uint64 bytes);

#endif							/* TRANSCRIBE_FIT_H */
