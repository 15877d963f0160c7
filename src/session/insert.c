/*-------------------------------------------------------------------------
 *
 * insert.c
 *	  A row into transcribe_jobs, without an executor of its own.
 *
 * Runs in the caller's backend, as the owner of the tables.  An INSERT through
 * SPI makes and throws away all that an executor needs for the table: indexes
 * with their expressions, CHECK constraints that are read from text, defaults.
 * For one row that takes twice as long as the row itself; so it is made once
 * here, and kept until the table changes.  What is done with it for a row is
 * what the executor does for INSERT ... ON CONFLICT DO NOTHING.
 *
 * Only the plain case is served: where somebody has put triggers, rules or
 * indexes of other kinds on the table, and where another row is in the way,
 * nothing is inserted, and the caller does it with SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "session/insert.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"

/* In the order of insert_job()'s values. */
static const char *const given[INSERT_COLUMNS] = {
	"session_id", "path", "server", "owner", "priority", "run_at", "options",
	"max_attempts"
};

/* What is made once. */
static MemoryContext context = NULL;	/* holds all of it */
static bool made = false;		/* whole, */
static bool valid = false;		/* and the table has not changed since */
static bool plain = false;		/* and it is of use */
static Oid	relid = InvalidOid;
static EState *estate;
static ResultRelInfo *target;	/* open only while a row is inserted */
static Oid *index_ids;
static List *arbiters;			/* the index that keeps out a second active job */
static TupleTableSlot *slot;
static AttrNumber id_column;
static AttrNumber given_columns[INSERT_COLUMNS];
static ExprState **defaults;	/* by column; NULL: null, or given */

/* Something about the table, or about all, has changed. */
static void
relation_changed(Datum arg, Oid changed)
{
	if (changed == relid || changed == InvalidOid)
		valid = false;
}

/* Whether rows can be inserted here as this file does. */
static bool
is_plain(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;

	return rel->rd_rules == NULL && rel->rd_rel->relkind == RELKIND_RELATION &&
		(triggers == NULL ||
		 !(triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
		   triggers->trig_insert_before_statement ||
		   triggers->trig_insert_after_statement));
}

/* The expression of a column's default, ready to run; NULL if it has none. */
static ExprState *
prepare_default(Relation rel, AttrNumber column)
{
	Node	   *expression;

	if (TupleDescAttr(RelationGetDescr(rel), column - 1)->attisdropped ||
		TupleDescAttr(RelationGetDescr(rel), column - 1)->attgenerated != '\0')
		return NULL;
	expression = build_column_default(rel, column);
	return expression == NULL ? NULL : ExecPrepareExpr((Expr *) expression, estate);
}

/* Note the indexes of the target; false if they are not of the kinds known here. */
static bool
note_indexes(void)
{
	index_ids = palloc_array(Oid, Max(target->ri_NumIndices, 1));
	arbiters = NIL;
	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		Relation	index = target->ri_IndexRelationDescs[i];

		if (index->rd_rel->relam != BTREE_AM_OID &&
			index->rd_rel->relam != HASH_AM_OID)
			return false;
		index_ids[i] = RelationGetRelid(index);
		if (index->rd_index->indisexclusion)
			arbiters = lappend_oid(arbiters, index_ids[i]);
	}
	return arbiters != NIL;
}

