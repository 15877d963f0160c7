/*-------------------------------------------------------------------------
 *
 * subtitles.c
 *	  A transcript as subtitles, in SubRip's format (SRT) and WebVTT.
 *
 * Runs in the caller's backend; like transcript.c, it is passed the segments.
 *
 * Three steps:
 *
 * 1. The times of segments are put right.  Those of one channel do not overlap:
 *    one ends when the next begins, and those that begin at the same time share
 *    it.  Two channels may speak at once.
 * 2. A segment becomes cues, which fit into the lines that a cue may have and
 *    are shown no longer than a cue may be: as few as possible, then as even
 *    as possible.  The same goes for the lines of a cue.  Where there are
 *    words, their times say when a cue begins and ends, else its place in the
 *    text does.
 * 3. Cues are written, by their times.  In both formats an empty line ends a
 *    cue and "-->" makes a line of times, so that neither may be in its text.
 *
 *-------------------------------------------------------------------------
 */
#include "session/transcript.h"

#include <limits.h>
#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(transcribe_subtitles);

/*
 * How long is shown what takes no time, and a part of a segment at least, where
 * the next leaves room; in milliseconds.
 */
#define TIMELESS	1000

/*
 * How many letters ahead a word is looked for in the text, beyond those of
 * words that were not found: it may be written otherwise there.
 */
#define REACH		16

typedef struct Style
{
	bool		vtt;
	int			width;			/* letters in a line, or INT_MAX */
	int			lines;			/* lines in a cue */
	double		seconds;		/* that a cue is shown, or infinity */
} Style;

/* A cue, or a segment of which cues are made. */
typedef struct Cue
{
	int64		start;			/* milliseconds */
	int64		end;
	int			channel;		/* -1: of none */
	int			order;			/* among those that begin at the same time */
	int			letters;		/* by which they share it */
	char	   *text;			/* as it is written */
} Cue;

typedef struct Cues
{
	Cue		   *cue;
	int			n;
	int			allocated;
} Cues;

/* A segment that is being made into cues. */
typedef struct Passage
{
	const Style *style;
	Letters		prefix;			/* what stands before the text of each cue */
	Letters		text;
	double	   *begins;			/* when each letter does, in seconds */
	double	   *ends;
} Passage;

/* ----------------------------------------------------------------
 * Lines
 * ----------------------------------------------------------------
 */

/* Letter i of a cue that begins with letter from of the passage. */
static const Letter *
cue_letter(const Passage *p, int from, int i)
{
	return i < p->prefix.n ? &p->prefix.letter[i] :
		&p->text.letter[from + i - p->prefix.n];
}

/*
 * Where the line ends that begins with letter "at" of such a cue, which is of n
 * letters.  A word that is longer than a line is broken, but no accent is
 * parted from its letter.
 */
static int
line_end(const Passage *p, int from, int at, int n, int width)
{
	int			count = 0;
	int			last = -1;
	bool		beyond = false;

	for (int i = at; i < n; i++)
	{
		const Letter *letter = cue_letter(p, from, i);

		if (i > at && (letter->breaks || i == p->prefix.n))
			last = i;
		if (count == width && (letter->counts || beyond))
		{
			/* A blank at the end of a line is not seen. */
			beyond = letter->blank;
			if (beyond)
				continue;
			return last > 0 ? last : i;
		}
		count += letter->counts;
	}
	return n;
}

/* How many lines a cue of n letters has, at such a width. */
static int
count_lines(const Passage *p, int from, int n, int width)
{
	int			lines = 0;

	for (int at = 0; at < n; at = line_end(p, from, at, n, width))
		lines++;
	return lines;
}

/* The smallest width at which the cue has no more lines. */
static int
even_width(const Passage *p, int from, int n)
{
	int			lines = count_lines(p, from, n, p->style->width);
	int			low = 1;
	int			high = p->style->width;

	if (lines == 1)
		return high;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (count_lines(p, from, n, middle) <= lines)
			high = middle;
		else
			low = middle + 1;
	}
	return high;
}

/* ----------------------------------------------------------------
 * Cues of a passage
 * ----------------------------------------------------------------
 */

