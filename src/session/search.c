/*-------------------------------------------------------------------------
 *
 * search.c
 *	  Full-text search in transcripts.
 *
 * Runs in the caller's backend.  Each segment is searched in its own language:
 * the query means something else in each of them.
 *
 * An index cannot be used through row security, since @@ is not leakproof: a
 * policy comes first, and reads everything.  So the search runs as the owner of
 * the tables, to whom policies do not apply, and asks itself for the caller's
 * rights, by the same rule.  What runs meanwhile is PostgreSQL's and ours, and
 * nothing is computed of a row that the caller may not see but whether it
 * matches.
 *
 * There is no index unless somebody makes one (doc/operations.md), because each
 * segment that is saved would pay for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/tuplestore.h"

#include "session/tables.h"

PG_FUNCTION_INFO_V1(transcribe_search_config);
PG_FUNCTION_INFO_V1(transcribe_search);

/* Letters of a segment that are searched; as in transcribe_search_vector. */
#define SEARCHED_LETTERS	32768

/*
 * Languages by their codes in ISO 639 and by the names that Whisper's models
 * have for them, and PostgreSQL's configurations.  A configuration that the
 * server does not have is the same as none.
 */
static const struct
{
	const char *code;
	const char *name;
	const char *config;			/* NULL: as the name */
}			languages[] = {
	{"ar", "arabic"},
	{"ca", "catalan"},
	{"ca", "valencian", "catalan"},
	{"da", "danish"},
	{"de", "german"},
	{"el", "greek"},
	{"en", "english"},
	{"es", "spanish"},
	{"es", "castilian", "spanish"},
	{"et", "estonian"},
	{"eu", "basque"},
	{"fi", "finnish"},
	{"fr", "french"},
	{"ga", "irish"},
	{"hi", "hindi"},
	{"hu", "hungarian"},
	{"hy", "armenian"},
	{"id", "indonesian"},
	{"it", "italian"},
	{"lt", "lithuanian"},
	{"nb", "norwegian"},
	{"ne", "nepali"},
	{"nl", "dutch"},
	{"nl", "flemish", "dutch"},
	{"nn", "nynorsk", "norwegian"},
	{"no", "norwegian"},
	{"pl", "polish"},
	{"pt", "portuguese"},
	{"ro", "romanian"},
	{"ro", "moldavian", "romanian"},
	{"ro", "moldovan", "romanian"},
	{"ru", "russian"},
	{"sr", "serbian"},
	{"sv", "swedish"},
	{"ta", "tamil"},
	{"tr", "turkish"},
	{"yi", "yiddish"}
};

/* A configuration of PostgreSQL's own; InvalidOid if it has none of the name. */
static Oid
find_config(const char *name)
{
	return get_ts_config_oid(list_make2(makeString("pg_catalog"),
										makeString(pstrdup(name))), true);
}

/*
 * SQL: the configuration for a language, which may be a name or a code, as
 * "English", "en" or "en-US"; "simple" where there is none.
 */
Datum
transcribe_search_config(PG_FUNCTION_ARGS)
{
	Oid			config = InvalidOid;

	if (!PG_ARGISNULL(0))
	{
		char	   *language = text_to_cstring(PG_GETARG_TEXT_PP(0));
		bool		code;

		language[strcspn(language, "-_")] = '\0';
		code = strlen(language) == 2;
		for (size_t i = 0; i < lengthof(languages) && !OidIsValid(config); i++)
		{
			if (pg_strcasecmp(language, code ? languages[i].code : languages[i].name) == 0)
				config = find_config(languages[i].config != NULL ?
									 languages[i].config : languages[i].name);
		}
	}
	if (!OidIsValid(config))
		config = find_config("simple");
	if (!OidIsValid(config))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("text search configuration \"pg_catalog.simple\" does not exist")));
	PG_RETURN_OID(config);
}

/*
 * What the query is in each configuration: arrays of these and of queries, and
 * one query that matches wherever any of them does, for an index.
 */
static void
parse_queries(Datum query, Datum *configs, Datum *queries, Datum *any)
{
	Datum		config[lengthof(languages) + 1];
	Datum		parsed[lengthof(languages) + 1];
	int			n = 0;

	for (int i = -1; i < (int) lengthof(languages); i++)
	{
		Oid			oid = find_config(i < 0 ? "simple" : languages[i].name);
		bool		known = !OidIsValid(oid);

		for (int k = 0; k < n && !known; k++)
			known = DatumGetObjectId(config[k]) == oid;
		if (known)
			continue;
		config[n] = ObjectIdGetDatum(oid);
		parsed[n] = OidFunctionCall2(F_WEBSEARCH_TO_TSQUERY_REGCONFIG_TEXT,
									 config[n], query);
		known = false;
		for (int k = 0; k < n && !known; k++)
			known = datum_image_eq(parsed[k], parsed[n], false, -1);
		if (n == 0)
			*any = parsed[n];
		else if (!known)
			*any = OidFunctionCall2(F_TSQUERY_OR, *any, parsed[n]);
		n++;
	}
	*configs = PointerGetDatum(construct_array(config, n, REGCONFIGOID, sizeof(Oid),
											   true, TYPALIGN_INT));
	*queries = PointerGetDatum(construct_array(parsed, n, TSQUERYOID, -1, false,
											   TYPALIGN_INT));
}

