/*-------------------------------------------------------------------------
 *
 * check.c
 *	  transcribe_check_server: what a server does with a spoken sentence.
 *
 * Runs in the caller's backend.  A probe goes the way of a recording, and
 * what became of it is told step by step in the order of that way: up to the
 * first step that fails, with what to do about it.  A server that the caller
 * cannot use at all is an error, the same as in transcribe_enqueue.
 *
 * A step is true if it works, false if it keeps jobs from completing, and NULL
 * if it was not reached, is not used, or is not offered by the server.
 *
 *-------------------------------------------------------------------------
 */
#include "session/check.h"

#include "catalog/pg_user_mapping.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "session/probe.h"
#include "shared/closure.h"
#include "shared/encoding.h"
#include "shared/server.h"
#include "transcribe.h"
#include "worker/request.h"

PG_FUNCTION_INFO_V1(transcribe_check_server);

/* Bytes of a detail: it is for a line on a screen. */
#define MAX_DETAIL	1000

/* The steps, in the order of the way. */
typedef enum Step
{
	STEP_SERVER,
	STEP_KEY,
	STEP_AUDIO,
	STEP_NAME,
	STEP_CONNECTION,
	STEP_TLS,
	STEP_ANSWER,
	STEP_AUTHORIZATION,
	STEP_PATH,
	STEP_MODEL,
	STEP_FORMAT,
	STEP_SEGMENTS,
	STEP_WORDS,
	STEP_LANGUAGE,
	STEP_TEXT,
	STEP_LATENCY
} Step;

static const char *const step_names[] = {
	[STEP_SERVER] = "server",
	[STEP_KEY] = "key",
	[STEP_AUDIO] = "audio",
	[STEP_NAME] = "name",
	[STEP_CONNECTION] = "connection",
	[STEP_TLS] = "tls",
	[STEP_ANSWER] = "answer",
	[STEP_AUTHORIZATION] = "authorization",
	[STEP_PATH] = "path",
	[STEP_MODEL] = "model",
	[STEP_FORMAT] = "format",
	[STEP_SEGMENTS] = "segments",
	[STEP_WORDS] = "words",
	[STEP_LANGUAGE] = "language",
	[STEP_TEXT] = "text",
	[STEP_LATENCY] = "latency",
};

/* What ok is for a step. */
typedef enum RowState
{
	ROW_NULL,
	ROW_FALSE,
	ROW_TRUE
} RowState;

/* What is told of a step; without a detail it was not reached. */
typedef struct Row
{
	RowState	ok;
	const char *detail;
	const char *hint;
} Row;

typedef struct Check
{
	const char *name;
	const char *server;			/* the same, quoted as an identifier */
	Probe		probe;
	const char *mapped;			/* whose user mapping applies, quoted; or NULL */
	const char *words_refused;	/* with times of words, the server said that */
	Row			rows[lengthof(step_names)];
} Check;

/*
 * Where the way ends by which code, and what helps; %s is the server.  What
 * is not listed ends it where the probe was.
 */
