/*-------------------------------------------------------------------------
 *
 * backfill.c
 *	  transcribe_backfill: what a table holds already goes into the queue.
 *
 * Runs in the caller's backend, as the caller, who must be allowed to read the
 * table.  It is walked by ranges of blocks, which takes no index, and commits
 * after each batch; a row that has a job is passed over, so that a walk that was
 * interrupted goes on when it is called again.  Of a table with partitions or
 * children each range is read of all of them together, by way of the parent,
 * whose rights and policies count.
 *
 * A row that cannot be enqueued is told and stops nothing.  What may fail is
 * done in a subtransaction that writes nothing, and so costs next to nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "session/columns.h"
#include "session/enqueue.h"

PG_FUNCTION_INFO_V1(transcribe_backfill);

/* Rows that cannot be enqueued, of which it is told why. */
#define MAX_REASONS		10

/* The range that is read first; others by how many rows were in the last. */
#define FIRST_BLOCKS	8
#define MAX_BLOCKS		8192

typedef struct Backfill
{
	FunctionCallInfo fcinfo;
	Oid			relid;
	char	   *session_name;
	char	   *path_name;
	char	   *prefix;
	SourceColumns columns;
	EnqueueTerms terms;
	SPIPlanPtr	plan;			/* reads a range */
	MemoryContext row_context;	/* emptied after each row */

	int64		enqueued;
	int64		skipped;		/* they have a job */
	int64		refused;
} Backfill;

/* The jobs of a recording, whoever enqueued them. */
static Statement find_jobs = {
	.sql = "SELECT j.owner FROM %1$s.transcribe_jobs j "
	"WHERE j.session_id OPERATOR(pg_catalog.=) $1 "
	"AND j.path OPERATOR(pg_catalog.=) $2",
	.nargs = 2, .argtypes = {TEXTOID, TEXTOID}
};

/* An argument that must be there. */
static Datum
require_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return PG_GETARG_DATUM(n);
}

/*
 * Plan the statement that reads a range of blocks.  Its table is known by name,
 * which is looked up anew in each transaction, and makes sure that nothing else
 * has got it: a view by the table's owner, say, with functions of its own.
 */
static void
plan_range(Backfill *backfill)
{
	Oid			types[2] = {TIDOID, TIDOID};
	const char *session = quote_identifier(backfill->session_name);
	const char *path = quote_identifier(backfill->path_name);
	CachedPlanSource *source;
	Query	   *query;
	char	   *sql;

	if (backfill->plan != NULL)
		SPI_freeplan(backfill->plan);
	sql = psprintf("SELECT t.%s, t.%s FROM %s t "
				   "WHERE t.ctid OPERATOR(pg_catalog.>=) $1 "
				   "AND t.ctid OPERATOR(pg_catalog.<) $2 "
				   "AND t.%s IS NOT NULL AND t.%s IS NOT NULL",
				   session, path,
				   quote_qualified_identifier(get_namespace_name(get_rel_namespace(backfill->relid)),
											  get_rel_name(backfill->relid)),
				   session, path);
	backfill->plan = SPI_prepare(sql, 2, types);
	if (backfill->plan == NULL)
		elog(ERROR, "could not plan a statement: %s",
			 SPI_result_code_string(SPI_result));
	source = linitial(SPI_plan_get_plan_sources(backfill->plan));
	query = linitial_node(Query, source->query_list);
	if (rt_fetch(1, query->rtable)->relid != backfill->relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table was renamed by concurrent DDL")));
	pfree(sql);
}

/*
 * In a new transaction: look at the table, as it is now, and lock it, and be
 * ready to read it.  Returns its blocks.
 */
static BlockNumber
begin_batch(Backfill *backfill)
{
	Relation	rel = table_open(backfill->relid, AccessShareLock);
	BlockNumber blocks = 0;
	ListCell   *lc;

	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE &&
		rel->rd_rel->relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(rel))));
	columns_find(&backfill->columns, rel, backfill->session_name,
				 backfill->path_name);
	foreach(lc, find_all_inheritors(backfill->relid, AccessShareLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(lc), NoLock);

		if (RELKIND_HAS_STORAGE(part->rd_rel->relkind))
			blocks = Max(blocks, RelationGetNumberOfBlocks(part));
		table_close(part, NoLock);
	}
	table_close(rel, NoLock);
	plan_range(backfill);
	PushActiveSnapshot(GetTransactionSnapshot());
	return blocks;
}

/* Whether the recording has a job of a role whose rights the caller has. */
static bool
has_job(Backfill *backfill, text *session_id, const Recording *recording)
{
	TablesScope scope;
	Datum		values[2];
	bool		found = false;

	values[0] = PointerGetDatum(session_id);
	values[1] = CStringGetTextDatum(recording->path);
	tables_begin(&scope, backfill->fcinfo);

	/* It may be planned while there are few jobs. */
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	tables_execute(&scope, &find_jobs, values, NULL);
	for (uint64 i = 0; i < SPI_processed && !found; i++)
	{
		bool		isnull;
		Name		owner = DatumGetName(SPI_getbinval(SPI_tuptable->vals[i],
													   SPI_tuptable->tupdesc, 1,
													   &isnull));
		Oid			roleid = get_role_oid(NameStr(*owner), true);

		found = OidIsValid(roleid) ?
			has_privs_of_role(backfill->terms.caller, roleid) :
			superuser_arg(backfill->terms.caller);
	}
	tables_end(&scope);
	return found;
}

