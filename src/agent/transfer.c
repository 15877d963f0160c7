/*-------------------------------------------------------------------------
 *
 * transfer.c
 *	  One request to a server: how libcurl is told, and what it brings.
 *
 * Runs in the agent.  A Transfer is set up here in full, and everything that
 * libcurl calls back is here; http.c drives it and reports the end.
 *
 * The server is not trusted: its headers and its body are counted as they
 * come, it can neither redirect nor compress, and the address is judged when
 * it is connected to.  Callbacks never print, wait or remove a handle; they
 * set Transfer.failure and refuse, and libcurl ends the transfer.
 *
 * The header lines may hold a key.  Our copies of them are wiped when the
 * transfer ends; those that libcurl makes for itself while it sends cannot
 * be, which is one reason why this process is not dumpable and leaves no core.
 *
 *-------------------------------------------------------------------------
 */
#include "agent/transfer.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/address.h"
#include "agent/agent.h"

/* Real servers send two or three kB of headers, proxies included. */
#define MAX_HEADER_BYTES	(64 * 1024)

/* The rest of a RESPONSE frame, beside the body: far less than this. */
#define MAX_RESPONSE		(WIRE_MAX_PAYLOAD - 64 * 1024)

/* Progress is for people: four times a second looks steady. */
#define UPLOADED_MS			250

/* A server that wants to be left alone for longer is not believed. */
#define MAX_RETRY_AFTER_MS	(INT64_C(30) * 24 * 3600 * 1000)

/* End the transfer from a callback: libcurl stops at a count of zero. */
static size_t
refuse(Transfer *transfer, HttpFailure failure)
{
	transfer->failure = failure;
	return 0;
}

/* libcurl asks for more of the audio; it is sent from where it lies. */
static size_t
read_audio(char *buffer, size_t size, size_t nitems, void *arg)
{
	Transfer   *transfer = arg;
	size_t		want = size * nitems;
	size_t		left = transfer->audio->size - transfer->audio_pos;

	if (want > left)
		want = left;
	memcpy(buffer, transfer->audio->data + transfer->audio_pos, want);
	transfer->audio_pos += want;
	return want;
}

/*
 * If line is a header of that name, its value without the blanks around it;
 * NULL if it is another.  The length of the value goes to *len.
 */
