/*-------------------------------------------------------------------------
 *
 * tables.c
 *	  Writing our tables on behalf of a role that may not write them.
 *
 * Runs in the caller's backend, and in the process of a callback, which is a
 * session of its role.  The functions that users call check what the caller may
 * do, with the caller's identity, and then write as the owner of the tables.  A
 * SECURITY DEFINER function would not know its caller.
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
#include "catalog/pg_trigger.h"
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
PG_FUNCTION_INFO_V1(transcribe_refuse_write);

/* The tables; most functions write the first alone. */
static const char *const table_names[] = {
	"transcribe_jobs",
	"transcribe_chunks",
	"transcribe_chunk_segments",
	"transcribe_attempts",
	"transcribe_recordings",
	"transcribe_callbacks"
};

/* Whether the trigger does no more than to refuse what is not ours to write. */
static bool
is_guard(Trigger *trigger, Oid schema)
{
	char	   *name;

	if (get_func_namespace(trigger->tgfoid) != schema)
		return false;
	name = get_func_name(trigger->tgfoid);
	return name != NULL && strcmp(name, "transcribe_refuse_write") == 0;
}

/* Whether a trigger of somebody's would fire when we write the relation. */
static bool
has_foreign_triggers(Relation rel, Oid schema)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if ((TRIGGER_FOR_INSERT(trigger->tgtype) ||
			 TRIGGER_FOR_UPDATE(trigger->tgtype) ||
			 TRIGGER_FOR_DELETE(trigger->tgtype)) && !is_guard(trigger, schema))
			return true;
	}
	return false;
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

	triggers = has_foreign_triggers(rel, schema);
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

/* Become the owner of the tables there, of which so many are to be written. */
static void
begin(TablesScope *scope, Oid schema, int ntables)
{
	bool		triggers = false;
	Oid			owner = InvalidOid;
	Oid			extension_schema;
	char	   *version;

	if (extension_find(&extension_schema, &version) && !extension_serves(version))
		extension_report_version(ERROR, version);
	scope->schema = schema;
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
	begin(scope, get_func_namespace(fcinfo->flinfo->fn_oid), 1);
}

/* The same, to write all tables. */
void
tables_begin_all(TablesScope *scope, FunctionCallInfo fcinfo)
{
	tables_begin_in(scope, get_func_namespace(fcinfo->flinfo->fn_oid));
}

/* The same, of the extension in that schema. */
void
tables_begin_in(TablesScope *scope, Oid schema)
{
	begin(scope, schema, lengthof(table_names));
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

/* Raise an error unless the table is the caller's, in a trigger. */
static void
guard(FunctionCallInfo fcinfo, const char *function, const char *what)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						function)));
	if (!transcribe_owns_table(RelationGetRelid(trigger->tg_relation),
							   GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to %s table \"%s\"", what,
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("Only the owner of the table may %s it.", what)));
}

/* Trigger: TRUNCATE is the owner's alone, for no policy applies to it. */
Datum
transcribe_refuse_truncate(PG_FUNCTION_ARGS)
{
	guard(fcinfo, "transcribe_refuse_truncate", "truncate");
	PG_RETURN_POINTER(NULL);
}

/* Trigger: so is all writing, for there are who need not heed policies. */
Datum
transcribe_refuse_write(PG_FUNCTION_ARGS)
{
	guard(fcinfo, "transcribe_refuse_write", "write");
	PG_RETURN_POINTER(NULL);
}
