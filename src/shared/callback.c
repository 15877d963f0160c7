/*-------------------------------------------------------------------------
 *
 * callback.c
 *	  Functions that are called when a job has ended: which, and by whom.
 *
 * Runs in the session that asks for one, in the worker, which sees when they are
 * due, and in the process that calls them (runner.c).
 *
 * A function runs with the rights of the role that has asked for it.  It is kept
 * by its name, since that is what a dump and pg_upgrade keep, and with the name
 * of its owner: so nobody can put one of his own into the place of one that was
 * dropped.
 *
 * A row is claimed by the number of the process that is to call its function, and
 * each change of it asks whether it still is.
 *
 * The statements are text, and not bodies of functions as the worker's others:
 * the process that calls is in the hands of its role, whose search_path would
 * have a say in how a body is read.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/callback.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "shared/statement.h"

/*
 * The pause after a failed call is random, up to 2, 8, 32, 128 s: whatever it
 * has called may need a while.
 */
#define PAUSE \
	"pg_catalog.random() OPERATOR(pg_catalog.*) " \
	"pg_catalog.power(4::pg_catalog.float8, c.attempts::pg_catalog.float8) " \
	"OPERATOR(pg_catalog./) 2::pg_catalog.float8"

/* Which columns make a Callback. */
#define RETURNING_CALLBACK \
	"RETURNING c.job_id, c.function, c.function_owner"

/* Of the queue of this database. */
#define QUEUED_HERE \
	"q.status OPERATOR(pg_catalog.=) 'queued' AND q.home OPERATOR(pg_catalog.=) " \
	"(SELECT h.home FROM %1$s.transcribe_here h) "

/* What becomes of row c after a call that failed: $2 why, $3 as SQLSTATE. */
#define FAILED_IF(final) \
	"status = CASE WHEN " final " THEN 'failed' ELSE 'queued' END, " \
	"finished_at = CASE WHEN " final " THEN pg_catalog.clock_timestamp() END, " \
	"run_at = CASE WHEN " final " THEN c.run_at " \
	"ELSE pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) " \
	"pg_catalog.make_interval(secs => " PAUSE ") END, " \
	"error = $2, error_code = $3, claimed_by = NULL "

#define NO_ATTEMPT_LEFT "c.attempts OPERATOR(pg_catalog.>=) c.max_attempts"

static Statement find_any = {
	.sql = "SELECT FROM %1$s.transcribe_callbacks LIMIT 1"
};

/* One look into the index for each role. */
static Statement find_groups = {
	.sql = "WITH RECURSIVE g AS ("
	"(SELECT q.owner, q.run_at FROM %1$s.transcribe_callbacks q WHERE " QUEUED_HERE
	"ORDER BY q.owner, q.run_at, q.job_id LIMIT 1) "
	"UNION ALL SELECT n.* FROM g CROSS JOIN LATERAL "
	"(SELECT q.owner, q.run_at FROM %1$s.transcribe_callbacks q WHERE " QUEUED_HERE
	"AND q.owner OPERATOR(pg_catalog.>) g.owner "
	"ORDER BY q.owner, q.run_at, q.job_id LIMIT 1) n) "
	"SELECT g.owner, g.run_at, (SELECT pg_catalog.count(*) FROM "
	"(SELECT FROM %1$s.transcribe_callbacks q WHERE " QUEUED_HERE
	"AND q.owner OPERATOR(pg_catalog.=) g.owner "
	"AND q.run_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() LIMIT $1) r)::pg_catalog.int4 "
	"FROM g ORDER BY g.run_at",
	.nargs = 1, .argtypes = {INT8OID}
};

static Statement claim = {
	.sql = "UPDATE %1$s.transcribe_callbacks c SET status = 'running', "
	"attempts = c.attempts OPERATOR(pg_catalog.+) 1, claimed_by = $1, "
	"started_at = pg_catalog.clock_timestamp() "
	"WHERE c.job_id OPERATOR(pg_catalog.=) "
	"(SELECT q.job_id FROM %1$s.transcribe_callbacks q WHERE " QUEUED_HERE
	"AND q.owner OPERATOR(pg_catalog.=) $2 "
	"AND q.run_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() "
	"ORDER BY q.run_at, q.job_id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) "
	RETURNING_CALLBACK,
	.nargs = 2, .argtypes = {INT8OID, NAMEOID}
};