/* When the text before letter "to" has been said; a blank there is a pause. */
static double
said_at(const Passage *p, int to)
{
	return p->ends[to - 1 - (to > 1 && p->text.letter[to - 1].blank)];
}

/*
 * Where the cue ends that begins with letter from of the passage, and has no
 * more than so many letters.
 */
static int
cue_end(const Passage *p, int from, int limit)
{
	int			n = p->prefix.n + p->text.n - from;
	int			end = p->text.n;
	int			count = 0;
	int			best = 0;

	if (p->style->width != INT_MAX)
	{
		int			at = 0;

		for (int line = 0; line < p->style->lines && at < n; line++)
			at = line_end(p, from, at, n, p->style->width);
		end = Max(from + at - p->prefix.n, from + 1);
	}
	for (int i = from; i < end; i++)
	{
		const Letter *letter = &p->text.letter[i];

		if (i > from && letter->breaks)
		{
			if (best > 0 &&
				(count > limit || said_at(p, i) - p->begins[from] > p->style->seconds))
				return best;
			best = i;
		}
		count += letter->counts;
	}
	if (best > 0 &&
		(count > limit || said_at(p, end) - p->begins[from] > p->style->seconds))
		return best;
	return end;
}

static int
count_cues(const Passage *p, int limit)
{
	int			cues = 0;

	for (int from = 0; from < p->text.n; from = cue_end(p, from, limit))
	{
		CHECK_FOR_INTERRUPTS();
		cues++;
	}
	return cues;
}

/* The smallest number of letters in a cue with which there are no more cues. */
static int
even_limit(const Passage *p)
{
	int			cues = count_cues(p, INT_MAX);
	int			high = letters_count(p->text.letter, p->text.n);
	int			low = Max(high / Max(cues, 1), 1);

	if (cues <= 1)
		return INT_MAX;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (count_cues(p, middle) <= cues)
			high = middle;
		else
			low = middle + 1;
	}
	return high;
}

/* ----------------------------------------------------------------
 * Times of letters
 * ----------------------------------------------------------------
 */

/* Letters from "at" to "to" are said one after another from start to end. */
static void
spread(Passage *p, int at, int to, double start, double end)
{
	double		step = (end - start) / Max(to - at, 1);

	for (int i = at; i < to; i++)
	{
		p->begins[i] = start + step * (i - at);
		p->ends[i] = start + step * (i + 1 - at);
	}
}

/*
 * Letters that are not found among the words are said between two of them: but
 * marks before the first blank belong to the one, those after the last to the
 * other, and take no time.
 */
static void
spread_between(Passage *p, int at, int to, double start, double end)
{
	int			first = at;
	int			last = to;

	while (first < to && !p->text.letter[first].blank)
		first++;
	while (last > first && !p->text.letter[last - 1].blank)
		last--;
	spread(p, at, first, start, start);
	spread(p, first, last, start, end);
	spread(p, last, to, end, end);
}

/* A number in an object; false if there is none. */
static bool
get_number(JsonbContainer *object, const char *name, double *number)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL ||
		value.type != jbvNumeric)
		return false;
	*number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												 NumericGetDatum(value.val.numeric)));
	*number = transcript_time(*number);
	return true;
}

/* A word and its times, as they are saved; false if that is something else. */
static bool
get_word(const JsonbValue *value, Letters *word, double *start, double *end)
{
	JsonbContainer *object;
	JsonbValue	string;

	if (value->type != jbvBinary)
		return false;
	object = value->val.binary.data;
	if (!JsonContainerIsObject(object) ||
		getKeyJsonValueFromContainer(object, "word", 4, &string) == NULL ||
		string.type != jbvString ||
		!get_number(object, "start", start) || !get_number(object, "end", end))
		return false;
	*word = letters_read(string.val.string.val, string.val.string.len);
	return true;
}

