/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  transcribe_stats: what was counted of each server, and what goes on there.
 *
 * Runs in the caller's backend.  Numbers of a server are for whoever may use it,
 * and for those who may read all statistics.  They tell nothing of whose jobs
 * they are of.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "shared/server.h"
#include "shared/stats.h"
#include "transcribe.h"

PG_FUNCTION_INFO_V1(transcribe_counters);
PG_FUNCTION_INFO_V1(transcribe_stats_reset);
PG_FUNCTION_INFO_V1(transcribe_server_names);

#define COLUMNS	24

/* Whether the caller may know the server's numbers. */
static bool
may_read(Oid serverid)
{
	return GetForeignServerExtended(serverid, FSV_MISSING_OK) != NULL &&
		(has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
		 transcribe_server_usage(serverid, GetUserId()) == ACLCHECK_OK);
}

/* Those of the running jobs that are the server's, and their requests. */
static void
count_running(const StateProgress *slots, int nslots, Oid serverid,
			  int *jobs, int *requests)
{
	*jobs = *requests = 0;
	for (int i = 0; i < nslots; i++)
	{
		if (slots[i].serverid != serverid)
			continue;
		(*jobs)++;
		*requests += slots[i].requests;
	}
}

/* SQL: one row for each server of which anything was counted. */
Datum
transcribe_counters(PG_FUNCTION_ARGS)
{
	static const double quantiles[] = {0.5, 0.95, 0.99};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	StateStats *list;
	StateProgress *slots;
	int			n;
	int			nslots;

	InitMaterializedSRF(fcinfo, 0);
	if (transcribe_state() == NULL)
		return (Datum) 0;
	list = stats_list(&n);
	slots = state_copy_progress(&nslots);
	for (int i = 0; i < n; i++)
	{
		StateStats *stats = &list[i];
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS] = {false};
		uint64		requests = stats_requests(stats);
		int			running;
		int			under_way;
		int			column = 0;

		if (!may_read(stats->serverid))
			continue;
		count_running(slots, nslots, stats->serverid, &running, &under_way);
		values[column++] = ObjectIdGetDatum(stats->serverid);
		values[column++] = Int32GetDatum(running);
		values[column++] = Int32GetDatum(under_way);
		values[column++] = Int64GetDatum(requests);
		for (int outcome = 0; outcome < STATS_OUTCOMES; outcome++)
			values[column++] = Int64GetDatum(stats->outcomes[outcome]);
		for (int end = 0; end < STATS_ENDS; end++)
			values[column++] = Int64GetDatum(stats->ends[end]);
		values[column++] = Float8GetDatum(stats->audio);
		values[column++] = Int64GetDatum(stats->bytes);
		values[column++] = Float8GetDatum(stats->elapsed);
		values[column++] = Float8GetDatum(stats->trimmed);
		for (size_t q = 0; q < lengthof(quantiles); q++)
		{
			nulls[column] = requests == 0;
			values[column++] = Float8GetDatum(stats_latency(stats, quantiles[q]));
		}
		values[column++] = TimestampTzGetDatum(stats->since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* SQL: count anew. */
Datum
transcribe_stats_reset(PG_FUNCTION_ARGS)
{
	if (transcribe_state() != NULL)
		stats_reset();
	PG_RETURN_VOID();
}

/* SQL: the names in a list of servers; none if it is no list. */
Datum
transcribe_server_names(PG_FUNCTION_ARGS)
{
	List	   *names = server_list_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Datum	   *values = palloc_array(Datum, Max(list_length(names), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, names)
		values[n++] = CStringGetTextDatum(lfirst(lc));
	PG_RETURN_ARRAYTYPE_P(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}
