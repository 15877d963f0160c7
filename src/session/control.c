/*-------------------------------------------------------------------------
 *
 * control.c
 *	  transcribe_cancel and transcribe_retry.
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

#include "session/tables.h"
#include "session/wake.h"

PG_FUNCTION_INFO_V1(transcribe_cancel);
PG_FUNCTION_INFO_V1(transcribe_retry);

static Statement cancel_job = {
	"UPDATE %1$s.transcribe_jobs j SET status = 'cancelled', "
	"claimed_by = NULL, finished_at = pg_catalog.clock_timestamp() "
	"WHERE j.id OPERATOR(pg_catalog.=) $1 "
	"AND j.status OPERATOR(pg_catalog.=) ANY "
	TABLES_ACTIVE,
	1, {INT8OID}
};

static Statement retry_job = {
	"UPDATE %1$s.transcribe_jobs j SET status = 'queued', attempts = 0, "
	"crashes = 0, error = NULL, error_code = NULL, finished_at = NULL, "
	"run_at = pg_catalog.now() "
	"WHERE j.id OPERATOR(pg_catalog.=) $1 "
	"AND j.status OPERATOR(pg_catalog.=) ANY "
	"(ARRAY['failed', 'cancelled']::pg_catalog.text[]) "
	"AND NOT EXISTS (SELECT FROM %1$s.transcribe_jobs o "
	"WHERE o.session_id OPERATOR(pg_catalog.=) j.session_id "
	"AND o.owner OPERATOR(pg_catalog.=) j.owner "
	"AND o.path OPERATOR(pg_catalog.=) j.path "
	"AND o.status OPERATOR(pg_catalog.=) ANY "
	TABLES_ACTIVE ")",
	1, {INT8OID}
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