/* Where the word stands in the text, from "at" on and before "to"; or -1. */
static int
find_word(const Letters *text, const Letters *word, int at, int to)
{
	for (; at < to && at + word->n <= text->n; at++)
	{
		int			i = 0;

		while (i < word->n && text->letter[at + i].len == word->letter[i].len &&
			   memcmp(text->letter[at + i].bytes, word->letter[i].bytes,
					  word->letter[i].len) == 0)
			i++;
		if (i == word->n)
			return at;
	}
	return -1;
}

/*
 * When each letter is said, where the words tell: what of the text is not found
 * among them is between their times.
 */
static void
time_letters(Passage *p, Jsonb *words)
{
	int			at = 0;
	int			missed = 0;
	double		time = p->begins[0];
	double		last = p->ends[p->text.n - 1];
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (!JB_ROOT_IS_ARRAY(words))
		return;
	it = JsonbIteratorInit(&words->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		Letters		word;
		double		start;
		double		end;
		int			found;

		if (token != WJB_ELEM || !get_word(&value, &word, &start, &end))
			continue;
		found = word.n == 0 ? -1 :
			find_word(&p->text, &word, at, at + missed + REACH);
		pfree(word.letter);
		if (found < 0)
		{
			missed += word.n;
			continue;
		}
		missed = 0;
		start = Max(Min(start, last), time);
		end = Max(Min(end, last), start);
		spread_between(p, at, found, time, start);
		spread(p, found, found + word.n, start, end);
		at = found + word.n;
		time = end;
	}
	spread_between(p, at, p->text.n, time, last);
}

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

/*
 * Append letters as the format has them.  WebVTT has escapes; SubRip has none,
 * and what could be taken for an arrow gets shorter, as Whisper's own writer
 * does it.
 */
static void
append_letter(StringInfo out, bool vtt, const Letter *letter)
{
	char		c = letter->len == 1 ? *letter->bytes : '\0';

	if (vtt && c == '&')
		appendStringInfoString(out, "&amp;");
	else if (vtt && c == '<')
		appendStringInfoString(out, "&lt;");
	else if (vtt && c == '>')
		appendStringInfoString(out, "&gt;");
	else if (!vtt && c == '>' && out->len >= 2 &&
			 memcmp(out->data + out->len - 2, "--", 2) == 0)
	{
		while (out->len >= 2 && out->data[out->len - 2] == '-')
			out->len--;
		appendStringInfoChar(out, '>');
	}
	else
		letters_append(out, letter, 1);
}

/* The text of a cue of n letters, line by line. */
static char *
write_lines(const Passage *p, int from, int n, const char *voice)
{
	int			width = even_width(p, from, n);
	StringInfoData out;
	int			end;

	initStringInfo(&out);
	appendStringInfoString(&out, voice);
	for (int at = 0; at < n; at = end)
	{
		int			last;

		end = line_end(p, from, at, n, width);
		while (at < end && cue_letter(p, from, at)->blank)
			at++;
		last = end;
		while (last > at && cue_letter(p, from, last - 1)->blank)
			last--;
		for (int i = at; i < last; i++)
			append_letter(&out, p->style->vtt, cue_letter(p, from, i));
		if (last > at)
			appendStringInfoChar(&out, '\n');
	}
	return out.data;
}

static void
append_time(StringInfo out, int64 time, char point)
{
	appendStringInfo(out, "%02d:%02d:%02d%c%03d", (int) (time / 3600000),
					 (int) (time / 60000 % 60), (int) (time / 1000 % 60), point,
					 (int) (time % 1000));
}

/*
 * What stands before each cue of a speaker: in WebVTT a tag, which is returned,
 * in SubRip a part of the text.  That leaves at least half of a cue to what is
 * said.
 */
static char *
write_speaker(Passage *p, Datum speaker)
{
	Letters		name = transcript_letters(speaker);
	StringInfoData out;
	int			room;

	initStringInfo(&out);
	if (name.n == 0)
		return out.data;
	if (p->style->vtt)
	{
		appendStringInfoString(&out, "<v ");
		for (int i = 0; i < name.n; i++)
			append_letter(&out, true, &name.letter[i]);
		appendStringInfoChar(&out, '>');
		return out.data;
	}
	room = p->style->width == INT_MAX ? INT_MAX :
		Max(p->style->width * p->style->lines / 2 - 2, 0);
	for (int i = 0, count = 0; i < name.n; i++)
	{
		count += name.letter[i].counts;
		if (count <= room)
			letters_append(&out, &name.letter[i], 1);
	}
	if (out.len > 0)
	{
		/* The last letter is there for the blank before the text. */
		appendStringInfoString(&out, ": .");
		p->prefix = letters_read(out.data, out.len);
		p->prefix.n--;
	}
	return pstrdup("");
}