static const char *
header_value(const char *line, size_t size, const char *name, size_t *len)
{
	size_t		skip = strlen(name);
	const char *end = line + size;

	if (size <= skip || line[skip] != ':' ||
		strncasecmp(line, name, skip) != 0)
		return NULL;
	for (line += skip + 1; line < end && (*line == ' ' || *line == '\t');)
		line++;
	while (end > line && (end[-1] == '\r' || end[-1] == '\n' ||
						  end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*len = (size_t) (end - line);
	return line;
}

/* Is the value of a header this word, and nothing else? */
static bool
is_word(const char *value, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(value, word, len) == 0;
}

/* Whole milliseconds at the start of a value; -1 if there are none. */
static int64_t
parse_ms(const char *value, size_t len)
{
	int64_t		ms = -1;

	for (size_t i = 0; i < len && value[i] >= '0' && value[i] <= '9'; i++)
	{
		ms = (ms < 0 ? 0 : ms) * 10 + (value[i] - '0');
		if (ms > MAX_RETRY_AFTER_MS)
			return MAX_RETRY_AFTER_MS;
	}
	return ms;
}

/*
 * A time as OpenAI and others write it: "20ms", "1s", "6m0s", "1h2m3.5s"; -1
 * if it is none.
 */
static int64_t
parse_duration(const char *value, size_t len)
{
	static const struct
	{
		const char *unit;
		double		ms;
	}			units[] = {
		{"ms", 1}, {"h", 3600 * 1000}, {"m", 60 * 1000}, {"s", 1000}
	};
	char		text[64];
	char	   *at = text;
	double		total = 0;

	if (len == 0 || len >= sizeof(text))
		return -1;
	memcpy(text, value, len);
	text[len] = '\0';
	while (*at != '\0')
	{
		double		number;
		size_t		i = 0;

		/* Neither a sign, nor what else strtod() takes for a number. */
		if ((*at < '0' || *at > '9') && *at != '.')
			return -1;
		number = strtod(at, &at);
		while (i < 4 && strncmp(at, units[i].unit, strlen(units[i].unit)) != 0)
			i++;
		if (i == 4)
			return -1;
		at += strlen(units[i].unit);
		total += number * units[i].ms;
	}
	return total < MAX_RETRY_AFTER_MS ? (int64_t) total : MAX_RETRY_AFTER_MS;
}

/* Keep what is printable of the server's name for this request. */
static void
keep_request_id(Transfer *transfer, const char *value, size_t len)
{
	size_t		n = 0;

	for (size_t i = 0; i < len && n < sizeof(transfer->request_id) - 1; i++)
	{
		if (value[i] > ' ' && value[i] <= '~')
			transfer->request_id[n++] = value[i];
	}
	transfer->request_id[n] = '\0';
}

/*
 * A header line of the answer.  All of them are counted together, interim
 * answers (1xx) and trailers included; a status line starts afresh, since
 * only the last answer is meant.
 */
static size_t
take_header(char *line, size_t size, size_t nitems, void *arg)
{
	Transfer   *transfer = arg;
	const char *value;
	size_t		len;

	size *= nitems;
	transfer->header_bytes += size;
	if (transfer->header_bytes > MAX_HEADER_BYTES)
		return refuse(transfer, HTTP_HEADERS_TOO_LARGE);

	if (size > 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		transfer->retry_after_ms = transfer->reset_ms = -1;
		transfer->should_retry = WIRE_ADVICE_NONE;
		transfer->request_id[0] = '\0';
	}
	else if ((value = header_value(line, size, "content-encoding", &len)))
	{
		/* None was asked for, and a small body may unpack to gigabytes. */
		if (len > 0 && !is_word(value, len, "identity"))
			return refuse(transfer, HTTP_BAD_RESPONSE);
	}
	else if ((value = header_value(line, size, "transfer-encoding", &len)))
	{
		/* The same, and libcurl would unpack it. */
		if (!is_word(value, len, "chunked"))
			return refuse(transfer, HTTP_BAD_RESPONSE);
	}
	else if ((value = header_value(line, size, "retry-after-ms", &len)))
		transfer->retry_after_ms = parse_ms(value, len);
	else if ((value = header_value(line, size, "x-ratelimit-reset-requests", &len)) ||
			 (value = header_value(line, size, "x-ratelimit-reset-tokens", &len)))
	{
		/* Both have to be lifted. */
		int64_t		ms = parse_duration(value, len);

		if (ms > transfer->reset_ms)
			transfer->reset_ms = ms;
	}
	else if ((value = header_value(line, size, "x-should-retry", &len)))
		transfer->should_retry =
			len == 4 && strncasecmp(value, "true", 4) == 0 ? WIRE_ADVICE_RETRY :
			len == 5 && strncasecmp(value, "false", 5) == 0 ? WIRE_ADVICE_STOP :
			WIRE_ADVICE_NONE;
	else if ((value = header_value(line, size, "x-request-id", &len)) ||
			 (value = header_value(line, size, "apim-request-id", &len)))
		keep_request_id(transfer, value, len);
	return size;
}

/* Bytes of the body.  libcurl's own limit trusts the announced length. */
static size_t
take_body(char *data, size_t size, size_t nitems, void *arg)
{
	Transfer   *transfer = arg;
	size_t		need;

	size *= nitems;
	need = transfer->body_len + size;
	if (need > transfer->max_response)
		return refuse(transfer, HTTP_RESPONSE_TOO_LARGE);
	if (need > transfer->body_size)
	{
		size_t		room = transfer->body_size;
		char	   *body;

		if (room == 0)
			room = 4096;
		while (room < need)
			room *= 2;
		if ((body = realloc(transfer->body, room)) == NULL)
			return refuse(transfer, HTTP_OUT_OF_MEMORY);
		transfer->body = body;
		transfer->body_size = room;
	}
	memcpy(transfer->body + transfer->body_len, data, size);
	transfer->body_len = need;
	return size;
}

/*
 * libcurl counts.  The worker is told at most four times a second, and once
 * more when all has been sent, since then the server's work begins.
 */
static int
take_progress(void *arg, curl_off_t dltotal, curl_off_t dlnow,
			  curl_off_t ultotal, curl_off_t ulnow)
{
	Transfer   *transfer = arg;
	int64_t		now;

	(void) dltotal;
	(void) dlnow;
	transfer->total = ultotal;
	if (ulnow <= transfer->told ||
		wire_pending(transfer->out) > AGENT_OUTPUT_HIGH)
		return 0;
	now = agent_now_ms();
	if (ulnow < ultotal && now - transfer->told_at < UPLOADED_MS)
		return 0;
	transfer->told = ulnow;
	transfer->told_at = now;
	wire_begin(transfer->out, WIRE_UPLOADED, transfer->job);
	wire_put_u32(transfer->out, transfer->chunk_no);
	wire_put_u64(transfer->out, (uint64_t) ulnow);
	wire_put_u64(transfer->out, (uint64_t) ultotal);
	wire_end(transfer->out);
	return 0;
}

/* May the request go to this address?  If not, that is why it fails. */
static bool
may_go_to(Transfer *transfer, const struct sockaddr *address)
{
	if (!address_allowed(address,
						 (transfer->flags & WIRE_SEND_LINK_LOCAL) != 0))
		transfer->failure = HTTP_REFUSED_ADDRESS;
	else if ((transfer->flags & WIRE_SEND_STAY_HERE) != 0 &&
			 !address_is_loopback(address))
		transfer->failure = HTTP_INSECURE_KEY;
	else
		return true;
	return false;
}

/*
 * Open a socket to this very address, or refuse to.  If the name has other
 * addresses, libcurl goes on to them; a refusal counts if all were refused.
 */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	Transfer   *transfer = arg;

	(void) purpose;
	if (!may_go_to(transfer, &address->addr))
		return CURL_SOCKET_BAD;
	transfer->tried = true;
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
				  address->protocol);
}

