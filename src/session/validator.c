/*-------------------------------------------------------------------------
 *
 * validator.c
 *	  The validator of the foreign-data wrapper "transcribe".
 *
 * Runs in the backend that creates or alters a server or a user mapping.
 * It also wakes the worker at commit, so that a corrected option or key
 * moves the jobs that waited for it: what a server was closed for holds only
 * for the options and the key that it was asked with (shared/closure.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_table.h"
#include "fmgr.h"

#include "session/wake.h"
#include "shared/server.h"

PG_FUNCTION_INFO_V1(transcribe_validator);

/* SQL: check the options of an object of the given catalog. */
Datum
transcribe_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);

	if (catalog == ForeignTableRelationId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("servers of the foreign-data wrapper \"transcribe\" hold no tables"),
				 errhint("Transcripts are in the view transcribe_segments.")));

	server_validate_options(options, catalog);
	wake_for_servers();
	PG_RETURN_VOID();
}
