/*-------------------------------------------------------------------------
 *
 * extension.c
 *	  Where the extension is installed in this database, and in which version.
 *
 * Runs in backends and workers, inside a transaction.  The server has no
 * function for the schema before version 16.
 *
 * What is executed there by name, by a superuser, must be the extension's: once
 * it is dropped anybody who may create in its schema can put something of the
 * same name into its place.  So the worker holds it until the transaction ends.
 *
 * Library and SQL objects change at different moments: the server loads the
 * library at its start, ALTER EXTENSION ... UPDATE changes the objects of one
 * database.  In between a library meets objects of other versions.  It serves
 * those from OLDEST_SERVED up to its own, and leaves all others alone.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/extension.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * The oldest version of the SQL objects with which all works.  It moves when
 * the library asks for what the objects of a version do not have.
 */
#define OLDEST_SERVED	"1.0"

/* What the row of pg_extension says, if it is ours. */
static bool
read_row(Relation rel, HeapTuple tuple, Oid *extension, Oid *schema, char **version)
{
	Form_pg_extension row = (Form_pg_extension) GETSTRUCT(tuple);
	bool		isnull;

	if (strcmp(NameStr(row->extname), "transcribe") != 0)
		return false;
	*extension = row->oid;
	*schema = row->extnamespace;
	*version = TextDatumGetCString(heap_getattr(tuple, Anum_pg_extension_extversion,
												RelationGetDescr(rel), &isnull));
	return true;
}

/* The row is where it was, unless it has changed: then none is seen there. */
static bool
read_row_at(Relation rel, ItemPointer place, Oid *extension, Oid *schema,
			char **version)
{
	HeapTupleData tuple = {.t_self = *place};
	Snapshot	snapshot;
	Buffer		buffer;
	bool		found = false;

	if (!ItemPointerIsValid(place) ||
		ItemPointerGetBlockNumber(place) >= RelationGetNumberOfBlocks(rel))
		return false;
	snapshot = RegisterSnapshot(GetCatalogSnapshot(ExtensionRelationId));
	if (heap_fetch(rel, snapshot, &tuple, &buffer, false))
	{
		found = read_row(rel, &tuple, extension, schema, version);
		ReleaseBuffer(buffer);
	}
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Find the extension, its schema and version; false if it is not installed.
 * There is no cache of these rows, and each transaction of ours begins here: so
 * the place is remembered, and the index is asked if the row is not there.
 */
static bool
find_extension(Oid *extension, Oid *schema, char **version)
{
	static ItemPointerData place;	/* of the row, when it was seen last */
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = read_row_at(rel, &place, extension, schema, version);

	if (!found)
	{
		ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
					F_NAMEEQ, CStringGetDatum("transcribe"));
		scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		found = HeapTupleIsValid(tuple) &&
			read_row(rel, tuple, extension, schema, version);
		if (found)
			place = tuple->t_self;
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return found;
}

/* Find the extension's schema and version; false if it is not installed. */
bool
extension_find(Oid *schema, char **version)
{
	Oid			extension;

	return find_extension(&extension, schema, version);
}

/*
 * The same, and keep the extension from being dropped until the end of the
 * transaction; false if it is not installed.
 */
bool
extension_hold(Oid *schema, char **version)
{
	Oid			extension;
	Oid			again;
	uint64		messages = SharedInvalidMessageCounter;

	if (!find_extension(&extension, schema, version))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);

	/*
	 * It may have been dropped while we waited, and made anew.  Whoever does
	 * that changes what others have cached, and says so before he unlocks it.
	 */
	if (SharedInvalidMessageCounter == messages)
		return true;
	return find_extension(&again, schema, version) && again == extension;
}

/* Compare versions number by number: 1.10 comes after 1.9. */
static int
compare_versions(const char *a, const char *b)
{
	for (;;)
	{
		char	   *rest_a;
		char	   *rest_b;
		long		number_a = strtol(a, &rest_a, 10);
		long		number_b = strtol(b, &rest_b, 10);

		if (number_a != number_b)
			return number_a < number_b ? -1 : 1;
		if (*rest_a != '.' || *rest_b != '.')
			return strcmp(rest_a, rest_b);
		a = rest_a + 1;
		b = rest_b + 1;
	}
}

/* Whether objects of that version want a newer library. */
bool
extension_library_is_older(const char *version)
{
	return compare_versions(TRANSCRIBE_VERSION, version) < 0;
}

/* Whether this library works with objects of that version. */
bool
extension_serves(const char *version)
{
	return !extension_library_is_older(version) &&
		compare_versions(OLDEST_SERVED, version) <= 0;
}

/* Say that it does not, and what helps. */
void
extension_report_version(int elevel, const char *version)
{
	ereport(elevel,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"transcribe\" is of version %s here, which the loaded library, of version %s, does not serve",
					version, TRANSCRIBE_VERSION),
			 extension_library_is_older(version) ?
			 errhint("Restart the server, which loads the library that is installed; if that is older as well, install version %s.",
					 version) :
			 errhint("Run ALTER EXTENSION transcribe UPDATE; in this database.")));
}
