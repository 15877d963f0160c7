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

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "shared/fields.h"
#include "transcribe.h"

/*
 * Longest chunk where it is nobody's choice.  Ten minutes keep well below
 * every known limit of length.  Where answers carry no times, a chunk is a
 * segment: half a minute is short enough to be found in a player, and as long
 * as what Whisper looks at together, so that no context is lost by it.
 */
#define CHUNK_SECONDS		600
#define TEXT_CHUNK_SECONDS	30

/* What was learnt of a model: its answers carry no times. */
typedef struct TextModel
{
	Oid			serverid;
	char	   *model;
	bool		only_json;		/* it has refused all other formats */
} TextModel;

/* Of TextModel, in TopMemoryContext; as many as there are such models. */
static List *text_models = NIL;

/* Whether s ends with the given end. */
static bool
ends_with(const char *s, const char *end)
{
	size_t		len = strlen(s);
	size_t		end_len = strlen(end);

	return len >= end_len && strcmp(s + len - end_len, end) == 0;
}

/* The job's own option, else the server's. */
static const char *
either(const char *of_job, const char *of_server)
{
	return of_job != NULL ? of_job : of_server;
}

/* The model that the job asks for; empty if it names none. */
const char *
request_model(Job *job)
{
	const char *model = either(job->options.model, job->server.model);

	return model != NULL ? model : "";
}