static const struct
{
	const char *code;
	Step		step;
	const char *hint;
}			verdicts[] = {
	{"bad_url", STEP_SERVER,
	"ALTER SERVER %s OPTIONS (SET url '...') corrects the URL."},
	{"key_missing", STEP_KEY, NULL},
	{"agent_unavailable", STEP_AUDIO,
	"\"make install\" puts transcribe_agent into the directory that pg_config --pkglibdir prints."},
	{"media_unavailable", STEP_AUDIO,
	"\"make install\" puts transcribe_media into the directory that pg_config --pkglibdir prints."},
	{"other_version", STEP_AUDIO,
	"Restart the server, so that library and programs are those that were installed together."},
	{"silent", STEP_AUDIO,
	"ALTER SERVER %s OPTIONS (SET silence_threshold 'auto') follows the noise floor."},
	{"not_found", STEP_AUDIO,
	"\"make install\" puts the recording there."},
	{"sandbox_unavailable", STEP_AUDIO,
	"Set transcribe.sandbox to \"prefer\" to read recordings with the layers that hold."},
	{"could_not_resolve", STEP_NAME,
	"Correct the host's name with ALTER SERVER %s OPTIONS (SET url '...'), or the system's name resolution."},
	{"could_not_connect", STEP_CONNECTION,
	"Start the server, or correct host and port with ALTER SERVER %s OPTIONS (SET url '...')."},
	{"refused_address", STEP_CONNECTION,
	"ALTER SERVER %s OPTIONS (ADD link_local 'allow') allows link-local addresses."},
	{"tls_failed", STEP_TLS,
	"If the server speaks plain http: ALTER SERVER %s OPTIONS (SET url 'http://...')."},
	{"certificate_refused", STEP_TLS,
	"Use the name that the certificate is for, or trust the authority that signed it: ALTER SERVER %s OPTIONS (ADD ca_file '...')."},
	{"insecure_key", STEP_TLS,
	"ALTER SERVER %s OPTIONS (SET url 'https://...'), or (ADD insecure_key 'allow') where the network is trusted."},
	{"rate_limited", STEP_ANSWER,
	"Jobs wait by themselves, until the server takes requests again."},
	{"quota_exhausted", STEP_ANSWER,
	"The account has to be topped up, or its limit raised, at the service."},
	{"server_error", STEP_ANSWER,
	"The server's own log may say more."},
	{"unauthorized", STEP_AUTHORIZATION, NULL},
	{"not_found_at_server", STEP_PATH,
	"The URL must be the base of the API, such as https://api.openai.com/v1, and the profile that of the server: ALTER SERVER %s OPTIONS (SET url '...')."},
	{"bad_response", STEP_PATH,
	"Something else than an audio API answers. ALTER SERVER %s OPTIONS (SET url '...') corrects the URL."},
	{"refused", STEP_FORMAT,
	"If it is about an option, change it with ALTER SERVER %s OPTIONS (...)."},
	{"refused_audio", STEP_FORMAT,
	"ALTER SERVER %s OPTIONS (ADD audio_format 'wav') sends what every server reads."},
	{"too_large_for_server", STEP_FORMAT,
	"Something before the server allows only small requests."},
};

/* Tell of a step; in the database's encoding. */
static void
set_row(Check *check, Step step, RowState ok, const char *detail,
		const char *hint)
{
	check->rows[step] = (Row) {ok, detail, hint};
}

/*
 * What came as UTF-8, in the database's encoding.  A server may have sent
 * megabytes of it.
 */
const char *
check_text(const char *text)
{
	int			len = pg_encoding_mbcliplen(PG_UTF8, text, strlen(text),
											MAX_DETAIL);

	return encoding_from_utf8(pnstrdup(text, len));
}

/* Whether the recording was prepared. */
static bool
was_prepared(const Probe *probe)
{
	return probe->job->chunks != NIL;
}

/* How far the probe got; without a request that told of it, not out of here. */
static Step
step_reached(const Probe *probe)
{
	if (probe->reach.address == NULL)
		return STEP_AUDIO;
	if (probe->status != 0)
		return STEP_ANSWER;
	if (probe->reach.resolved == 0)
		return STEP_NAME;
	if (probe->reach.connected == 0)
		return STEP_CONNECTION;
	if (probe->reach.secured == 0 &&
		pg_strncasecmp(probe->job->server.url, "https:", 6) == 0)
		return STEP_TLS;
	return STEP_ANSWER;
}

/* What to do about a key that is missing or refused. */
static char *
key_hint(const Check *check)
{
	if (check->mapped == NULL)
		return psprintf("CREATE USER MAPPING FOR PUBLIC SERVER %s OPTIONS (api_key_file '...') names a file that holds the key.",
						check->server);
	return psprintf("Correct the file, which chown and chmod 0600 give to the server's operating-system user, or ALTER USER MAPPING FOR %s SERVER %s OPTIONS (...).",
					check->mapped, check->server);
}

