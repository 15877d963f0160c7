/*-------------------------------------------------------------------------
 *
 * test_utf8.c
 *	  Bytes of any kind become text that can be stored.
 *
 * sources: src/worker/utf8.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <stdlib.h>

#include "tap.h"
#include "worker/utf8.h"

#define BAD		"\xEF\xBF\xBD"

/* Input and expected output of either function, with their lengths. */
#define CLEAN(in, out)	is_clean(in, sizeof(in) - 1, out, sizeof(out) - 1)
#define JSON(in, out)	is_json(in, sizeof(in) - 1, out, sizeof(out) - 1, -1)
#define DEPTH(in, depth) is_json(in, sizeof(in) - 1, NULL, 0, depth)

/*
 * The bytes in memory of just their size, so that the sanitizer sees a read
 * behind their end.
 */
static char *
exactly(const char *in, size_t len)
{
	char	   *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, in, len);
	return copy;
}

static bool
same(StringInfo got, const char *expected, size_t len)
{
	return (size_t) got->len == len && memcmp(got->data, expected, len) == 0;
}

static bool
is_clean(const char *in, size_t len, const char *expected, size_t expected_len)
{
	char	   *copy = exactly(in, len);
	StringInfoData out;
	bool		good;

	initStringInfo(&out);
	utf8_append_clean(&out, copy, len);
	good = same(&out, expected, expected_len);
	pfree(out.data);
	free(copy);
	return good;
}

/* JSON becomes what is expected, unless NULL, and as deep, unless -1. */
static bool
is_json(const char *in, size_t len, const char *expected, size_t expected_len,
		int expected_depth)
{
	char	   *copy = exactly(in, len);
	StringInfoData out;
	int			depth;
	bool		good;

	initStringInfo(&out);
	depth = utf8_append_json(&out, copy, len);
	good = (expected == NULL || same(&out, expected, expected_len)) &&
		(expected_depth < 0 || depth == expected_depth);
	pfree(out.data);
	free(copy);
	return good;
}

/* What is well-formed stays as it is. */
static void
test_well_formed(void)
{
	ok(CLEAN("", ""), "nothing stays nothing");
	ok(CLEAN("plain\r\n\t\x01\x7f", "plain\r\n\t\x01\x7f"),
	   "ASCII stays, control characters included");
	ok(CLEAN("\xC2\x80\xDF\xBF", "\xC2\x80\xDF\xBF"), "two bytes stay");
	ok(CLEAN("\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF",
			 "\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"),
	   "three bytes stay, up to the surrogates and from there on");
	ok(CLEAN("\xF0\x90\x80\x80\xF0\x9F\x98\x80\xF4\x8F\xBF\xBF",
			 "\xF0\x90\x80\x80\xF0\x9F\x98\x80\xF4\x8F\xBF\xBF"),
	   "four bytes stay, up to the last code point");
}

/* Each byte that is part of no character is replaced. */
static void
test_malformed(void)
{
	ok(CLEAN("a\0b", "a" BAD "b"), "zero is replaced");
	ok(CLEAN("\x80|\xBF|", BAD "|" BAD "|"),
	   "a continuation without a beginning is replaced");
	ok(CLEAN("\xC3|\xE2\x82|\xF0\x9F\x98|",
			 BAD "|" BAD BAD "|" BAD BAD BAD "|"),
	   "a character that something else interrupts is replaced");
	ok(CLEAN("\xC3", BAD) && CLEAN("\xE2\x82", BAD BAD) &&
	   CLEAN("\xF0\x9F\x98", BAD BAD BAD),
	   "a character that the end cuts off is replaced");
	ok(CLEAN("\xC0\x80", BAD BAD) && CLEAN("\xC1\xBF", BAD BAD) &&
	   CLEAN("\xE0\x9F\xBF", BAD BAD BAD) &&
	   CLEAN("\xF0\x8F\xBF\xBF", BAD BAD BAD BAD),
	   "overlong forms are replaced");
	ok(CLEAN("\xED\xA0\x80", BAD BAD BAD) &&
	   CLEAN("\xED\xBF\xBF", BAD BAD BAD), "surrogates are replaced");
	ok(CLEAN("\xF4\x90\x80\x80", BAD BAD BAD BAD) &&
	   CLEAN("\xF5\x80\x80\x80", BAD BAD BAD BAD),
	   "code points beyond the last are replaced");
	ok(CLEAN("\xF8\x88\x80\x80\x80\xFE\xFF",
			 BAD BAD BAD BAD BAD BAD BAD), "bytes of no form are replaced");
	ok(CLEAN("\xE2\x28\xA1\xF0\x28\x8C\x28", BAD "(" BAD BAD "(" BAD "("),
	   "characters between malformed bytes are not lost");
}

