/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings a worker runs under, whatever the database says.
 *
 * Runs in the worker, first thing after it has connected.  ALTER DATABASE
 * and ALTER ROLE reach background workers too, and the plain owner of a
 * database may set a search_path there for our superuser process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "worker/settings.h"

static const struct
{
	const char *name;
	const char *value;
}			overrides[] = {
	/* who we are: anybody else could only not do the work */
	{"role", "none"},
	/* whose objects are meant */
	{"search_path", "pg_catalog, pg_temp"},
	/* what may run in our process: no triggers of others */
	{"session_replication_role", "replica"},
	{"row_security", "off"},
	/* what a transaction is */
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	/* an error ends a transaction, not the worker */
	{"exit_on_error", "off"},
	/* how long it may wait: for locks a second, then its turn comes again */
	{"lock_timeout", "1s"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
	{"transaction_timeout", "0"},
#endif
	/* how values are written and read */
	{"DateStyle", "ISO"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"bytea_output", "hex"},
	{"standard_conforming_strings", "on"},
	{"extra_float_digits", "1"},
	{"client_min_messages", "warning"},
	/*
	 * How statements are planned: once; by index, on a queue of any size; and
	 * not by bitmap, which does not mark the entries of rows that are gone.
	 */
	{"enable_indexscan", "on"},
	{"enable_bitmapscan", "off"},
	{"enable_seqscan", "off"},
	{"plan_cache_mode", "force_generic_plan"},
	{"jit", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"zero_damaged_pages", "off"},
};

/*
 * Be who we connected as, and set them all such that nothing overrides them
 * again.
 */
void
settings_override(void)
{
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
	for (size_t i = 0; i < lengthof(overrides); i++)
		SetConfigOption(overrides[i].name, overrides[i].value,
						PGC_SUSET, PGC_S_OVERRIDE);
}
