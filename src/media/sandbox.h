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

/* The layers that may hold, as bits. */
#define SANDBOX_LIMITS		0x01	/* resource limits */
#define SANDBOX_LANDLOCK	0x02	/* no file may be opened, by the kernel's LSM */
#define SANDBOX_SECCOMP		0x04	/* system calls are filtered */
#define SANDBOX_ALL			0x07

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