/* Independent of the code: decode, and see that it was the shortest form. */
static bool
is_valid(const unsigned char *in, int len)
{
	static const int least[] = {0, 1, 0x80, 0x800, 0x10000};

	for (int i = 0; i < len;)
	{
		int			n = in[i] < 0x80 ? 1 : in[i] < 0xE0 ? 2 : in[i] < 0xF0 ? 3 : 4;
		int			c = n == 1 ? in[i] : in[i] & (0x7F >> n);

		if (i + n > len || (in[i] >= 0x80 && in[i] < 0xC0) || in[i] >= 0xF8)
			return false;
		for (int k = 1; k < n; k++)
		{
			if ((in[i + k] & 0xC0) != 0x80)
				return false;
			c = c << 6 | (in[i + k] & 0x3F);
		}
		if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
			return false;
		i += n;
	}
	return true;
}

/* All pairs of bytes, and random ones: the result is valid, and stays so. */
static void
test_any_bytes(void)
{
	unsigned	seed = 1;
	bool		valid = true;
	bool		stable = true;
	bool		kept = true;

	for (int round = 0; round < 65536 + 100000; round++)
	{
		char		in[24] = {(char) (round >> 8), (char) round};
		int			len = 2;
		StringInfoData once;
		StringInfoData twice;

		if (round >= 65536)
		{
			len = rand_r(&seed) % (int) sizeof(in);
			/* Half of the bytes where the forms' limits are. */
			for (int i = 0; i < len; i++)
				in[i] = (char) (rand_r(&seed) % 2 ? rand_r(&seed) :
								"\x80\x8F\x90\x9F\xA0\xBF\xC2\xE0\xED\xEF\xF0\xF4"[rand_r(&seed) % 12]);
		}
		initStringInfo(&once);
		initStringInfo(&twice);
		utf8_append_clean(&once, in, len);
		utf8_append_clean(&twice, once.data, once.len);
		valid = valid && is_valid((unsigned char *) once.data, once.len);
		stable = stable && same(&twice, once.data, once.len);
		kept = kept && (same(&once, in, len) ||
						!is_valid((unsigned char *) in, len));
		pfree(once.data);
		pfree(twice.data);
	}
	ok(valid, "any bytes become valid text");
	ok(stable, "valid text is left alone");
	ok(kept, "whatever was valid is kept");
}

/* Escapes in JSON: those that cannot be stored, and those that look so. */
static void
test_escapes(void)
{
	ok(JSON("\"a\\u0000b\"", "\"a" BAD "b\""), "an escaped zero is replaced");
	ok(JSON("\"\\ud800\"", "\"" BAD "\"") &&
	   JSON("\"\\uDFFF\"", "\"" BAD "\"") &&
	   JSON("\"\\ud800x\\udc00\"", "\"" BAD "x" BAD "\"") &&
	   JSON("\"\\ud83d\\n\"", "\"" BAD "\\n\"") &&
	   JSON("\"\\ude00\\ud83d\"", "\"" BAD BAD "\""),
	   "halves of pairs are replaced");
	ok(JSON("\"\\ud83d\\uDE00\"", "\"\xF0\x9F\x98\x80\"") &&
	   JSON("\"\\uD800\\uDC00\\uDBFF\\uDFFF\"",
			"\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\""),
	   "pairs become one character");
	ok(JSON("\"\\ud83d\\ud83d\\ude00\"", "\"" BAD "\xF0\x9F\x98\x80\""),
	   "a half before a pair does not take its half");
	ok(JSON("\"\\u00e9\\u07ff\\u0800\\uFFFF\"",
			"\"\xC3\xA9\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\""),
	   "escapes beyond ASCII are written out");
	ok(JSON("\"\\u0041\\u0022\\u005c\\u007f\"",
			"\"\\u0041\\u0022\\u005c\\u007f\""),
	   "escapes of ASCII stay escapes, those of quotes most of all");
	ok(JSON("\"\\\\u0041 \\\\u0000 \\\\\\u0000\"",
			"\"\\\\u0041 \\\\u0000 \\\\" BAD "\""),
	   "an escaped backslash begins no escape");
	ok(JSON("\"\\\"\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\/\\b\\f\\n\\r\\t\""),
	   "other escapes stay");
	ok(JSON("\"\\u00g0\"", "\"\\u00g0\"") && JSON("\"\\u12\"", "\"\\u12\"") &&
	   JSON("\"\\x\"", "\"\\x\"") && JSON("\"\\\xC3\xA9\"", "\"\\\xC3\xA9\""),
	   "what is no escape is left to the parser to refuse");
	ok(JSON("\"\\", "\"\\") && JSON("\"\\u", "\"\\u") &&
	   JSON("\"\\u000", "\"\\u000") && JSON("\"\\ud83d", "\"" BAD) &&
	   JSON("\"\\ud83d\\ude0", "\"" BAD "\\ude0") &&
	   JSON("\"\\\xC3", "\"\\" BAD),
	   "an escape that the end cuts off is not read beyond it");
	ok(JSON("\\u0000", "\\u0000"), "outside strings there are no escapes");
}

