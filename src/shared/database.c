/*-------------------------------------------------------------------------
 *
 * database.c
 *	  Whether a database is there, open to workers, and in nobody's hands.
 *
 * Runs in the launcher, which is connected to none, before it starts a
 * worker: one that cannot connect fills the log, and one that waits for the
 * end of a DDL command would hold a place of others.  Runs in workers, which
 * leave when somebody wants their database.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/database.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_database.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/relcache.h"

/*
 * Whether somebody is about to drop, rename, move or copy the database.  All
 * these commands lock it in pg_database first, and then wait some seconds
 * for its sessions to leave; so a lock that we are refused is one of them.
 * Needs no transaction.
 */
bool
database_is_wanted(Oid dbid)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, dbid, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

/*
 * Look the database up, inside a transaction; false if it is not there, or
 * only as what a DROP DATABASE that broke off has left.  Tells its owner, and
 * whether it takes connections.
 */
bool
database_find(Oid dbid, Oid *owner, bool *open)
{
	Relation	rel = table_open(DatabaseRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	/* Who is connected to no database has no use of the index. */
	ScanKeyInit(&key, Anum_pg_database_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(dbid));
	scan = systable_beginscan(rel, DatabaseOidIndexId,
							  criticalSharedRelcachesBuilt, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);

		/* -2 marks what a broken DROP left */
		found = db->datconnlimit != -2;
		*owner = db->datdba;
		*open = db->datallowconn;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}
