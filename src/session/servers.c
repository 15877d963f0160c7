/*-------------------------------------------------------------------------
 *
 * servers.c
 *	  Servers that are closed for a while: showing why, and opening them; and
 *	  holding them by hand.
 *
 * Runs in the caller's backend.  A server is held by an option, which ALTER
 * SERVER sets as well: so it stays held over a restart, and in a dump; and its
 * validator wakes the worker.
 *
 * Servers that the caller may not use are not
 * spoken of: what one of them said may be in the reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "session/wake.h"
#include "shared/closure.h"
#include "shared/encoding.h"

PG_FUNCTION_INFO_V1(transcribe_closures);
PG_FUNCTION_INFO_V1(transcribe_hold_server);
PG_FUNCTION_INFO_V1(transcribe_resume_server);

/* As it is called in transcribe_servers. */
static const char *
state_name(ClosureKind kind)
{
	switch (kind)
	{
		case CLOSURE_NONE:
			break;
		case CLOSURE_PAUSED:
			return "paused";
		case CLOSURE_UNREACHABLE:
			return "unreachable";
		case CLOSURE_STOPPED:
			return "stopped";
	}
	return "available";
}

/*
 * The role whose key is meant, or NULL; false if the key is not the one any
 * more that it was.
 */
static bool
find_role(const StateClosure *closure, char **role)
{
	HeapTuple	tuple;
	Datum		options;
	bool		isnull;
	Oid			umuser;
	uint32		version;

	*role = NULL;
	if (!closure->of_key || !OidIsValid(closure->key.mapping))
		return true;
	tuple = SearchSysCache1(USERMAPPINGOID,
							ObjectIdGetDatum(closure->key.mapping));
	if (!HeapTupleIsValid(tuple))
		return false;
	umuser = ((Form_pg_user_mapping) GETSTRUCT(tuple))->umuser;
	options = SysCacheGetAttr(USERMAPPINGOID, tuple,
							  Anum_pg_user_mapping_umoptions, &isnull);
	version = server_options_version(isnull ? NIL : untransformRelOptions(options));
	ReleaseSysCache(tuple);
	*role = OidIsValid(umuser) ? GetUserNameFromId(umuser, true) : "public";
	return version == closure->key.version;
}

/*
 * Whether the closure still stands in the way of anything: not if the server
 * is gone or has been altered.
 */
static bool
still_holds(const StateClosure *closure)
{
	ForeignServer *server = GetForeignServerExtended(closure->serverid,
													 FSV_MISSING_OK);

	return server != NULL &&
		server_options_version(server->options) == closure->version;
}

/* A time of the clock that nobody sets, as one of that on the wall. */
static TimestampTz
wall_time(int64 clock_ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), clock_ms -
									   (now.tv_sec * INT64CONST(1000) +
										now.tv_nsec / 1000000));
}

/* SQL: one row for each closure in this database that the caller may know of. */
Datum
transcribe_closures(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	StateClosure *closures;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (transcribe_state() == NULL)
		return (Datum) 0;
	closures = closure_list(&n);
	for (int i = 0; i < n; i++)
	{
		StateClosure *closure = &closures[i];
		char	   *role;
		Datum		values[7];
		bool		nulls[7] = {false};

		if (!still_holds(closure) || !find_role(closure, &role) ||
			transcribe_server_usage(closure->serverid, GetUserId()) != ACLCHECK_OK)
			continue;
		values[0] = ObjectIdGetDatum(closure->serverid);
		values[1] = role != NULL ? CStringGetTextDatum(role) : (Datum) 0;
		nulls[1] = role == NULL;
		values[2] = CStringGetTextDatum(state_name(closure->kind));
		values[3] = CStringGetTextDatum(closure->code);
		values[4] = CStringGetTextDatum(encoding_from_utf8(closure->reason));
		values[5] = TimestampTzGetDatum(closure->since);
		values[6] = TimestampTzGetDatum(wall_time(closure->until));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* The server of that name, if it is ours and the caller's; else an error. */
static ForeignServer *
own_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, false);

	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "transcribe") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a server of the foreign-data wrapper \"transcribe\"",
						name)));
	if (!transcribe_owns_server(server->serverid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_SERVER, name);
	return server;
}

/* The value of the server's option "hold", or NULL if it is not set. */
static const char *
hold_option(ForeignServer *server)
{
	ListCell   *lc;

	foreach(lc, server->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, "hold") == 0)
			return defGetString(def);
	}
	return NULL;
}

/* Do what the caller could type. */
static void
alter_server(const char *name, const char *change)
{
	char	   *sql = psprintf("ALTER SERVER %s OPTIONS (%s)",
							   quote_identifier(name), change);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not alter a server: %s",
			 SPI_result_code_string(SPI_result));
	SPI_finish();
}

/* SQL: begin no more jobs at a server. */
Datum
transcribe_hold_server(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *hold = hold_option(own_server(name));

	if (hold == NULL || strcmp(hold, "on") != 0)
		alter_server(name, hold == NULL ? "ADD hold 'on'" : "SET hold 'on'");
	PG_RETURN_VOID();
}

/*
 * SQL: ask a server again, whether it was held or whatever it has said.  For
 * the latter there is no need of a commit: a server is closed in memory alone.
 */
Datum
transcribe_resume_server(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ForeignServer *server = own_server(name);

	if (hold_option(server) != NULL)
		alter_server(name, "DROP hold");
	if (transcribe_state() != NULL)
		closure_remove_all(server->serverid);
	wake_at_commit();
	PG_RETURN_VOID();
}
