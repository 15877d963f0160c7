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

/*
 * How fast the recording is gone through, in seconds of it a second, by what
 * was answered since it was opened; 0: not known yet.
 */
static double
rate_of(const StateProgress *slot)
{
	double		took = (slot->advanced - slot->opened) / (double) USECS_PER_SEC;

	return slot->fresh > 0 && took > 0 ? slot->fresh / took : 0;
}

/* The time that is left at that rate, if it is known, in whole seconds. */
static Interval *
time_left(const StateProgress *slot, double rate)
{
	Interval   *left = palloc0(sizeof(Interval));
	double		waited = (GetCurrentTimestamp() - slot->advanced) / (double) USECS_PER_SEC;
	double		seconds = Max(slot->total - slot->done, 0) / rate - waited;

	left->time = (int64) Max(seconds, 0) * USECS_PER_SEC;
	return left;
}

/* SQL: one row for each running job that the caller may see. */
Datum
transcribe_live_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	StateProgress *slots;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (transcribe_state() == NULL)
		return (Datum) 0;

	slots = state_copy_progress(&n);
	for (int i = 0; i < n; i++)
	{
		StateProgress *slot = &slots[i];
		double		rate = rate_of(slot);
		Datum		values[11];
		bool		nulls[11] = {false};

		if (!has_privs_of_role(GetUserId(), slot->owner))
			continue;
		values[0] = Int64GetDatum(slot->job_id);
		values[1] = CStringGetTextDatum(slot->transcribing ? "transcribing"
										: "preprocessing");
		values[2] = Float8GetDatum(slot->percent);
		values[3] = CStringGetTextDatum(slot->message);
		values[4] = Int32GetDatum(slot->chunk);
		values[5] = Int32GetDatum(slot->chunks);
		values[6] = Float8GetDatum(slot->done);
		values[7] = Float8GetDatum(slot->total);
		nulls[7] = !(slot->total > 0);
		values[8] = Float8GetDatum(rate);
		nulls[8] = !(rate > 0);
		nulls[9] = nulls[7] || nulls[8];
		values[9] = nulls[9] ? (Datum) 0 : IntervalPGetDatum(time_left(slot, rate));
		values[10] = TimestampTzGetDatum(slot->since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
