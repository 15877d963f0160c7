/*-------------------------------------------------------------------------
 *
 * control.c
 *	  transcribe_cancel, transcribe_retry and transcribe_retry_failed.
 *
 * Run in the caller's backend.  A running job is cancelled by its row alone:
 * at commit its worker is woken, sees that the claim is lost, and drops what
 * it is doing; a result that comes in between is refused by the row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "session/tables.h"
#include "session/wake.h"
#include "shared/server.h"

PG_FUNCTION_INFO_V1(transcribe_cancel);
PG_FUNCTION_INFO_V1(transcribe_retry);
PG_FUNCTION_INFO_V1(transcribe_retry_failed);

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
	"UPDATE %1$s.transcribe_jobs j SET status = 'cancelled', "
	"claimed_by = NULL, finished_at = pg_catalog.clock_timestamp() "
	"WHERE j.id OPERATOR(pg_catalog.=) $1 "
	"AND j.status OPERATOR(pg_catalog.=) ANY "
	TABLES_ACTIVE,
	1, {INT8OID}
};

static Statement retry_job = {
	"UPDATE %1$s.transcribe_jobs j SET " QUEUED_AGAIN
	"WHERE j.id OPERATOR(pg_catalog.=) $1 "
	"AND j.status OPERATOR(pg_catalog.=) ANY "
	"(ARRAY['failed', 'cancelled']::pg_catalog.text[]) "
	"AND NOT EXISTS (SELECT FROM %1$s.transcribe_jobs o WHERE " SAME_KEY
	"AND o.status OPERATOR(pg_catalog.=) ANY " TABLES_ACTIVE ")",
	1, {INT8OID}
};

/*
 * Only the last job of its key: what was enqueued after it has been its retry
 * already, whatever became of that.
 */
static Statement retry_failed = {
	"UPDATE %1$s.transcribe_jobs j SET " QUEUED_AGAIN
	"WHERE j.status OPERATOR(pg_catalog.=) 'failed' "
	"AND j.home OPERATOR(pg_catalog.=) %1$s.transcribe_home() "
	"AND " TABLES_OWNED
	"AND j.finished_at OPERATOR(pg_catalog.>=) $3 "
	"AND ($4 IS NULL OR j.served_by OPERATOR(pg_catalog.=) $4 "
	"OR j.server OPERATOR(pg_catalog.=) $5) "
	"AND ($6 IS NULL OR j.error_code OPERATOR(pg_catalog.=) $6) "
	"AND NOT EXISTS (SELECT FROM %1$s.transcribe_jobs o WHERE " SAME_KEY
	"AND (o.id OPERATOR(pg_catalog.>) j.id "
	"OR o.status OPERATOR(pg_catalog.=) ANY " TABLES_ACTIVE "))",
	6, {OIDOID, BOOLOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID}
};

/* Change the state of a job that the caller may change; whether it did. */
static bool
change_job(FunctionCallInfo fcinfo, Statement *statement)
{
	Oid			caller = GetUserId();
	int64		job_id = PG_GETARG_INT64(0);
	Datum		values[1] = {Int64GetDatum(job_id)};
	TablesScope scope;
	bool		changed;

	tables_begin(&scope, fcinfo);
	tables_check_owner(&scope, caller, job_id);
	tables_execute(&scope, statement, values, NULL);
	changed = SPI_processed > 0;
	tables_end(&scope);
	if (changed)
		wake_at_commit();
	return changed;
}

/* SQL: end a job that is queued or running. */
Datum
transcribe_cancel(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_job(fcinfo, &cancel_job));
}

/*
 * SQL: queue a failed or cancelled job again.  Not while another job of the
 * same owner, session and path is active: that one is its retry.
 */
Datum
transcribe_retry(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_job(fcinfo, &retry_job));
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

	tables_begin(&scope, fcinfo);
	tables_execute(&scope, &retry_failed, values, nulls);
	count = SPI_processed;
	tables_end(&scope);
	if (count > 0)
		wake_at_commit();
	PG_RETURN_INT64(count);
}
