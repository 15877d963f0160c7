/*-------------------------------------------------------------------------
 *
 * transfer.h
 *	  One request to a server: how libcurl is told, and what it brings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_AGENT_TRANSFER_H
#define TRANSCRIBE_AGENT_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <curl/curl.h>

#include "wire/wire.h"

/* Why a request got no answer; the names and meanings are in http.c. */
typedef enum HttpFailure
{
	HTTP_NO_FAILURE,
	HTTP_COULD_NOT_RESOLVE,
	HTTP_COULD_NOT_CONNECT,
	HTTP_TLS_FAILED,
	HTTP_CERTIFICATE_REFUSED,
	HTTP_TIMEOUT,
	HTTP_CONNECTION_LOST,
	HTTP_RESPONSE_TOO_LARGE,
	HTTP_HEADERS_TOO_LARGE,
	HTTP_REFUSED_ADDRESS,
	HTTP_INSECURE_KEY,
	HTTP_BAD_URL,
	HTTP_BAD_RESPONSE,
	HTTP_OUT_OF_MEMORY,
	HTTP_INTERNAL_ERROR
} HttpFailure;

/* The audio of a chunk.  It must stay while users > 0: transfers read it. */
typedef struct HttpAudio
{
	uint32_t	chunk_no;
	int			users;
	const char *data;
	size_t		size;
	char		filename[64];
	char		content_type[64];
} HttpAudio;

typedef struct Transfer
{
	/* What it is for. */
	uint64_t	job;
	uint32_t	chunk_no;
	uint32_t	request_no;
	HttpAudio  *audio;
	uint32_t	flags;
	uint64_t	max_response;
	char	   *scheme;			/* of the URL, for messages: never the rest */
	char	   *host;
	char	   *port;

	/* libcurl's, and what it keeps pointers to. */
	CURL	   *easy;
	curl_mime  *mime;
	struct curl_slist *headers;
	char		words[CURL_ERROR_SIZE];
	size_t		audio_pos;

	/* What has come so far. */
	HttpFailure failure;		/* a callback ended it, and this is why */
	bool		tried;			/* an address was allowed, and tried */
	bool		begun;			/* the request went out: it must not again */
	size_t		header_bytes;
	char	   *body;
	size_t		body_len;
	size_t		body_size;
	int64_t		retry_after_ms; /* of a header in milliseconds; -1: none */
	int64_t		reset_ms;		/* until a limit of its is lifted; -1: not said */
	uint32_t	should_retry;	/* a WireAdvice */
	char		request_id[129];

	/* Progress. */
	WireBuffer *out;
	int64_t		told_at;		/* when UPLOADED was last sent, */
	curl_off_t	told;			/* and the bytes that it named */
	curl_off_t	total;			/* bytes to send; 0: not known yet */

	struct Transfer *next;
} Transfer;

extern Transfer *transfer_new(uint64_t job, HttpAudio *audio,
							  const WireSend *send, WireBuffer *out);
extern void transfer_free(Transfer *transfer);

#endif							/* TRANSCRIBE_AGENT_TRANSFER_H */
