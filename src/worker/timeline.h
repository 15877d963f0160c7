/*-------------------------------------------------------------------------
 *
 * timeline.h
 *	  From a chunk's time to the recording's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_TIMELINE_H
#define TRANSCRIBE_TIMELINE_H

#include <stdbool.h>

#include "wire/wire.h"

extern void timeline_map(const WireSpan *spans, int nspans, double *start,
						 double *end);
extern double timeline_to_source(const WireSpan *spans, int nspans, double t,
								 bool is_end);

#endif							/* TRANSCRIBE_TIMELINE_H */
