/*-------------------------------------------------------------------------
 *
 * workers.c
 *	  transcribe_workers: which workers are running, and with what.
 *
 * Runs in the caller's backend.  As with PostgreSQL's own statistics, those of
 * other databases are for roles that may read all of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "shared/state.h"
#include "transcribe.h"

PG_FUNCTION_INFO_V1(transcribe_running_workers);

/* What a worker is at. */
static const char *
state_name(const StateWorker *worker)
{
	if (worker->pid == 0)
		return "starting";
	if (worker->give_way)
		return "giving way";
	if (worker->looking)
		return "visiting";
	return worker->jobs > 0 ? "working" : "idle";
}

/* SQL: one row for each worker that the caller may know of. */
Datum
transcribe_running_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TranscribeState *state = transcribe_state();
	StateWorker workers[TRANSCRIBE_MAX_WORKERS];

	InitMaterializedSRF(fcinfo, 0);
	if (state == NULL)
		return (Datum) 0;
	LWLockAcquire(state->lock, LW_SHARED);
	memcpy(workers, state->workers, sizeof(workers));
	LWLockRelease(state->lock);
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		StateWorker *worker = &workers[w];
		Datum		values[9];
		bool		nulls[9] = {false};

		if (!worker->in_use ||
			(worker->dbid != MyDatabaseId &&
			 !has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS)))
			continue;
		values[0] = Int32GetDatum(worker->pid);
		nulls[0] = worker->pid == 0;
		values[1] = ObjectIdGetDatum(worker->dbid);
		values[2] = TimestampTzGetDatum(worker->launched_at);
		values[3] = CStringGetTextDatum(state_name(worker));
		values[4] = Int32GetDatum(worker->jobs);
		values[5] = Int32GetDatum(worker->recordings);
		values[6] = Int32GetDatum(worker->requests);
		values[7] = Int64GetDatum(worker->held_bytes);
		values[8] = Int32GetDatum(worker->agent_pid);
		nulls[8] = worker->agent_pid == 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
