/*-------------------------------------------------------------------------
 *
 * test_failure.c
 *	  Which failures are tried again, which are charged, and after how long.
 *
 * sources: src/worker/failure.c
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "worker/failure.h"

#define HOUR_MS		(3600 * 1000)

/* A verdict in full. */
static bool
judged(int status, const char *code, bool retry, bool elsewhere)
{
	FailureVerdict verdict = failure_of_status(status);

	return strcmp(verdict.code, code) == 0 && verdict.retry == retry &&
		verdict.charge && verdict.elsewhere == elsewhere;
}

/* Every status has a verdict. */
static void
test_statuses(void)
{
	bool		good = true;

	ok(judged(404, "not_found_at_server", false, true),
	   "a wrong address is not tried again");
	ok(judged(405, "not_found_at_server", false, true),
	   "nor is one that takes no POST");
	ok(judged(413, "too_large_for_server", false, false) &&
	   judged(415, "refused_audio", false, false),
	   "refused audio is not tried again");
	ok(judged(400, "refused", false, false) &&
	   judged(402, "refused", false, false) &&
	   judged(422, "refused", false, false) &&
	   judged(451, "refused", false, false) &&
	   judged(499, "refused", false, false),
	   "what the client did wrong stays wrong, everywhere");
	ok(judged(408, "timeout", true, true), "a server's timeout may pass");
	ok(judged(409, "server_error", true, true), "a conflict may pass");

	for (int status = 500; status < 600; status++)
		good = good && judged(status, "server_error", true, true);
	ok(good, "every error of the server's may pass");

	good = true;
	for (int status = 0; status < 400; status++)
		good = good && judged(status, "bad_response", false, true);
	ok(good, "redirects and success without content are no answers");

	good = true;
	for (int status = -1000; status < 10000; status++)
	{
		FailureVerdict verdict = failure_of_status(status);

		good = good && verdict.code != NULL && verdict.code[0] != '\0' &&
			verdict.charge;
	}
	ok(good, "any number has a verdict, and is charged");
}

/* What says that a server is not there, and what may be a recording's fault. */
static void
test_server(void)
{
	ok(failure_is_of_server("could_not_connect") &&
	   failure_is_of_server("could_not_resolve") &&
	   failure_is_of_server("tls_failed") &&
	   failure_is_of_server("connection_lost"), "a server that is not there");
	ok(!failure_is_of_server("timeout") &&
	   !failure_is_of_server("response_too_large") &&
	   !failure_is_of_server("certificate_refused") &&
	   !failure_is_of_server(""), "what may be of one request alone");
}

/* What the media child says of itself may pass, what it says of a file not. */
static void
test_media(void)
{
	static const char *const passing[] = {
		"media_crashed", "media_failed", "media_unavailable", "other_version",
		"out_of_memory", "io_error", "internal_error"
	};
	static const char *const final[] = {
		"not_audio", "file_not_found", "permission_denied", "too_long", "",
		"media", "media_crashed ", "IO_ERROR"
	};
	bool		good = true;

	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
		good = good && failure_media_may_pass(passing[i]);
	ok(good, "a child that died and a disk that failed may pass");

	good = true;
	for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++)
		good = good && !failure_media_may_pass(final[i]);
	ok(good, "what is wrong with a file stays wrong");
}

/* The wait grows, up to its limit, and jitter spreads it from nothing on. */
static void
test_backoff(void)
{
	bool		bounded = true;
	bool		grows = true;
	int64_t		last = 0;

	ok(failure_backoff(0, 1000, 60000, -1, 1) == 1000 &&
	   failure_backoff(1, 1000, 60000, -1, 1) == 2000 &&
	   failure_backoff(5, 1000, 60000, -1, 1) == 32000,
	   "the wait doubles with each attempt");
	ok(failure_backoff(6, 1000, 60000, -1, 1) == 60000 &&
	   failure_backoff(1000000, 1000, 60000, -1, 1) == 60000 &&
	   failure_backoff(0, 1000, 500, -1, 1) == 500,
	   "the wait has a limit");
	ok(failure_backoff(3, 1000, 60000, -1, 0) == 0 &&
	   failure_backoff(3, 1000, 60000, -1, 0.5) == 4000,
	   "jitter takes any part of it");
	ok(failure_backoff(40, INT64_C(3600000), INT64_C(86400000), -1, 1) ==
	   86400000, "doubling stops at the limit, before it overflows");
	ok(failure_backoff(5, 0, 0, -1, 1) == 0, "no wait at all is possible");

	for (int attempts = 0; attempts < 64; attempts++)
	{
		int64_t		most = failure_backoff(attempts, 500, 30000, -1, 1);

		grows = grows && most >= last;
		last = most;
		for (double random = 0; random <= 1; random += 0.125)
		{
			int64_t		wait = failure_backoff(attempts, 500, 30000, -1, random);

			bounded = bounded && wait >= 0 && wait <= most && wait <= 30000;
		}
	}
	ok(grows, "a later attempt never waits for less");
	ok(bounded, "every wait is between nothing and the limit");
}

/* A server that names a time is heard, within reason. */
static void
test_retry_after(void)
{
	ok(failure_backoff(2, 1000, 60000, 5000, 0) == 5000,
	   "the time that a server names is waited for");
	ok(failure_backoff(2, 1000, 60000, 5000, 1) == 9000,
	   "jitter comes on top of it");
	ok(failure_backoff(0, 1000, 2000, 5000, 0) == 5000,
	   "it may be longer than a wait of our own");
	ok(failure_backoff(0, 1000, 60000, HOUR_MS, 0) == HOUR_MS &&
	   failure_backoff(0, 1000, 60000, HOUR_MS + 1, 0) == HOUR_MS &&
	   failure_backoff(0, 1000, 60000, INT64_MAX, 1) == HOUR_MS + 1000,
	   "it is believed up to an hour");
	ok(failure_backoff(0, 1000, 60000, 0, 1) == 1000 &&
	   failure_backoff(0, 1000, 60000, INT64_MIN, 1) == 1000,
	   "a time in the past is none");
}

int
main(void)
{
	test_statuses();
	test_server();
	test_media();
	test_backoff();
	test_retry_after();
	return done();
}
