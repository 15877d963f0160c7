/*-------------------------------------------------------------------------
 *
 * timeline.c
 *	  From a chunk's time to the recording's.
 *
 * Runs in the worker; pure.  A chunk is made of stretches of the recording,
 * one directly after the other; what lies between them is silence that was
 * left out.  A server tells times in the chunk, users want them in their
 * file.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/timeline.h"

/*
 * What the media program leaves of the silence around speech (0.2 s before and
 * 0.3 s after it), and as much as servers are vague by.
 */
#define TIMELINE_SLACK	0.6

/*
 * The second of the recording at which the chunk's second t lies.  On a seam
 * a segment begins with the later stretch and ends with the earlier one, so
 * that it does not swallow the silence between them.  Times outside the
 * chunk, which servers do tell, are brought to its ends.
 */
double
timeline_to_source(const WireSpan *spans, int nspans, double t, bool is_end)
{
	double		passed = 0;

	if (nspans == 0)
		return 0;
	if (!(t > 0))
		return spans[0].start;
	for (int i = 0; i < nspans; i++)
	{
		double		offset = t - passed;

		if (offset < spans[i].length ||
			(is_end && offset <= spans[i].length))
			return spans[i].start + offset;
		passed += spans[i].length;
	}
	return spans[nspans - 1].start + spans[nspans - 1].length;
}

/*
 * Number of the stretch that holds the chunk's second t, and how far into it
 * that is.
 */
static int
find_span(const WireSpan *spans, int nspans, double t, double *offset)
{
	int			i = 0;

	while (i < nspans - 1 && t >= spans[i].length)
		t -= spans[i++].length;
	*offset = t;
	return i;
}

/*
 * Bring the start and end of a segment or word into the recording's time.
 *
 * Servers are vague by some tenths of a second, and each stretch begins and
 * ends with a little silence.  Where a segment reaches that little into the
 * next stretch, or begins that little before it, the seam is what is meant:
 * else it would seem to last through the silence that was left out there.
 */
void
timeline_map(const WireSpan *spans, int nspans, double *start, double *end)
{
	double		into_first;
	double		into_last;
	int			first;
	int			last;

	if (nspans == 0)
	{
		*start = *end = 0;
		return;
	}
	first = find_span(spans, nspans, *start, &into_first);
	last = find_span(spans, nspans, *end, &into_last);
	*start = timeline_to_source(spans, nspans, *start, false);
	*end = timeline_to_source(spans, nspans, *end, true);
	if (first < last && into_last <= TIMELINE_SLACK)
	{
		last--;
		*end = spans[last].start + spans[last].length;
	}
	if (first < last && spans[first].length - into_first <= TIMELINE_SLACK)
		*start = spans[first + 1].start;
	if (*end < *start)
		*end = *start;
}
