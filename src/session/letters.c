/*-------------------------------------------------------------------------
 *
 * letters.c
 *	  Text as a reader sees it: letters, and where a line may be broken.
 *
 * Runs in the caller's backend, in any encoding; a database of SQL_ASCII holds
 * UTF-8, since that is what the worker puts there.  What only Unicode knows
 * (blanks of other kinds, marks that begin no line) counts in UTF-8 alone.
 *
 * Whatever a text holds, lines made of it hold no control character and no end
 * of a line, and do not begin or end with a blank.
 *
 *-------------------------------------------------------------------------
 */
#include "session/letters.h"

#include "mb/pg_wchar.h"

/* Marks that stay with what precedes them, where there are no blanks. */
static const pg_wchar closing[] = {
	'!', ')', ',', '.', ':', ';', '?', ']', '}', 0x2019, 0x201D, 0x2026,
	0x3001, 0x3002, 0x3005, 0x3009, 0x300B, 0x300D, 0x300F, 0x3011, 0x3015,
	0x30FB, 0x30FC, 0xFF01, 0xFF09, 0xFF0C, 0xFF0E, 0xFF1A, 0xFF1B, 0xFF1F,
	0xFF3D, 0xFF5D
};

/* Marks that stay with what follows them. */
static const pg_wchar opening[] = {
	'(', '[', '{', 0x2018, 0x201C, 0x3008, 0x300A, 0x300C, 0x300E, 0x3010,
	0x3014, 0xFF08, 0xFF3B, 0xFF5B, 0x200D
};

/* Marks that end a sentence, and those that may follow them. */
static const pg_wchar ending[] = {
	'.', '?', '!', 0x2026, 0x3002, 0xFF01, 0xFF0E, 0xFF1F, 0x061F, 0x06D4, 0x0964
};
static const pg_wchar quoting[] = {
	'"', '\'', ')', ']', 0xBB, 0x2019, 0x201D, 0x300D, 0x300F
};

#define IS_ONE_OF(code, list)	is_one_of(code, list, lengthof(list))

static bool
is_one_of(pg_wchar code, const pg_wchar *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (list[i] == code)
			return true;
	}
	return false;
}

static int
encoding(void)
{
	return GetDatabaseEncoding() == PG_SQL_ASCII ? PG_UTF8 : GetDatabaseEncoding();
}

/* Its number in Unicode, or 0 where that is not known. */
static pg_wchar
code_of(const Letter *letter)
{
	const unsigned char *bytes = (const unsigned char *) letter->bytes;

	if (letter->len == 1)
		return *bytes < 0x80 ? *bytes : 0;
	return encoding() == PG_UTF8 ? utf8_to_unicode(bytes) : 0;
}

/* Blanks that lines are not broken at, though nothing is to be seen there. */
static bool
is_wide_blank(pg_wchar code)
{
	return code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
		code == 0x202F || code == 0x205F || code == 0x3000;
}

/* Korean is as wide as Chinese and Japanese, but has blanks. */
static bool
is_hangul(pg_wchar code)
{
	return (code >= 0x1100 && code <= 0x11FF) || (code >= 0x3130 && code <= 0x318F) ||
		(code >= 0xAC00 && code <= 0xD7FF);
}

/*
 * Read the character at the start of so many bytes; false if it is one of those
 * that only separate: blanks, control characters, ends of lines.
 */
static bool
read_letter(Letter *letter, const char *bytes, int len)
{
	int			valid = pg_encoding_verifymbchar(encoding(), bytes, len);
	int			width;
	pg_wchar	code;

	memset(letter, 0, sizeof(Letter));
	letter->bytes = bytes;
	letter->len = valid > 0 ? valid : 1;
	code = code_of(letter);
	width = valid > 0 ? pg_encoding_dsplen(encoding(), bytes) : 1;
	letter->counts = width > 0;
	letter->blank = is_wide_blank(code);
	letter->ideograph = encoding() == PG_UTF8 && width == 2 && !is_hangul(code);
	return width >= 0 && code != ' ' && code != 0x2028 && code != 0x2029;
}

/* Whether a line may begin with the one after the other, without a blank. */
static bool
may_break(const Letter *before, const Letter *after)
{
	return (before->ideograph || after->ideograph) && after->counts &&
		!IS_ONE_OF(code_of(after), closing) && !IS_ONE_OF(code_of(before), opening);
}

/* The letters of a text, with one blank for all that only separates. */
Letters
letters_read(const char *text, int len)
{
	static const char blank[] = " ";
	Letters		letters = {NULL, 0};
	bool		separated = false;
	Letter	   *last;
	int			size;

	letters.letter = palloc_extended(sizeof(Letter) * ((Size) len + 1),
									 MCXT_ALLOC_HUGE);
	for (const char *at = text; at < text + len; at += size)
	{
		Letter		letter;
		bool		visible = read_letter(&letter, at, text + len - at);

		size = letter.len;
		/* No two blanks follow each other, and none comes first. */
		last = letters.n > 0 ? &letters.letter[letters.n - 1] : NULL;
		if (!visible ||
			(letter.blank && (last == NULL || last->blank || separated)))
		{
			separated |= !visible;
			continue;
		}
		if (last != NULL && !letter.blank)
			letter.breaks = separated || may_break(last, &letter);
		if (separated && last != NULL && !last->blank)
			letters.letter[letters.n++] = (Letter) {
			.bytes = blank, .len = 1, .counts = true, .blank = true
			};
		separated = false;
		letters.letter[letters.n++] = letter;
	}
	while (letters.n > 0 && letters.letter[letters.n - 1].blank)
		letters.n--;
	return letters;
}

/* How many places they take in a line. */
int
letters_count(const Letter *letter, int n)
{
	int			count = 0;

	for (int i = 0; i < n; i++)
		count += letter[i].counts;
	return count;
}

void
letters_append(StringInfo out, const Letter *letter, int n)
{
	for (int i = 0; i < n; i++)
		appendBinaryStringInfo(out, letter[i].bytes, letter[i].len);
}

/* Whether the text ends as a sentence does. */
bool
letters_end_sentence(const Letters *text)
{
	int			i = text->n - 1;

	while (i > 0 && IS_ONE_OF(code_of(&text->letter[i]), quoting))
		i--;
	return i >= 0 && IS_ONE_OF(code_of(&text->letter[i]), ending);
}

/* What stands between two texts in one line. */
const char *
letters_between(const Letters *left, const Letters *right)
{
	if (left->n == 0 || right->n == 0 ||
		(left->letter[left->n - 1].ideograph && right->letter[0].ideograph))
		return "";
	return " ";
}