static Statement find_claimed = {
	.sql = "SELECT c.job_id, c.function, c.function_owner "
	"FROM %1$s.transcribe_callbacks c "
	"WHERE c.status OPERATOR(pg_catalog.=) 'running' "
	"AND c.claimed_by OPERATOR(pg_catalog.=) $1",
	.nargs = 1, .argtypes = {INT8OID}
};

static Statement complete = {
	.sql = "UPDATE %1$s.transcribe_callbacks c SET status = 'completed', error = NULL, "
	"error_code = NULL, claimed_by = NULL, finished_at = pg_catalog.clock_timestamp() "
	"WHERE c.job_id OPERATOR(pg_catalog.=) $2 "
	"AND c.status OPERATOR(pg_catalog.=) 'running' "
	"AND c.claimed_by OPERATOR(pg_catalog.=) $1",
	.nargs = 2, .argtypes = {INT8OID, INT8OID}
};

static Statement fail = {
	.sql = "UPDATE %1$s.transcribe_callbacks c SET "
	FAILED_IF("$4 OR " NO_ATTEMPT_LEFT)
	"WHERE c.status OPERATOR(pg_catalog.=) 'running' "
	"AND c.claimed_by OPERATOR(pg_catalog.=) $1",
	.nargs = 4, .argtypes = {INT8OID, TEXTOID, TEXTOID, BOOLOID}
};

static Statement rescue = {
	.sql = "UPDATE %1$s.transcribe_callbacks c SET "
	FAILED_IF(NO_ATTEMPT_LEFT)
	"WHERE c.status OPERATOR(pg_catalog.=) 'running' "
	"AND c.home OPERATOR(pg_catalog.=) (SELECT h.home FROM %1$s.transcribe_here h) "
	"AND c.claimed_by OPERATOR(pg_catalog.<>) ALL ($1)",
	.nargs = 3, .argtypes = {INT8ARRAYOID, TEXTOID, TEXTOID}
};

static Statement give_back = {
	.sql = "UPDATE %1$s.transcribe_callbacks c SET status = 'queued', "
	"attempts = c.attempts OPERATOR(pg_catalog.-) 1, claimed_by = NULL "
	"WHERE c.status OPERATOR(pg_catalog.=) 'running' "
	"AND c.claimed_by OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1, .argtypes = {INT8ARRAYOID}
};

/* The function of that name, which may have its argument behind it; or none. */
static Oid
find_function(const char *name)
{
	Oid			argtypes[] = {INT8OID};

	if (strchr(name, '(') != NULL)
		return DatumGetObjectId(DirectFunctionCall1(regprocedurein,
													CStringGetDatum(name)));
	return LookupFuncName(transcribe_string_to_names(name), 1, argtypes, true);
}

/*
 * The function of that name which the current role may call with a job's number;
 * an error if there is none.
 */
