/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  Statements on our own tables and functions, planned once.
 *
 * Runs in backends and workers, inside SPI.  Every name and operator in a
 * statement is qualified: whose search_path is in force does not matter.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/statement.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

/*
 * Run a statement in the schema of the extension; the result is in
 * SPI_tuptable and SPI_processed.  The plan is kept for the process, and
 * made anew if the extension was dropped and created elsewhere.
 */
void
statement_execute(Statement *statement, Oid schema,
				  Datum *values, const char *nulls)
{
	if (statement->plan == NULL || statement->schema != schema)
	{
		char	   *sql = psprintf(statement->sql,
								   quote_identifier(get_namespace_name(schema)));
		SPIPlanPtr	plan = SPI_prepare(sql, statement->nargs,
									   statement->argtypes);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not plan a statement: %s",
				 SPI_result_code_string(SPI_result));
		if (statement->plan != NULL)
			SPI_freeplan(statement->plan);
		statement->plan = plan;
		statement->schema = schema;
	}
	if (SPI_execute_plan(statement->plan, values, nulls, false, 0) < 0)
		elog(ERROR, "could not execute a statement: %s",
			 SPI_result_code_string(SPI_result));
}