/* Tell what the way ended by; returns the step, or one behind the last. */
static Step
report_failure(Check *check)
{
	Probe	   *probe = &check->probe;
	const char *hint = NULL;
	Step		step;

	if (probe->code == NULL)
		return lengthof(step_names);
	step = step_reached(probe);
	for (size_t i = 0; i < lengthof(verdicts); i++)
	{
		if (strcmp(probe->code, verdicts[i].code) != 0)
			continue;
		if (verdicts[i].hint != NULL)
			hint = psprintf(verdicts[i].hint, check->server);
		step = verdicts[i].step;
	}
	if (probe->status == 0)
		step = Min(step, STEP_ANSWER);
	if (step == STEP_KEY || step == STEP_AUTHORIZATION)
		hint = key_hint(check);
	else if (probe->refuses_model && step > STEP_AUTHORIZATION)
	{
		step = STEP_MODEL;
		hint = psprintf("ALTER SERVER %s OPTIONS (%s model '...') names one that the server has.",
						check->server,
						probe->job->server.model != NULL ? "SET" : "ADD");
	}
	else if (strcmp(probe->code, "timeout") == 0)
		hint = psprintf("A check waits up to %d s, or up to the server's connect_timeout and request_timeout. A server that loads its model at the first request may be in time at the second.",
						PROBE_TIMEOUT_MS / 1000);
	set_row(check, step, ROW_FALSE, check_text(probe->error), hint);
	return step;
}

/*
 * The server's URL.  A check asks it in any case; if jobs do not at present,
 * it may be time that they did again.
 */
static void
report_server(Check *check)
{
	Job		   *job = check->probe.job;
	StateClosure closure;
	const char *reason = NULL;

	if (job->server.held)
		reason = "it is held";
	else if (transcribe_state() != NULL &&
			 closure_get(&job->server, job->key, &closure))
		reason = check_text(closure.reason);
	if (reason == NULL)
		set_row(check, STEP_SERVER, ROW_TRUE, job->server.url, NULL);
	else
		set_row(check, STEP_SERVER, ROW_TRUE,
				psprintf("%s; jobs wait because of: %s", job->server.url, reason),
				psprintf("If the rest is good: SELECT transcribe_resume_server(%s).",
						 quote_literal_cstr(check->name)));
}

/* The key: whose it is, but not what it is. */
static void
report_key(Check *check)
{
	bool		found = check->probe.job->api_key != NULL;

	set_row(check, STEP_KEY, found ? ROW_TRUE : ROW_NULL,
			check->mapped == NULL ? "none: no user mapping applies" :
			psprintf("%s the user mapping for %s", found ? "of" : "none in",
					 check->mapped),
			NULL);
}

/* The recording, and which layers of the sandbox it was read in. */
static void
report_audio(Check *check)
{
	Job		   *job = check->probe.job;
	JobChunk   *chunk = linitial(job->chunks);
	uint32		layers = job->source.sandbox;

	set_row(check, STEP_AUDIO, ROW_TRUE,
			psprintf("%.1f s of speech as %s; sandbox: %s%s%s",
					 chunk->seconds, job->server.audio_format,
					 layers & WIRE_SANDBOX_LIMITS ? "limits" : "no limits",
					 layers & WIRE_SANDBOX_LANDLOCK ? ", Landlock" : ", no Landlock",
					 layers & WIRE_SANDBOX_SECCOMP ? ", seccomp" : ", no seccomp"),
			NULL);
}

/* Up to the answer: what is ours, and the way there. */
static void
report_way(Check *check, Step end)
{
	const WireReach *reach = &check->probe.reach;

	if (end > STEP_SERVER)
		report_server(check);
	if (end > STEP_KEY)
		report_key(check);
	if (end > STEP_AUDIO)
		report_audio(check);
	if (end > STEP_NAME)
		set_row(check, STEP_NAME, ROW_TRUE,
				psprintf("resolved in %.0f ms", reach->resolved * 1000), NULL);
	if (end > STEP_CONNECTION)
		set_row(check, STEP_CONNECTION, ROW_TRUE,
				psprintf("to %s, after %.0f ms", reach->address,
						 reach->connected * 1000),
				NULL);
	if (end > STEP_TLS && reach->secured > 0)
		set_row(check, STEP_TLS, ROW_TRUE,
				psprintf("agreed upon after %.0f ms", reach->secured * 1000),
				NULL);
	else if (end > STEP_TLS)
		set_row(check, STEP_TLS, ROW_NULL, "not used: plain http", NULL);
}

