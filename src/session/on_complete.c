/*-------------------------------------------------------------------------
 *
 * on_complete.c
 *	  Asking for a function to be called when a job has ended.
 *
 * Runs in the caller's backend.  What is asked for is the caller's word, and is
 * done with the caller's rights: so the function is looked up, and its use
 * checked, as the caller, and the row says who that was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "session/on_complete.h"
#include "session/tables.h"
#include "session/wake.h"
#include "shared/callback.h"

PG_FUNCTION_INFO_V1(transcribe_on_complete);
PG_FUNCTION_INFO_V1(transcribe_retry_callback);

/*
 * The job's row is locked as by a change of its status: its end comes before,
 * and is seen, or after, and sees the row.
 */
static Statement ask = {
	.sql = "WITH j AS (SELECT j.id, j.status FROM %1$s.transcribe_jobs j "
	"WHERE j.id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE) "
	"INSERT INTO %1$s.transcribe_callbacks (job_id, owner, function, function_owner, status) "
	"SELECT j.id, $2, $3, $4, CASE WHEN j.status OPERATOR(pg_catalog.=) ANY " TABLES_ACTIVE
	" THEN 'waiting' ELSE 'queued' END FROM j "
	"ON CONFLICT DO NOTHING",
	.nargs = 4, .argtypes = {INT8OID, NAMEOID, TEXTOID, NAMEOID}
};

static Statement retry = {
	.sql = "UPDATE %1$s.transcribe_callbacks c SET status = 'queued', attempts = 0, "
	"error = NULL, error_code = NULL, finished_at = NULL, "
	"run_at = pg_catalog.clock_timestamp() "
	"WHERE c.job_id OPERATOR(pg_catalog.=) $1 AND c.status OPERATOR(pg_catalog.=) ANY "
	"(ARRAY['queued', 'failed']::pg_catalog.text[])",
	.nargs = 1, .argtypes = {INT8OID}
};

/*
 * Have a function called when the job has ended; false if one is to be called
 * already, which stays.
 */
bool
on_complete_ask(FunctionCallInfo fcinfo, int64 job_id, const char *function)
{
	Oid			caller = GetUserId();
	Oid			resolved = callback_resolve(function);
	const char *problem = callback_role_problem(caller);
	NameData	owner;
	NameData	function_owner;
	Datum		values[4];
	TablesScope scope;
	bool		done;

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg_internal("%s", problem),
				 errdetail("Before PostgreSQL 17 a function is called in the background only for roles that may."),
				 errhint("ALTER ROLE %s LOGIN; without a password it lets nobody in whom pg_hba.conf asks for one.",
						 quote_identifier(GetUserNameFromId(caller, false)))));
	namestrcpy(&owner, GetUserNameFromId(caller, false));
	namestrcpy(&function_owner, callback_function_owner(resolved));
	values[0] = Int64GetDatum(job_id);
	values[1] = NameGetDatum(&owner);
	values[2] = CStringGetTextDatum(callback_signature(resolved));
	values[3] = NameGetDatum(&function_owner);
	tables_begin_all(&scope, fcinfo);
	tables_check_owner(&scope, caller, job_id);
	tables_execute(&scope, &ask, values, NULL);
	done = SPI_processed > 0;
	tables_end(&scope);
	wake_for_callback();
	return done;
}

/* SQL: have a function called when a job has ended. */
Datum
transcribe_on_complete(PG_FUNCTION_ARGS)
{
	int64		job_id = PG_GETARG_INT64(0);

	if (!on_complete_ask(fcinfo, job_id, text_to_cstring(PG_GETARG_TEXT_PP(1))))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("transcription job " INT64_FORMAT " has a callback already",
						job_id)));
	PG_RETURN_INT64(job_id);
}

/* SQL: call it again, at once. */
Datum
transcribe_retry_callback(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	int64		job_id = PG_GETARG_INT64(0);
	Datum		values[1] = {Int64GetDatum(job_id)};
	TablesScope scope;
	bool		changed;

	tables_begin_all(&scope, fcinfo);
	tables_check_owner(&scope, caller, job_id);
	tables_execute(&scope, &retry, values, NULL);
	changed = SPI_processed > 0;
	tables_end(&scope);
	if (changed)
		wake_for_callback();
	PG_RETURN_BOOL(changed);
}
