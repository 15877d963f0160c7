/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  transcribe_enqueue: a recording goes into the queue.
 *
 * Runs in the caller's backend: checks as the caller, one INSERT as the
 * tables' owner, and a wake-up at commit.  Everything the job depends on is
 * frozen into its row, because the worker sees nothing of this session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "session/enqueue.h"
#include "session/identity.h"
#include "session/insert.h"
#include "session/on_complete.h"
#include "session/options.h"
#include "session/tables.h"
#include "session/wake.h"
#include "shared/failpoint.h"
#include "shared/server.h"
#include "transcribe.h"

PG_FUNCTION_INFO_V1(transcribe_enqueue);
PG_FUNCTION_INFO_V1(transcribe_enqueue_uuid);
PG_FUNCTION_INFO_V1(transcribe_enqueue_bigint);
PG_FUNCTION_INFO_V1(transcribe_enqueue_bytea);
PG_FUNCTION_INFO_V1(transcribe_enqueue_large_object);

/* Longest session_id, in bytes: it must fit into an index entry. */
#define MAX_SESSION_ID	1024

/*
 * How often a job may vanish between our failed INSERT and our look at it,
 * before we say so: it would have to end just then, each time.
 */
#define MAX_TRIES		10

static Statement insert_if_new = {
	.sql = "INSERT INTO %1$s.transcribe_jobs (session_id, path, server, owner, "
	"priority, run_at, options, max_attempts) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
	"ON CONFLICT DO NOTHING RETURNING id",
	.nargs = INSERT_COLUMNS,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, NAMEOID, INT4OID, TIMESTAMPTZOID,
	JSONBOID, INT4OID}
};

static Statement find_active = {
	.sql = "SELECT id FROM %1$s.transcribe_jobs j "
	"WHERE j.session_id OPERATOR(pg_catalog.=) $1 "
	"AND j.path OPERATOR(pg_catalog.=) $2 "
	"AND j.owner OPERATOR(pg_catalog.=) $3 "
	"AND j.status OPERATOR(pg_catalog.=) ANY "
	TABLES_ACTIVE,
	.nargs = 3, .argtypes = {TEXTOID, TEXTOID, NAMEOID}
};

/*
 * If the id that the last INSERT took is taken: go on behind the largest.  So
 * it is where rows have come by other ways than ours, as to a subscriber, or
 * somebody has set the sequence, $1.  Who may set it may also have put a job to
 * its very end, $2: then go on anywhere, $3.
 */
static Statement move_ids = {
	.sql = "SELECT pg_catalog.setval($1, CASE WHEN last.id OPERATOR(pg_catalog.>) $2 "
	"THEN $3 ELSE last.id END) "
	"FROM (SELECT pg_catalog.max(j.id) AS id FROM %1$s.transcribe_jobs j) last "
	"WHERE EXISTS (SELECT FROM %1$s.transcribe_jobs o "
	"WHERE o.id OPERATOR(pg_catalog.=) pg_catalog.currval($1))",
	.nargs = 3, .argtypes = {REGCLASSOID, INT8OID, INT8OID}
};

/* The id that the last statement returned, or 0. */
static int64
returned_id(void)
{
	bool		isnull;

	if (SPI_processed == 0)
		return 0;
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									   SPI_tuptable->tupdesc, 1, &isnull));
}

/* See to it that the next id is free, if that was why none was inserted. */
static void
skip_taken_ids(TablesScope *scope)
{
	uint64		anywhere;
	Datum		values[3];

	if (!pg_strong_random(&anywhere, sizeof(anywhere)))
		elog(ERROR, "could not generate random number");
	values[0] = ObjectIdGetDatum(get_relname_relid("transcribe_jobs_id_seq",
												   scope->schema));
	values[1] = Int64GetDatum(PG_INT64_MAX / 2);
	values[2] = Int64GetDatum((int64) (anywhere % (PG_INT64_MAX / 2)) + 1);
	tables_execute(scope, &move_ids, values, NULL);
}

/*
 * Insert the job, or find the active one of the same owner, session and
 * path that keeps it out.
 */
static int64
insert_or_find(TablesScope *scope, Datum *values, bool *inserted)
{
	int64		id = insert_job(scope->schema, values);

	*inserted = id != 0;
	for (int try = 0; id == 0 && try < MAX_TRIES; try++)
	{
		tables_execute(scope, &insert_if_new, values, NULL);
		id = returned_id();
		*inserted = id != 0;
		if (id == 0)
		{
			Datum		key[3] = {values[0], values[1], values[3]};

			tables_execute(scope, &find_active, key, NULL);
			id = returned_id();
			if (id == 0)
				skip_taken_ids(scope);
		}
	}
	if (id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not enqueue because of concurrent activity on the same recording"),
				 errhint("Try again.")));
	return id;
}

/*
 * The servers that the job may go to, of which the caller must be allowed to
 * use each; as the list is stored.  The first says how often to try, and what is
 * to be called in the end.
 */
static char *
check_servers(const char *text, EnqueueTerms *terms)
{
	List	   *names = server_list_require(text);
	ListCell   *lc;

	foreach(lc, names)
	{
		TranscribeServer server;

		server_check_usage(lfirst(lc), terms->caller, &server);
		if (foreach_current_index(lc) > 0)
			continue;
		terms->max_attempts = server.max_attempts;
		terms->on_complete = server.on_complete;
	}
	return server_list_text(names);
}

/*
 * Check what is given beside the recordings, as the current user.  NULL stands
 * for the default of servers and options.
 */
