/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  Every statement of the worker on the tables.
 *
 * Runs in the worker.  The statements proper are SQL functions of the
 * extension, so that a worker elsewhere could use them over a connection;
 * here they get their arguments, and their results become C.
 *
 * A transaction is short: it begins, runs statements that wait for no one
 * longer than lock_timeout, and commits.  Claims, progress and give-backs
 * commit asynchronously, since losing one only means that the job is claimed
 * again; results commit as transcribe.synchronous_commit says.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/queue.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "shared/encoding.h"
#include "shared/extension.h"
#include "shared/statement.h"
#include "transcribe.h"
#include "worker/attempts.h"
#include "worker/worker.h"

/* Schema of the extension, as the last queue_find_extension() found it. */
static Oid	schema = InvalidOid;

/* Begin a transaction; durable says whether it saves results. */
void
queue_begin_transaction(bool durable)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) set_config_option("synchronous_commit",
							 durable ?
							 GetConfigOption("transcribe.synchronous_commit", false, false) :
							 "off",
							 PGC_SUSET, PGC_S_OVERRIDE, GUC_ACTION_LOCAL,
							 true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, durable ? "saving" : "claiming");
}

/* Commit, and let autovacuum know what we wrote. */
void
queue_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* After an error: out of the transaction, with the memory given back. */
void
queue_abort(void)
{
	AbortOutOfAnyTransaction();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Look the extension up; false if this database has none of ours. */
bool
queue_find_extension(void)
{
	return extension_schema(&schema);
}

static void
execute(Statement *statement, Datum *values, const char *nulls)
{
	statement_execute(statement, schema, values, nulls);
}

/* Column of a row of the result, in the current memory context. */
static Datum
column(int row, int n, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 n, isnull);
}

static bool
result_bool(void)
{
	bool		isnull;
	Datum		value;

	if (SPI_processed != 1)
		return false;
	value = column(0, 1, &isnull);
	return !isnull && DatumGetBool(value);
}

/* The ids of jobs as an array. */
static Datum
job_ids(List *jobs)
{
	Datum	   *ids = palloc_array(Datum, Max(list_length(jobs), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, jobs)
		ids[n++] = Int64GetDatum(((Job *) lfirst(lc))->id);
	return PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * Give orphans back to the queue: of workers that are gone, and those that are
 * ours by their rows and not among our jobs.  Each is worth a line in the log.
 */
void
queue_rescue(int64 incarnation, List *jobs)
{
	static Statement statement = {
		"SELECT id, status FROM %1$s.transcribe_rescue($1, $2)",
		2, {INT8OID, INT8ARRAYOID}
	};
	Datum		values[2] = {Int64GetDatum(incarnation), job_ids(jobs)};

	execute(&statement, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		ereport(LOG,
				(errmsg("transcription job " INT64_FORMAT " was interrupted by a crash, now %s",
						DatumGetInt64(column(i, 1, &isnull)),
						SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2))));
	}
}

/* An option of a job as text, or NULL. */
static char *
option_text(Jsonb *options, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&options->root, name, strlen(name),
									 &value) == NULL)
		return NULL;
	if (value.type == jbvString)
		return pnstrdup(value.val.string.val, value.val.string.len);
	if (value.type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value.val.numeric)));
	if (value.type == jbvBool && value.val.boolean)
		return pstrdup("true");
	return NULL;
}

