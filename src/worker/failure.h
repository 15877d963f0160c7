/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  What becomes of a job whose attempt failed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_FAILURE_H
#define TRANSCRIBE_FAILURE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct FailureVerdict
{
	const char *code;			/* for transcribe_jobs.error_code */
	bool		retry;			/* trying again may help */
	bool		charge;			/* it counts as an attempt */
	bool		elsewhere;		/* another server may do better */
} FailureVerdict;

extern FailureVerdict failure_of_status(int status);
extern bool failure_is_of_server(const char *code);
extern bool failure_media_may_pass(const char *code);
extern int64_t failure_backoff(int attempts, int64_t initial, int64_t most,
							   int64_t retry_after, double random);

#endif							/* TRANSCRIBE_FAILURE_H */
