/*-------------------------------------------------------------------------
 *
 * http.c
 *	  All requests that are under way, and the wait for everything.
 *
 * Runs in the agent, around one libcurl multi handle.  Each SEND becomes a
 * Transfer (transfer.c), and each that is not dropped is answered here, by
 * exactly one RESPONSE or REQUEST_FAILED.  An HTTP status is an answer,
 * whatever it says: what to make of it is for the worker to decide.
 *
 * The codes of REQUEST_FAILED, which users find in their rows; retry says
 * whether trying again may help:
 *
 *	  could_not_resolve		1	the host's name has no address
 *	  could_not_connect		1	nobody listens, or no way there
 *	  tls_failed			1	connected, but TLS was not agreed upon
 *	  certificate_refused	0	the server is not who it should be
 *	  timeout				1	the time given was over; the message says where
 *	  connection_lost		1	broken while sending or receiving
 *	  response_too_large	0	longer than the request allowed
 *	  headers_too_large		0	more than 64 kB of them
 *	  refused_address		0	see address.c
 *	  insecure_key			0	a key would leave this machine in clear
 *	  bad_url				0	not an http or https URL, or with a password
 *	  bad_response			1	not HTTP, or encoded though not asked for
 *	  out_of_memory			1	in the agent
 *	  internal_error		1	in the agent or in libcurl
 *
 * Messages name the server as scheme, host and port.  Headers, body, path
 * and query of a URL never get into them.
 *
 * The multi handle's poll also waits for the agent's other descriptors
 * (http_watch), so that the process sleeps in one place.
 *
 *-------------------------------------------------------------------------
 */
#include "agent/http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"

/* Idle connections kept: for as many requests at a time as are usual. */
#define MAX_IDLE_CONNECTIONS	256L

/* Longest content type passed on; a real one has some 40 characters. */
#define MAX_CONTENT_TYPE		256

typedef struct Code
{
	const char *name;
	uint32_t	retry;
} Code;

static const Code codes[] = {
	[HTTP_COULD_NOT_RESOLVE] = {"could_not_resolve", 1},
	[HTTP_COULD_NOT_CONNECT] = {"could_not_connect", 1},
	[HTTP_TLS_FAILED] = {"tls_failed", 1},
	[HTTP_CERTIFICATE_REFUSED] = {"certificate_refused", 0},
	[HTTP_TIMEOUT] = {"timeout", 1},
	[HTTP_CONNECTION_LOST] = {"connection_lost", 1},
	[HTTP_RESPONSE_TOO_LARGE] = {"response_too_large", 0},
	[HTTP_HEADERS_TOO_LARGE] = {"headers_too_large", 0},
	[HTTP_REFUSED_ADDRESS] = {"refused_address", 0},
	[HTTP_INSECURE_KEY] = {"insecure_key", 0},
	[HTTP_BAD_URL] = {"bad_url", 0},
	[HTTP_BAD_RESPONSE] = {"bad_response", 1},
	[HTTP_OUT_OF_MEMORY] = {"out_of_memory", 1},
	[HTTP_INTERNAL_ERROR] = {"internal_error", 1},
};

static WireBuffer *out;			/* to the worker */
static CURLM *multi;
static Transfer *transfers;		/* those that are in multi */

/* What http_wait() waits for besides the transfers. */
static struct curl_waitfd *watched;
static unsigned nwatched;
static unsigned watched_size;
static bool waited;				/* watched holds the last wait's results */

/* Set up libcurl.  Answers go to the worker's buffer. */
void
http_start(WireBuffer *worker)
{
	out = worker;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
		(multi = curl_multi_init()) == NULL)
		agent_fatal("could not set up libcurl");
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, MAX_IDLE_CONNECTIONS);
}

/*
 * What libcurl's result means, if no callback knew better.  That a reply is
 * not HTTP comes as an unsupported protocol, the same as a bad URL; only in
 * the first case has something been sent.  A header line that is longer than
 * libcurl takes was "out of memory" before version 8.6.
 */
