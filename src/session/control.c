/*-------------------------------------------------------------------------
 *
 * control.c
 *	  Cancelling, retrying, deleting and purging jobs.
 *
 * Runs in the caller's backend, and transcribe_purge in the worker as well,
 * which calls it for transcribe.retain_completed and transcribe.retain_failed.
 *
 * A running job is cancelled, or deleted, by its row alone: at commit its
 * worker is woken, sees that the claim is lost, and drops what it is doing; a
 * result that comes in between is refused by the row, or because there is none.
 *
 * What belongs to a job is deleted after its row, by another statement: who
 * writes of a job locks its row first, so that nothing can come afterwards,
 * and all that came before is seen.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "session/tables.h"
#include "session/wake.h"
#include "shared/ended.h"
#include "shared/server.h"

PG_FUNCTION_INFO_V1(transcribe_cancel);
PG_FUNCTION_INFO_V1(transcribe_retry);
PG_FUNCTION_INFO_V1(transcribe_retry_failed);
PG_FUNCTION_INFO_V1(transcribe_delete);
PG_FUNCTION_INFO_V1(transcribe_purge);

/*
 * How often to try to queue jobs again while others of the same keys are being
 * enqueued at the same moment.
 */
#define MAX_TRIES	10

/* What a job is set to that is queued again. */
#define QUEUED_AGAIN \
	"status = 'queued', attempts = 0, crashes = 0, error = NULL, " \
	"error_code = NULL, finished_at = NULL, run_at = pg_catalog.now() "

/* Whether job o is of the same owner, session and path as job j. */
#define SAME_KEY \
	"o.session_id OPERATOR(pg_catalog.=) j.session_id " \
	"AND o.owner OPERATOR(pg_catalog.=) j.owner " \
	"AND o.path OPERATOR(pg_catalog.=) j.path "

static Statement cancel_job = {
	.sql = "UPDATE %1$s.transcribe_jobs j SET status = 'cancelled', "
	"claimed_by = NULL, finished_at = pg_catalog.clock_timestamp() "
	"WHERE j.id OPERATOR(pg_catalog.=) $1 "
	"AND j.status OPERATOR(pg_catalog.=) ANY "
	TABLES_ACTIVE,
	.nargs = 1, .argtypes = {INT8OID}
};

/* A job that is cancelled has ended: see transcribe_ended. */
static Statement queue_callback = {
	.sql = "UPDATE %1$s.transcribe_callbacks c SET status = 'queued', attempts = 0, "
	"error = NULL, error_code = NULL, run_at = pg_catalog.clock_timestamp(), "
	"started_at = NULL, finished_at = NULL, claimed_by = NULL "
	"WHERE c.job_id OPERATOR(pg_catalog.=) $1",
	.nargs = 1, .argtypes = {INT8OID}
};

/* Functions that wait for the end of jobs again. */
static Statement await_end = {
	.sql = "UPDATE %1$s.transcribe_callbacks c SET status = 'waiting' "
	"WHERE c.job_id OPERATOR(pg_catalog.=) ANY ($1) "
	"AND c.status OPERATOR(pg_catalog.<>) 'running'",
	.nargs = 1, .argtypes = {INT8ARRAYOID}
};

static Statement retry_job = {
	.sql = "UPDATE %1$s.transcribe_jobs j SET " QUEUED_AGAIN
	"WHERE j.id OPERATOR(pg_catalog.=) $1 "
	"AND j.status OPERATOR(pg_catalog.=) ANY "
	"(ARRAY['failed', 'cancelled']::pg_catalog.text[]) "
	"AND NOT EXISTS (SELECT FROM %1$s.transcribe_jobs o WHERE " SAME_KEY
	"AND o.status OPERATOR(pg_catalog.=) ANY " TABLES_ACTIVE ") RETURNING j.id",
	.nargs = 1, .argtypes = {INT8OID}
};

/*
 * Only the last job of its key: what was enqueued after it has been its retry
 * already, whatever became of that.
 */
static Statement retry_failed = {
	.sql = "UPDATE %1$s.transcribe_jobs j SET " QUEUED_AGAIN
	"WHERE j.status OPERATOR(pg_catalog.=) 'failed' "
	"AND j.home OPERATOR(pg_catalog.=) (SELECT h.home FROM %1$s.transcribe_here h) "
	"AND " TABLES_OWNED
	"AND j.finished_at OPERATOR(pg_catalog.>=) $3 "
	"AND ($4 IS NULL OR j.served_by OPERATOR(pg_catalog.=) $4 "
	"OR j.server OPERATOR(pg_catalog.=) $5) "
	"AND ($6 IS NULL OR j.error_code OPERATOR(pg_catalog.=) $6) "
	"AND NOT EXISTS (SELECT FROM %1$s.transcribe_jobs o WHERE " SAME_KEY
	"AND (o.id OPERATOR(pg_catalog.>) j.id "
	"OR o.status OPERATOR(pg_catalog.=) ANY " TABLES_ACTIVE ")) RETURNING j.id",
	.nargs = 6, .argtypes = {OIDOID, BOOLOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID}
};

