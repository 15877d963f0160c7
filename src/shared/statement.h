/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  Statements on our own tables and functions, planned once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_STATEMENT_H
#define TRANSCRIBE_STATEMENT_H

#include "postgres.h"

#include "executor/spi.h"

#define STATEMENT_MAX_ARGS	16

typedef struct Statement
{
	const char *sql;			/* with %1$s where the schema goes */
	int			nargs;
	Oid			argtypes[STATEMENT_MAX_ARGS];
	Oid			schema;			/* for which it is planned */
	SPIPlanPtr	plan;
} Statement;

extern void statement_execute(Statement *statement, Oid schema,
							  Datum *values, const char *nulls);

#endif							/* TRANSCRIBE_STATEMENT_H */