static HttpFailure
classify(CURLcode result, bool requested)
{
	switch (result)
	{
		case CURLE_URL_MALFORMAT:
			return HTTP_BAD_URL;
		case CURLE_UNSUPPORTED_PROTOCOL:
			return requested ? HTTP_BAD_RESPONSE : HTTP_BAD_URL;
		case CURLE_COULDNT_RESOLVE_HOST:
			return HTTP_COULD_NOT_RESOLVE;
		case CURLE_COULDNT_CONNECT:
			return HTTP_COULD_NOT_CONNECT;
		case CURLE_OPERATION_TIMEDOUT:
			return HTTP_TIMEOUT;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_ENGINE_INITFAILED:
		case CURLE_SSL_SHUTDOWN_FAILED:
			return HTTP_TLS_FAILED;
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_INVALIDCERTSTATUS:
			return HTTP_CERTIFICATE_REFUSED;
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_PARTIAL_FILE:
		case CURLE_GOT_NOTHING:
		case CURLE_SEND_FAIL_REWIND:
		case CURLE_HTTP2:
		case CURLE_HTTP2_STREAM:
			return HTTP_CONNECTION_LOST;
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_BAD_CONTENT_ENCODING:
			return HTTP_BAD_RESPONSE;
		case CURLE_OUT_OF_MEMORY:
			return requested ? HTTP_HEADERS_TOO_LARGE : HTTP_OUT_OF_MEMORY;
#if LIBCURL_VERSION_NUM >= 0x080600
		case CURLE_TOO_LARGE:
			return HTTP_HEADERS_TOO_LARGE;
#endif
		default:
			return HTTP_INTERNAL_ERROR;
	}
}

/* A time or a number of bytes that libcurl measured; 0 if there is none. */
static curl_off_t
measured(const Transfer *transfer, CURLINFO what)
{
	curl_off_t	value = 0;

	if (transfer->easy != NULL)
		curl_easy_getinfo(transfer->easy, what, &value);
	return value;
}

/* A time, in seconds. */
static double
seconds(const Transfer *transfer, CURLINFO what)
{
	return (double) measured(transfer, what) / 1e6;
}

/* Has a request been sent, at least in part? */
static bool
was_requested(const Transfer *transfer)
{
	long		size = 0;

	if (transfer->easy != NULL)
		curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &size);
	return size > 0;
}

/* How far the transfer got, for the worker; the address is libcurl's. */
static WireReach
reach(const Transfer *transfer)
{
	WireReach	reach = {
		.address = "",
		.resolved = seconds(transfer, CURLINFO_NAMELOOKUP_TIME_T),
		.connected = seconds(transfer, CURLINFO_CONNECT_TIME_T),
		.secured = seconds(transfer, CURLINFO_APPCONNECT_TIME_T),
	};
	char	   *address = NULL;

	if (transfer->easy != NULL)
		curl_easy_getinfo(transfer->easy, CURLINFO_PRIMARY_IP, &address);
	if (address != NULL)
		reach.address = address;
	return reach;
}

/*
 * Where the transfer stood when it ended.  The times of a connection that was
 * used again are zero, so the request itself is asked first.
 */
static const char *
phase(const Transfer *transfer)
{
	if (transfer->header_bytes > 0)
		return "receiving the answer";
	if (was_requested(transfer))
		return transfer->total == 0 ||
			measured(transfer, CURLINFO_SIZE_UPLOAD_T) < transfer->total ?
			"sending the recording" : "waiting for the server's answer";
	if (measured(transfer, CURLINFO_NAMELOOKUP_TIME_T) == 0)
		return "looking up the host's name";
	if (measured(transfer, CURLINFO_CONNECT_TIME_T) == 0)
		return strcmp(transfer->scheme, "https") == 0 ?
			"connecting or setting up TLS" : "connecting";
	return "setting up TLS";
}