/*
 * The last moment before the request goes out, perhaps over a connection that
 * was opened for another one, which was allowed more.
 *
 * When a connection that was kept, or a stream, is closed before an answer
 * comes, libcurl sends the request again by itself, up to five times.  But the
 * server may have done the work, and want to be paid for it: how often to try
 * is for the worker to say.
 */
static int
check_request(void *arg, char *peer, char *local, int peer_port, int local_port)
{
	Transfer   *transfer = arg;
	struct sockaddr_storage address;

	(void) local;
	(void) peer_port;
	(void) local_port;
	if (transfer->begun)
		transfer->failure = HTTP_CONNECTION_LOST;
	else if (!address_of_text(peer, &address))
		transfer->failure = HTTP_REFUSED_ADDRESS;
	else if (may_go_to(transfer, (struct sockaddr *) &address))
	{
		transfer->begun = true;
		return CURL_PREREQFUNC_OK;
	}
	return CURL_PREREQFUNC_ABORT;
}

/*
 * Take the URL apart, for messages; libcurl's parser is the one that counts.
 * Only the two protocols, and no password in it: a URL is not kept secret.
 */
static bool
parse_url(Transfer *transfer, const char *url)
{
	CURLU	   *parts = curl_url();
	CURLUcode	code = CURLUE_OUT_OF_MEMORY;

	if (parts != NULL)
		code = curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	if (code == CURLUE_OK)
		code = curl_url_get(parts, CURLUPART_SCHEME, &transfer->scheme, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(parts, CURLUPART_HOST, &transfer->host, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(parts, CURLUPART_PORT, &transfer->port,
							CURLU_DEFAULT_PORT);
	curl_url_cleanup(parts);
	if (code == CURLUE_OUT_OF_MEMORY)
		transfer->failure = HTTP_OUT_OF_MEMORY;
	else if (code != CURLUE_OK)
	{
		transfer->failure = HTTP_BAD_URL;
		strncpy(transfer->words, curl_url_strerror(code),
				sizeof(transfer->words) - 1);
	}
	else if (strcmp(transfer->scheme, "http") != 0 &&
			 strcmp(transfer->scheme, "https") != 0)
	{
		transfer->failure = HTTP_BAD_URL;
		strcpy(transfer->words, "neither http nor https");
	}
	return transfer->failure == HTTP_NO_FAILURE;
}

/*
 * The form.  The audio comes last, as the vendors' own clients send it: a
 * server or gateway that reads the form as it arrives then knows the model
 * before the long part begins.
 */
static bool
build_form(Transfer *transfer, const WireSend *send)
{
	curl_mimepart *part;

	transfer->mime = curl_mime_init(transfer->easy);
	if (transfer->mime == NULL)
		return false;
	for (uint32_t i = 0; i < send->nfields; i++)
	{
		part = curl_mime_addpart(transfer->mime);
		if (part == NULL ||
			curl_mime_name(part, send->fields[i].name) != CURLE_OK ||
			curl_mime_data(part, send->fields[i].value,
						   CURL_ZERO_TERMINATED) != CURLE_OK)
			return false;
	}
	part = curl_mime_addpart(transfer->mime);
	return part != NULL &&
		curl_mime_name(part, send->file_field) == CURLE_OK &&
		curl_mime_filename(part, transfer->audio->filename) == CURLE_OK &&
		curl_mime_type(part, transfer->audio->content_type) == CURLE_OK &&
		curl_mime_data_cb(part, (curl_off_t) transfer->audio->size,
						  read_audio, NULL, NULL, transfer) == CURLE_OK;
}

/*
 * Whether the file of certificates can be read: libcurl would wait for ever if
 * it were a pipe, and everything else would wait with it.
 */
static bool
check_ca_file(Transfer *transfer, const char *path)
{
	struct stat st;

	if (path[0] == '\0')
		return true;
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		access(path, R_OK) == 0)
		return true;
	transfer->failure = HTTP_CERTIFICATE_REFUSED;
	snprintf(transfer->words, sizeof(transfer->words),
			 "ca_file \"%.150s\" is not a file that can be read", path);
	return false;
}

/* Append a header line; false if there is no memory. */
static bool
add_header(Transfer *transfer, const char *line)
{
	struct curl_slist *list = curl_slist_append(transfer->headers, line);

	if (list == NULL)
		return false;
	transfer->headers = list;
	return true;
}

/* An empty "Expect:" keeps libcurl from waiting for a 100 before it sends. */
static bool
build_headers(Transfer *transfer, const WireSend *send)
{
	for (uint32_t i = 0; i < send->nheaders; i++)
	{
		if (!add_header(transfer, send->headers[i]))
			return false;
	}
	return add_header(transfer, "Expect:");
}

/* Milliseconds as libcurl takes them. */
static long
as_ms(uint32_t ms)
{
	return ms > INT_MAX ? INT_MAX : (long) ms;
}

/*
 * Every option that differs from libcurl's default, and those defaults that
 * our promises rest on.  QUICK_EXIT: without it, removing a handle waits for
 * a resolver thread that hangs, and everything else waits with it.  PIPEWAIT:
 * with TLS it is known right after the handshake whether the server takes many
 * requests on one connection, and until then the others wait for that; without,
 * only its first answer would tell.
 */
static bool
set_options(Transfer *transfer, const WireSend *send)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;

#define SET(option, value) \
	(code = code != CURLE_OK ? code : curl_easy_setopt(easy, option, value))

	SET(CURLOPT_PRIVATE, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->words);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_URL, send->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "*");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (send->ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, send->ca_file);
		SET(CURLOPT_CAPATH, NULL);
		SET(CURLOPT_CA_CACHE_TIMEOUT, 0L);	/* it may have been replaced */
	}
	SET(CURLOPT_PIPEWAIT, strcmp(transfer->scheme, "https") == 0 ? 1L : 0L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, as_ms(send->connect_timeout_ms));
	SET(CURLOPT_TIMEOUT_MS, as_ms(send->timeout_ms));
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_USERAGENT, "transcribe/" TRANSCRIBE_VERSION);
	SET(CURLOPT_HTTPHEADER, transfer->headers);
	SET(CURLOPT_MIMEPOST, transfer->mime);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_PREREQFUNCTION, check_request);
	SET(CURLOPT_PREREQDATA, transfer);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, transfer);
	SET(CURLOPT_XFERINFOFUNCTION, take_progress);
	SET(CURLOPT_XFERINFODATA, transfer);
	SET(CURLOPT_NOPROGRESS, 0L);
