/*-------------------------------------------------------------------------
 *
 * sandbox.h
 *	  Giving up every right that decoding does not need.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_SANDBOX_H
#define TRANSCRIBE_MEDIA_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/wire.h"

/* The layers that may hold, as bits: the worker is told of them. */
#define SANDBOX_LIMITS		WIRE_SANDBOX_LIMITS
#define SANDBOX_LANDLOCK	WIRE_SANDBOX_LANDLOCK
#define SANDBOX_SECCOMP		WIRE_SANDBOX_SECCOMP
#define SANDBOX_ALL			WIRE_SANDBOX_ALL

typedef struct SandboxLimits
{
	uint64_t	memory;			/* bytes of address space */
	uint64_t	cpu_seconds;	/* 0: no limit */
	bool		writes_files;	/* OUT or standard output may be one */
} SandboxLimits;

extern void sandbox_prepare(void);
extern unsigned sandbox_enter_thread(unsigned wanted);
extern unsigned sandbox_enter(const SandboxLimits *limits, unsigned wanted);

#endif							/* TRANSCRIBE_MEDIA_SANDBOX_H */