/* A job from a row of the claim; it lives in a context of its own. */
static Job *
job_from_row(int row)
{
	bool		isnull;
	bool		failed;
	Datum		served_by;
	Job		   *job = job_create(DatumGetInt64(column(row, 1, &isnull)));
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);
	Jsonb	   *options;

	job->path = TextDatumGetCString(column(row, 2, &isnull));
	job->servers = TextDatumGetCString(column(row, 3, &isnull));
	job->owner = pstrdup(NameStr(*DatumGetName(column(row, 4, &isnull))));
	job->attempts = DatumGetInt32(column(row, 5, &isnull));
	job->max_attempts = DatumGetInt32(column(row, 6, &isnull));
	job->row_progress = DatumGetInt32(column(row, 7, &isnull));
	options = DatumGetJsonbP(column(row, 8, &isnull));
	job->options.language = option_text(options, "language");
	job->options.prompt = option_text(options, "prompt");
	job->options.model = option_text(options, "model");
	job->options.temperature = option_text(options, "temperature");
	job->options.words = option_text(options, "words") != NULL;
	job->options.translate = option_text(options, "translate") != NULL;
	job->options.channels = option_text(options, "channels");

	/* Only where the last attempt failed is another server to be preferred. */
	served_by = column(row, 9, &isnull);
	if (!isnull && DatumGetBool(column(row, 10, &failed)))
		job->served_by = TextDatumGetCString(served_by);
	MemoryContextSwitchTo(oldcontext);
	return job;
}

/* Add to its job what is saved of it, from a row. */
static void
add_saved(List *jobs, int row)
{
	bool		isnull;
	int64		id = DatumGetInt64(column(row, 1, &isnull));
	ListCell   *lc;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);
		MemoryContext oldcontext;
		JobSaved   *saved;
		Datum		value;

		if (job->id != id)
			continue;
		oldcontext = MemoryContextSwitchTo(job->context);
		saved = palloc0(sizeof(JobSaved));
		saved->chunk_no = DatumGetInt32(column(row, 2, &isnull));
		saved->plan = TextDatumGetCString(column(row, 3, &isnull));
		saved->server = TextDatumGetCString(column(row, 8, &isnull));
		value = column(row, 4, &isnull);
		saved->stretch.channel = isnull ? WIRE_MIXED : (uint32) DatumGetInt32(value);
		saved->stretch.start = DatumGetFloat8(column(row, 5, &isnull));
		saved->stretch.end = DatumGetFloat8(column(row, 6, &isnull));
		value = column(row, 7, &isnull);
		if (!isnull && job->language == NULL)
			job->language = encoding_to_utf8(TextDatumGetCString(value));
		job->saved = lappend(job->saved, saved);
		MemoryContextSwitchTo(oldcontext);
		return;
	}
}

/*
 * Find what earlier attempts of the jobs have saved, if there were any: a row
 * whose progress never moved has nothing.
 */
