/*-------------------------------------------------------------------------
 *
 * utf8.c
 *	  Making text from outside harmless.
 *
 * Runs in the worker; pure, and built as a frontend for its unit test.
 * Servers send bytes that are not UTF-8, zero bytes, and escapes of
 * characters that PostgreSQL cannot store.  None of that may lose a
 * transcript that was paid for: what cannot be kept becomes U+FFFD, the
 * replacement character.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "worker/utf8.h"

#define REPLACEMENT		"\xEF\xBF\xBD"

/*
 * Length of the well-formed character at the start of in, or 0: by the table
 * of Unicode's section 3.9, which leaves out overlong forms, surrogates and
 * what lies beyond U+10FFFF.  Zero counts as malformed.
 */
static int
character_length(const unsigned char *in, size_t len)
{
	unsigned char low = 0x80;
	unsigned char high = 0xBF;
	int			n;

	if (in[0] == 0)
		return 0;
	if (in[0] < 0x80)
		return 1;
	if (in[0] >= 0xC2 && in[0] <= 0xDF)
		n = 2;
	else if (in[0] >= 0xE0 && in[0] <= 0xEF)
		n = 3;
	else if (in[0] >= 0xF0 && in[0] <= 0xF4)
		n = 4;
	else
		return 0;
	if (len < (size_t) n)
		return 0;
	if (in[0] == 0xE0)
		low = 0xA0;
	else if (in[0] == 0xED)
		high = 0x9F;
	else if (in[0] == 0xF0)
		low = 0x90;
	else if (in[0] == 0xF4)
		high = 0x8F;
	if (in[1] < low || in[1] > high)
		return 0;
	for (int i = 2; i < n; i++)
	{
		if (in[i] < 0x80 || in[i] > 0xBF)
			return 0;
	}
	return n;
}

/* Append one character of in, or its replacement; returns bytes taken. */
static size_t
append_character(StringInfo out, const char *in, size_t len)
{
	int			n = character_length((const unsigned char *) in, len);

	if (n > 0)
		appendBinaryStringInfo(out, in, n);
	else
		appendStringInfoString(out, REPLACEMENT);
	return n > 0 ? n : 1;
}

/* How many bytes at the start of in are ASCII, but for zeros and these. */
static size_t
plain_length(const char *in, size_t len, const char *others)
{
	size_t		n = 0;

	while (n < len && (signed char) in[n] > 0 && strchr(others, in[n]) == NULL)
		n++;
	return n;
}

/* Append text as well-formed UTF-8 without zeros. */
void
utf8_append_clean(StringInfo out, const char *in, size_t len)
{
	size_t		i = 0;

	while (i < len)
	{
		size_t		n = plain_length(in + i, len - i, "");

		if (n > 0)
			appendBinaryStringInfo(out, in + i, n);
		else
			n = append_character(out, in + i, len - i);
		i += n;
	}
}

/* The number that four hexadecimal digits are, or -1. */
static int
hex4(const char *in, size_t len)
{
	int			value = 0;

	if (len < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = in[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value * 16 + (c | 0x20) - 'a' + 10;
		else
			return -1;
	}
	return value;
}

/* Append the UTF-8 form of a code point. */
static void
append_code_point(StringInfo out, int c)
{
	if (c < 0x800)
	{
		appendStringInfoChar(out, 0xC0 | (c >> 6));
		appendStringInfoChar(out, 0x80 | (c & 0x3F));
	}
	else if (c < 0x10000)
	{
		appendStringInfoChar(out, 0xE0 | (c >> 12));
		appendStringInfoChar(out, 0x80 | ((c >> 6) & 0x3F));
		appendStringInfoChar(out, 0x80 | (c & 0x3F));
	}
	else
	{
		appendStringInfoChar(out, 0xF0 | (c >> 18));
		appendStringInfoChar(out, 0x80 | ((c >> 12) & 0x3F));
		appendStringInfoChar(out, 0x80 | ((c >> 6) & 0x3F));
		appendStringInfoChar(out, 0x80 | (c & 0x3F));
	}
}

/*
 * Append an escape of JSON; returns bytes taken.  Code points beyond ASCII
 * are written out, because their escapes would be converted to the
 * database's encoding while all other text is still UTF-8; those that stand
 * for nothing are replaced.
 */
static size_t
append_escape(StringInfo out, const char *in, size_t len)
{
	int			c;
	int			low;

	if (len < 2)
	{
		appendStringInfoChar(out, in[0]);
		return 1;
	}
	c = in[1] == 'u' ? hex4(in + 2, len - 2) : -1;
	if (c < 0 || (c > 0 && c < 0x80))
	{
		/* Some other escape, an error for the parser, or plain ASCII. */
		appendStringInfoChar(out, in[0]);
		return 1 + append_character(out, in + 1, len - 1);
	}
	if (c >= 0xD800 && c <= 0xDBFF && len >= 12 && in[6] == '\\' &&
		in[7] == 'u' && (low = hex4(in + 8, len - 8)) >= 0xDC00 && low <= 0xDFFF)
	{
		append_code_point(out, 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00));
		return 12;
	}
	if (c == 0 || (c >= 0xD800 && c <= 0xDFFF))
		appendStringInfoString(out, REPLACEMENT);
	else
		append_code_point(out, c);
	return 6;
}

/*
 * Length of a number that JSON does not have, or 0.  Python's writer puts such
 * words where a model's figure is not finite.
 */
static size_t
no_number_length(const char *in, size_t len)
{
	static const char *const words[] = {"NaN", "Infinity", "-Infinity"};

	for (size_t i = 0; i < lengthof(words); i++)
	{
		size_t		n = strlen(words[i]);

		if (len >= n && memcmp(in, words[i], n) == 0)
			return n;
	}
	return 0;
}

/*
 * Append JSON text such that PostgreSQL's parser can take it in any
 * database.  Returns how deeply arrays and objects are nested in it, which
 * the caller limits before the parser recurses.
 */
int
utf8_append_json(StringInfo out, const char *in, size_t len)
{
	size_t		i = 0;
	bool		in_string = false;
	int			depth = 0;
	int			deepest = 0;

	/* A byte-order mark is no part of the text. */
	if (len >= 3 && memcmp(in, "\xEF\xBB\xBF", 3) == 0)
		i = 3;
	while (i < len)
	{
		char		c = in[i];
		size_t		n = plain_length(in + i, len - i,
									 in_string ? "\"\\" : "\"{}[]NI-");

		if (n > 0)
		{
			appendBinaryStringInfo(out, in + i, n);
			i += n;
			continue;
		}
		n = in_string ? 0 : no_number_length(in + i, len - i);
		if (n > 0)
		{
			appendStringInfoString(out, "null");
			i += n;
			continue;
		}
		if (in_string && c == '\\')
		{
			i += append_escape(out, in + i, len - i);
			continue;
		}
		if (c == '"')
			in_string = !in_string;
		else if (!in_string && (c == '{' || c == '['))
		{
			depth++;
			deepest = Max(deepest, depth);
		}
		else if (!in_string && (c == '}' || c == ']'))
			depth--;
		i += append_character(out, in + i, len - i);
	}
	return deepest;
}