void
enqueue_terms(EnqueueTerms *terms, const char *servers, int32 priority,
			  TimestampTz run_at, Jsonb *options)
{
	PreventCommandDuringRecovery("transcribe_enqueue()");
	PreventCommandIfReadOnly("transcribe_enqueue()");
	if (options == NULL)
		options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));

	terms->caller = GetUserId();
	terms->servers = check_servers(servers != NULL ? servers : transcribe_server,
								   terms);
	terms->priority = priority;
	terms->run_at = run_at;
	terms->options = options;
	options_check(options, &terms->max_attempts);
	(void) identity_check_preload("The job is stored, but no worker takes it.");
}

/* Raise an error unless a job may have this session_id. */
void
enqueue_check_session(text *session_id)
{
	if (VARSIZE_ANY_EXHDR(session_id) > MAX_SESSION_ID)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("session_id is too long"),
				 errdetail("It has %zu bytes; at most %d are stored.",
						   (Size) VARSIZE_ANY_EXHDR(session_id), MAX_SESSION_ID)));
}

/*
 * Insert a job whose session and recording have been checked.  Returns its id,
 * or that of the active job that it would be a double of.
 */
int64
enqueue_insert(FunctionCallInfo fcinfo, const EnqueueTerms *terms,
			   text *session_id, const Recording *recording)
{
	NameData	owner;
	Datum		values[INSERT_COLUMNS];
	TablesScope scope;
	bool		inserted;
	int64		id;

	namestrcpy(&owner, GetUserNameFromId(terms->caller, false));
	values[0] = PointerGetDatum(session_id);
	values[1] = CStringGetTextDatum(recording->path);
	values[2] = CStringGetTextDatum(terms->servers);
	values[3] = NameGetDatum(&owner);
	values[4] = Int32GetDatum(terms->priority);
	values[5] = TimestampTzGetDatum(terms->run_at);
	values[6] = JsonbPGetDatum(terms->options);
	values[7] = Int32GetDatum(terms->max_attempts);

	if (recording->kind == RECORDING_BYTES)
		tables_begin_all(&scope, fcinfo);
	else
		tables_begin(&scope, fcinfo);
	id = insert_or_find(&scope, values, &inserted);
	if (inserted && recording->kind == RECORDING_BYTES)
		recording_store(&scope, recording, id, NameStr(owner));
	tables_end(&scope);
	FAILPOINT("enqueue_inserted");

	wake_for_job(terms->run_at);
	if (terms->on_complete != NULL)
		(void) on_complete_ask(fcinfo, id, terms->on_complete);
	return id;
}

/* An argument that must be there. */
static void
require_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

/*
 * The common body: session_id has become text, and the recording is of the
 * given kind; the other arguments are as in SQL.  NULL stands for the default
 * of each that has one.
 */
static Datum
enqueue(FunctionCallInfo fcinfo, text *session_id, RecordingKind kind,
		const char *recording_name)
{
	EnqueueTerms terms;
	Recording	recording;

	require_argument(fcinfo, 1, recording_name);
	enqueue_check_session(session_id);
	enqueue_terms(&terms,
				  PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2)),
				  PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3),
				  PG_ARGISNULL(4) ? GetCurrentTransactionStartTimestamp() :
				  PG_GETARG_TIMESTAMPTZ(4),
				  PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5));
	recording_init(&recording, kind, PG_GETARG_DATUM(1));
	recording_check(&recording, terms.caller);
	if (PG_NARGS() > 6 && !PG_ARGISNULL(6))
		terms.on_complete = text_to_cstring(PG_GETARG_TEXT_PP(6));
	PG_RETURN_INT64(enqueue_insert(fcinfo, &terms, session_id, &recording));
}

/* SQL: transcribe_enqueue(session_id text, path text, ...) */
Datum
transcribe_enqueue(PG_FUNCTION_ARGS)
{
	require_argument(fcinfo, 0, "session_id");
	return enqueue(fcinfo, PG_GETARG_TEXT_PP(0), RECORDING_PATH, "path");
}

/* SQL: transcribe_enqueue(session_id uuid, path text, ...) */
Datum
transcribe_enqueue_uuid(PG_FUNCTION_ARGS)
{
	require_argument(fcinfo, 0, "session_id");
	return enqueue(fcinfo,
				   cstring_to_text(DatumGetCString(DirectFunctionCall1(uuid_out,
																	   PG_GETARG_DATUM(0)))),
				   RECORDING_PATH, "path");
}

/* SQL: transcribe_enqueue(session_id bigint, path text, ...) */
Datum
transcribe_enqueue_bigint(PG_FUNCTION_ARGS)
{
	require_argument(fcinfo, 0, "session_id");
	return enqueue(fcinfo,
				   cstring_to_text(psprintf(INT64_FORMAT, PG_GETARG_INT64(0))),
				   RECORDING_PATH, "path");
}

/* SQL: transcribe_enqueue(session_id text, audio bytea, ...) */
Datum
transcribe_enqueue_bytea(PG_FUNCTION_ARGS)
{
	require_argument(fcinfo, 0, "session_id");
	return enqueue(fcinfo, PG_GETARG_TEXT_PP(0), RECORDING_BYTES, "audio");
}

/* SQL: transcribe_enqueue(session_id text, large_object oid, ...) */
Datum
transcribe_enqueue_large_object(PG_FUNCTION_ARGS)
{
	require_argument(fcinfo, 0, "session_id");
	return enqueue(fcinfo, PG_GETARG_TEXT_PP(0), RECORDING_LARGE_OBJECT,
				   "large_object");
}