/* Bytes in JSON, and the mark before it. */
static void
test_json_bytes(void)
{
	ok(JSON("", "") && JSON("{}", "{}"), "plain JSON stays");
	ok(JSON("{\"a\0\xFF\": \"\xED\xA0\x80\"}",
			"{\"a" BAD BAD "\": \"" BAD BAD BAD "\"}"),
	   "malformed bytes are replaced in names and values");
	ok(JSON("\"\xC3\"", "\"" BAD "\"") && DEPTH("[\"\xC3\"[", 2),
	   "a cut character does not swallow the quote behind it");
	ok(JSON("\xEF\xBB\xBF{}", "{}"), "a byte-order mark is left out");
	ok(JSON("\xEF\xBB", BAD BAD) && JSON("\xEF\xBB\xBF", ""),
	   "nor is there anything read behind one");
	ok(JSON("\"\xEF\xBB\xBF\"", "\"\xEF\xBB\xBF\"") &&
	   JSON("\xEF\xBB\xBF\xEF\xBB\xBF", "\xEF\xBB\xBF"),
	   "elsewhere the mark is a character");
}

/* Brackets are counted where they are brackets. */
static void
test_depth(void)
{
	size_t		deep = 100000;
	char	   *many = malloc(deep);

	if (many == NULL)
		abort();
	ok(DEPTH("", 0) && DEPTH("1", 0) && DEPTH("{}", 1) &&
	   DEPTH("[[], {\"a\": [1]}]", 3) && DEPTH("[[]][[[", 3),
	   "the deepest nesting is told");
	ok(DEPTH("[\"[[[{{{\"]", 1) && DEPTH("{\"[{\": \"[\"}", 1),
	   "brackets in strings do not count");
	ok(DEPTH("[\"\\\"[[\", []]", 2) && DEPTH("[\"\\\\\", [[]]]", 3) &&
	   DEPTH("[\"\\u0022[[\"]", 1),
	   "escaped quotes end no string, escaped backslashes escape none");
	ok(DEPTH("]]]]", 0) && DEPTH("]]][", 0),
	   "closing what was not open is no depth");

	memset(many, '[', deep);
	ok(is_json(many, deep, many, deep, (int) deep), "depth has no limit here");
	free(many);
}

/* What stands in the output already stays. */
static void
test_appends(void)
{
	StringInfoData out;

	initStringInfo(&out);
	utf8_append_clean(&out, "a\xFF", 2);
	(void) utf8_append_json(&out, "\xEF\xBB\xBF[]", 5);
	utf8_append_clean(&out, NULL, 0);
	(void) utf8_append_json(&out, NULL, 0);
	ok(strcmp(out.data, "a" BAD "[]") == 0, "output is appended");
	pfree(out.data);
}

int
main(void)
{
	test_well_formed();
	test_malformed();
	test_any_bytes();
	test_escapes();
	test_json_bytes();
	test_depth();
	test_appends();
	return done();
}
