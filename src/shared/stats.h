/*-------------------------------------------------------------------------
 *
 * stats.h
 *	  What was asked of each server, and what came of it, in numbers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_STATS_H
#define TRANSCRIBE_STATS_H

#include "postgres.h"

#include "shared/state.h"

extern void stats_begin(Oid serverid);
extern void stats_count_request(Oid serverid, const char *code, double elapsed,
								double audio, uint64 bytes);
extern void stats_count_end(Oid serverid, StatsEnd end, double trimmed);
extern void stats_count_trimmed(Oid serverid, double trimmed);
extern StateStats *stats_list(int *n);
extern void stats_reset(void);
extern uint64 stats_requests(const StateStats *stats);
extern double stats_latency(const StateStats *stats, double quantile);

#endif							/* TRANSCRIBE_STATS_H */
