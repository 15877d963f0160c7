/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  What the workers of this database are doing, from shared memory.
 *
 * Runs in the caller's backend.  Row security does not reach shared memory,
 * so the owner's rule is applied here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "shared/state.h"
#include "transcribe.h"

PG_FUNCTION_INFO_V1(transcribe_live_progress);

/* Copy the slots of this database's workers: no lock while rows are made. */
static StateProgress *
copy_progress(TranscribeState *state, int *n)
{
	StateProgress *copy = palloc_array(StateProgress,
									   transcribe_max_workers * transcribe_jobs_per_worker);

	*n = 0;
	LWLockAcquire(state->lock, LW_SHARED);
	for (int w = 0; w < transcribe_max_workers; w++)
	{
		StateProgress *slots = state_worker_progress(w);

		if (!state->workers[w].in_use || state->workers[w].dbid != MyDatabaseId)
			continue;
		for (int i = 0; i < transcribe_jobs_per_worker; i++)
		{
			if (slots[i].job_id != 0)
				copy[(*n)++] = slots[i];
		}
	}
	LWLockRelease(state->lock);
	return copy;
}

/* SQL: one row for each running job that the caller may see. */
Datum
transcribe_live_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TranscribeState *state = transcribe_state();
	StateProgress *slots;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (state == NULL)
		return (Datum) 0;

	slots = copy_progress(state, &n);
	for (int i = 0; i < n; i++)
	{
		StateProgress *slot = &slots[i];
		Datum		values[7];
		bool		nulls[7] = {false};

		if (!has_privs_of_role(GetUserId(), slot->owner))
			continue;
		values[0] = Int64GetDatum(slot->job_id);
		values[1] = CStringGetTextDatum(slot->transcribing ? "transcribing"
										: "preprocessing");
		values[2] = Float8GetDatum(slot->percent);
		values[3] = CStringGetTextDatum(slot->message);
		values[4] = Int32GetDatum(slot->chunk);
		values[5] = Int32GetDatum(slot->chunks);
		values[6] = TimestampTzGetDatum(slot->since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
