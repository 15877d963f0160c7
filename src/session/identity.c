/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  Who and where we are.
 *
 * Run in the caller's backend, and in the worker through SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "session/identity.h"
#include "session/wake.h"
#include "shared/extension.h"
#include "shared/state.h"

PG_FUNCTION_INFO_V1(transcribe_preload_check);
PG_FUNCTION_INFO_V1(transcribe_require_library);
PG_FUNCTION_INFO_V1(transcribe_home_of);
PG_FUNCTION_INFO_V1(transcribe_incarnations);

/* The command by which the library is preloaded. */
char *
identity_preload_command(void)
{
	const char *present = GetConfigOption("shared_preload_libraries", true, false);

	return psprintf("ALTER SYSTEM SET shared_preload_libraries = %s%s%s;",
					present != NULL ? present : "",
					present != NULL && present[0] != '\0' ? ", " : "",
					"transcribe");
}

/*
 * Warn, with the line to set, if the library was not preloaded.  Returns
 * whether it was.  what says what comes of it.
 */
bool
identity_check_preload(const char *what)
{
	if (transcribe_state() != NULL)
		return true;

	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("transcribe is not loaded via shared_preload_libraries"),
			 errdetail_internal("%s", what),
			 errhint("Run %s and restart the server.",
					 identity_preload_command())));
	return false;
}

/* SQL: whether the server has loaded us at its start. */
Datum
transcribe_preload_check(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(identity_check_preload("Jobs can be enqueued, but no worker takes them."));
}

/*
 * SQL: raise an error if the loaded library is older than that.  Each script
 * begins with it, because CREATE or ALTER EXTENSION may be run before the
 * restart that loads the new library, and its first commit is what wakes a
 * worker that could not serve the old objects.
 */
Datum
transcribe_require_library(PG_FUNCTION_ARGS)
{
	char	   *version = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (extension_library_is_older(version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("version %s of extension \"transcribe\" needs the library of that version, and %s is loaded",
						version, TRANSCRIBE_VERSION),
				 transcribe_state() != NULL ?
				 errhint("Restart the server first, and then run the command again.") :
				 errhint("Run the command again in a new session.")));
	wake_at_commit();
	PG_RETURN_VOID();
}

/*
 * SQL: identity of this database, made of what CREATE EXTENSION drew by lot
 * and of the database's OID.  A restored dump has drawn anew, and a copy from a
 * template has another OID; a failover keeps both, and so does pg_upgrade.
 */
Datum
transcribe_home_of(PG_FUNCTION_ARGS)
{
	struct
	{
		int64		lot;
		uint64		database;
	}			home;

	home.lot = PG_GETARG_INT64(0);
	home.database = MyDatabaseId;
	PG_RETURN_INT64((int64) hash_bytes_extended((unsigned char *) &home,
												sizeof(home), 0));
}

/* SQL: the incarnations of workers that are running. */
Datum
transcribe_incarnations(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TranscribeState *state = transcribe_state();
	int64		incarnations[TRANSCRIBE_MAX_WORKERS];
	int			n;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	n = state == NULL ? 0 : state_incarnations(incarnations);
	for (int i = 0; i < n; i++)
	{
		Datum		value = Int64GetDatum(incarnations[i]);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
