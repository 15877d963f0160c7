/*-------------------------------------------------------------------------
 *
 * failpoint.h
 *	  Places where a test may have an error, a crash or a stop.
 *
 * Between the enqueue of a job and the last commit of its result each step is
 * followed or preceded by a FAILPOINT, which does nothing: it exists in builds
 * with -DTRANSCRIBE_FAILPOINTS alone, and is for test/t/042_failpoints.pl.
 * Never put one where a lock is held: those who stop there hold up others.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_FAILPOINT_H
#define TRANSCRIBE_FAILPOINT_H

#ifdef TRANSCRIBE_FAILPOINTS
#define FAILPOINT(name) failpoint(name)
extern void failpoint(const char *name);
#else
#define FAILPOINT(name) ((void) 0)
#endif

#endif							/* TRANSCRIBE_FAILPOINT_H */