/* A path with the model in its place, as a URL takes it. */
static char *
expand_path(Job *job, const char *path)
{
	StringInfoData out;

	initStringInfo(&out);
	while (*path != '\0')
	{
		if (strncmp(path, "{model}", 7) != 0)
		{
			appendStringInfoChar(&out, *path++);
			continue;
		}
		for (const char *p = request_model(job); *p != '\0'; p++)
		{
			if (strchr("-._~", *p) != NULL ||
				(*p >= '0' && *p <= '9') ||
				(*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z'))
				appendStringInfoChar(&out, *p);
			else
				appendStringInfo(&out, "%%%02X", (unsigned char) *p);
		}
		path += 7;
	}
	return out.data;
}

/*
 * The whole URL.  People give the base, as it is documented, or the whole
 * path, which then must not be doubled.
 */
static char *
request_url(Job *job)
{
	const TranscribeServer *server = &job->server;
	char	   *path = expand_path(job, server->path);
	char	   *translation = expand_path(job, server->translation_path);
	size_t		len = strlen(server->url);

	if (ends_with(server->url, path))
		len -= strlen(path);
	else if (ends_with(server->url, translation))
		len -= strlen(translation);
	return psprintf("%.*s%s%s%s", (int) len, server->url,
					job->options.translate ? translation : path,
					server->api_version != NULL ? "?api-version=" : "",
					server->api_version != NULL ? server->api_version : "");
}

/*
 * Whether the job's requests can be made: not if the model is a part of the
 * path, and there is none, or one that leads out of it.
 */
bool
request_is_possible(Job *job)
{
	const char *path = job->options.translate ? job->server.translation_path :
		job->server.path;
	const char *model = request_model(job);

	return strstr(path, "{model}") == NULL || model[strspn(model, ".")] != '\0';
}

/* What was learnt of the job's model on its server, or NULL. */
static TextModel *
find_text_model(Job *job)
{
	ListCell   *lc;

	foreach(lc, text_models)
	{
		TextModel  *known = lfirst(lc);

		if (known->serverid == job->server.serverid &&
			strcmp(known->model, request_model(job)) == 0)
			return known;
	}
	return NULL;
}

/* The response format to ask for: the server's option, or what was learnt. */
const char *
request_format(Job *job)
{
	TextModel  *known = find_text_model(job);

	return known != NULL && known->only_json ? "json" :
		job->server.response_format;
}

/* Longest chunk for the job, in seconds. */
int
request_chunk_seconds(Job *job)
{
	const char *format = request_format(job);

	if (job->server.chunk_seconds > 0)
		return job->server.chunk_seconds;
	return find_text_model(job) != NULL || strcmp(format, "json") == 0 ||
		strcmp(format, "text") == 0 ? TEXT_CHUNK_SECONDS : CHUNK_SECONDS;
}

/*
 * The job's model gives no times.  If it has refused to, it is asked for json
 * from now on.
 */
void
request_learn_text(Job *job, bool refused)
{
	TextModel  *known = find_text_model(job);

	if (known == NULL)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

		known = palloc0(sizeof(TextModel));
		known->serverid = job->server.serverid;
		known->model = pstrdup(request_model(job));
		text_models = lappend(text_models, known);
		MemoryContextSwitchTo(oldcontext);
	}
	known->only_json |= refused;
}

/* Forget what was learnt: each model is asked for the server's format again. */
void
request_forget_text(void)
{
	ListCell   *lc;

	foreach(lc, text_models)
		pfree(((TextModel *) lfirst(lc))->model);
	list_free_deep(text_models);
	text_models = NIL;
}

/* Milliseconds that a request with so much audio may take as a whole. */
int64
request_timeout(const TranscribeServer *server, double seconds)
{
	return server->request_timeout +
		(int64) (server->timeout_factor * seconds * 1000);
}

/* The line that carries the key. */
static char *
auth_line(const char *header, const char *key)
{
	return psprintf(strchr(header, ':') != NULL ? "%s %s" : "%s: %s", header, key);
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

/* Remove a form field, however often it is there. */
static void
remove_field(WireSend *send, const char *name)
{
	uint32		kept = 0;

	for (uint32 i = 0; i < send->nfields; i++)
	{
		if (strcmp(send->fields[i].name, name) != 0)
			send->fields[kept++] = send->fields[i];
	}
	send->nfields = kept;
}

/* Length of the first character of UTF-8. */
static int
character_length(const char *text)
{
	return pg_utf_mblen((const unsigned char *) text);
}

/*
 * A prompt that is no longer than the server takes: of a longer one the end,
 * from a word on, since the end is what models look at.
 */
static const char *
clipped_prompt(const char *prompt, int most)
{
	const char *word;
	int			len = 0;

	if (most == 0 || prompt == NULL)
		return prompt;
	for (const char *p = prompt; *p != '\0'; p += character_length(p))
		len++;
	if (len <= most)
		return prompt;
	for (; len > most; len--)
		prompt += character_length(prompt);
	word = strchr(prompt, ' ');
	return word != NULL && word[1] != '\0' ? word + 1 : prompt;
}

/* Add what the job and its server ask for as form fields. */
static void
add_fields(WireSend *send, Job *job)
{
	const TranscribeServer *server = &job->server;
	const char *format = request_format(job);
	bool		diarized = strcmp(format, "diarized_json") == 0;
	bool		one_path = strcmp(server->path, server->translation_path) == 0;
	ListCell   *lc;

	add_field(send, "model", either(job->options.model, server->model));

	/* A translation is into English, whatever it is from. */
	if (!job->options.translate || one_path)
		add_field(send, "language", either(job->options.language, server->language));
	if (job->options.translate && one_path)
		add_field(send, "translate", "true");

	/* Models that tell speakers apart take no prompt, and need a strategy. */
	if (!diarized)
		add_field(send, "prompt",
				  clipped_prompt(either(job->options.prompt, server->prompt),
								 server->max_prompt_length));
	else
		add_field(send, "chunking_strategy", "auto");
	add_field(send, "temperature", either(job->options.temperature,
										  server->temperature));
	add_field(send, "response_format", format);

	/* Word times come only with this format, and only if asked for. */
	if (strcmp(format, "verbose_json") == 0 && !job->options.translate)
	{
		add_field(send, "timestamp_granularities[]", "segment");
		if (job->options.words)
			add_field(send, "timestamp_granularities[]", "word");
	}
	foreach(lc, server->extra_fields)
	{
		Field	   *field = lfirst(lc);

		if (!field->more)
			remove_field(send, field->name);
		add_field(send, field->name, field->value);
	}
}

/* Append the request to what goes out to the agent. */
void
request_put(WireBuffer *out, Job *job, JobChunk *chunk, uint32 request_no)
{
	const TranscribeServer *server = &job->server;
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
		header = auth_line(server->auth_header, job->api_key);
		send.headers[send.nheaders++] = header;
	}
	add_fields(&send, job);
	wire_put_send(out, job->tag, &send);
	if (header != NULL)
		explicit_bzero(header, strlen(header));
}
