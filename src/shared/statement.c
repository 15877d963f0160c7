/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  Statements on our own tables, planned once.
 *
 * Runs in backends and workers, inside SPI.  Every name and operator in a
 * statement is qualified: whose search_path is in force does not matter.
 *
 * A statement is a text, or the body of a function in SQL.  Such a function
 * could be called, but up to PostgreSQL 17 its body is planned anew in each
 * query that calls it, which takes longer than what ours do for a job.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/statement.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/functions.h"
#include "nodes/params.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* What stands around the statement in the body of a function. */
#define BODY_BEGIN	"BEGIN ATOMIC"
#define BODY_END	";\nEND"

/* The function's row; the caller releases it. */
static HeapTuple
find_function(Statement *statement, Oid schema)
{
	List	   *name = list_make2(makeString(get_namespace_name(schema)),
								  makeString(pstrdup(statement->function)));
	Oid			function = LookupFuncName(name, statement->nargs,
										  statement->argtypes, false);
	HeapTuple	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", function);
	return row;
}

/*
 * The statement that the function consists of.  PostgreSQL writes it such that
 * it means the same wherever it is read.
 */
static char *
function_body(HeapTuple row)
{
	Oid			function = ((Form_pg_proc) GETSTRUCT(row))->oid;
	bool		isnull;
	char	   *body;
	char	   *end;

	(void) SysCacheGetAttr(PROCOID, row, Anum_pg_proc_prosqlbody, &isnull);
	if (isnull)
		elog(ERROR, "function %u has no body in SQL", function);
	body = TextDatumGetCString(DirectFunctionCall1(pg_get_function_sqlbody,
												   ObjectIdGetDatum(function)));
	end = body + strlen(body) - strlen(BODY_END);
	if (strncmp(body, BODY_BEGIN, strlen(BODY_BEGIN)) != 0 || end < body ||
		strcmp(end, BODY_END) != 0)
		elog(ERROR, "could not read the body of function %u", function);
	*end = '\0';
	return body + strlen(BODY_BEGIN);
}

/* Plan the body of the function; its parameters are known by their names. */
static SPIPlanPtr
plan_function(HeapTuple row)
{
	MemoryContext oldcontext;
	SQLFunctionParseInfoPtr names;

	/* Kept for as long as the plan, to read the statement again. */
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	names = prepare_sql_fn_parse_info(row, NULL, InvalidOid);
	MemoryContextSwitchTo(oldcontext);
	return SPI_prepare_params(function_body(row),
							  (ParserSetupHook) sql_fn_parser_setup, names, 0);
}

static SPIPlanPtr
plan_text(Statement *statement, Oid schema)
{
	char	   *sql = psprintf(statement->sql,
							   quote_identifier(get_namespace_name(schema)));

	return SPI_prepare(sql, statement->nargs, statement->argtypes);
}

/* Whether the function that the plan was made of is what it was then. */
static bool
is_same_function(Statement *statement)
{
	HeapTuple	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(statement->oid));
	bool		same = false;

	if (HeapTupleIsValid(row))
	{
		same = HeapTupleHeaderGetRawXmin(row->t_data) == statement->version &&
			ItemPointerEquals(&row->t_self, &statement->place);
		ReleaseSysCache(row);
	}
	return same;
}

/*
 * Have a plan.  It is kept for the process, and made anew if the extension was
 * dropped and created elsewhere, or its function replaced.
 */
static void
have_plan(Statement *statement, Oid schema)
{
	HeapTuple	row = NULL;
	SPIPlanPtr	plan;

	if (statement->plan != NULL && statement->schema == schema &&
		(statement->function == NULL || is_same_function(statement)))
		return;

	if (statement->function == NULL)
		plan = plan_text(statement, schema);
	else
	{
		row = find_function(statement, schema);
		plan = plan_function(row);
	}
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not plan a statement: %s",
			 SPI_result_code_string(SPI_result));
	if (statement->plan != NULL)
		SPI_freeplan(statement->plan);
	statement->plan = plan;
	statement->schema = schema;
	if (row != NULL)
	{
		statement->oid = ((Form_pg_proc) GETSTRUCT(row))->oid;
		statement->version = HeapTupleHeaderGetRawXmin(row->t_data);
		statement->place = row->t_self;
		ReleaseSysCache(row);
	}
}

/* The arguments, as a plan by a function wants them. */
static ParamListInfo
param_list(Statement *statement, Datum *values, const char *nulls)
{
	ParamListInfo list = makeParamList(statement->nargs);

	for (int i = 0; i < statement->nargs; i++)
	{
		ParamExternData *param = &list->params[i];

		param->value = values[i];
		param->isnull = nulls != NULL && nulls[i] == 'n';
		param->pflags = PARAM_FLAG_CONST;
		param->ptype = statement->argtypes[i];
	}
	return list;
}

/* Numbers of type bigint as an argument. */
Datum
statement_numbers(Datum *numbers, int n)
{
	return PointerGetDatum(construct_array(numbers, n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * Run a statement in the schema of the extension; the result is in
 * SPI_tuptable and SPI_processed.
 */
void
statement_execute(Statement *statement, Oid schema,
				  Datum *values, const char *nulls)
{
	int			result;

	have_plan(statement, schema);
	result = statement->function == NULL ?
		SPI_execute_plan(statement->plan, values, nulls, false, 0) :
		SPI_execute_plan_with_paramlist(statement->plan,
										param_list(statement, values, nulls),
										false, 0);
	if (result < 0)
		elog(ERROR, "could not execute a statement: %s",
			 SPI_result_code_string(result));
}
