/*-------------------------------------------------------------------------
 *
 * speakers.c
 *	  Giving speakers their names.
 *
 * Runs in the caller's backend.  A server's label stays where it was saved, in
 * transcribe_chunk_segments.speaker; the name goes beside it, into
 * speaker_name, and readers see that one first.  So a label is never lost.
 *
 * Only completed jobs are renamed in, whose segments nobody writes any more.
 * One statement does it: what is deleted or replaced at the same moment goes,
 * renamed or not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "session/tables.h"

PG_FUNCTION_INFO_V1(transcribe_rename_speaker);

/* What a reader sees of a segment's speaker; as in transcribe_job_text. */
#define LABEL \
	"COALESCE(s.speaker_name, s.speaker, " \
	"'Channel ' OPERATOR(pg_catalog.||) s.channel::pg_catalog.text)"

static Statement rename_speaker = {
	.sql = "UPDATE %1$s.transcribe_chunk_segments s SET speaker_name = $5 "
	"FROM %1$s.transcribe_jobs j "
	"WHERE s.job_id OPERATOR(pg_catalog.=) j.id "
	"AND j.session_id OPERATOR(pg_catalog.=) $3 "
	"AND j.status OPERATOR(pg_catalog.=) 'completed' "
	"AND j.replaced_by IS NULL "
	"AND ($6 IS NULL OR j.id OPERATOR(pg_catalog.=) $6) "
	"AND " TABLES_OWNED
	"AND " LABEL " OPERATOR(pg_catalog.=) $4",
	.nargs = 6,
	.argtypes = {OIDOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID, INT8OID}
};

/* A name as people write them: something, in one line, not without end. */
static void
check_name(text *name)
{
	char	   *string = text_to_cstring(name);

	if (string[strspn(string, " ")] == '\0' || strpbrk(string, "\r\n") != NULL ||
		strlen(string) > 1024)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid name of a speaker"),
				 errhint("A name is one line of at most 1024 bytes; NULL gives the server's label back.")));
}

/*
 * SQL: in the session's transcripts, or in that of one of its jobs, call a
 * speaker otherwise, or again as the server does.  Returns how many segments.
 */
Datum
transcribe_rename_speaker(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	Datum		values[6];
	char		nulls[] = "      ";
	TablesScope scope;
	int64		count;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_INT64(0);
	if (!PG_ARGISNULL(2))
		check_name(PG_GETARG_TEXT_PP(2));

	values[0] = ObjectIdGetDatum(caller);
	values[1] = BoolGetDatum(superuser_arg(caller));
	for (int i = 0; i < 4; i++)
	{
		values[i + 2] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		if (PG_ARGISNULL(i))
			nulls[i + 2] = 'n';
	}
	tables_begin_all(&scope, fcinfo);
	tables_execute(&scope, &rename_speaker, values, nulls);
	count = SPI_processed;
	tables_end(&scope);
	PG_RETURN_INT64(count);
}
