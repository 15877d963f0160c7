/*-------------------------------------------------------------------------
 *
 * tables.c
 *	  Writing our tables on behalf of a role that may not write them.
 *
 * Runs in the caller's backend.  The functions that users call check what
 * the caller may do, with the caller's identity, and then write as the owner
 * of the tables.  A SECURITY DEFINER function would not know its caller.
 *
 * While we are the owner, nothing that others can plant may run: statements
 * are qualified throughout (the caller's search_path is not ours), and
 * triggers are switched off if somebody has put some on what is written, for
 * GRANT ALL ON ALL TABLES is a common thing and includes TRIGGER.  They are
 * switched off only then, because a change of session_replication_role
 * throws away all cached plans of the session.  We look under the lock that
 * writing takes, and keep it: CREATE TRIGGER waits for it to be gone, or we
 * wait for CREATE TRIGGER.
 *
 *-------------------------------------------------------------------------
 */
#include "session/tables.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "shared/extension.h"

PG_FUNCTION_INFO_V1(transcribe_refuse_truncate);

/* The tables; most functions write the first alone. */
static const char *const table_names[] = {
	"transcribe_jobs",
	"transcribe_chunks",
	"transcribe_chunk_segments",
	"transcribe_attempts",
	"transcribe_recordings"
};

/* Whether a trigger of somebody's would fire when we write the relation. */
static bool
has_foreign_triggers(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;

	return triggers != NULL &&
		(triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
		 triggers->trig_insert_before_statement ||
		 triggers->trig_insert_after_statement ||
		 triggers->trig_update_before_row || triggers->trig_update_after_row ||
		 triggers->trig_update_before_statement ||
		 triggers->trig_update_after_statement ||
		 triggers->trig_delete_before_row || triggers->trig_delete_after_row ||
		 triggers->trig_delete_before_statement ||
		 triggers->trig_delete_after_statement);
}

static Oid
find_table(const char *name, Oid schema)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" of extension \"transcribe\" does not exist",
						name)));
	return relid;
}

/*
 * Whether there are such triggers on the table, and will be until the end of
 * the transaction; tells its owner.
 */
static bool
look_at_table(const char *name, Oid schema, Oid *owner)
{
	Relation	rel = table_open(find_table(name, schema), RowExclusiveLock);
	bool		triggers;

	triggers = has_foreign_triggers(rel);
	*owner = rel->rd_rel->relowner;
	table_close(rel, NoLock);
	return triggers;
}

/* Become this owner, and connect to SPI. */
static void
become(TablesScope *scope, Oid owner)
{
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	SetUserIdAndSecContext(owner, scope->save_sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

/* Become the owner of the tables, of which so many are to be written. */
static void
begin(TablesScope *scope, FunctionCallInfo fcinfo, int ntables)
{
	bool		triggers = false;
	Oid			owner = InvalidOid;
	Oid			schema;
	char	   *version;

	if (extension_find(&schema, &version) && !extension_serves(version))
		extension_report_version(ERROR, version);
	scope->schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	for (int i = 0; i < ntables; i++)
		triggers |= look_at_table(table_names[i], scope->schema, &owner);

	scope->save_nestlevel = NewGUCNestLevel();
	if (triggers)
		(void) set_config_option("session_replication_role", "replica",
								 PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	become(scope, owner);
}

/*
 * Become the owner of the tables in the schema of the function that was
 * called, to write the jobs, and connect to SPI.
 */
void
tables_begin(TablesScope *scope, FunctionCallInfo fcinfo)
{
	begin(scope, fcinfo, 1);
}

/* The same, to write all tables. */
void
tables_begin_all(TablesScope *scope, FunctionCallInfo fcinfo)
{
	begin(scope, fcinfo, lengthof(table_names));
}

/*
 * Become the owner to read, where row security would be in the way of an index.
 * That can be done on a standby, too.
 */
void
tables_begin_reading(TablesScope *scope, FunctionCallInfo fcinfo)
{
	Relation	rel;
	Oid			owner;

	scope->schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	rel = table_open(find_table(table_names[0], scope->schema), AccessShareLock);
	owner = rel->rd_rel->relowner;
	table_close(rel, NoLock);
	scope->save_nestlevel = NewGUCNestLevel();
	become(scope, owner);
}

/* Run a statement as the tables' owner. */
void
tables_execute(TablesScope *scope, Statement *statement,
			   Datum *values, const char *nulls)
{
	statement_execute(statement, scope->schema, values, nulls);
}

/* Be the caller again. */
void
tables_end(TablesScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(false, scope->save_nestlevel);
	SetUserIdAndSecContext(scope->save_userid, scope->save_sec_context);
}

/*
 * Raise an error unless the caller has the rights of the job's owner.  A job
 * that is not there and one that the caller may not see are the same error.
 */
void
tables_check_owner(TablesScope *scope, Oid caller, int64 job_id)
{
	static Statement find = {
		.sql = "SELECT owner FROM %1$s.transcribe_jobs j "
		"WHERE j.id OPERATOR(pg_catalog.=) $1",
		.nargs = 1, .argtypes = {INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(job_id)};
	bool		isnull;
	Name		owner;
	Oid			roleid = InvalidOid;

	tables_execute(scope, &find, values, NULL);
	if (SPI_processed == 1)
	{
		owner = DatumGetName(SPI_getbinval(SPI_tuptable->vals[0],
										   SPI_tuptable->tupdesc, 1, &isnull));
		roleid = get_role_oid(NameStr(*owner), true);
	}
	if (SPI_processed != 1 ||
		(OidIsValid(roleid) ? !has_privs_of_role(caller, roleid)
		 : !superuser_arg(caller)))
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("transcription job " INT64_FORMAT " does not exist",
						job_id),
				 errhint("Jobs of other roles count as not there.")));
}

/* Trigger: TRUNCATE is the owner's alone, for no policy applies to it. */
Datum
transcribe_refuse_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"transcribe_refuse_truncate")));
	if (!transcribe_owns_table(RelationGetRelid(trigger->tg_relation),
							   GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to truncate table \"%s\"",
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("Only the owner of the table may truncate it.")));
	PG_RETURN_POINTER(NULL);
}
