/*-------------------------------------------------------------------------
 *
 * keys.c
 *	  What stands for several columns of a job in an index.
 *
 * Run by whoever writes a row.  Each part that may hold any character has its
 * length in front of it, so that no two jobs have the same key that differ in
 * anything.  In C, because each statement that changes rows reads the expressions
 * of their columns and indexes from text, which for a concatenation in SQL takes
 * longer than the change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(transcribe_queue);
PG_FUNCTION_INFO_V1(transcribe_active);

static Datum
key(StringInfo text)
{
	return PointerGetDatum(cstring_to_text_with_len(text->data, text->len));
}

/* SQL: another text for each server (or list of servers), priority and owner. */
Datum
transcribe_queue(PG_FUNCTION_ARGS)
{
	text	   *server = PG_GETARG_TEXT_PP(0);
	int			len = VARSIZE_ANY_EXHDR(server);
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%d ", len);
	appendBinaryStringInfo(&text, VARDATA_ANY(server), len);
	appendStringInfo(&text, " %d %s", PG_GETARG_INT32(1), NameStr(*PG_GETARG_NAME(2)));
	PG_RETURN_DATUM(key(&text));
}

/* SQL: another text for each owner, session and path. */
Datum
transcribe_active(PG_FUNCTION_ARGS)
{
	const char *owner = NameStr(*PG_GETARG_NAME(0));
	text	   *session = PG_GETARG_TEXT_PP(1);
	text	   *path = PG_GETARG_TEXT_PP(2);
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%d %d %s", (int) strlen(owner),
					 (int) VARSIZE_ANY_EXHDR(session), owner);
	appendBinaryStringInfo(&text, VARDATA_ANY(session), VARSIZE_ANY_EXHDR(session));
	appendBinaryStringInfo(&text, VARDATA_ANY(path), VARSIZE_ANY_EXHDR(path));
	PG_RETURN_DATUM(key(&text));
}
