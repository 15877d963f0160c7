/*-------------------------------------------------------------------------
 *
 * request.c
 *	  A chunk and a server become a request.
 *
 * Runs in the worker.  The only file that knows the names of OpenAI's audio
 * API: what a job or its server asks for becomes a URL, headers and form
 * fields.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/request.h"

#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "transcribe.h"

#define TRANSCRIPTIONS	"/audio/transcriptions"
#define TRANSLATIONS	"/audio/translations"

/* Whether s ends with the given end. */
static bool
ends_with(const char *s, const char *end)
{
	size_t		len = strlen(s);
	size_t		end_len = strlen(end);

	return len >= end_len && strcmp(s + len - end_len, end) == 0;
}

/*
 * The whole URL.  People give the base, as OpenAI documents it, or the whole
 * path, which then must not be doubled.
 */
static char *
request_url(Job *job)
{
	const char *url = job->server.url;
	const char *action = job->options.translate ? TRANSLATIONS : TRANSCRIPTIONS;
	size_t		len = strlen(url);

	if (ends_with(url, TRANSCRIPTIONS))
		len -= strlen(TRANSCRIPTIONS);
	else if (ends_with(url, TRANSLATIONS))
		len -= strlen(TRANSLATIONS);
	return psprintf("%.*s%s", (int) len, url, action);
}

/* Add a form field, if there is a value. */
static void
add_field(WireSend *send, const char *name, const char *value)
{
	if (value == NULL)
		return;
	Assert(send->nfields < WIRE_MAX_FIELDS);
	send->fields[send->nfields].name = name;
	send->fields[send->nfields].value = value;
	send->nfields++;
}

/* The job's own option, else the server's. */
static const char *
either(const char *of_job, const char *of_server)
{
	return of_job != NULL ? of_job : of_server;
}

/* A model that has refused every format but json. */
typedef struct PlainModel
{
	Oid			serverid;
	char	   *model;
} PlainModel;

/* Of PlainModel, in TopMemoryContext; as many as there are such models. */
static List *plain_models = NIL;

/* The model that the job asks for; empty if it names none. */
const char *
request_model(Job *job)
{
	const char *model = either(job->options.model, job->server.model);

	return model != NULL ? model : "";
}

/* The response format to ask for: the server's option, or what was learnt. */
const char *
request_format(Job *job)
{
	ListCell   *lc;

	foreach(lc, plain_models)
	{
		PlainModel *plain = lfirst(lc);

		if (plain->serverid == job->server.serverid &&
			strcmp(plain->model, request_model(job)) == 0)
			return "json";
	}
	return job->server.response_format;
}

/*
 * The job's model has refused another format than json: from now on it is
 * asked for that.
 */
void
request_learn_format(Job *job)
{
	MemoryContext oldcontext;
	PlainModel *plain;

	if (strcmp(request_format(job), "json") == 0)
		return;
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	plain = palloc(sizeof(PlainModel));
	plain->serverid = job->server.serverid;
	plain->model = pstrdup(request_model(job));
	plain_models = lappend(plain_models, plain);
	MemoryContextSwitchTo(oldcontext);
}

/* Milliseconds that a request with so much audio may take as a whole. */
int64
request_timeout(const TranscribeServer *server, double seconds)
{
	return server->request_timeout +
		(int64) (server->timeout_factor * seconds * 1000);
}

/* Append the request to what goes out to the agent. */
void
request_put(WireBuffer *out, Job *job, JobChunk *chunk, uint32 request_no)
{
	const TranscribeServer *server = &job->server;
	const char *format = request_format(job);
	bool		verbose = strcmp(format, "verbose_json") == 0;
	WireSend	send = {0};
	char	   *header = NULL;

	send.chunk_no = chunk->chunk_no;
	send.request_no = request_no;
	send.url = request_url(job);
	send.connect_timeout_ms = server->connect_timeout;
	send.timeout_ms = request_timeout(server, chunk->seconds);
	send.max_response = (uint64) transcribe_max_response * 1024;
	send.flags = server->link_local ? WIRE_SEND_LINK_LOCAL : 0;
	send.ca_file = server->ca_file;
	send.file_field = "file";
	if (job->api_key != NULL)
	{
		if (pg_strncasecmp(send.url, "http:", 5) == 0 && !server->insecure_key)
			send.flags |= WIRE_SEND_STAY_HERE;
		header = psprintf("Authorization: Bearer %s", job->api_key);
		send.headers[send.nheaders++] = header;
	}

	add_field(&send, "model", either(job->options.model, server->model));

	/* A translation is into English, whatever it is from. */
	if (!job->options.translate)
		add_field(&send, "language", either(job->options.language, server->language));
	add_field(&send, "prompt", either(job->options.prompt, server->prompt));
	add_field(&send, "temperature", either(job->options.temperature,
										   server->temperature));
	add_field(&send, "response_format", format);

	/* Word times come only with this format, and only if asked for. */
	if (verbose && !job->options.translate)
	{
		add_field(&send, "timestamp_granularities[]", "segment");
		if (job->options.words)
			add_field(&send, "timestamp_granularities[]", "word");
	}
	if (strcmp(format, "diarized_json") == 0)
		add_field(&send, "chunking_strategy", "auto");

	wire_put_send(out, job->tag, &send);
	if (header != NULL)
		explicit_bzero(header, strlen(header));
}