/* ----------------------------------------------------------------
 * All together
 * ----------------------------------------------------------------
 */

static void
add_cue(Cues *cues, Cue cue)
{
	if (cues->n == cues->allocated)
	{
		cues->allocated = cues->allocated == 0 ? 256 : cues->allocated * 2;
		cues->cue = cues->cue == NULL ? palloc_array(Cue, cues->allocated) :
			repalloc_huge(cues->cue, sizeof(Cue) * cues->allocated);
	}
	cues->cue[cues->n++] = cue;
}

/* By channel, then by time. */
static int
compare_in_channel(const void *a, const void *b)
{
	const Cue  *left = a;
	const Cue  *right = b;

	if (left->channel != right->channel)
		return left->channel < right->channel ? -1 : 1;
	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return left->order < right->order ? -1 : 1;
}

/* By time. */
static int
compare_in_time(const void *a, const void *b)
{
	const Cue  *left = a;
	const Cue  *right = b;

	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return left->order < right->order ? -1 : 1;
}

/*
 * Those that begin at the same time share the time until the next: by their
 * letters, and a millisecond each at least, as long as there are so many.
 */
static void
share_time(Cue *cue, int n, int64 end)
{
	int64		start = cue[0].start;
	int64		spare = Max(end - start - n, 0);
	int64		letters = 0;
	int64		before = 0;

	for (int i = 0; i < n; i++)
		letters += Max(cue[i].letters, 1);
	for (int i = 0; i < n; i++)
	{
		int64		from = i + (int64) ((double) spare * before / letters);
		int64		to;

		before += Max(cue[i].letters, 1);
		to = i + 1 + (int64) ((double) spare * before / letters);
		cue[i].start = start + Min(from, end - start - 1);
		cue[i].end = Max(Min(start + to, end), cue[i].start + 1);
	}
}

/*
 * Let each take some time, and none overlap the next of its channel; and bring
 * them into the order of time.
 */
static void
settle_times(Cues *cues)
{
	int			next;

	qsort(cues->cue, cues->n, sizeof(Cue), compare_in_channel);
	for (int i = 0; i < cues->n; i = next)
	{
		Cue		   *cue = &cues->cue[i];
		int64		end = cue->end;
		int64		limit = PG_INT64_MAX;

		for (next = i + 1; next < cues->n; next++)
		{
			if (cues->cue[next].channel != cue->channel)
				break;
			if (cues->cue[next].start > cue->start)
			{
				limit = cues->cue[next].start;
				break;
			}
			end = Max(end, cues->cue[next].end);
		}
		if (end <= cue->start)
			end = cue->start + (int64) TIMELESS * (next - i);
		share_time(cue, next - i, Min(end, limit));
	}
	qsort(cues->cue, cues->n, sizeof(Cue), compare_in_time);
}

/* Make a segment into cues; its times have been put right. */
static void
add_segment(Cues *cues, const Style *style, const TranscriptSegment *segment,
			const Cue *whole, Jsonb *words)
{
	Passage		p = {.style = style};
	char	   *voice = "";
	int			limit;
	int			end;

	p.text = transcript_letters(segment->text);
	if (segment->has_speaker)
		voice = write_speaker(&p, segment->speaker);
	p.begins = palloc_array(double, p.text.n);
	p.ends = palloc_array(double, p.text.n);
	spread(&p, 0, p.text.n, whole->start / 1000.0, whole->end / 1000.0);
	if (words != NULL && count_cues(&p, INT_MAX) > 1)
		time_letters(&p, words);

	limit = even_limit(&p);
	for (int from = 0; from < p.text.n; from = end)
	{
		int64		start = from == 0 ? whole->start : (int64) rint(p.begins[from] * 1000);

		end = cue_end(&p, from, limit);
		add_cue(cues, (Cue) {
			.start = start,
				.end = end == p.text.n ? whole->end :
				Max((int64) rint(said_at(&p, end) * 1000), start + TIMELESS),
				.channel = whole->channel,
				.order = cues->n,
				.letters = letters_count(p.text.letter + from, end - from),
				.text = write_lines(&p, from, p.prefix.n + end - from, voice)
		});
	}
	pfree(p.begins);
	pfree(p.ends);
	pfree(p.text.letter);
}

