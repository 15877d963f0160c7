/*-------------------------------------------------------------------------
 *
 * tables.h
 *	  Writing our tables on behalf of a role that may not write them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_TABLES_H
#define TRANSCRIBE_TABLES_H

#include "postgres.h"

#include "fmgr.h"

#include "shared/statement.h"

/* The statuses of a job that has not ended, as SQL. */
#define TABLES_ACTIVE \
	"(ARRAY['queued', 'preprocessing', 'transcribing']::pg_catalog.text[])"

/*
 * Whether job j is of a role whose rights the caller has: $1 is the caller, $2
 * whether that is a superuser, who has those of roles that are gone, too.
 */
#define TABLES_OWNED \
	"($2 OR j.owner OPERATOR(pg_catalog.=) ANY (ARRAY(" \
	"SELECT r.rolname FROM pg_catalog.pg_roles r " \
	"WHERE pg_catalog.pg_has_role($1, r.oid, 'USAGE')))) "

/* Who we were before we became the tables' owner. */
typedef struct TablesScope
{
	Oid			schema;
	Oid			save_userid;
	int			save_sec_context;
	int			save_nestlevel;
} TablesScope;

extern void tables_begin(TablesScope *scope, FunctionCallInfo fcinfo);
extern void tables_begin_reading(TablesScope *scope, FunctionCallInfo fcinfo);
extern void tables_begin_all(TablesScope *scope, FunctionCallInfo fcinfo);
extern void tables_begin_in(TablesScope *scope, Oid schema);
extern void tables_execute(TablesScope *scope, Statement *statement,
						   Datum *values, const char *nulls);
extern void tables_end(TablesScope *scope);
extern void tables_check_owner(TablesScope *scope, Oid caller, int64 job_id);

#endif							/* TRANSCRIBE_TABLES_H */
