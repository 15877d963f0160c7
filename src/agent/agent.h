/*-------------------------------------------------------------------------
 *
 * agent.h
 *	  What every file of the agent may use: the clock, the end, the version.
 *
 * Includes point one way: agent -> job -> relay -> child, and relay -> http
 * -> transfer -> address.  Only this header is used by all of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_AGENT_H
#define TRANSCRIBE_AGENT_H

#include <stdint.h>

/*
 * While more than this waits to be taken by the worker, no media child is
 * read and no upload progress is reported.  A frame of chunk metadata is
 * small, so this is reached by answers alone: a handful of long ones.
 */
#define AGENT_OUTPUT_HIGH	(4 * 1024 * 1024)

extern int64_t agent_now_ms(void);
extern _Noreturn void agent_fatal(const char *why);

#endif							/* TRANSCRIBE_AGENT_H */
