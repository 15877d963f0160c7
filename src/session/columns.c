/*-------------------------------------------------------------------------
 *
 * columns.c
 *	  The two columns of a user's table that jobs are made of.
 *
 * Runs in the caller's backend, for the trigger and for the backfill.
 *
 *-------------------------------------------------------------------------
 */
#include "session/columns.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Find a column that users have; its values must be stored. */
static AttrNumber
find_column(Relation rel, const char *name)
{
	AttrNumber	column = get_attnum(RelationGetRelid(rel), name);

	if (column <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist",
						name, RelationGetRelationName(rel)),
				 errhint("If it was renamed or dropped, triggers that name it have to be created anew. Names are taken as they are written, without quotes.")));

	/* From PostgreSQL 18 on there are some that are not. */
	if (TupleDescAttr(RelationGetDescr(rel), column - 1)->attgenerated == 'v')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of relation \"%s\" is a virtual generated column",
						name, RelationGetRelationName(rel)),
				 errhint("Generate it as STORED.")));
	return column;
}

/* Find the columns by their names. */
void
columns_find(SourceColumns *columns, Relation rel, const char *session,
			 const char *path)
{
	Oid			type;
	bool		varlena;

	columns->session = find_column(rel, session);
	getTypeOutputInfo(TupleDescAttr(RelationGetDescr(rel), columns->session - 1)->atttypid,
					  &columns->output, &varlena);
	columns->path = find_column(rel, path);
	type = TupleDescAttr(RelationGetDescr(rel), columns->path - 1)->atttypid;
	columns->kind = recording_kind(type);
	if (columns->kind == RECORDING_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of relation \"%s\" cannot hold recordings",
						path, RelationGetRelationName(rel)),
				 errdetail("It is of type %s.", format_type_be(type)),
				 errhint("Recordings are paths (text), bytes (bytea) or large objects (oid).")));
}

/* The session_id of a value that is not null. */
text *
columns_session(const SourceColumns *columns, const char *prefix, Datum value)
{
	char	   *session = OidOutputFunctionCall(columns->output, value);

	return cstring_to_text(prefix[0] == '\0' ? session :
						   psprintf("%s%s", prefix, session));
}