#undef SET

	if (code != CURLE_OK)
		transfer->failure = code == CURLE_OUT_OF_MEMORY ?
			HTTP_OUT_OF_MEMORY : HTTP_INTERNAL_ERROR;
	return code == CURLE_OK;
}

/*
 * A request, ready to be handed to libcurl.  NULL if there is no memory at
 * all; otherwise failure says whether it is ready.  Nothing of send is kept
 * by pointer.  audio may be NULL (then it is not ready, and failure says
 * internal error): the worker named a chunk that is not here.
 */
Transfer *
transfer_new(uint64_t job, HttpAudio *audio, const WireSend *send,
			 WireBuffer *out)
{
	Transfer   *transfer = calloc(1, sizeof(Transfer));

	if (transfer == NULL)
		return NULL;
	transfer->job = job;
	transfer->chunk_no = send->chunk_no;
	transfer->request_no = send->request_no;
	transfer->flags = send->flags;
	transfer->max_response = send->max_response < MAX_RESPONSE ?
		send->max_response : MAX_RESPONSE;
	transfer->retry_after_ms = transfer->reset_ms = -1;
	transfer->out = out;
	transfer->told_at = agent_now_ms();
	if (audio == NULL)
	{
		transfer->failure = HTTP_INTERNAL_ERROR;
		strcpy(transfer->words, "the chunk to be sent is not held");
		return transfer;
	}
	transfer->audio = audio;
	audio->users++;
	if (!parse_url(transfer, send->url) ||
		!check_ca_file(transfer, send->ca_file))
		return transfer;
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL || !build_form(transfer, send) ||
		!build_headers(transfer, send))
		transfer->failure = HTTP_OUT_OF_MEMORY;
	else
		set_options(transfer, send);
	return transfer;
}

/* Free it.  It must no longer be in libcurl's multi handle. */
void
transfer_free(Transfer *transfer)
{
	curl_easy_cleanup(transfer->easy);
	curl_mime_free(transfer->mime);
	for (struct curl_slist *line = transfer->headers; line; line = line->next)
		explicit_bzero(line->data, strlen(line->data));
	curl_slist_free_all(transfer->headers);
	curl_free(transfer->scheme);
	curl_free(transfer->host);
	curl_free(transfer->port);
	if (transfer->audio != NULL)
		transfer->audio->users--;
	free(transfer->body);
	free(transfer);
}