/*
 * The search, of what is left out: schema, the vector of a segment s, its
 * configuration and its query.  $1 is the caller, $2 whether it sees all, $3 a
 * session, $4 how many at most, $5 a query that all matches match.
 */
static const char *const search_sql =
	"SELECT f.job_id, f.session_id, f.start_s, f.end_s, f.speaker, f.channel, "
	"f.text, pg_catalog.ts_headline(f.config, f.text, f.query), f.rank "
	"FROM (SELECT j.id AS job_id, j.session_id, s.start_s, s.end_s, "
	"COALESCE(s.speaker_name, s.speaker) AS speaker, s.channel, s.text, "
	"%3$s AS config, %4$s AS query, "
	"pg_catalog.ts_rank(%2$s, %4$s) AS rank, s.chunk_no, s.n "
	"FROM %1$s.transcribe_chunk_segments s "
	"JOIN %1$s.transcribe_jobs j ON j.id OPERATOR(pg_catalog.=) s.job_id "
	"WHERE %2$s OPERATOR(pg_catalog.@@) $5 "
	"AND %2$s OPERATOR(pg_catalog.@@) %4$s "
	"AND j.status OPERATOR(pg_catalog.=) 'completed' "
	"AND j.replaced_by IS NULL "
	"AND ($3 IS NULL OR j.session_id OPERATOR(pg_catalog.=) $3) "
	"AND " TABLES_OWNED
	"AND ($2 OR s.owner OPERATOR(pg_catalog.=) j.owner::pg_catalog.text) "
	"ORDER BY rank DESC, j.id DESC, s.start_s, s.chunk_no, s.n LIMIT $4) f "
	"ORDER BY f.rank DESC, f.job_id DESC, f.start_s, f.chunk_no, f.n";

/* Whether row security lets the caller see every row; an error if it sees none. */
static bool
sees_all(TablesScope *scope, Oid caller)
{
	static const char *const tables[] = {"transcribe_jobs", "transcribe_chunk_segments"};
	bool		all = true;

	for (size_t i = 0; i < lengthof(tables); i++)
	{
		Oid			relid = get_relname_relid(tables[i], scope->schema);
		AclResult	result = pg_class_aclcheck(relid, caller, ACL_SELECT);

		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_TABLE, tables[i]);
		all &= check_enable_rls(relid, caller, true) != RLS_ENABLED;
	}
	return all;
}

/*
 * SQL: segments of completed jobs that match the query, the best first.  With a
 * configuration all are searched by that one, else each by its language's.
 */
Datum
transcribe_search(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			argtypes[] = {OIDOID, BOOLOID, TEXTOID, INT8OID, TSQUERYOID,
	REGCONFIGARRAYOID, TSQUERYARRAYOID};
	Datum		values[7] = {0};
	char		nulls[] = "       ";
	Oid			caller = GetUserId();
	TablesScope scope;
	char	   *vector;
	char	   *config;
	char	   *query;
	char	   *schema;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	if (!PG_ARGISNULL(3) && PG_GETARG_INT32(3) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_results must not be negative"),
				 errhint("NULL stands for all.")));

	tables_begin_reading(&scope, fcinfo);
	/* A query may be of stop words alone in some language or other. */
	if (client_min_messages < WARNING)
		(void) set_config_option("client_min_messages", "warning", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	schema = unconstify(char *, quote_identifier(get_namespace_name(scope.schema)));
	values[0] = ObjectIdGetDatum(caller);
	values[1] = BoolGetDatum(sees_all(&scope, caller));
	values[2] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	values[3] = PG_ARGISNULL(3) ? (Datum) 0 : Int64GetDatum(PG_GETARG_INT32(3));
	nulls[2] = PG_ARGISNULL(1) ? 'n' : ' ';
	nulls[3] = PG_ARGISNULL(3) ? 'n' : ' ';
	if (PG_ARGISNULL(2))
	{
		parse_queries(PG_GETARG_DATUM(0), &values[5], &values[6], &values[4]);
		vector = psprintf("%s.transcribe_search_vector(s.language, s.text)", schema);
		config = psprintf("%s.transcribe_search_config(s.language)", schema);
		query = psprintf("($7)[pg_catalog.array_position($6, %s)]", config);
	}
	else
	{
		Datum		own = PG_GETARG_DATUM(2);

		values[4] = OidFunctionCall2(F_WEBSEARCH_TO_TSQUERY_REGCONFIG_TEXT, own,
									 PG_GETARG_DATUM(0));
		values[5] = PointerGetDatum(construct_array(&own, 1, REGCONFIGOID,
													sizeof(Oid), true, TYPALIGN_INT));
		nulls[6] = 'n';
		vector = "pg_catalog.to_tsvector(($6)[1], pg_catalog.left(s.text, "
			CppAsString2(SEARCHED_LETTERS) "))";
		config = "($6)[1]";
		query = "$5";
	}
	if (SPI_execute_with_args(psprintf(search_sql, schema, vector, config, query),
							  lengthof(argtypes), argtypes, values, nulls, true,
							  0) != SPI_OK_SELECT)
		elog(ERROR, "could not search");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		row[9];
		bool		isnull[9];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, row, isnull);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, isnull);
	}
	tables_end(&scope);
	return (Datum) 0;
}