static Statement delete_job = {
	.sql = "DELETE FROM %1$s.transcribe_jobs j "
	"WHERE j.id OPERATOR(pg_catalog.=) $1 "
	"RETURNING j.claimed_by IS NOT NULL",
	.nargs = 1, .argtypes = {INT8OID}
};

/*
 * The ids of ended jobs that were deleted, $5 of them at most.  What somebody
 * else is changing is left for another time, and so is what is yet to be called
 * back for.  They go by an array, so that
 * no plan reads more of the table than that, however large it is.
 */
static Statement purge_jobs = {
	.sql = "WITH gone AS (DELETE FROM %1$s.transcribe_jobs d "
	"WHERE d.id OPERATOR(pg_catalog.=) ANY (ARRAY("
	"SELECT j.id FROM %1$s.transcribe_jobs j "
	"WHERE j.home OPERATOR(pg_catalog.=) (SELECT h.home FROM %1$s.transcribe_here h) "
	"AND j.status OPERATOR(pg_catalog.=) ANY ($3) "
	"AND j.finished_at OPERATOR(pg_catalog.<) $4 "
	"AND " TABLES_OWNED
	"AND NOT EXISTS (SELECT FROM %1$s.transcribe_callbacks c "
	"WHERE c.job_id OPERATOR(pg_catalog.=) j.id "
	"AND c.status OPERATOR(pg_catalog.=) ANY "
	"(ARRAY['queued', 'running']::pg_catalog.text[])) "
	"LIMIT $5 FOR UPDATE OF j SKIP LOCKED)) RETURNING d.id) "
	"SELECT pg_catalog.array_agg(gone.id), pg_catalog.count(*) FROM gone",
	.nargs = 5, .argtypes = {OIDOID, BOOLOID, TEXTARRAYOID, TIMESTAMPTZOID, INT8OID}
};

/* What belongs to jobs that were deleted. */
static Statement delete_belongings = {
	.sql = "WITH a AS (DELETE FROM %1$s.transcribe_attempts a "
	"WHERE a.job_id OPERATOR(pg_catalog.=) ANY ($1)), "
	"s AS (DELETE FROM %1$s.transcribe_chunk_segments s "
	"WHERE s.job_id OPERATOR(pg_catalog.=) ANY ($1)), "
	"r AS (DELETE FROM %1$s.transcribe_recordings r "
	"WHERE r.job_id OPERATOR(pg_catalog.=) ANY ($1)), "
	"b AS (DELETE FROM %1$s.transcribe_callbacks b "
	"WHERE b.job_id OPERATOR(pg_catalog.=) ANY ($1)) "
	"DELETE FROM %1$s.transcribe_chunks c "
	"WHERE c.job_id OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1, .argtypes = {INT8ARRAYOID}
};

/*
 * Run a statement in a subtransaction.  False if a constraint was in the way:
 * a job that it queues again has got one beside it that was being enqueued.
 */
static bool
try_to_execute(TablesScope *scope, Statement *statement, Datum *values,
			   const char *nulls)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	volatile bool good = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		tables_execute(scope, statement, values, nulls);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(oldcontext);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode != ERRCODE_EXCLUSION_VIOLATION)
			ReThrowError(error);
		FreeErrorData(error);
		good = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;
	return good;
}

/* The ids of jobs that the last statement returned, as an array. */
static Datum
returned_ids(void)
{
	Datum	   *ids = palloc_array(Datum, Max(SPI_processed, 1));
	bool		isnull;

	for (uint64 i = 0; i < SPI_processed; i++)
		ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
							   &isnull);
	return statement_numbers(ids, SPI_processed);
}

/*
 * Queue jobs again; returns how many.  What is being enqueued at this moment
 * the constraint waits for, and the next try sees it.
 */
static int64
queue_again(TablesScope *scope, Statement *statement, Datum *values,
			const char *nulls)
{
	for (int try = 0; try < MAX_TRIES; try++)
	{
		int64		count;
		Datum		ids[1];

		if (!try_to_execute(scope, statement, values, nulls))
			continue;
		count = SPI_processed;
		ids[0] = returned_ids();
		if (count > 0)
			tables_execute(scope, &await_end, ids, NULL);
		return count;
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not retry because of concurrent activity on the same recording"),
			 errhint("Try again.")));
}

/* End a job that the caller may end, or queue it again; whether it was done. */
static bool
change_job(FunctionCallInfo fcinfo, Statement *statement, bool again)
{
	Oid			caller = GetUserId();
	int64		job_id = PG_GETARG_INT64(0);
	Datum		values[1] = {Int64GetDatum(job_id)};
	TablesScope scope;
	bool		changed;

	tables_begin_all(&scope, fcinfo);
	tables_check_owner(&scope, caller, job_id);
	if (again)
		changed = queue_again(&scope, statement, values, NULL) > 0;
	else
	{
		tables_execute(&scope, statement, values, NULL);
		changed = SPI_processed > 0;
		if (changed)
			tables_execute(&scope, &queue_callback, values, NULL);
	}
	tables_end(&scope);
	if (changed && again)
		wake_for_job(GetCurrentTransactionStartTimestamp());
	else if (changed)
	{
		wake_for_callback();
		ended_at_commit(job_id);
	}
	return changed;
}

