/*-------------------------------------------------------------------------
 *
 * transcript.c
 *	  A transcript as readable text.
 *
 * Runs in the caller's backend.  Functions in SQL read the segments, as the
 * caller and with its rights, and pass them as arrays that belong together
 * element by element: so nothing here reads a table.
 *
 *-------------------------------------------------------------------------
 */
#include "session/transcript.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(transcribe_readable);

/* A paragraph that is longer than so many letters ends with the sentence. */
#define LONG_PARAGRAPH	600

/* The latest time that there is, in seconds: some three hundred years. */
#define LAST_TIME	1e10

/* A time that can be reckoned with, whatever stands in the table. */
double
transcript_time(double seconds)
{
	if (isnan(seconds) || seconds < 0)
		return 0;
	return Min(seconds, LAST_TIME);
}

/* The elements of an argument that is an array of n; NULL is one of NULLs. */
Datum *
transcript_array(FunctionCallInfo fcinfo, int arg, Oid type, int n, bool **nulls)
{
	int16		len;
	bool		byval;
	char		align;
	Datum	   *values;
	int			count;

	if (PG_ARGISNULL(arg))
	{
		*nulls = palloc(n + 1);
		memset(*nulls, true, n + 1);
		return palloc0_array(Datum, n + 1);
	}
	get_typlenbyvalalign(type, &len, &byval, &align);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, len, byval, align,
					  &values, nulls, &count);
	if (count != n)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("arrays of segments must have the same length")));
	return values;
}

/*
 * The segments that are passed as four arguments from this one on: starts,
 * ends, texts and speakers.
 */
TranscriptSegment *
transcript_segments(FunctionCallInfo fcinfo, int first, int *n)
{
	TranscriptSegment *segments;
	Datum	   *starts;
	Datum	   *ends;
	Datum	   *texts;
	Datum	   *speakers;
	bool	   *nulls[4];

	*n = 0;
	if (!PG_ARGISNULL(first))
	{
		ArrayType  *array = PG_GETARG_ARRAYTYPE_P(first);

		*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	}
	starts = transcript_array(fcinfo, first, FLOAT8OID, *n, &nulls[0]);
	ends = transcript_array(fcinfo, first + 1, FLOAT8OID, *n, &nulls[1]);
	texts = transcript_array(fcinfo, first + 2, TEXTOID, *n, &nulls[2]);
	speakers = transcript_array(fcinfo, first + 3, TEXTOID, *n, &nulls[3]);

	segments = palloc_array(TranscriptSegment, *n + 1);
	for (int i = 0; i < *n; i++)
	{
		TranscriptSegment *segment = &segments[i];

		segment->start = nulls[0][i] ? 0 : transcript_time(DatumGetFloat8(starts[i]));
		segment->end = nulls[1][i] ? 0 : transcript_time(DatumGetFloat8(ends[i]));
		segment->end = Max(segment->end, segment->start);
		segment->text = nulls[2][i] ? PointerGetDatum(cstring_to_text("")) : texts[i];
		segment->speaker = speakers[i];
		segment->has_speaker = !nulls[3][i];
	}
	return segments;
}

Letters
transcript_letters(Datum value)
{
	text	   *string = DatumGetTextPP(value);

	return letters_read(VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

/* Whether they have the same letters. */
static bool
same(const Letters *a, const Letters *b)
{
	if (a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++)
	{
		if (a->letter[i].len != b->letter[i].len ||
			memcmp(a->letter[i].bytes, b->letter[i].bytes, a->letter[i].len) != 0)
			return false;
	}
	return true;
}

/*
 * SQL: segments as text.  A line for each change of the speaker if there are
 * any, else paragraphs: a new one after a pause of so many seconds, and where
 * one has become long and a sentence ends.
 */
Datum
transcribe_readable(PG_FUNCTION_ARGS)
{
	double		pause = PG_ARGISNULL(4) ? 2 : PG_GETARG_FLOAT8(4);
	TranscriptSegment *segments;
	int			n;
	bool		lines = false;
	StringInfoData out;
	Letters		last = {NULL, 0};
	Letters		last_speaker = {NULL, 0};
	double		last_end = 0;
	int			paragraph = 0;	/* letters in it */

	if (isnan(pause) || pause < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("paragraph_pause_s must not be negative"),
				 errhint("Seconds of silence after which a paragraph begins; 'infinity' for none.")));
	segments = transcript_segments(fcinfo, 0, &n);
	for (int i = 0; i < n; i++)
		lines |= segments[i].has_speaker;

	initStringInfo(&out);
	for (int i = 0; i < n; i++)
	{
		Letters		text = transcript_letters(segments[i].text);
		Letters		speaker = {NULL, 0};
		bool		first = out.len == 0;
		bool		turn;

		if (text.n == 0)
			continue;
		if (segments[i].has_speaker)
			speaker = transcript_letters(segments[i].speaker);
		turn = lines && (first || !same(&speaker, &last_speaker));
		if (turn)
		{
			if (!first)
				appendStringInfoChar(&out, '\n');
			letters_append(&out, speaker.letter, speaker.n);
			if (speaker.n > 0)
				appendStringInfoString(&out, ": ");
		}
		else if (!lines && !first &&
				 (segments[i].start - last_end >= pause ||
				  (paragraph > LONG_PARAGRAPH && letters_end_sentence(&last))))
		{
			appendStringInfoString(&out, "\n\n");
			paragraph = 0;
		}
		else if (!first)
			appendStringInfoString(&out, letters_between(&last, &text));
		letters_append(&out, text.letter, text.n);

		paragraph += text.n;
		last_end = Max(last_end, segments[i].end);
		if (last.letter != NULL)
			pfree(last.letter);
		last = text;
		last_speaker = speaker;
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