static void
check_range(const char *name, bool good, const char *hint)
{
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", name),
				 errhint("%s", hint)));
}

/* The style that three arguments from this one on ask for. */
static Style
get_style(FunctionCallInfo fcinfo, int first)
{
	int			width = PG_ARGISNULL(first) ? 42 : PG_GETARG_INT32(first);
	int			lines = PG_ARGISNULL(first + 1) ? 2 : PG_GETARG_INT32(first + 1);
	double		seconds = PG_ARGISNULL(first + 2) ? 7 : PG_GETARG_FLOAT8(first + 2);

	check_range("max_line_width", width >= 0 && width <= 1000,
				"Letters in a line: 1 to 1000, or 0 for lines of any length.");
	check_range("max_line_count", lines >= 1 && lines <= 100,
				"Lines in a cue: 1 to 100.");
	check_range("max_duration_s", seconds >= 0,
				"Seconds that a cue is shown, or 0 for any time.");
	return (Style) {
		.width = width == 0 ? INT_MAX : width, .lines = lines,
		.seconds = seconds == 0 ? get_float8_infinity() : seconds
	};
}

/*
 * SQL: segments as subtitles, in the format "srt" or "vtt".
 */
Datum
transcribe_subtitles(PG_FUNCTION_ARGS)
{
	Style		style = get_style(fcinfo, 7);
	Cues		wholes = {0};
	Cues		cues = {0};
	TranscriptSegment *segments;
	Datum	   *channels;
	Datum	   *words;
	bool	   *no_channel;
	bool	   *no_words;
	int			n;
	StringInfoData out;

	style.vtt = !PG_ARGISNULL(0) &&
		strcmp(text_to_cstring(PG_GETARG_TEXT_PP(0)), "vtt") == 0;
	segments = transcript_segments(fcinfo, 1, &n);
	channels = transcript_array(fcinfo, 5, INT4OID, n, &no_channel);
	words = transcript_array(fcinfo, 6, JSONBOID, n, &no_words);
	for (int i = 0; i < n; i++)
	{
		Letters		text = transcript_letters(segments[i].text);

		if (text.n > 0)
			add_cue(&wholes, (Cue) {
				.start = (int64) rint(segments[i].start * 1000),
					.end = (int64) rint(segments[i].end * 1000),
					.channel = no_channel[i] ? -1 : DatumGetInt32(channels[i]),
					.order = i, .letters = text.n
			});
		pfree(text.letter);
	}
	settle_times(&wholes);
	for (int i = 0; i < wholes.n; i++)
	{
		int			k = wholes.cue[i].order;

		CHECK_FOR_INTERRUPTS();
		add_segment(&cues, &style, &segments[k], &wholes.cue[i],
					no_words[k] ? NULL : DatumGetJsonbP(words[k]));
	}
	settle_times(&cues);

	initStringInfo(&out);
	if (style.vtt)
		appendStringInfoString(&out, "WEBVTT\n");
	for (int i = 0; i < cues.n; i++)
	{
		Cue		   *cue = &cues.cue[i];

		if (style.vtt)
			appendStringInfoChar(&out, '\n');
		else
			appendStringInfo(&out, "%s%d\n", i == 0 ? "" : "\n", i + 1);
		append_time(&out, cue->start, style.vtt ? '.' : ',');
		appendStringInfoString(&out, " --> ");
		append_time(&out, cue->end, style.vtt ? '.' : ',');
		appendStringInfoChar(&out, '\n');
		appendStringInfoString(&out, cue->text);
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
