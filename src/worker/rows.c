/*-------------------------------------------------------------------------
 *
 * rows.c
 *	  Rows as an argument of a statement.
 *
 * Runs in the worker, in the transaction of the statement.  What many jobs have
 * to write goes into one statement, as an array of rows: PostgreSQL takes it apart
 * in a fraction of the time that an array for each column would take.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/rows.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "shared/encoding.h"

/* Begin to make rows of the type; they are the last argument of the statement. */
void
rows_begin(Rows *rows, Statement *statement, Oid schema,
		   const char *type, const char *const *columns, int ncolumns)
{
	Oid			typeid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
										 CStringGetDatum(type),
										 ObjectIdGetDatum(schema));

	if (!OidIsValid(typeid))
		elog(ERROR, "type %s does not exist", type);
	Assert(ncolumns <= ROWS_MAX_COLUMNS);
	statement->argtypes[statement->nargs - 1] = get_array_type(typeid);
	rows->desc = lookup_rowtype_tupdesc_copy(typeid, -1);
	for (int i = 0; i < ncolumns; i++)
	{
		int			number = SPI_fnumber(rows->desc, columns[i]);

		if (number <= 0)
			elog(ERROR, "type %s has no column %s", type, columns[i]);
		rows->place[i] = number - 1;
	}
	rows->values = palloc0_array(Datum, rows->desc->natts);
	rows->nulls = palloc_array(bool, rows->desc->natts);
	memset(rows->nulls, true, rows->desc->natts);
	rows->nrows = 0;
	rows->size = 64;
	rows->row = palloc_array(Datum, rows->size);
}

/* Give the row that is being made a value, in the nth of the columns named. */
void
rows_put(Rows *rows, int n, Datum value)
{
	rows->values[rows->place[n]] = value;
	rows->nulls[rows->place[n]] = false;
}

/* The same if there is one; else it stays NULL. */
void
rows_put_if(Rows *rows, int n, bool has_value, Datum value)
{
	if (has_value)
		rows_put(rows, n, value);
}

/* The same for a text in UTF-8, which may be missing, or empty, which is the same. */
void
rows_put_text(Rows *rows, int n, const char *utf8)
{
	if (utf8 != NULL && utf8[0] != '\0')
		rows_put(rows, n, CStringGetTextDatum(encoding_from_utf8(utf8)));
}

/* The same for JSON. */
void
rows_put_jsonb(Rows *rows, int n, const char *utf8)
{
	if (utf8 != NULL)
		rows_put(rows, n, DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(encoding_from_utf8(utf8))));
}

/* The row is made; the next one begins, without any value. */
void
rows_next(Rows *rows)
{
	HeapTuple	tuple = heap_form_tuple(rows->desc, rows->values, rows->nulls);

	if (rows->nrows == rows->size)
	{
		rows->size *= 2;
		rows->row = repalloc_array(rows->row, Datum, rows->size);
	}
	rows->row[rows->nrows++] = HeapTupleGetDatum(tuple);
	memset(rows->nulls, true, rows->desc->natts);
}

/* The argument that the rows are. */
Datum
rows_array(Rows *rows)
{
	return PointerGetDatum(construct_array(rows->row, rows->nrows,
										   rows->desc->tdtypeid, -1, false,
										   TYPALIGN_DOUBLE));
}