/* libcurl's words for it, in printable characters, or its standing ones. */
static const char *
words(Transfer *transfer, CURLcode result)
{
	size_t		len = strlen(transfer->words);

	while (len > 0 && transfer->words[len - 1] == ' ')
		transfer->words[--len] = '\0';
	if (len == 0)
		return curl_easy_strerror(result);
	for (char *p = transfer->words; *p != '\0'; p++)
	{
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
	return transfer->words;
}

/* Where the time went.  What was not reached is not spoken of. */
static void
describe_timeout(const Transfer *transfer, char *text, size_t size)
{
	double		total = seconds(transfer, CURLINFO_TOTAL_TIME_T);

	if (!was_requested(transfer))
		snprintf(text, size, "timeout after %.1f s while %s "
				 "(%s://%.255s:%.5s)", total, phase(transfer),
				 transfer->scheme, transfer->host, transfer->port);
	else
		snprintf(text, size, "timeout after %.1f s while %s "
				 "(%s://%.255s:%.5s, connected in %.2f s, sent %" PRId64
				 " bytes)", total, phase(transfer),
				 transfer->scheme, transfer->host, transfer->port,
				 seconds(transfer, CURLINFO_CONNECT_TIME_T),
				 (int64_t) measured(transfer, CURLINFO_SIZE_UPLOAD_T));
}

/* The sentence that goes with a failure. */
static void
describe(Transfer *transfer, CURLcode result, char *text, size_t size)
{
	char		peer[320];
	long		err = 0;

	snprintf(peer, sizeof(peer), "host %.255s port %.5s",
			 transfer->host ? transfer->host : "", transfer->port ?
			 transfer->port : "");
	switch (transfer->failure)
	{
		case HTTP_COULD_NOT_RESOLVE:
			snprintf(text, size, "could not resolve host name \"%.255s\"",
					 transfer->host);
			break;
		case HTTP_COULD_NOT_CONNECT:
			curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &err);
			snprintf(text, size, "could not connect to %s: %s", peer,
					 err != 0 ? strerror((int) err) : words(transfer, result));
			break;
		case HTTP_TLS_FAILED:
			snprintf(text, size, "could not set up TLS with %s: %s", peer,
					 words(transfer, result));
			break;
		case HTTP_CERTIFICATE_REFUSED:
			snprintf(text, size, "certificate of %s was not accepted: %s",
					 peer, words(transfer, result));
			break;
		case HTTP_TIMEOUT:
			describe_timeout(transfer, text, size);
			break;
		case HTTP_CONNECTION_LOST:
			/* It would have to be sent again: see check_request(). */
			if (result == CURLE_SEND_FAIL_REWIND ||
				result == CURLE_ABORTED_BY_CALLBACK)
				snprintf(text, size, "connection to %s was lost before an "
						 "answer came: the server closed it", peer);
			else
				snprintf(text, size, "connection to %s was lost while %s: %s",
						 peer, phase(transfer), words(transfer, result));
			break;
		case HTTP_RESPONSE_TOO_LARGE:
			snprintf(text, size, "response of %s is longer than %" PRIu64
					 " bytes", peer, transfer->max_response);
			break;
		case HTTP_HEADERS_TOO_LARGE:
			snprintf(text, size, "response of %s has too many headers", peer);
			break;
		case HTTP_REFUSED_ADDRESS:
			snprintf(text, size, "address of %s is link-local, multicast or "
					 "unspecified, which is not allowed", peer);
			break;
		case HTTP_INSECURE_KEY:
			snprintf(text, size, "key would go to %s in clear text: use https, "
					 "or set the server's option insecure_key to allow", peer);
			break;
		case HTTP_BAD_URL:
			snprintf(text, size, "URL is not valid: %s",
					 words(transfer, result));
			break;
		case HTTP_BAD_RESPONSE:
			snprintf(text, size, "response of %s is not valid: %s", peer,
					 result == CURLE_WRITE_ERROR ?
					 "it has a content encoding that was not asked for" :
					 words(transfer, result));
			break;
		case HTTP_OUT_OF_MEMORY:
			snprintf(text, size, "out of memory");
			break;
		default:
			snprintf(text, size, "request could not be made: %s",
					 words(transfer, result));
	}
}

/* Answer that there is no answer. */
static void
put_failure(Transfer *transfer, CURLcode result)
{
	char		text[768];
	WireRequestFailed failed = {
		.chunk_no = transfer->chunk_no,
		.request_no = transfer->request_no,
		.code = codes[transfer->failure].name,
		.message = text,
		.retry = codes[transfer->failure].retry,
		.seconds = seconds(transfer, CURLINFO_TOTAL_TIME_T),
		.sent = (uint64_t) measured(transfer, CURLINFO_SIZE_UPLOAD_T),
		.reach = reach(transfer),
	};

	describe(transfer, result, text, sizeof(text));
	wire_put_request_failed(out, transfer->job, &failed);
}

/* Pass on what the server said. */
static void
put_response(Transfer *transfer)
{
	WireResponse response = {
		.chunk_no = transfer->chunk_no,
		.request_no = transfer->request_no,
		.retry_after_ms = transfer->retry_after_ms,
		.request_id = transfer->request_id,
		.seconds = seconds(transfer, CURLINFO_TOTAL_TIME_T),
		.sent = (uint64_t) measured(transfer, CURLINFO_SIZE_UPLOAD_T),
		.reach = reach(transfer),
		.body = transfer->body,
		.body_len = transfer->body_len,
	};
	char		content_type[MAX_CONTENT_TYPE + 1] = "";
	char	   *header = NULL;
	long		status = 0;
	curl_off_t	retry_after;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	response.status = (uint32_t) status;

	/* Seconds, or a date that libcurl has turned into seconds from now. */
	retry_after = measured(transfer, CURLINFO_RETRY_AFTER);
	if (response.retry_after_ms < 0 && retry_after > 0)
		response.retry_after_ms = retry_after < INT32_MAX ?
			(int64_t) retry_after * 1000 : (int64_t) INT32_MAX * 1000;

	/* What it says of its limits counts where it has none left. */
	if (response.retry_after_ms < 0 && (status == 429 || status == 503))
		response.retry_after_ms = transfer->reset_ms;
	response.should_retry = transfer->should_retry;

	curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_TYPE, &header);
	for (size_t i = 0; header && header[i] && i < MAX_CONTENT_TYPE; i++)
		content_type[i] = header[i] < ' ' || header[i] > '~' ? '?' : header[i];
	response.content_type = content_type;
	wire_put_response(out, transfer->job, &response);
}