/* SQL: end a job that is queued or running. */
Datum
transcribe_cancel(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_job(fcinfo, &cancel_job, false));
}

/*
 * SQL: queue a failed or cancelled job again.  Not while another job of the
 * same owner, session and path is active: that one is its retry.
 */
Datum
transcribe_retry(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_job(fcinfo, &retry_job, true));
}

/*
 * SQL: queue all jobs again that failed since a time, at a server or by an
 * error, and whose owner's rights the caller has.  Returns how many.
 */
Datum
transcribe_retry_failed(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	Datum		values[6] = {0};
	char		nulls[] = "   nnn";
	TablesScope scope;
	int64		count;

	values[0] = ObjectIdGetDatum(caller);
	values[1] = BoolGetDatum(superuser_arg(caller));
	values[2] = PG_ARGISNULL(0) ? TimestampTzGetDatum(DT_NOBEGIN) :
		PG_GETARG_DATUM(0);
	if (!PG_ARGISNULL(1))
	{
		char	   *server = text_to_cstring(PG_GETARG_TEXT_PP(1));

		values[3] = PG_GETARG_DATUM(1);
		values[4] = CStringGetTextDatum(server_list_text(list_make1(server)));
		nulls[3] = nulls[4] = ' ';
	}
	if (!PG_ARGISNULL(2))
	{
		values[5] = PG_GETARG_DATUM(2);
		nulls[5] = ' ';
	}

	tables_begin_all(&scope, fcinfo);
	count = queue_again(&scope, &retry_failed, values, nulls);
	tables_end(&scope);
	if (count > 0)
		wake_for_job(GetCurrentTransactionStartTimestamp());
	PG_RETURN_INT64(count);
}

/* SQL: remove a job and all that belongs to it, whatever its state. */
Datum
transcribe_delete(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	int64		job_id = PG_GETARG_INT64(0);
	Datum		values[1] = {Int64GetDatum(job_id)};
	Datum		ids[1];
	TablesScope scope;
	bool		running;
	bool		isnull;

	tables_begin_all(&scope, fcinfo);
	tables_check_owner(&scope, caller, job_id);
	tables_execute(&scope, &delete_job, values, NULL);
	running = SPI_processed > 0 &&
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
								   SPI_tuptable->tupdesc, 1, &isnull));
	ids[0] = statement_numbers(values, 1);
	tables_execute(&scope, &delete_belongings, ids, NULL);
	tables_end(&scope);
	if (running)
		wake_at_commit();
	ended_at_commit(job_id);
	PG_RETURN_VOID();
}

/*
 * Delete ended jobs of one of the statuses that finished before a time, as
 * many as max_jobs, or all if that is negative.  Returns how many.
 */
static int64
purge(TablesScope *scope, Oid caller, const char *statuses, Datum before,
	  int64 max_jobs)
{
	Datum		values[5];
	Datum		ids[1];
	bool		isnull;
	int64		count;

	values[0] = ObjectIdGetDatum(caller);
	values[1] = BoolGetDatum(superuser_arg(caller));
	values[2] = OidInputFunctionCall(F_ARRAY_IN, unconstify(char *, statuses),
									 TEXTOID, -1);
	values[3] = before;
	values[4] = Int64GetDatum(max_jobs);
	tables_execute(scope, &purge_jobs, values, max_jobs < 0 ? "    n" : NULL);
	ids[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						   &isnull);
	if (isnull)
		return 0;
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										SPI_tuptable->tupdesc, 2, &isnull));
	tables_execute(scope, &delete_belongings, ids, NULL);
	return count;
}

/*
 * SQL: remove what has ended before a time, with all that belongs to it, of the
 * caller and of roles whose rights it has.  Returns how many jobs.
 */
Datum
transcribe_purge(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	int64		max_jobs = PG_ARGISNULL(2) ? -1 : PG_GETARG_INT32(2);
	int64		count = 0;
	TablesScope scope;

	if (!PG_ARGISNULL(2) && max_jobs < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_jobs must not be negative")));
	tables_begin_all(&scope, fcinfo);
	if (!PG_ARGISNULL(0))
		count += purge(&scope, caller, "{failed,cancelled}", PG_GETARG_DATUM(0),
					   max_jobs);
	if (!PG_ARGISNULL(1))
		count += purge(&scope, caller, "{completed}", PG_GETARG_DATUM(1),
					   max_jobs < 0 ? -1 : max_jobs - count);
	tables_end(&scope);
	PG_RETURN_INT64(count);
}
