/*-------------------------------------------------------------------------
 *
 * rows.h
 *	  Rows as an argument of a statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ROWS_H
#define TRANSCRIBE_ROWS_H

#include "postgres.h"

#include "access/tupdesc.h"

#include "shared/statement.h"

/* Columns that a row may be given. */
#define ROWS_MAX_COLUMNS	16

/* The rows, while they are made. */
typedef struct Rows
{
	TupleDesc	desc;
	int			place[ROWS_MAX_COLUMNS];	/* of the given columns in a row */
	Datum	   *values;			/* of the row that is being made */
	bool	   *nulls;
	Datum	   *row;			/* those that are done */
	int			nrows;
	int			size;
} Rows;

extern void rows_begin(Rows *rows, Statement *statement, Oid schema,
					   const char *type, const char *const *columns, int ncolumns);
extern void rows_put(Rows *rows, int n, Datum value);
extern void rows_put_if(Rows *rows, int n, bool has_value, Datum value);
extern void rows_put_text(Rows *rows, int n, const char *utf8);
extern void rows_put_jsonb(Rows *rows, int n, const char *utf8);
extern void rows_next(Rows *rows);
extern Datum rows_array(Rows *rows);

#endif							/* TRANSCRIBE_ROWS_H */