/* Whether an error is of the row, and not of the whole walk. */
static bool
is_of_row(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
		case ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR):
			return false;
		default:
			return true;
	}
}

/*
 * Whether the recording may be enqueued; else say why not, of the first of
 * them.
 */
static bool
check_row(Backfill *backfill, text *session_id, const Recording *recording)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		enqueue_check_session(session_id);
		recording_check(recording, backfill->terms.caller);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(oldcontext);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (!is_of_row(error))
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;

	if (error != NULL && backfill->refused < MAX_REASONS)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not enqueue session \"%s\": %s",
						text_to_cstring(session_id), error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) : 0));
	return error == NULL;
}

/* Enqueue what a row holds. */
static void
take_row(Backfill *backfill, Datum session, Datum path)
{
	text	   *session_id = columns_session(&backfill->columns, backfill->prefix,
											 session);
	Recording	recording;

	recording_init(&recording, backfill->columns.kind, path);
	if (has_job(backfill, session_id, &recording))
		backfill->skipped++;
	else if (check_row(backfill, session_id, &recording))
	{
		(void) enqueue_insert(backfill->fcinfo, &backfill->terms, session_id,
							  &recording);
		backfill->enqueued++;
	}
	else
		backfill->refused++;
}

/* Enqueue what is in a range of blocks; returns how many rows were. */
static int64
take_range(Backfill *backfill, BlockNumber first, BlockNumber end)
{
	ItemPointerData from;
	ItemPointerData to;
	Datum		values[2];
	SPITupleTable *rows;
	int64		nrows;
	int			result;

	ItemPointerSet(&from, first, 0);
	ItemPointerSet(&to, end, 0);
	values[0] = PointerGetDatum(&from);
	values[1] = PointerGetDatum(&to);
	result = SPI_execute_plan(backfill->plan, values, NULL, true, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not execute a statement: %s",
			 SPI_result_code_string(result));
	rows = SPI_tuptable;
	nrows = (int64) SPI_processed;
	for (int64 i = 0; i < nrows; i++)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(backfill->row_context);
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		take_row(backfill,
				 SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull),
				 SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(backfill->row_context);
	}
	SPI_freetuptable(rows);
	return nrows;
}

/*
 * Walk the table, and commit after each batch unless the caller is in a
 * transaction.  What is added meanwhile is the trigger's.
 */
static void
walk(Backfill *backfill, int batch_size, bool atomic)
{
	BlockNumber blocks = begin_batch(backfill);
	BlockNumber range = FIRST_BLOCKS;
	int64		batch = 0;

	for (BlockNumber first = 0; first < blocks;)
	{
		BlockNumber end = first + Min(range, blocks - first);
		int64		nrows = take_range(backfill, first, end);

		batch += nrows;
		if (batch >= batch_size && !atomic)
		{
			PopActiveSnapshot();
			SPI_commit();
			batch = 0;
			(void) begin_batch(backfill);
		}
		if (nrows < batch_size / 2)
			range = Min(range * 2, MAX_BLOCKS);
		else if (nrows > batch_size)
			range = Max(range / 2, 1);
		first = end;
	}
	PopActiveSnapshot();
}

/* SQL: enqueue what a table holds, a batch in a transaction. */
Datum
transcribe_backfill(PG_FUNCTION_ARGS)
{
	bool		atomic = !(fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
						   !castNode(CallContext, fcinfo->context)->atomic);
	Backfill	backfill = {.fcinfo = fcinfo};
	int			batch_size;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {0};
	HeapTuple	result;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	backfill.relid = DatumGetObjectId(require_argument(fcinfo, 0, "relation"));
	backfill.session_name = TextDatumGetCString(require_argument(fcinfo, 1, "session_column"));
	backfill.path_name = TextDatumGetCString(require_argument(fcinfo, 2, "path_column"));
	backfill.prefix = PG_ARGISNULL(6) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(6));
	batch_size = DatumGetInt32(require_argument(fcinfo, 7, "batch_size"));
	if (batch_size < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be positive")));
	enqueue_terms(&backfill.terms,
				  PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)),
				  PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4),
				  GetCurrentTransactionStartTimestamp(),
				  PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5));

	if (SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	backfill.row_context = AllocSetContextCreate(CurrentMemoryContext,
												 "transcribe backfill row",
												 ALLOCSET_DEFAULT_SIZES);
	walk(&backfill, batch_size, atomic);
	SPI_finish();

	if (backfill.refused > MAX_REASONS)
		ereport(WARNING,
				(errmsg(INT64_FORMAT " more rows could not be enqueued",
						backfill.refused - MAX_REASONS)));
	ereport(NOTICE,
			(errmsg(INT64_FORMAT " enqueued, " INT64_FORMAT " had a job, " INT64_FORMAT " refused",
					backfill.enqueued, backfill.skipped, backfill.refused)));
	values[0] = Int64GetDatum(backfill.enqueued);
	values[1] = Int64GetDatum(backfill.skipped);
	values[2] = Int64GetDatum(backfill.refused);
	result = heap_form_tuple(desc, values, nulls);
	PG_RETURN_DATUM(HeapTupleGetDatum(result));
}