Oid
callback_resolve(const char *name)
{
	Oid			function = find_function(name);
	HeapTuple	row;
	Form_pg_proc proc;

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s with one argument of type bigint does not exist", name),
				 errhint("Create it, or write its schema before its name. It is called with the number of the job.")));
	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", function);
	proc = (Form_pg_proc) GETSTRUCT(row);
	if (proc->pronargs != 1 || proc->proargtypes.values[0] != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s must have one argument of type bigint", name),
				 errdetail("It is called with the number of the job.")));
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a plain function", name),
				 errdetail("Procedures, aggregates and functions that return sets cannot be called when a job has ended.")));
	ReleaseSysCache(row);
	if (!transcribe_may_execute(function, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", name),
				 errhint("GRANT EXECUTE ON FUNCTION %s TO %s;",
						 callback_signature(function),
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
	InvokeFunctionExecuteHook(function);
	return function;
}

/* What it is called wherever search_path leads. */
char *
callback_signature(Oid function)
{
	return format_procedure_qualified(function);
}

char *
callback_function_owner(Oid function)
{
	HeapTuple	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(row))->proowner;
	ReleaseSysCache(row);
	return GetUserNameFromId(owner, false);
}

/* Why no process can be started as this role; NULL: one can. */
const char *
callback_role_problem(Oid roleid)
{
#if PG_VERSION_NUM < 170000
	HeapTuple	row = SearchSysCache1(AUTHOID, ObjectIdGetDatum(roleid));
	bool		may = !HeapTupleIsValid(row) ||
		((Form_pg_authid) GETSTRUCT(row))->rolcanlogin;

	if (HeapTupleIsValid(row))
		ReleaseSysCache(row);
	if (!may)
		return psprintf("role \"%s\" is not permitted to log in",
						GetUserNameFromId(roleid, false));
#endif
	return NULL;
}

/* Whether nobody has asked for any. */
bool
callback_none(Oid schema)
{
	statement_execute(&find_any, schema, NULL, NULL);
	return SPI_processed == 0;
}

/* Which roles have something queued, those that have waited longest first. */
List *
callback_groups(Oid schema, int limit)
{
	Datum		values[1] = {Int64GetDatum(limit)};
	List	   *groups = NIL;
	bool		isnull;

	statement_execute(&find_groups, schema, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		CallbackGroup *group = palloc0(sizeof(CallbackGroup));

		group->owner = *DatumGetName(SPI_getbinval(row, desc, 1, &isnull));
		group->due = DatumGetTimestampTz(SPI_getbinval(row, desc, 2, &isnull));
		group->ready = DatumGetInt32(SPI_getbinval(row, desc, 3, &isnull));
		groups = lappend(groups, group);
	}
	return groups;
}

/* A copy of a value of the last statement, in the memory of the caller. */
static char *
returned_text(int column)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
									 column);

	return strcpy(SPI_palloc(strlen(value) + 1), value);
}

/* The row that the last statement returned, or NULL. */
static Callback *
returned_callback(void)
{
	Callback   *callback;
	bool		isnull;

	if (SPI_processed == 0)
		return NULL;
	callback = SPI_palloc(sizeof(Callback));
	callback->job_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
												   SPI_tuptable->tupdesc, 1,
												   &isnull));
	callback->function = returned_text(2);
	callback->function_owner = returned_text(3);
	return callback;
}

/*
 * Claim the first that is due of a role; NULL if there is none.  It is in the
 * memory that was the current before SPI was connected to.
 */
Callback *
callback_claim(Oid schema, int64 token, const char *owner)
{
	NameData	name;
	Datum		values[2] = {Int64GetDatum(token), NameGetDatum(&name)};

	namestrcpy(&name, owner);
	statement_execute(&claim, schema, values, NULL);
	return returned_callback();
}

/* The one that is claimed by that number; likewise. */
Callback *
callback_claimed(Oid schema, int64 token)
{
	Datum		values[1] = {Int64GetDatum(token)};

	statement_execute(&find_claimed, schema, values, NULL);
	return returned_callback();
}

/* It was called; false if the claim is lost. */
bool
callback_complete(Oid schema, int64 token, int64 job_id)
{
	Datum		values[2] = {Int64GetDatum(token), Int64GetDatum(job_id)};

	statement_execute(&complete, schema, values, NULL);
	return SPI_processed > 0;
}

/* What is claimed by that number failed: for good, or is tried again. */
void
callback_fail(Oid schema, int64 token, const char *error, int sqlstate, bool final)
{
	Datum		values[4] = {Int64GetDatum(token), CStringGetTextDatum(error),
		CStringGetTextDatum(unpack_sql_state(sqlstate)), BoolGetDatum(final)
	};

	statement_execute(&fail, schema, values, NULL);
}

/* What is claimed by others than these numbers has lost its process. */
void
callback_rescue(Oid schema, Datum tokens)
{
	Datum		values[3] = {tokens,
		CStringGetTextDatum("the process that called the function has ended before it"),
		CStringGetTextDatum(unpack_sql_state(ERRCODE_ADMIN_SHUTDOWN))
	};

	statement_execute(&rescue, schema, values, NULL);
}

/* What is claimed by these numbers was broken off by us: that costs nothing. */
void
callback_give_back(Oid schema, Datum tokens)
{
	Datum		values[1] = {tokens};

	statement_execute(&give_back, schema, values, NULL);
}
