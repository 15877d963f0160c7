/*-------------------------------------------------------------------------
 *
 * transcript.h
 *	  The segments of a transcript, as arguments of a function.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_TRANSCRIPT_H
#define TRANSCRIBE_TRANSCRIPT_H

#include "postgres.h"

#include "fmgr.h"

#include "session/letters.h"

typedef struct TranscriptSegment
{
	double		start;			/* seconds, finite, not negative */
	double		end;			/* not before the start */
	Datum		text;
	Datum		speaker;		/* valid if has_speaker */
	bool		has_speaker;
} TranscriptSegment;

extern TranscriptSegment *transcript_segments(FunctionCallInfo fcinfo, int first, int *n);
extern Datum *transcript_array(FunctionCallInfo fcinfo, int arg, Oid type, int n,
							   bool **nulls);
extern Letters transcript_letters(Datum value);
extern double transcript_time(double seconds);

#endif							/* TRANSCRIBE_TRANSCRIPT_H */