static void
find_saved(List *jobs)
{
	static Statement statement = {
		"SELECT job_id, chunk_no, plan, channel, start_s, end_s, language, server "
		"FROM %1$s.transcribe_saved($1)",
		1, {INT8ARRAYOID}
	};
	List	   *begun = NIL;
	Datum		values[1];
	ListCell   *lc;

	foreach(lc, jobs)
	{
		if (((Job *) lfirst(lc))->row_progress > 0)
			begun = lappend(begun, lfirst(lc));
	}
	if (begun == NIL)
		return;
	values[0] = job_ids(begun);
	execute(&statement, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
		add_saved(begun, i);
}

/* What is queued, in groups (a List of ClaimGroup). */
List *
queue_waiting(void)
{
	static Statement statement = {
		"SELECT server, owner, priority, run_at FROM %1$s.transcribe_waiting()"
	};
	List	   *groups = NIL;

	execute(&statement, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		ClaimGroup *group = palloc0(sizeof(ClaimGroup));

		group->servers = TextDatumGetCString(column(i, 1, &isnull));
		group->owner = pstrdup(NameStr(*DatumGetName(column(i, 2, &isnull))));
		group->priority = DatumGetInt32(column(i, 3, &isnull));
		group->due = DatumGetTimestampTz(column(i, 4, &isnull));
		groups = lappend(groups, group);
	}
	return groups;
}

/* Claim jobs of a group; they are added to the list, in their order. */
static List *
claim_group(int64 incarnation, ClaimGroup *group, List *jobs)
{
	static Statement statement = {
		"SELECT id, path, server, owner, attempts, max_attempts, progress, "
		"options, served_by, error_code IS NOT NULL "
		"FROM %1$s.transcribe_claim($1, $2, $3, $4, $5) ORDER BY run_at, id",
		5, {INT8OID, TEXTOID, NAMEOID, INT4OID, INT4OID}
	};
	NameData	owner;
	Datum		values[5];

	namestrcpy(&owner, group->owner);
	values[0] = Int64GetDatum(incarnation);
	values[1] = CStringGetTextDatum(group->servers);
	values[2] = NameGetDatum(&owner);
	values[3] = Int32GetDatum(group->priority);
	values[4] = Int32GetDatum(group->room);
	execute(&statement, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Job		   *job = job_from_row(i);
		MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

		job->priority = group->priority;
		jobs = lappend(jobs, job);
		MemoryContextSwitchTo(oldcontext);
	}
	return jobs;
}

/*
 * Claim what claim_plan() has found room for.  The jobs are freed by the
 * caller if the transaction fails.
 */
List *
queue_claim(int64 incarnation, List *groups)
{
	List	   *jobs = NIL;
	ListCell   *lc;

	foreach(lc, groups)
	{
		if (((ClaimGroup *) lfirst(lc))->room > 0)
			jobs = claim_group(incarnation, lfirst(lc), jobs);
	}
	find_saved(jobs);
	return jobs;
}

/* Whether this database has prepared transactions, which may hold jobs. */
bool
queue_has_prepared(void)
{
	static Statement statement = {
		"SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts p "
		"WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database())"
	};

	execute(&statement, NULL, NULL);
	return result_bool();
}

/* Which of the jobs are no longer ours; the list lives until the commit. */
List *
queue_lost(int64 incarnation, List *jobs)
{
	static Statement statement = {
		"SELECT id FROM %1$s.transcribe_lost($1, $2) AS lost (id)",
		2, {INT8OID, INT8ARRAYOID}
	};
	Datum		values[2] = {Int64GetDatum(incarnation), job_ids(jobs)};
	List	   *lost = NIL;

	execute(&statement, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(column(i, 1, &isnull));
		ListCell   *lc;

		foreach(lc, jobs)
		{
			Job		   *job = lfirst(lc);

			if (job->id == id)
				lost = lappend(lost, job);
		}
	}
	return lost;
}

/* Return jobs to the queue at no charge. */
void
queue_give_back(int64 incarnation, List *jobs)
{
	static Statement statement = {
		"SELECT %1$s.transcribe_give_back($1, $2)",
		2, {INT8OID, INT8ARRAYOID}
	};
	Datum		values[2] = {Int64GetDatum(incarnation), job_ids(jobs)};

	execute(&statement, values, NULL);
}

/* Forget what earlier attempts have saved; false if the claim is lost. */
bool
queue_start_over(int64 incarnation, Job *job)
{
	static Statement statement = {
		"SELECT %1$s.transcribe_start_over($1, $2)",
		2, {INT8OID, INT8OID}
	};
	Datum		values[2] = {Int64GetDatum(incarnation), Int64GetDatum(job->id)};

	execute(&statement, values, NULL);
	return result_bool();
}

/* The first request of the job is under way; false if the claim is lost. */
bool
queue_transcribing(int64 incarnation, Job *job)
{
	static Statement statement = {
		"SELECT %1$s.transcribe_transcribing($1, $2)",
		2, {INT8OID, INT8OID}
	};
	Datum		values[2] = {Int64GetDatum(incarnation), Int64GetDatum(job->id)};

	execute(&statement, values, NULL);
	return result_bool();
}

static Datum
text_datum(const char *utf8)
{
	return CStringGetTextDatum(encoding_from_utf8(utf8));
}

/* A text argument that may be missing. */
static Datum
text_or_null(const char *utf8, char *null)
{
	*null = utf8 == NULL ? 'n' : ' ';
	return utf8 == NULL ? (Datum) 0 : text_datum(utf8);
}

/* Save the answer for a chunk; segments is JSON.  False: the claim is lost. */
bool
queue_save_chunk(int64 incarnation, Job *job, JobChunk *chunk,
				 const char *segments)
{
	static Statement statement = {
		"SELECT %1$s.transcribe_save_chunk($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
		15, {INT8OID, INT8OID, INT4OID, TEXTOID, FLOAT8OID, FLOAT8OID,
			FLOAT8OID, FLOAT8ARRAYOID, TEXTOID, TEXTOID, INT4OID, JSONBOID,
			INT4OID, FLOAT8OID, TEXTOID}
	};
	Datum		values[15];
	char		nulls[] = "               ";
	Datum	   *spans = palloc_array(Datum, chunk->nspans * 2 + 1);
	const char *model;

	for (int i = 0; i < chunk->nspans; i++)
	{
		spans[2 * i] = Float8GetDatum(chunk->spans[i].start);
		spans[2 * i + 1] = Float8GetDatum(chunk->spans[i].length);
	}
	values[0] = Int64GetDatum(incarnation);
	values[1] = Int64GetDatum(job->id);
	values[2] = Int32GetDatum(job_saved_number(job, chunk->chunk_no));
	values[3] = CStringGetTextDatum(job->plan);
	values[4] = Float8GetDatum(chunk->start);
	values[5] = Float8GetDatum(chunk->end);
	values[6] = Float8GetDatum(chunk->seconds);
	values[7] = PointerGetDatum(construct_array(spans, chunk->nspans * 2, FLOAT8OID,
												sizeof(float8), FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	model = job->options.model != NULL ? job->options.model : job->server.model;
	values[8] = text_or_null(model, &nulls[8]);
	values[9] = text_or_null(job->language, &nulls[9]);
	values[10] = Int32GetDatum(job_percent(job));
	values[11] = DirectFunctionCall1(jsonb_in, CStringGetDatum(encoding_from_utf8(segments)));
	values[12] = Int32GetDatum(chunk->channel);
	nulls[12] = chunk->channel == WIRE_MIXED ? 'n' : ' ';
	values[13] = Float8GetDatum(chunk->loudness);
	values[14] = text_datum(job->server.name);
	execute(&statement, values, nulls);
	return result_bool();
}

/* Note the job's requests that have ended; whether the claim is lost or not. */
void
queue_save_attempts(Job *job)
{
	static Statement statement = {
		"SELECT %1$s.transcribe_save_attempts($1, $2)",
		2, {INT8OID, JSONBOID}
	};
	StringInfoData json;
	Datum		values[2];
	ListCell   *lc;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	foreach(lc, job->ended_requests)
		attempts_append(&json, lfirst(lc));
	appendStringInfoChar(&json, ']');
	values[0] = Int64GetDatum(job->id);
	values[1] = DirectFunctionCall1(jsonb_in,
									CStringGetDatum(encoding_from_utf8(json.data)));
	execute(&statement, values, NULL);
}

/* The server that this attempt has sent something to, or NULL. */
static const char *
asked_server(Job *job)
{
	return job->asked ? job->server.name : NULL;
}

/* Complete a job all of whose chunks are saved; false: the claim is lost. */
bool
queue_complete(int64 incarnation, Job *job, int chunks)
{
	static Statement statement = {
		"SELECT %1$s.transcribe_complete($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
		12, {INT8OID, INT8OID, INT4OID, TEXTOID, FLOAT8OID, TEXTOID, FLOAT8OID,
			TEXTOID, INT4OID, INT4OID, INT4OID, TEXTOID}
	};
	Datum		values[12];
	char		nulls[] = "            ";
	char	   *format;

	values[0] = Int64GetDatum(incarnation);
	values[1] = Int64GetDatum(job->id);
	values[2] = Int32GetDatum(chunks);
	values[3] = text_or_null(job->language, &nulls[3]);
	values[4] = Float8GetDatum(job->end.duration);
	values[5] = text_or_null(job->end.damaged ? job->end.detail : NULL, &nulls[5]);
	values[6] = Float8GetDatum(job->end.missing);
	nulls[6] = job->end.missing < 0 ? 'n' : ' ';

	/* FFmpeg gives a container all the names that it may have. */
	format = psprintf("%.*s/%s", (int) strcspn(job->source.container, ","),
					  job->source.container, job->source.codec);
	values[7] = text_datum(format);
	values[8] = Int32GetDatum(job->source.sample_rate);
	values[9] = Int32GetDatum(job->source.channels);
	values[10] = Int32GetDatum(job->source.streams);
	values[11] = text_or_null(asked_server(job), &nulls[11]);
	execute(&statement, values, nulls);
	return result_bool();
}

/* End an attempt that failed.  The job's new status; NULL: the claim is lost. */
char *
queue_fail(int64 incarnation, Job *job)
{
	static Statement statement = {
		"SELECT %1$s.transcribe_fail($1, $2, $3, $4, $5, $6, $7, $8)",
		8, {INT8OID, INT8OID, TEXTOID, TEXTOID, INTERVALOID, BOOLOID, BOOLOID,
			TEXTOID}
	};
	JobFailure *failure = job->failure;
	Interval	delay = {0};
	Datum		values[8];
	char		nulls[] = "        ";
	char	   *status;

	delay.time = failure->delay * INT64CONST(1000);
	values[0] = Int64GetDatum(incarnation);
	values[1] = Int64GetDatum(job->id);
	values[2] = text_datum(failure->error);
	values[3] = CStringGetTextDatum(failure->code);
	values[4] = IntervalPGetDatum(&delay);
	nulls[4] = failure->retry ? ' ' : 'n';
	values[5] = BoolGetDatum(failure->charge);
	values[6] = BoolGetDatum(failure->crashed);
	values[7] = text_or_null(asked_server(job), &nulls[7]);
	execute(&statement, values, nulls);
	if (SPI_processed != 1)
		return NULL;
	status = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	return status == NULL ? NULL : MemoryContextStrdup(job->context, status);
}

/*
 * Remove up to so many jobs that ended before the time of their kind, if it is
 * not DT_NOBEGIN.  Returns how many.
 */
int64
queue_purge(TimestampTz failed_before, TimestampTz completed_before,
			int max_jobs)
{
	static Statement statement = {
		"SELECT %1$s.transcribe_purge($1, $2, $3)",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	};
	Datum		values[3];
	bool		isnull;

	values[0] = TimestampTzGetDatum(failed_before);
	values[1] = TimestampTzGetDatum(completed_before);
	values[2] = Int32GetDatum(max_jobs);
	execute(&statement, values, NULL);
	return DatumGetInt64(column(0, 1, &isnull));
}

/* When the first of the jobs of each kind ended; DT_NOEND if there is none. */
void
queue_oldest(TimestampTz *failed, TimestampTz *completed)
{
	static Statement statement = {
		"SELECT failed, completed FROM %1$s.transcribe_oldest()"
	};
	Datum		value;
	bool		isnull;

	execute(&statement, NULL, NULL);
	value = column(0, 1, &isnull);
	*failed = isnull ? DT_NOEND : DatumGetTimestampTz(value);
	value = column(0, 2, &isnull);
	*completed = isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

/* Announce a change; at commit of a transaction of its own. */
void
queue_notify(int64 job_id, const char *status)
{
	char		payload[64];

	snprintf(payload, sizeof(payload),
			 "{\"job_id\": " INT64_FORMAT ", \"status\": \"%s\"}", job_id, status);
	Async_Notify("transcribe", payload);
}
