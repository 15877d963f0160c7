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
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(transcribe_queue);
PG_FUNCTION_INFO_V1(transcribe_active);

/* SQL: another text for each server (or list of servers), priority and owner. */
Datum
transcribe_queue(PG_FUNCTION_ARGS)
{
	char	   *server = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d %s %d %s", (int) strlen(server), server,
											  PG_GETARG_INT32(1),
											  NameStr(*PG_GETARG_NAME(2)))));
}

/* SQL: another text for each owner, session and path. */
Datum
transcribe_active(PG_FUNCTION_ARGS)
{
	char	   *owner = NameStr(*PG_GETARG_NAME(0));
	char	   *session = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(2));

	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d %d %s%s%s", (int) strlen(owner),
											  (int) strlen(session), owner, session,
											  path)));
}