/*
 * Send a chunk.  Whatever goes wrong is answered in time, too: a request that
 * cannot even be begun is answered here.
 */
void
http_send(uint64_t job, HttpAudio *audio, const WireSend *send)
{
	Transfer   *transfer = transfer_new(job, audio, send, out);

	if (transfer == NULL)
		agent_fatal("out of memory");
	if (transfer->failure == HTTP_NO_FAILURE &&
		curl_multi_add_handle(multi, transfer->easy) != CURLM_OK)
		transfer->failure = HTTP_INTERNAL_ERROR;
	if (transfer->failure != HTTP_NO_FAILURE)
	{
		put_failure(transfer, CURLE_FAILED_INIT);
		transfer_free(transfer);
		return;
	}
	transfer->next = transfers;
	transfers = transfer;
}

/* Take a transfer out and free it; what it pointed to goes on in the list. */
static void
end_transfer(Transfer **link)
{
	Transfer   *transfer = *link;

	*link = transfer->next;
	curl_multi_remove_handle(multi, transfer->easy);
	transfer_free(transfer);
}

/*
 * Abort all transfers of a job, and say nothing of them.
 *
 * Over HTTP/2 the server is to learn of it at once, too, but libcurl 7.88 keeps
 * the frame that says so until it sends something else.  So a connection that
 * nobody else uses is closed; and what is paused and goes on, as the others do
 * for a moment, has something to send.
 */
void
http_drop(uint64_t job)
{
	Transfer  **link = &transfers;
	bool		dropped = false;

	while (*link != NULL)
	{
		if ((*link)->job == job)
		{
			curl_easy_setopt((*link)->easy, CURLOPT_FORBID_REUSE, 1L);
			end_transfer(link);
			dropped = true;
		}
		else
			link = &(*link)->next;
	}
	for (Transfer *other = transfers; dropped && other; other = other->next)
	{
		curl_easy_pause(other->easy, CURLPAUSE_RECV);
		curl_easy_pause(other->easy, CURLPAUSE_CONT);
	}
}

/* A transfer has come to its end: answer, and forget it. */
static void
finish(CURL *easy, CURLcode result)
{
	Transfer  **link = &transfers;

	while ((*link)->easy != easy)
		link = &(*link)->next;
	if (result == CURLE_OK)
		put_response(*link);
	else
	{
		Transfer   *transfer = *link;

		/* A refused address counts only if there was no other. */
		if (transfer->failure == HTTP_NO_FAILURE ||
			((transfer->failure == HTTP_REFUSED_ADDRESS ||
			  transfer->failure == HTTP_INSECURE_KEY) && transfer->tried))
			transfer->failure = classify(result, was_requested(transfer));
		put_failure(transfer, result);
	}
	end_transfer(link);
}

/* Do what can be done without waiting, and answer what has ended. */
void
http_perform(void)
{
	CURLMsg    *message;
	int			left;

	if (transfers == NULL)
		return;
	if (curl_multi_perform(multi, &left) != CURLM_OK)
		agent_fatal("libcurl failed");
	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		if (message->msg == CURLMSG_DONE)
			finish(message->easy_handle, message->data.result);
	}
}

/* Abort everything and free libcurl's memory. */
void
http_stop(void)
{
	while (transfers != NULL)
		end_transfer(&transfers);
	curl_multi_cleanup(multi);
	curl_global_cleanup();
	free(watched);
}

/*
 * Let the next http_wait() end when this descriptor can be read (or when its
 * peer has hung up), or written.  The slot is for http_readable().
 */
int
http_watch(int fd, bool in, bool output)
{
	if (waited)
		nwatched = 0;
	waited = false;
	if (nwatched == watched_size)
	{
		unsigned	size = watched_size > 0 ? watched_size * 2 : 16;
		struct curl_waitfd *bigger = realloc(watched, size * sizeof(*bigger));

		if (bigger == NULL)
			agent_fatal("out of memory");
		watched = bigger;
		watched_size = size;
	}
	watched[nwatched] = (struct curl_waitfd) {
		.fd = fd,
		.events = (short) ((in ? CURL_WAIT_POLLIN : 0) |
						   (output ? CURL_WAIT_POLLOUT : 0)),
	};
	return (int) nwatched++;
}

/*
 * Sleep until a transfer or a watched descriptor has something to do, or the
 * time is over.
 */
void
http_wait(int timeout_ms)
{
	if (curl_multi_poll(multi, watched, nwatched, timeout_ms,
						NULL) != CURLM_OK)
		agent_fatal("libcurl could not wait");
	waited = true;
}

/* Could that slot be read when the last wait ended? */
bool
http_readable(int slot)
{
	return slot >= 0 && (watched[slot].revents & CURL_WAIT_POLLIN) != 0;
}
