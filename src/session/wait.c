/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  transcribe_wait and transcribe_file: waiting until jobs have ended.
 *
 * Runs in the caller's backend.  Both are procedures, because the caller's
 * transaction has to end before they wait: it may hold the job that nobody
 * else sees yet, and a snapshot that keeps VACUUM from its work.  Each look at
 * the jobs is a transaction of its own; in between there is none but the empty
 * one that every session has while it runs a command, and the wait is the
 * server's own on a condition variable, which any interrupt ends.
 *
 * The caller sees what row security shows it, as in any query of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "session/tables.h"
#include "shared/ended.h"
#include "shared/state.h"
#include "shared/statement.h"

PG_FUNCTION_INFO_V1(transcribe_wait);
PG_FUNCTION_INFO_V1(transcribe_wait_all);
PG_FUNCTION_INFO_V1(transcribe_file);

/* How often to look although nobody says that there is a reason: see ended.c. */
#define LOOK_INTERVAL_MS	5000

/* What is waited for. */
typedef struct Wait
{
	const char *procedure;
	Oid			schema;
	int64	   *job_ids;		/* those that have not ended, at the last look */
	int			njobs;
	int64		until;			/* ms of a clock that nobody sets; or for ever */
} Wait;

/* Which of the jobs have not ended, and which are not there. */
static Statement find_active = {
	.sql = "SELECT w.id, j.id IS NULL "
	"FROM pg_catalog.unnest($1) WITH ORDINALITY AS w (id, n) "
	"LEFT JOIN %1$s.transcribe_jobs j ON j.id OPERATOR(pg_catalog.=) w.id "
	"WHERE j.id IS NULL OR j.status OPERATOR(pg_catalog.=) ANY " TABLES_ACTIVE
	" ORDER BY w.n",
	.nargs = 1, .argtypes = {INT8ARRAYOID}
};

/* With all its arguments: no function that somebody puts beside it fits as well. */
static Statement enqueue = {
	.sql = "SELECT %1$s.transcribe_enqueue($1, $2, $3, 0, pg_catalog.now(), $4, NULL::pg_catalog.text)",
	.nargs = 4, .argtypes = {TEXTOID, TEXTOID, TEXTOID, JSONBOID}
};

static Statement find_outcome = {
	.sql = "SELECT j.status, j.error, j.error_code, "
	"%1$s.transcribe_job_result(j.id) "
	"FROM %1$s.transcribe_jobs j WHERE j.id OPERATOR(pg_catalog.=) $1",
	.nargs = 1, .argtypes = {INT8OID}
};

/* Milliseconds of a clock that nobody sets. */
static int64
clock_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

/* The time so long from now on; NULL, or without end: for ever. */
static int64
until(FunctionCallInfo fcinfo, int arg)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end;

	if (PG_ARGISNULL(arg))
		return PG_INT64_MAX;
	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												  TimestampTzGetDatum(now),
												  PG_GETARG_DATUM(arg)));
	if (TIMESTAMP_IS_NOEND(end))
		return PG_INT64_MAX;
	return clock_ms() + (end <= now ? 0 : (end - now) / 1000);
}

/*
 * Begin: only where we can end the caller's transaction, and where there may be
 * somebody who works.
 */
static void
begin(Wait *wait, FunctionCallInfo fcinfo, const char *procedure)
{
	CallContext *call = (CallContext *) fcinfo->context;

	if (call == NULL || !IsA(call, CallContext) || call->atomic ||
		IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s cannot be called inside a transaction block, a function or an exception block",
						procedure),
				 errdetail("It ends the transaction that it is called in before it waits."),
				 errhint("Call it by itself: CALL %s(...);", procedure)));
	if (transcribe_state() == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("transcribe is not loaded via shared_preload_libraries"),
				 errdetail("No worker takes the job.")));
	wait->procedure = procedure;
	wait->schema = get_func_namespace(fcinfo->flinfo->fn_oid);
}

/* A transaction for some statements, and its end. */
static void
begin_look(void)
{
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

static void
end_look(void)
{
	SPI_commit();
	SPI_finish();
}

/* See which of the jobs have not ended yet, and keep those. */
static void
look(Wait *wait)
{
	Datum	   *ids;
	Datum		values[1];
	bool		isnull;

	begin_look();
	ids = palloc_array(Datum, wait->njobs);
	for (int i = 0; i < wait->njobs; i++)
		ids[i] = Int64GetDatum(wait->job_ids[i]);
	values[0] = statement_numbers(ids, wait->njobs);
	statement_execute(&find_active, wait->schema, values, NULL);
	wait->njobs = SPI_processed;
	for (int i = 0; i < wait->njobs; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];

		wait->job_ids[i] = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc,
													   1, &isnull));
		if (DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull)))
			ereport(ERROR,
					(errcode(ERRCODE_NO_DATA_FOUND),
					 errmsg("transcription job " INT64_FORMAT " does not exist",
							wait->job_ids[i]),
					 errhint("Jobs of other roles count as not there.")));
	}
	end_look();
}

/* The time is over. */
pg_noreturn static void
give_up(Wait *wait)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("%s has reached its timeout", wait->procedure),
			 errdetail_plural("Transcription job " INT64_FORMAT " has not ended, and goes on.",
							  "Transcription job " INT64_FORMAT " and others have not ended, and go on.",
							  wait->njobs, wait->job_ids[0]),
			 errhint("CALL transcribe_wait(" INT64_FORMAT ") waits again, SELECT transcribe_cancel(" INT64_FORMAT ") cancels it.",
					 wait->job_ids[0], wait->job_ids[0])));
}