/* The response format, which may have been refused. */
static void
report_format(Check *check)
{
	Job		   *job = check->probe.job;

	if (strcmp(request_format(job), job->server.response_format) == 0)
		set_row(check, STEP_FORMAT, ROW_TRUE, job->server.response_format, NULL);
	else
		set_row(check, STEP_FORMAT, ROW_TRUE,
				psprintf("%s; the model refuses %s", request_format(job),
						 job->server.response_format),
				psprintf("ALTER SERVER %s OPTIONS (ADD response_format 'json') spares the request that is refused.",
						 check->server));
}

/* What the server made of the request. */
static void
report_answer(Check *check, Step end)
{
	Job		   *job = check->probe.job;
	const char *model = job->server.model;

	if (end > STEP_ANSWER)
		set_row(check, STEP_ANSWER, ROW_TRUE,
				psprintf("status %u", check->probe.status), NULL);
	if (end > STEP_AUTHORIZATION)
		set_row(check, STEP_AUTHORIZATION, ROW_TRUE, job->api_key != NULL ?
				"the key was not refused" : "no key was asked for", NULL);
	if (end > STEP_PATH)
		set_row(check, STEP_PATH, ROW_TRUE, "the audio API is there", NULL);
	if (end > STEP_MODEL)
		set_row(check, STEP_MODEL, ROW_TRUE, model == NULL ? "none was named" :
				psprintf("%s was not refused", check_text(model)), NULL);
	if (end > STEP_FORMAT)
		report_format(check);
}

/* Times: how many there are of segments and words. */
static void
report_times(Check *check, Response *response)
{
	int			segments = 0;
	int			words = response->words.count;

	for (int i = 0; i < response->nsegments; i++)
	{
		segments += response->segments[i].start != RESPONSE_NO_NUMBER;
		words += response->segments[i].words.count;
	}
	if (segments > 0)
		set_row(check, STEP_SEGMENTS, ROW_TRUE,
				psprintf("%d with times", segments), NULL);
	else
		set_row(check, STEP_SEGMENTS, ROW_NULL,
				"none with times: each chunk becomes one",
				psprintf("ALTER SERVER %s OPTIONS (ADD chunk_seconds '30') makes them shorter.",
						 check->server));
	if (words > 0)
		set_row(check, STEP_WORDS, ROW_TRUE,
				psprintf("%d with times", words), NULL);
	else
		set_row(check, STEP_WORDS, ROW_NULL, check->words_refused == NULL ?
				"none with times" :
				psprintf("refused: %s", check_text(check->words_refused)), NULL);
}

/* The whole text of an answer. */
static char *
whole_text(Response *response)
{
	StringInfoData text;

	initStringInfo(&text);
	if (response->text != NULL)
		appendStringInfoString(&text, response->text);
	for (int i = 0; response->text == NULL && i < response->nsegments; i++)
	{
		if (response->segments[i].text != NULL)
			appendStringInfo(&text, "%s ", response->segments[i].text);
	}
	while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL)
		text.data[--text.len] = '\0';
	return text.data + strspn(text.data, " \t\r\n");
}

/* What came back. */
static void
report_result(Check *check)
{
	JobChunk   *chunk = linitial(check->probe.job->chunks);
	Response   *response = &chunk->response;
	char	   *text = whole_text(response);

	report_times(check, response);
	if (response->language != NULL)
		set_row(check, STEP_LANGUAGE, ROW_TRUE, check_text(response->language), NULL);
	else
		set_row(check, STEP_LANGUAGE, ROW_NULL, "not reported", NULL);
	if (text[0] != '\0')
		set_row(check, STEP_TEXT, ROW_TRUE, check_text(text), NULL);
	else
		set_row(check, STEP_TEXT, ROW_FALSE, "the answer holds none",
				"What is said in English is \"" PROBE_WORDS "\": does the model hear speech, in the server's language?");
	set_row(check, STEP_LATENCY, ROW_TRUE,
			psprintf("%.0f ms for %.1f s of speech",
					 check->probe.seconds * 1000, chunk->seconds),
			NULL);
}