/* Make all that is made once. */
static void
prepare(Relation rel)
{
	static bool registered = false;
	MemoryContext oldcontext;
	TupleDesc	desc;

	if (!registered)
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	registered = true;
	made = false;
	if (context != NULL)
		MemoryContextDelete(context);
	context = AllocSetContextCreate(TopMemoryContext, "transcribe insert",
									ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	relid = RelationGetRelid(rel);
	valid = true;

	estate = CreateExecutorState();
	target = makeNode(ResultRelInfo);
	InitResultRelInfo(target, rel, 0, NULL, 0);
	ExecOpenIndices(target, true);
	plain = note_indexes();
	ExecCloseIndices(target);

	/* A copy, since the table's own belongs to whoever has it open. */
	desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	defaults = palloc0_array(ExprState *, desc->natts);
	for (AttrNumber column = 1; column <= desc->natts; column++)
		defaults[column - 1] = prepare_default(rel, column);
	for (int i = 0; i < INSERT_COLUMNS; i++)
	{
		given_columns[i] = get_attnum(relid, given[i]);
		plain &= given_columns[i] != InvalidAttrNumber;
		if (plain)
			defaults[given_columns[i] - 1] = NULL;
	}
	id_column = get_attnum(relid, "id");
	plain &= id_column != InvalidAttrNumber;
	MemoryContextSwitchTo(oldcontext);
	made = true;
}

/* Put together the row. */
static void
fill_slot(const Datum *values)
{
	ExprContext *econtext = GetPerTupleExprContext(estate);
	int			natts = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	for (int i = 0; i < natts; i++)
	{
		slot->tts_values[i] = (Datum) 0;
		slot->tts_isnull[i] = true;
		if (defaults[i] != NULL)
			slot->tts_values[i] = ExecEvalExprSwitchContext(defaults[i], econtext,
															&slot->tts_isnull[i]);
	}
	for (int i = 0; i < INSERT_COLUMNS; i++)
	{
		slot->tts_values[given_columns[i] - 1] = values[i];
		slot->tts_isnull[given_columns[i] - 1] = false;
	}
	ExecStoreVirtualTuple(slot);
}

/*
 * Insert the row in the slot unless another one keeps it out.  That is looked for
 * first where it is no surprise, and leaves nothing behind.  One that is inserted
 * by another session at the same moment shows only in the index: hence the
 * speculative insertion, of which the other waits for the outcome.
 */
static bool
insert_row(Relation rel)
{
	ItemPointerData other;
	TransactionId xid = GetCurrentTransactionId();
	uint32		token;
	bool		conflict = false;

	ExecComputeStoredGenerated(target, estate, slot, CMD_INSERT);
	ExecConstraints(target, slot, estate);
	if (!transcribe_check_index_constraints(target, slot, estate, &other,
											arbiters))
		return false;
	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(rel, slot, estate->es_output_cid, 0, NULL, token);
	(void) transcribe_insert_index_tuples(target, slot, estate, &conflict);
	table_tuple_complete_speculative(rel, slot, token, !conflict);
	SpeculativeInsertionLockRelease(xid);
	return !conflict;
}

/* Open the indexes, which are locked until the transaction ends, as the table. */
static void
open_indexes(Relation rel)
{
	target->ri_RelationDesc = rel;
	for (int i = 0; i < target->ri_NumIndices; i++)
		target->ri_IndexRelationDescs[i] = index_open(index_ids[i], RowExclusiveLock);
}

static void
close_indexes(void)
{
	for (int i = 0; i < target->ri_NumIndices; i++)
		index_close(target->ri_IndexRelationDescs[i], NoLock);
}

/*
 * Insert a job with the given values, none of which is null.  Returns its id, or
 * 0: it was not inserted, and an INSERT finds out why.
 */
int64
insert_job(Oid schema, const Datum *values)
{
	Relation	rel = table_open(get_relname_relid("transcribe_jobs", schema),
								 RowExclusiveLock);
	int64		id = 0;

	if (!made || !valid || RelationGetRelid(rel) != relid)
		prepare(rel);
	if (plain && is_plain(rel))
	{
		estate->es_output_cid = GetCurrentCommandId(true);
		open_indexes(rel);
		fill_slot(values);
		if (insert_row(rel))
			id = DatumGetInt64(slot->tts_values[id_column - 1]);
		ExecClearTuple(slot);
		ResetPerTupleExprContext(estate);
		close_indexes();
		CommandCounterIncrement();
	}
	table_close(rel, NoLock);
	return id;
}