/* Who breaks off wants to know what he has waited for. */
static void
describe(void *arg)
{
	errcontext("waiting for transcription job " INT64_FORMAT, *(int64 *) arg);
}

/* Sleep until there may be news of the first job, since that count was read. */
static void
sleep_for_first(Wait *wait, uint32 count)
{
	static uint32 wait_event = 0;
	ErrorContextCallback context = {
		.previous = error_context_stack, .callback = describe, .arg = wait->job_ids
	};
	int64		left = wait->until - clock_ms();

	if (left <= 0)
		give_up(wait);
	if (wait_event == 0)
		wait_event = transcribe_wait_event("TranscribeWait");
	error_context_stack = &context;
	ended_wait(wait->job_ids[0], count, Min(left, LOOK_INTERVAL_MS), wait_event);
	error_context_stack = context.previous;
}

/*
 * Wait until all jobs have ended.  The first that has not is slept for: when it
 * has, so have most of the others.
 */
static void
wait_for_jobs(Wait *wait)
{
	while (wait->njobs > 0)
	{
		int64		first = wait->job_ids[0];
		uint32		count = ended_count(first);

		look(wait);
		if (wait->njobs > 0 && wait->job_ids[0] == first)
			sleep_for_first(wait, count);
	}
}

/* An argument that must be there. */
pg_noreturn static void
report_null(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", name)));
}

/* SQL: wait for a job. */
Datum
transcribe_wait(PG_FUNCTION_ARGS)
{
	int64		job_id = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);
	Wait		wait = {.job_ids = &job_id, .njobs = 1};

	begin(&wait, fcinfo, "transcribe_wait");
	if (PG_ARGISNULL(0))
		report_null("job_id");
	wait.until = until(fcinfo, 1);
	wait_for_jobs(&wait);
	PG_RETURN_VOID();
}

/* SQL: wait for several jobs. */
Datum
transcribe_wait_all(PG_FUNCTION_ARGS)
{
	Wait		wait = {0};
	Datum	   *ids;
	bool	   *nulls;

	begin(&wait, fcinfo, "transcribe_wait");
	if (PG_ARGISNULL(0))
		report_null("job_ids");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, sizeof(int64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, &nulls, &wait.njobs);
	wait.job_ids = palloc_array(int64, Max(wait.njobs, 1));
	for (int i = 0; i < wait.njobs; i++)
	{
		if (nulls[i])
			report_null("job_ids");
		wait.job_ids[i] = DatumGetInt64(ids[i]);
	}
	wait.until = until(fcinfo, 1);
	wait_for_jobs(&wait);
	PG_RETURN_VOID();
}

/*
 * Enqueue the recording as a session of its own, so that its job is nobody
 * else's; returns the job's id after the commit.
 */
static int64
enqueue_file(Wait *wait, FunctionCallInfo fcinfo)
{
	Datum		values[4];
	char		nulls[] = "    ";
	bool		isnull;
	int64		job_id;

	begin_look();
	values[0] = CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(uuid_out,
																		DirectFunctionCall1(gen_random_uuid, (Datum) 0))));
	for (int i = 1; i < (int) lengthof(values); i++)
	{
		static const int args[] = {-1, 0, 2, 3};

		values[i] = PG_GETARG_DATUM(args[i]);
		nulls[i] = PG_ARGISNULL(args[i]) ? 'n' : ' ';
	}
	statement_execute(&enqueue, wait->schema, values, nulls);
	job_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 1, &isnull));
	end_look();
	return job_id;
}

/*
 * What became of the job: its transcript, or an error.  The transcript is NULL
 * if another one has replaced it by now.
 */
static Datum
outcome(Wait *wait, int64 job_id, bool *isnull)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[1] = {Int64GetDatum(job_id)};
	HeapTuple	row;
	char	   *status;
	Datum		result;

	begin_look();
	statement_execute(&find_outcome, wait->schema, values, NULL);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("transcription job " INT64_FORMAT " does not exist", job_id)));
	row = SPI_tuptable->vals[0];
	status = SPI_getvalue(row, SPI_tuptable->tupdesc, 1);
	if (strcmp(status, "cancelled") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("transcription was cancelled"),
				 errdetail("Transcription job " INT64_FORMAT " was cancelled.", job_id)));
	if (strcmp(status, "completed") != 0)
	{
		char	   *error = SPI_getvalue(row, SPI_tuptable->tupdesc, 2);
		char	   *code = SPI_getvalue(row, SPI_tuptable->tupdesc, 3);

		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not transcribe audio file: %s",
						error != NULL ? error : status),
				 errdetail("Transcription job " INT64_FORMAT " is %s, error code \"%s\".",
						   job_id, status, code != NULL ? code : "")));
	}
	result = SPI_getbinval(row, SPI_tuptable->tupdesc, 4, isnull);
	if (!*isnull)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(context);

		result = PointerGetDatum(PG_DETOAST_DATUM_COPY(result));
		MemoryContextSwitchTo(oldcontext);
	}
	end_look();
	return result;
}

/* SQL: transcribe a recording, and wait for its transcript. */
Datum
transcribe_file(PG_FUNCTION_ARGS)
{
	int64		job_id;
	Wait		wait = {.job_ids = &job_id};
	TupleDesc	desc;
	Datum		result;
	bool		isnull;

	begin(&wait, fcinfo, "transcribe_file");
	if (PG_ARGISNULL(0))
		report_null("path");
	wait.until = until(fcinfo, 4);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	job_id = enqueue_file(&wait, fcinfo);
	wait.njobs = 1;
	wait_for_jobs(&wait);
	result = outcome(&wait, job_id, &isnull);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, &result, &isnull)));
}
