/*-------------------------------------------------------------------------
 *
 * fit.c
 *	  How large a chunk a server takes, as its refusals have taught.
 *
 * Runs in the worker.  A server's limits are its options chunk_seconds and
 * max_upload_bytes; where these promise more than the server or one of its
 * models takes, the first refusal teaches better, all jobs from then on.
 * What was learnt is forgotten when the worker ends.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/fit.h"

#include "nodes/pg_list.h"
#include "utils/memutils.h"

/*
 * The smallest chunk that it makes sense to cut, as the smallest value of
 * either option: a server that refuses that refuses every recording.
 */
#define LEAST_SECONDS		5.0
#define LEAST_BYTES			(64 * 1024)

/*
 * What a server counts beside our samples: what an encoder pads, and the other
 * fields of the form.
 */
#define SPARE_SHARE			0.01
#define SPARE_SECONDS		0.5
#define SPARE_BYTES			(16 * 1024)

typedef struct Fit
{
	Oid			serverid;
	char	   *model;
	double		seconds;		/* 0: not known */
	uint64		bytes;			/* 0: not known */
} Fit;

/* Of Fit, in TopMemoryContext; as many as there are models that refused. */
static List *fits = NIL;

static Fit *
find_fit(Oid serverid, const char *model)
{
	ListCell   *lc;

	foreach(lc, fits)
	{
		Fit		   *fit = lfirst(lc);

		if (fit->serverid == serverid && strcmp(fit->model, model) == 0)
			return fit;
	}
	return NULL;
}

/* As above; one that is not there is made. */
static Fit *
make_fit(Oid serverid, const char *model)
{
	Fit		   *fit = find_fit(serverid, model);
	MemoryContext oldcontext;

	if (fit != NULL)
		return fit;
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	fit = palloc0(sizeof(Fit));
	fit->serverid = serverid;
	fit->model = pstrdup(model);
	fits = lappend(fits, fit);
	MemoryContextSwitchTo(oldcontext);
	return fit;
}

/* Bring the limits of chunks down to what the model takes. */
void
fit_open(Oid serverid, const char *model, WireOpen *open)
{
	Fit		   *fit = find_fit(serverid, model);

	if (fit == NULL)
		return;
	if (fit->seconds > 0)
		open->chunk_seconds = Min(open->chunk_seconds, fit->seconds);
	if (fit->bytes > 0)
		open->max_chunk_bytes = Min(open->max_chunk_bytes, fit->bytes);
}

/*
 * A chunk was refused for its size.  Learn what fits: what the server says,
 * else half of what it has refused.  False: it could hardly be smaller.
 */
bool
fit_refused(Oid serverid, const char *model, const ResponseLimit *said,
			double seconds, uint64 bytes)
{
	Fit		   *fit;
	double		fits;

	if (said->too_long ? seconds <= LEAST_SECONDS : bytes <= LEAST_BYTES)
		return false;
	fit = make_fit(serverid, model);
	if (said->too_long)
	{
		fits = said->number * (1 - SPARE_SHARE) - SPARE_SECONDS;
		if (!(fits > 0 && fits < seconds))
			fits = seconds / 2;
		fits = Max(fits, LEAST_SECONDS);
		if (fit->seconds == 0 || fits < fit->seconds)
			fit->seconds = fits;
	}
	else
	{
		fits = said->number - SPARE_BYTES;
		if (!(fits > 0 && fits < bytes))
			fits = bytes / 2.0;
		fits = Max(fits, LEAST_BYTES);
		if (fit->bytes == 0 || fits < fit->bytes)
			fit->bytes = (uint64) fits;
	}
	return true;
}
