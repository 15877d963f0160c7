/*-------------------------------------------------------------------------
 *
 * runner.c
 *	  The process that calls functions of one role for jobs that have ended.
 *
 * A background worker, started by the database's worker (callbacks.c) with one
 * row claimed for it.  It is a session of the role that asked: connected as it,
 * so that there is no other identity to go back to, whatever the function does.
 * It is apart from the worker, because a function may take minutes, fail, or
 * leave anything behind in its session.
 *
 * A call is one transaction, in which the row is marked as well: what the
 * function has written and that it was called commit together, or not at all.
 * The mark is refused if the claim is lost, and all is rolled back.
 *
 * After one call it claims the next of its role, for a while.  Then it ends, so
 * that other roles have their turn; the worker starts another.  Between two calls
 * the session is as new.
 *
 *-------------------------------------------------------------------------
 */
#include "runner/runner.h"

#include "access/xact.h"
#include "commands/discard.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "session/tables.h"
#include "shared/callback.h"
#include "shared/database.h"
#include "shared/extension.h"
#include "shared/failpoint.h"
#include "transcribe.h"

/* No call begins later than that. */
#define TURN_MS		5000

static CallbackOrder order;
static MemoryContext call_context;	/* emptied after each call */

/* Settings that are not left to ALTER DATABASE or ALTER ROLE. */
static const struct
{
	const char *name;
	const char *value;
}			overrides[] = {
	{"role", "none"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"exit_on_error", "off"},
};

/* Become the owner of the tables; false if they are not there any more. */
static bool
begin_tables(TablesScope *scope)
{
	Oid			schema;
	char	   *version;

	if (!extension_hold(&schema, &version) || !extension_serves(version))
		return false;
	tables_begin_in(scope, schema);
	return true;
}

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
}

/* What is to be called: what was claimed for us, else the next; or NULL. */
static Callback *
find_callback(bool first)
{
	MemoryContext context = MemoryContextSwitchTo(call_context);
	Callback   *callback = NULL;
	TablesScope scope;

	begin_transaction();
	MemoryContextSwitchTo(call_context);
	if (begin_tables(&scope))
	{
		callback = first ? callback_claimed(scope.schema, order.token) :
			callback_claim(scope.schema, order.token,
						   GetUserNameFromId(order.owner, false));
		tables_end(&scope);
	}
	end_transaction();
	MemoryContextSwitchTo(context);
	return callback;
}

/* Call the function with the number of the job. */
static void
call_function(Callback *callback)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	flinfo;
	Oid			function = callback_resolve(callback->function);
	const char *owner = callback_function_owner(function);

	if (strcmp(owner, callback->function_owner) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("function %s is owned by another role than when it was asked for",
						callback->function),
				 errdetail("It was \"%s\" and is \"%s\".",
						   callback->function_owner, owner)));
	fmgr_info(function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = Int64GetDatum(callback->job_id);
	fcinfo->args[0].isnull = false;
	(void) FunctionCallInvoke(fcinfo);
}

/* Note that it was called, in the same transaction. */
static void
mark_completed(Callback *callback)
{
	TablesScope scope;
	bool		held = false;

	if (begin_tables(&scope))
	{
		held = callback_complete(scope.schema, order.token, callback->job_id);
		tables_end(&scope);
	}
	if (!held)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("transcription job " INT64_FORMAT " has changed while its callback ran",
						callback->job_id)));
}

/* Note that it failed, and why. */
static void
mark_failed(Callback *callback, ErrorData *error)
{
	TablesScope scope;

	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("callback %s of transcription job " INT64_FORMAT " failed: %s",
					callback->function, callback->job_id, error->message)));
	begin_transaction();
	if (begin_tables(&scope))
	{
		callback_fail(scope.schema, order.token, error->message,
					  error->sqlerrcode, false);
		tables_end(&scope);
	}
	end_transaction();
}

/* Call what was claimed, and note what came of it. */
static void
run(Callback *callback)
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		begin_transaction();
		if (transcribe_callback_timeout > 0)
			enable_timeout_after(STATEMENT_TIMEOUT, transcribe_callback_timeout * 1000);
		call_function(callback);
		disable_timeout(STATEMENT_TIMEOUT, false);
		FAILPOINT("callback_called");
		mark_completed(callback);
		FAILPOINT("callback_marked");
		end_transaction();
	}
	PG_CATCH();
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false;
		MemoryContextSwitchTo(call_context);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(call_context);
	}
	PG_END_TRY();
	if (error != NULL)
		mark_failed(callback, error);
}

/* Leave nothing of a call to the next one. */
static void
clean_session(void)
{
	DiscardStmt *discard = makeNode(DiscardStmt);

	discard->target = DISCARD_ALL;
	begin_transaction();
	DiscardCommand(discard, true);
	end_transaction();
}

/*
 * Heed whose database this is, unless it is a superuser's.  To whoever may
 * terminate sessions of the owner we are one of them, as the worker is, so that
 * DROP DATABASE ... WITH (FORCE) works for him.  And a superuser's function must
 * not take what he has put into its way by ALTER DATABASE, or into "public".
 */
static void
heed_owner(void)
{
	Oid			owner;
	bool		open;

	StartTransactionCommand();
	if (database_find(MyDatabaseId, &owner, &open) && !superuser_arg(owner))
	{
		MyProc->roleId = owner;
		if (superuser_arg(order.owner))
			SetConfigOption("search_path", "pg_catalog, pg_temp",
							PGC_SUSET, PGC_S_OVERRIDE);
	}
	CommitTransactionCommand();
}

/* Connect as the role. */
static void
start(void)
{
	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(order.dbid, order.owner,
											  BGWORKER_BYPASS_ROLELOGINCHECK);
	for (size_t i = 0; i < lengthof(overrides); i++)
		SetConfigOption(overrides[i].name, overrides[i].value,
						PGC_SUSET, PGC_S_OVERRIDE);
	heed_owner();
	pgstat_report_appname("transcribe callback");
}

/* Entry point, by name: see callbacks.c. */
void
transcribe_runner_main(Datum arg)
{
	TimestampTz begun = GetCurrentTimestamp();
	bool		first = true;
	Callback   *callback;

	start();
	call_context = AllocSetContextCreate(TopMemoryContext, "transcribe call",
										 ALLOCSET_DEFAULT_SIZES);
	while ((callback = find_callback(first)) != NULL)
	{
		char		activity[NAMEDATALEN * 3];

		snprintf(activity, sizeof(activity), "%s for transcription job " INT64_FORMAT,
				 callback->function, callback->job_id);
		pgstat_report_activity(STATE_RUNNING, activity);
		run(callback);
		FAILPOINT("callback_committed");
		pgstat_report_activity(STATE_IDLE, NULL);
		first = false;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (!transcribe_enabled || transcribe_callback_workers == 0 ||
			TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), TURN_MS))
			break;
		clean_session();
		MemoryContextReset(call_context);
	}
	proc_exit(0);
}
