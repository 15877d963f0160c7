/*-------------------------------------------------------------------------
 *
 * setup.c
 *	  transcribe_setup: a server and its key, made and checked in one call.
 *
 * Runs in the caller's backend.  It does what the caller could type, CREATE
 * SERVER and CREATE USER MAPPING, as the caller: PostgreSQL's own rights
 * decide, and what watches such commands sees them.  There is no argument for
 * a key itself: it would stand in pg_stat_activity and perhaps in the log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "session/check.h"

PG_FUNCTION_INFO_V1(transcribe_setup);

/* Append one option to a list of them, after "(" or another one. */
static void
append_option(StringInfo sql, const char *name, const char *value)
{
	appendStringInfo(sql, "%s%s %s", sql->data[sql->len - 1] == '(' ? "" : ", ",
					 quote_identifier(name), quote_literal_cstr(value));
}

/* An option's value as one would write it in quotes. */
static char *
option_value(const char *name, JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"%s\"", name),
					 errdetail("It must be a string or a number.")));
	}
}

/* Append the options that have no argument of their own. */
static void
append_options(StringInfo sql, Jsonb *options)
{
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 errhint("Write them as '{\"chunk_seconds\": 60, \"language\": \"en\"}'.")));
	it = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&it, &key, false);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(key.val.string.val, key.val.string.len);

		(void) JsonbIteratorNext(&it, &value, true);
		append_option(sql, name, option_value(name, &value));
	}
}

/* Run one command. */
static void
execute(const char *sql)
{
	int			rc = SPI_execute(sql, false, 0);

	if (rc < 0)
		elog(ERROR, "could not execute a command: %s",
			 SPI_result_code_string(rc));
}

/* A text argument, or NULL. */
static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/*
 * Raise an error unless the server is named and not there yet, and has a URL,
 * which some profiles know.
 */
static void
check_arguments(const char *url, const char *profile, const char *server)
{
	if ((url == NULL && profile == NULL) || server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", server == NULL ? "server" : "url")));
	if (GetForeignServerByName(server, true) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("server \"%s\" already exists", server),
				 errhint("Change it with ALTER SERVER %s OPTIONS (SET url '...'), check it with transcribe_check_server(%s), or name another one in the argument \"server\".",
						 quote_identifier(server), quote_literal_cstr(server))));
}

/* SQL: make a server, and the user mapping of PUBLIC if there is a key. */
Datum
transcribe_setup(PG_FUNCTION_ARGS)
{
	char	   *url = text_argument(fcinfo, 0);
	char	   *model = text_argument(fcinfo, 1);
	char	   *api_key_file = text_argument(fcinfo, 2);
	char	   *server = text_argument(fcinfo, 3);
	char	   *profile = text_argument(fcinfo, 4);
	StringInfoData sql;

	InitMaterializedSRF(fcinfo, 0);
	check_arguments(url, profile, server);
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE SERVER %s FOREIGN DATA WRAPPER transcribe OPTIONS (",
					 quote_identifier(server));
	if (url != NULL)
		append_option(&sql, "url", url);
	if (profile != NULL)
		append_option(&sql, "profile", profile);
	if (model != NULL)
		append_option(&sql, "model", model);
	if (!PG_ARGISNULL(5))
		append_options(&sql, PG_GETARG_JSONB_P(5));
	appendStringInfoChar(&sql, ')');

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	execute(sql.data);
	if (api_key_file != NULL)
	{
		resetStringInfo(&sql);
		appendStringInfo(&sql, "CREATE USER MAPPING FOR PUBLIC SERVER %s OPTIONS (",
						 quote_identifier(server));
		append_option(&sql, "api_key_file", api_key_file);
		appendStringInfoChar(&sql, ')');
		execute(sql.data);
	}
	SPI_finish();
	check_server(server, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}
