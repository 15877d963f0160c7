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

#include <math.h>

#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "shared/encoding.h"
#include "shared/ended.h"
#include "shared/extension.h"
#include "shared/failpoint.h"
#include "shared/statement.h"
#include "transcribe.h"
#include "worker/attempts.h"
#include "worker/progress.h"
#include "worker/rows.h"
#include "worker/waiting.h"
#include "worker/worker.h"

/* The extension, as the last queue_find_extension() found it. */
static Oid	schema = InvalidOid;
static char *version;			/* in memory of that transaction */

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

/* Commit; before it waits the worker lets autovacuum know what was written. */
void
queue_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* After an error: out of the transaction, with the memory given back. */
void
queue_abort(void)
{
	AbortOutOfAnyTransaction();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * First of all in a transaction with statements of ours: look the extension
 * up, and keep it; false if this database has none of ours.
 */
bool
queue_find_extension(void)
{
	return extension_hold(&schema, &version);
}

/* Whether it is of a version that is ours to serve.  Who updates it wakes us. */
bool
queue_serves_extension(void)
{
	if (extension_serves(version))
		return true;
	extension_report_version(WARNING, version);
	return false;
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

/* The same of a column by its name. */
static Datum
column_named(int row, const char *name, bool *isnull)
{
	return column(row, SPI_fnumber(SPI_tuptable->tupdesc, name), isnull);
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
	return statement_numbers(ids, n);
}

/* A statement on jobs that a worker of this incarnation may have claimed. */
#define OF_JOBS(name) \
	{ \
		.function = name, .nargs = 2, .argtypes = {INT8OID, INT8ARRAYOID} \
	}

static void
execute_of(Statement *statement, int64 incarnation, List *jobs)
{
	Datum		values[2] = {Int64GetDatum(incarnation), job_ids(jobs)};

	execute(statement, values, NULL);
}

static int
compare_ids(const ListCell *a, const ListCell *b)
{
	int64		one = ((Job *) lfirst(a))->id;
	int64		other = ((Job *) lfirst(b))->id;

	return one < other ? -1 : one > other;
}

/* A copy of a list of jobs, in the order of their ids. */
List *
queue_by_id(List *jobs)
{
	List	   *sorted = list_copy(jobs);

	list_sort(sorted, compare_ids);
	return sorted;
}

/* The job whose id is in the first column of the row; of a list by id. */
static Job *
job_of_row(List *jobs, int row)
{
	bool		isnull;
	int64		id = DatumGetInt64(column(row, 1, &isnull));
	int			low = 0;
	int			high = list_length(jobs);

	while (low < high)
	{
		int			middle = (low + high) / 2;
		Job		   *job = list_nth(jobs, middle);

		if (job->id == id)
			return job;
		if (job->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Jobs have ended: functions that were asked for with them are due. */
static void
call_back(Datum *ids, int nids)
{
	static Statement statement = {
		.function = "transcribe_ended",
		.nargs = 1, .argtypes = {INT8ARRAYOID}
	};
	Datum		values[1];

	if (nids == 0)
		return;
	values[0] = statement_numbers(ids, nids);
	execute(&statement, values, NULL);
}

/*
 * Give orphans back to the queue: of workers that are gone, and those that are
 * ours by their rows and not among our jobs.  Each is worth a line in the log.
 */
void
queue_rescue(int64 incarnation, List *jobs)
{
	static Statement statement = OF_JOBS("transcribe_rescue");
	Datum	   *ended;
	int			nended = 0;

	execute_of(&statement, incarnation, jobs);
	ended = palloc_array(Datum, Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(column_named(i, "id", &isnull));
		char	   *status = TextDatumGetCString(column_named(i, "status", &isnull));

		ereport(LOG,
				(errmsg("transcription job " INT64_FORMAT " was interrupted by a crash, now %s",
						id, status)));
		if (strcmp(status, "failed") != 0)
			continue;
		ended_at_commit(id);
		ended[nended++] = Int64GetDatum(id);
	}
	call_back(ended, nended);
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

/* The columns of a claimed row. */
enum
{
	ROW_ID = 1, ROW_PATH, ROW_SERVER, ROW_OWNER, ROW_RUN_AT, ROW_ATTEMPTS,
	ROW_MAX_ATTEMPTS, ROW_PROGRESS, ROW_OPTIONS, ROW_SERVED_BY, ROW_ERROR_CODE,
	ROW_END
};

/* A job from a row of the claim; it lives in a context of its own. */
static Job *
job_from_row(int row)
{
	Datum		values[ROW_END];
	bool		nulls[ROW_END];
	Job		   *job;
	MemoryContext oldcontext;
	Jsonb	   *options;

	for (int i = ROW_ID; i < ROW_END; i++)
		values[i] = column(row, i, &nulls[i]);
	job = job_create(DatumGetInt64(values[ROW_ID]));
	oldcontext = MemoryContextSwitchTo(job->context);
	job->path = TextDatumGetCString(values[ROW_PATH]);
	job->servers = TextDatumGetCString(values[ROW_SERVER]);
	job->owner = pstrdup(NameStr(*DatumGetName(values[ROW_OWNER])));
	job->attempts = DatumGetInt32(values[ROW_ATTEMPTS]);
	job->max_attempts = DatumGetInt32(values[ROW_MAX_ATTEMPTS]);
	job->row_progress = DatumGetInt32(values[ROW_PROGRESS]);
	job->run_at = DatumGetTimestampTz(values[ROW_RUN_AT]);
	options = DatumGetJsonbP(values[ROW_OPTIONS]);
	if (JB_ROOT_COUNT(options) > 0)
	{
		job->options.language = option_text(options, "language");
		job->options.prompt = option_text(options, "prompt");
		job->options.model = option_text(options, "model");
		job->options.temperature = option_text(options, "temperature");
		job->options.words = option_text(options, "words") != NULL;
		job->options.translate = option_text(options, "translate") != NULL;
		job->options.channels = option_text(options, "channels");
	}

	/* Only where the last attempt failed is another server to be preferred. */
	if (!nulls[ROW_SERVED_BY] && !nulls[ROW_ERROR_CODE])
		job->served_by = TextDatumGetCString(values[ROW_SERVED_BY]);
	MemoryContextSwitchTo(oldcontext);
	return job;
}

/* Add to its job what is saved of it, from a row. */
static void
add_saved(List *jobs, int row)
{
	bool		isnull;
	Job		   *job = job_of_row(jobs, row);
	MemoryContext oldcontext;
	JobSaved   *saved;
	Datum		value;

	if (job == NULL)
		return;
	oldcontext = MemoryContextSwitchTo(job->context);
	saved = palloc0(sizeof(JobSaved));
	saved->chunk_no = DatumGetInt32(column(row, 2, &isnull));
	saved->plan = TextDatumGetCString(column(row, 3, &isnull));
	saved->server = TextDatumGetCString(column(row, 8, &isnull));
	value = column(row, 4, &isnull);
	saved->stretch.channel = isnull ? WIRE_MIXED : (uint32) DatumGetInt32(value);
	saved->stretch.start = DatumGetFloat8(column(row, 5, &isnull));
	saved->stretch.end = DatumGetFloat8(column(row, 6, &isnull));
	saved->seconds = DatumGetFloat8(column(row, 9, &isnull));
	saved->loudness = DatumGetFloat8(column(row, 10, &isnull));
	value = column(row, 7, &isnull);
	if (!isnull && job->language == NULL)
		job->language = encoding_to_utf8(TextDatumGetCString(value));
	job->saved = lappend(job->saved, saved);
	MemoryContextSwitchTo(oldcontext);
}

/*
 * Find what earlier attempts of the jobs have saved, if there were any: a row
 * whose progress never moved has nothing.
 */
static void
find_saved(List *jobs)
{
	static Statement statement = {
		.function = "transcribe_saved",
		.nargs = 1, .argtypes = {INT8ARRAYOID}
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
	begun = queue_by_id(begun);
	values[0] = job_ids(begun);
	execute(&statement, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
		add_saved(begun, i);
}

/*
 * What is queued, in groups (a List of ClaimGroup) in the order of the index,
 * and those that are known already, of each of which the place is given that no
 * job stands before.  One of these that is empty has no first job.
 */
List *
queue_waiting(List *known)
{
	static Statement statement = {
		.function = "transcribe_waiting",
		.nargs = 3, .argtypes = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID}
	};
	int			n = list_length(known);
	Datum	   *queues = palloc_array(Datum, Max(n, 1));
	Datum	   *due = palloc_array(Datum, Max(n, 1));
	Datum	   *first = palloc_array(Datum, Max(n, 1));
	Datum		values[3];
	List	   *groups = NIL;
	ListCell   *lc;

	foreach(lc, known)
	{
		ClaimGroup *group = lfirst(lc);
		int			i = foreach_current_index(lc);

		queues[i] = CStringGetTextDatum(group->queue);
		due[i] = TimestampTzGetDatum(group->due);
		first[i] = Int64GetDatum(group->first);
	}
	values[0] = PointerGetDatum(construct_array(queues, n, TEXTOID, -1, false,
												TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(due, n, TIMESTAMPTZOID, sizeof(TimestampTz),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[2] = statement_numbers(first, n);
	execute(&statement, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		ClaimGroup *group = palloc0(sizeof(ClaimGroup));
		bool		isnull;
		bool		empty;
		Datum		id = column(i, 6, &empty);

		groups = lappend(groups, group);
		group->queue = TextDatumGetCString(column(i, 1, &isnull));
		group->due = DT_NOEND;
		if (empty)
			continue;
		group->servers = TextDatumGetCString(column(i, 2, &isnull));
		group->owner = pstrdup(NameStr(*DatumGetName(column(i, 3, &isnull))));
		group->priority = DatumGetInt32(column(i, 4, &isnull));
		group->due = DatumGetTimestampTz(column(i, 5, &isnull));
		group->first = DatumGetInt64(id);
	}
	return groups;
}

static int
compare_turns(const ListCell *a, const ListCell *b)
{
	Job		   *one = lfirst(a);
	Job		   *other = lfirst(b);

	if (one->run_at != other->run_at)
		return one->run_at < other->run_at ? -1 : 1;
	return compare_ids(a, b);
}

/* Claim jobs of a group; they are added to the list, in their order. */
static List *
claim_group(int64 incarnation, ClaimGroup *group, List *jobs)
{
	static Statement statement = {
		.function = "transcribe_claim",
		.nargs = 5, .argtypes = {INT8OID, TEXTOID, INT4OID, TIMESTAMPTZOID, INT8OID}
	};
	Datum		values[5];
	MemoryContext oldcontext;
	List	   *claimed = NIL;

	values[0] = Int64GetDatum(incarnation);
	values[1] = CStringGetTextDatum(group->queue);
	values[2] = Int32GetDatum(group->room);
	values[3] = TimestampTzGetDatum(group->due);
	values[4] = Int64GetDatum(group->first);
	execute(&statement, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Job		   *job = job_from_row(i);

		job->priority = group->priority;
		claimed = lappend(claimed, job);
	}
	list_sort(claimed, compare_turns);
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	jobs = list_concat(jobs, claimed);
	MemoryContextSwitchTo(oldcontext);
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
		.sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts p "
		"WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database())"
	};

	/* Also where the extension is not installed, or not yet. */
	statement_execute(&statement, PG_CATALOG_NAMESPACE, NULL, NULL);
	return result_bool();
}

/* Which of the jobs are no longer ours; the list lives until the commit. */
List *
queue_lost(int64 incarnation, List *jobs)
{
	static Statement statement = OF_JOBS("transcribe_lost");
	List	   *lost = NIL;

	execute_of(&statement, incarnation, jobs);
	if (SPI_processed > 0)
		jobs = queue_by_id(jobs);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Job		   *job = job_of_row(jobs, i);

		if (job != NULL)
			lost = lappend(lost, job);
	}
	return lost;
}

/* Return jobs to the queue at no charge. */
void
queue_give_back(int64 incarnation, List *jobs)
{
	static Statement statement = OF_JOBS("transcribe_give_back");

	execute_of(&statement, incarnation, jobs);
}

/*
 * What follows writes for all jobs of a turn at once.  Lists of jobs are by
 * id, so that rows are locked in that order.
 */

/*
 * Lock the jobs' rows, and learn which claims hold.  Returns the jobs that there
 * still are; of the others nothing can be written.
 */
List *
queue_hold(int64 incarnation, List *jobs)
{
	static Statement statement = OF_JOBS("transcribe_hold");
	List	   *there = NIL;
	ListCell   *lc;

	foreach(lc, jobs)
		((Job *) lfirst(lc))->write_lost = true;
	if (jobs == NIL)
		return NIL;
	execute_of(&statement, incarnation, jobs);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Job		   *job = job_of_row(jobs, i);
		bool		isnull;

		if (job == NULL)
			continue;
		job->write_lost = !DatumGetBool(column(i, 2, &isnull));
		there = lappend(there, job);
	}
	return there;
}

/* Forget what earlier attempts have saved. */
void
queue_start_over(int64 incarnation, List *jobs)
{
	static Statement statement = OF_JOBS("transcribe_start_over");

	execute_of(&statement, incarnation, jobs);
}

/* The first requests of the jobs are under way. */
void
queue_transcribing(int64 incarnation, List *jobs)
{
	static Statement statement = OF_JOBS("transcribe_transcribing");

	execute_of(&statement, incarnation, jobs);
	FAILPOINT("transcribing_noted");
}

/* The spans of a chunk, flat. */
static Datum
spans_array(JobChunk *chunk)
{
	int			n = 2 * chunk->nspans;
	Datum	   *numbers = palloc_array(Datum, Max(n, 1));

	for (int i = 0; i < chunk->nspans; i++)
	{
		numbers[2 * i] = Float8GetDatum(chunk->spans[i].start);
		numbers[2 * i + 1] = Float8GetDatum(chunk->spans[i].length);
	}
	return PointerGetDatum(construct_array(numbers, n, FLOAT8OID, sizeof(float8),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
put_chunk(Rows *rows, Job *job, JobChunk *chunk)
{
	rows_put(rows, 0, Int64GetDatum(job->id));
	rows_put(rows, 1, CStringGetTextDatum(job->owner));
	rows_put(rows, 2, Int32GetDatum(job_saved_number(job, chunk->chunk_no)));
	rows_put(rows, 3, CStringGetTextDatum(job->plan));
	rows_put(rows, 4, Float8GetDatum(chunk->start));
	rows_put(rows, 5, Float8GetDatum(chunk->end));
	rows_put(rows, 6, Float8GetDatum(chunk->seconds));
	rows_put(rows, 7, spans_array(chunk));
	rows_put_if(rows, 8, chunk->channel != WIRE_MIXED, Int32GetDatum(chunk->channel));
	rows_put(rows, 9, Float8GetDatum(chunk->loudness));
	rows_put_text(rows, 10, job->server.name);
	rows_put_text(rows, 11, job->options.model != NULL ?
				  job->options.model : job->server.model);
	rows_put_text(rows, 12, job->language);
	rows_next(rows);
}

/* Save the answers that have come. */
void
queue_save_chunks(List *jobs)
{
	static Statement statement = {
		.function = "transcribe_save_chunks", .nargs = 1
	};
	static const char *const columns[] = {
		"job_id", "owner", "chunk_no", "plan", "start_s", "end_s", "audio_s",
		"spans", "channel", "loudness_lufs", "server", "model", "language"
	};
	Rows		rows;
	Datum		values[1];
	ListCell   *lc;

	rows_begin(&rows, &statement, schema, "transcribe_new_chunk", columns, lengthof(columns));
	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);
		ListCell   *cell;

		foreach(cell, job_answered_chunks(job))
			put_chunk(&rows, job, lfirst(cell));
	}
	values[0] = rows_array(&rows);
	execute(&statement, values, NULL);
}

/* A time in seconds, to the millisecond. */
static Datum
seconds_datum(double value)
{
	return Float8GetDatum(rint(value * 1000) / 1000);
}

/* A number that a server may have left out. */
static void
put_number(Rows *rows, int n, double value)
{
	rows_put_if(rows, n, value != RESPONSE_NO_NUMBER, Float8GetDatum(value));
}

/* Save segments of their answers, in a List of QueueSegment. */
void
queue_save_segments(List *segments)
{
	static Statement statement = {
		.function = "transcribe_save_segments", .nargs = 1
	};
	static const char *const columns[] = {
		"job_id", "owner", "chunk_no", "n", "start_s", "end_s", "text", "speaker",
		"channel", "avg_logprob", "compression_ratio", "no_speech_prob", "words",
		"language"
	};
	Rows		rows;
	Datum		values[1];
	ListCell   *lc;

	rows_begin(&rows, &statement, schema, "transcribe_new_segment", columns,
			   lengthof(columns));
	foreach(lc, segments)
	{
		QueueSegment *segment = lfirst(lc);
		Job		   *job = segment->job;
		uint32		channel = segment->chunk->channel;

		rows_put(&rows, 0, Int64GetDatum(job->id));
		rows_put(&rows, 1, CStringGetTextDatum(job->owner));
		rows_put(&rows, 2, Int32GetDatum(job_saved_number(job, segment->chunk->chunk_no)));
		rows_put(&rows, 3, Int32GetDatum(segment->n));
		rows_put(&rows, 4, seconds_datum(segment->start));
		rows_put(&rows, 5, seconds_datum(segment->end));
		rows_put_text(&rows, 6, segment->answer->text);
		rows_put_text(&rows, 7, segment->answer->speaker);
		rows_put_if(&rows, 8, channel != WIRE_MIXED, Int32GetDatum(channel));
		put_number(&rows, 9, segment->answer->avg_logprob);
		put_number(&rows, 10, segment->answer->compression_ratio);
		put_number(&rows, 11, segment->answer->no_speech_prob);
		rows_put_jsonb(&rows, 12, segment->words);
		rows_put_text(&rows, 13, segment->language);
		rows_next(&rows);
	}
	values[0] = rows_array(&rows);
	execute(&statement, values, NULL);
}

/* Note how far the jobs are. */
void
queue_save_progress(int64 incarnation, List *jobs)
{
	static Statement statement = {
		.function = "transcribe_save_progress",
		.nargs = 2, .argtypes = {INT8OID}
	};
	static const char *const columns[] = {"job_id", "progress"};
	Rows		rows;
	Datum		values[2] = {Int64GetDatum(incarnation)};
	ListCell   *lc;

	rows_begin(&rows, &statement, schema, "transcribe_new_progress", columns, lengthof(columns));
	foreach(lc, jobs)
	{
		rows_put(&rows, 0, Int64GetDatum(((Job *) lfirst(lc))->id));
		rows_put(&rows, 1, Int32GetDatum(progress_percent(lfirst(lc))));
		rows_next(&rows);
	}
	values[1] = rows_array(&rows);
	execute(&statement, values, NULL);
}

static void
put_attempt(Rows *rows, Job *job, const AttemptRequest *request)
{
	rows_put(rows, 0, Int64GetDatum(job->id));
	rows_put(rows, 1, CStringGetTextDatum(job->owner));
	rows_put(rows, 2, Int32GetDatum(request->attempt));
	rows_put(rows, 3, Int32GetDatum(request->chunk_no));
	rows_put_text(rows, 4, request->server);
	rows_put_text(rows, 5, request->model);
	rows_put(rows, 6, TimestampTzGetDatum(request->started));
	rows_put(rows, 7, seconds_datum(request->elapsed));
	rows_put(rows, 8, seconds_datum(request->audio));
	rows_put(rows, 9, Int64GetDatum(request->sent));
	rows_put_if(rows, 10, request->status != 0, Int32GetDatum(request->status));
	rows_put_text(rows, 11, request->code);
	rows_put_text(rows, 12, request->error);
	rows_put_text(rows, 13, request->request_id);
	rows_put_jsonb(rows, 14, request->usage);
	rows_next(rows);
}

/* Note the requests that have ended; whether claims are lost or not. */
void
queue_save_attempts(List *jobs)
{
	static Statement statement = {
		.function = "transcribe_save_attempts", .nargs = 1
	};
	static const char *const columns[] = {
		"job_id", "owner", "attempt", "chunk_no", "server", "model", "started_at",
		"elapsed_s", "audio_s", "sent_bytes", "http_status", "error_code", "error",
		"request_id", "usage"
	};
	Rows		rows;
	Datum		values[1];
	ListCell   *lc;

	rows_begin(&rows, &statement, schema, "transcribe_new_attempt", columns, lengthof(columns));
	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);
		ListCell   *cell;

		foreach(cell, job->ended_requests)
			put_attempt(&rows, job, lfirst(cell));
	}
	values[0] = rows_array(&rows);
	execute(&statement, values, NULL);
}

/* The server that this attempt has sent something to, or NULL. */
static const char *
asked_server(Job *job)
{
	return job->asked ? job->server.name : NULL;
}

/* The results of jobs that have completed replace older ones. */
static void
replace_older(List *jobs)
{
	static Statement statement = {
		.function = "transcribe_replaced",
		.nargs = 1, .argtypes = {INT8ARRAYOID}
	};
	Datum		values[1] = {job_ids(jobs)};

	execute(&statement, values, NULL);
}

static void
put_completed(Rows *rows, Job *job)
{
	double		seconds;
	double		loudness;

	job_measure(job, &seconds, &loudness);
	rows_put(rows, 0, Int64GetDatum(job->id));
	rows_put_text(rows, 1, job->language);
	rows_put(rows, 2, Float8GetDatum(job->end.duration));
	rows_put(rows, 3, Float8GetDatum(seconds));
	rows_put(rows, 4, Float8GetDatum(job->end.duration * job->source.streams - seconds));
	rows_put_if(rows, 5, seconds > 0, Float8GetDatum(loudness));
	rows_put_text(rows, 6, job->end.damaged ? job->end.detail : NULL);
	rows_put_if(rows, 7, job->end.missing >= 0, Float8GetDatum(job->end.missing));

	/* FFmpeg gives a container all the names that it may have. */
	rows_put_text(rows, 8, psprintf("%.*s/%s", (int) strcspn(job->source.container, ","),
									job->source.container, job->source.codec));
	rows_put(rows, 9, Int32GetDatum(job->source.sample_rate));
	rows_put(rows, 10, Int32GetDatum(job->source.channels));
	rows_put_text(rows, 11, asked_server(job));
	rows_next(rows);
}

/* Complete jobs all of whose chunks are saved, or are about to be. */
void
queue_complete(int64 incarnation, List *jobs)
{
	static Statement statement = {
		.function = "transcribe_complete",
		.nargs = 2, .argtypes = {INT8OID}
	};
	static const char *const columns[] = {
		"job_id", "language", "duration_s", "speech_s", "trimmed_s", "loudness_lufs",
		"damaged", "missing_s", "source_format", "sample_rate", "channels", "served_by"
	};
	Rows		rows;
	Datum		values[2] = {Int64GetDatum(incarnation)};
	List	   *replacing = NIL;
	Datum	   *ended = palloc_array(Datum, Max(list_length(jobs), 1));
	int			nended = 0;
	ListCell   *lc;

	rows_begin(&rows, &statement, schema, "transcribe_completion", columns, lengthof(columns));
	foreach(lc, jobs)
	{
		/* Unless the claim turns out to hold. */
		((Job *) lfirst(lc))->write_lost = true;
		put_completed(&rows, lfirst(lc));
	}
	values[1] = rows_array(&rows);
	execute(&statement, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Job		   *job = job_of_row(jobs, i);
		bool		isnull;

		job->write_lost = false;
		ended_at_commit(job->id);
		ended[nended++] = Int64GetDatum(job->id);
		if (DatumGetBool(column(i, 2, &isnull)))
			replacing = lappend(replacing, job);
	}
	if (replacing != NIL)
		replace_older(replacing);
	call_back(ended, nended);
}

/* Which of the two statuses that a failed attempt may lead to. */
static const char *
failed_status(int row)
{
	const char *status = SPI_getvalue(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, 2);

	return strcmp(status, "failed") == 0 ? "failed" : "queued";
}

static void
put_failure(Rows *rows, Job *job)
{
	JobFailure *failure = job->failure;
	Interval   *delay = palloc0(sizeof(Interval));

	delay->time = failure->delay * INT64CONST(1000);
	rows_put(rows, 0, Int64GetDatum(job->id));
	rows_put_text(rows, 1, failure->error);
	rows_put(rows, 2, CStringGetTextDatum(failure->code));
	rows_put_if(rows, 3, failure->retry, IntervalPGetDatum(delay));
	rows_put(rows, 4, BoolGetDatum(failure->charge));
	rows_put(rows, 5, BoolGetDatum(failure->crashed));
	rows_put_text(rows, 6, asked_server(job));
	rows_next(rows);
}

/* End attempts that failed; the jobs learn what they are now. */
void
queue_fail(int64 incarnation, List *jobs)
{
	static Statement statement = {
		.function = "transcribe_fail",
		.nargs = 2, .argtypes = {INT8OID}
	};
	static const char *const columns[] = {
		"job_id", "error", "error_code", "retry_in", "charged", "crashed", "served_by"
	};
	Rows		rows;
	Datum		values[2] = {Int64GetDatum(incarnation)};
	Datum	   *ended = palloc_array(Datum, Max(list_length(jobs), 1));
	int			nended = 0;
	ListCell   *lc;

	rows_begin(&rows, &statement, schema, "transcribe_failure", columns, lengthof(columns));
	foreach(lc, jobs)
		put_failure(&rows, lfirst(lc));
	values[1] = rows_array(&rows);
	execute(&statement, values, NULL);
	waiting_lower(GetCurrentTransactionStartTimestamp());
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Job		   *job = job_of_row(jobs, i);

		if (job == NULL)
			continue;
		job->write_status = failed_status(i);
		if (strcmp(job->write_status, "failed") != 0)
			continue;
		ended_at_commit(job->id);
		ended[nended++] = Int64GetDatum(job->id);
	}
	call_back(ended, nended);
}

/*
 * Remove up to so many jobs that ended before the time of their kind, if it is
 * not DT_NOBEGIN.  Returns how many.
 */
int64
queue_purge(TimestampTz failed_before, TimestampTz completed_before,
			int max_jobs)
{
	Oid			argtypes[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID};
	List	   *name = list_make2(makeString(get_namespace_name(schema)),
								  makeString("transcribe_purge"));

	/* The one of exactly these types, and none that has more by default. */
	return DatumGetInt64(OidFunctionCall3(LookupFuncName(name, lengthof(argtypes),
														 argtypes, false),
										  TimestampTzGetDatum(failed_before),
										  TimestampTzGetDatum(completed_before),
										  Int32GetDatum(max_jobs)));
}

/* When the first of the jobs of each kind ended; DT_NOEND if there is none. */
void
queue_oldest(TimestampTz *failed, TimestampTz *completed)
{
	static Statement statement = {
		.function = "transcribe_oldest"
	};
	Datum		value;
	bool		isnull;

	execute(&statement, NULL, NULL);
	value = column(0, 1, &isnull);
	*failed = isnull ? DT_NOEND : DatumGetTimestampTz(value);
	value = column(0, 2, &isnull);
	*completed = isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

/* A piece of a recording that was given as bytes; NULL behind the last. */
bytea *
queue_piece(int64 job_id, int piece_no)
{
	static Statement statement = {
		.function = "transcribe_piece",
		.nargs = 2, .argtypes = {INT8OID, INT4OID}
	};
	Datum		values[2] = {Int64GetDatum(job_id), Int32GetDatum(piece_no)};
	Datum		value;
	bool		isnull;

	execute(&statement, values, NULL);
	if (SPI_processed != 1)
		return NULL;
	value = column(0, 1, &isnull);
	return isnull ? NULL : DatumGetByteaPP(value);
}

/* Remove bytes of jobs that have completed; returns how many pieces. */
int64
queue_forget_recordings(int64 first_job, int64 last_job, int max_pieces)
{
	static Statement statement = {
		.function = "transcribe_forget_recordings",
		.nargs = 3, .argtypes = {INT8OID, INT8OID, INT4OID}
	};
	Datum		values[3] = {Int64GetDatum(first_job), Int64GetDatum(last_job),
	Int32GetDatum(max_pieces)};
	bool		isnull;

	execute(&statement, values, NULL);
	return DatumGetInt64(column(0, 1, &isnull));
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
