/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  What becomes of a job whose attempt failed: retry, give up, wait how long.
 *
 * Runs in the worker; pure.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/failure.h"

#include <stddef.h>
#include <string.h>

/*
 * A wait that a server asks for is believed up to an hour: an absurd one
 * would park the job for ever.
 */
#define MAX_RETRY_AFTER_MS	(3600 * 1000)

/*
 * Judge an answer by its status; not for 200, whose body decides, nor for what
 * closes the server to all jobs: 401, 403 and 429.  What a client did wrong
 * stays wrong, at whatever server.
 */
FailureVerdict
failure_of_status(int status)
{
	switch (status)
	{
		case 404:
		case 405:
			return (FailureVerdict) {"not_found_at_server", false, true, true};
		case 408:
			return (FailureVerdict) {"timeout", true, true, true};
		case 409:
			return (FailureVerdict) {"server_error", true, true, true};
		case 413:
			return (FailureVerdict) {"too_large_for_server", false, true, false};
		case 415:
			return (FailureVerdict) {"refused_audio", false, true, false};
		default:
			break;
	}
	if (status >= 500)
		return (FailureVerdict) {"server_error", true, true, true};
	if (status >= 400)
		return (FailureVerdict) {"refused", false, true, false};

	/* A redirect, which is not followed, or no content. */
	return (FailureVerdict) {"bad_response", false, true, true};
}

/* Whether the word is one of a list, which ends with NULL. */
static bool
is_one_of(const char *code, const char *const *list)
{
	for (int i = 0; list[i] != NULL; i++)
	{
		if (strcmp(code, list[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Whether that no answer came says that the server is not there, or not well.
 * A timeout says so of a long recording as well, and so does not count.
 */
bool
failure_is_of_server(const char *code)
{
	static const char *const of_server[] = {
		"could_not_resolve", "could_not_connect", "tls_failed",
		"connection_lost", NULL
	};

	return is_one_of(code, of_server);
}

/*
 * Whether a failure of the media child may pass by itself.  What it says of
 * the file does not; that it died, or found no memory or a broken disk, may.
 */
bool
failure_media_may_pass(const char *code)
{
	static const char *const passing[] = {
		"media_crashed", "media_failed", "media_unavailable", "other_version",
		"out_of_memory", "io_error", "internal_error", NULL
	};

	return is_one_of(code, passing);
}

/*
 * Milliseconds to wait after so many failed attempts: exponential, with full
 * jitter (random is from 0 to 1) so that jobs that failed together do not
 * come back together.  If the server named a time, that comes first, and
 * the jitter on top of it.
 */
int64_t
failure_backoff(int attempts, int64_t initial, int64_t most,
				int64_t retry_after, double random)
{
	int64_t		ceiling = initial;

	for (int i = 0; i < attempts && ceiling < most; i++)
		ceiling *= 2;
	if (ceiling > most)
		ceiling = most;
	if (retry_after > MAX_RETRY_AFTER_MS)
		retry_after = MAX_RETRY_AFTER_MS;
	return (retry_after > 0 ? retry_after : 0) + (int64_t) (random * ceiling);
}
