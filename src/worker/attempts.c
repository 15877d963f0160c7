/*-------------------------------------------------------------------------
 *
 * attempts.c
 *	  The history of a job's requests, for transcribe_attempts.
 *
 * Runs in the worker.  A request is written when it has ended, with whatever
 * else there is to write of its job then.  One that is broken off, because the
 * job was cancelled or the worker has to go, leaves no row.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/attempts.h"

#include "utils/json.h"
#include "utils/timestamp.h"

/* Append "name": a text, or nothing if there is none. */
static void
append_text(StringInfo json, const char *name, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	appendStringInfo(json, ", \"%s\": ", name);
	escape_json(json, value);
}

/* Append a request to what becomes the argument of transcribe_save_attempts. */
void
attempts_append(StringInfo json, int64 job_id, const AttemptRequest *request)
{
	appendStringInfo(json, "%s{\"job_id\": " INT64_FORMAT ", "
					 "\"attempt\": %d, \"chunk_no\": %d, "
					 "\"started_at\": \"%s\", \"elapsed_s\": %.3f, "
					 "\"audio_s\": %.3f, \"sent_bytes\": " UINT64_FORMAT,
					 json->len > 1 ? ", " : "", job_id, request->attempt,
					 request->chunk_no, timestamptz_to_str(request->started),
					 request->elapsed, request->audio, request->sent);
	if (request->status != 0)
		appendStringInfo(json, ", \"http_status\": %d", request->status);
	append_text(json, "server", request->server);
	append_text(json, "model", request->model);
	append_text(json, "error_code", request->code);
	append_text(json, "error", request->error);
	append_text(json, "request_id", request->request_id);
	if (request->usage != NULL)
		appendStringInfo(json, ", \"usage\": %s", request->usage);
	appendStringInfoChar(json, '}');
}