/* Give the rows to whoever called. */
static void
put_rows(Check *check, void *arg)
{
	ReturnSetInfo *rsinfo = arg;

	for (Step step = 0; step < lengthof(step_names); step++)
	{
		Row		   *row = &check->rows[step];
		Datum		values[5] = {0};
		bool		nulls[5] = {false};

		values[0] = CStringGetTextDatum(check->name);
		values[1] = CStringGetTextDatum(step_names[step]);
		values[2] = BoolGetDatum(row->ok == ROW_TRUE);
		nulls[2] = row->ok == ROW_NULL;
		values[3] = CStringGetTextDatum(row->detail != NULL ? row->detail :
										"not reached");
		nulls[4] = row->hint == NULL;
		if (row->hint != NULL)
			values[4] = CStringGetTextDatum(row->hint);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* Whose user mapping gives the role its key, as CREATE USER MAPPING says it. */
static const char *
mapped_role(Oid roleid, Oid serverid)
{
	if (SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(roleid),
							  ObjectIdGetDatum(serverid)))
		return quote_identifier(GetUserNameFromId(roleid, false));
	if (SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
							  ObjectIdGetDatum(serverid)))
		return "PUBLIC";
	return NULL;
}

/*
 * Send the probe.  Times of words are asked for, so that it is known whether
 * there are any; a server that refuses for that is asked without.
 */
static void
run_check(Check *check, const char *server, Oid roleid)
{
	Probe	   *probe = &check->probe;

	probe_run(probe, server, roleid, true);
	if ((probe->status == 400 || probe->status == 422) &&
		probe->code != NULL && !probe->refuses_model)
	{
		char	   *refusal = pstrdup(probe->error);

		probe_run(probe, server, roleid, false);
		if (probe->code == NULL)
			check->words_refused = refusal;
	}
}

/* The first step that fails, or what was heard, and how soon. */
static void
sum_up(Check *check, void *arg)
{
	CheckSummary *summary = arg;

	summary->ok = true;
	summary->detail = check->rows[STEP_TEXT].detail == NULL ? NULL :
		psprintf("heard \"%s\", %s", check->rows[STEP_TEXT].detail,
				 check->rows[STEP_LATENCY].detail);
	for (Step step = 0; step < lengthof(step_names); step++)
	{
		Row		   *row = &check->rows[step];

		if (row->ok != ROW_FALSE || row->detail == NULL)
			continue;
		summary->ok = false;
		summary->detail = psprintf("%s: %s", step_names[step], row->detail);
		summary->hint = row->hint != NULL ? pstrdup(row->hint) : NULL;
		break;
	}
}

/* Check a server for the current role, and tell of it while the probe is there. */
static void
examine(const char *server, void (*tell) (Check *check, void *arg), void *arg)
{
	Oid			roleid = GetUserId();
	Check	   *check = palloc0(sizeof(Check));
	TranscribeServer config;

	server_check_usage(server, roleid, &config);
	check->name = server;
	check->server = quote_identifier(server);
	check->mapped = mapped_role(roleid, config.serverid);

	PG_ENSURE_ERROR_CLEANUP(probe_end, PointerGetDatum(&check->probe));
	{
		Step		end;

		run_check(check, server, roleid);
		if (!was_prepared(&check->probe) && check->probe.code == NULL)
		{
			check->probe.code = "silent";
			check->probe.error = "all of the speech is taken for silence";
		}
		end = report_failure(check);
		report_way(check, end);
		report_answer(check, end);
		if (end > STEP_LATENCY)
			report_result(check);
		tell(check, arg);
	}
	PG_END_ENSURE_ERROR_CLEANUP(probe_end, PointerGetDatum(&check->probe));
	probe_end(0, PointerGetDatum(&check->probe));
}

/* Check a server for the current role; the rows go into rsinfo. */
void
check_server(const char *server, ReturnSetInfo *rsinfo)
{
	examine(server, put_rows, rsinfo);
}

/* The same, in one line. */
void
check_server_briefly(const char *server, CheckSummary *summary)
{
	memset(summary, 0, sizeof(*summary));
	examine(server, sum_up, summary);
}

/* SQL: for each of the servers one row for each step on the way. */
Datum
transcribe_check_server(PG_FUNCTION_ARGS)
{
	char	   *servers = PG_ARGISNULL(0) ? transcribe_server :
		text_to_cstring(PG_GETARG_TEXT_PP(0));
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	foreach(lc, server_list_require(servers))
		check_server(lfirst(lc), (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}
