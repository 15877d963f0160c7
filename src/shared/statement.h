/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  Statements on our own tables, planned once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_STATEMENT_H
#define TRANSCRIBE_STATEMENT_H

#include "postgres.h"

#include "executor/spi.h"
#include "storage/itemptr.h"

#define STATEMENT_MAX_ARGS	16

typedef struct Statement
{
	const char *sql;			/* with %1$s where the schema goes, or */
	const char *function;		/* whose body it is */
	int			nargs;
	Oid			argtypes[STATEMENT_MAX_ARGS];

	/* what it is planned for */
	SPIPlanPtr	plan;
	Oid			schema;
	Oid			oid;			/* of the function, and which version of it */
	TransactionId version;
	ItemPointerData place;
} Statement;

extern Datum statement_numbers(Datum *numbers, int n);
extern void statement_execute(Statement *statement, Oid schema,
							  Datum *values, const char *nulls);

#endif							/* TRANSCRIBE_STATEMENT_H */
