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
