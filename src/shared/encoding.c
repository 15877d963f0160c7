/*-------------------------------------------------------------------------
 *
 * encoding.c
 *	  Text between the database's encoding and that of servers.
 *
 * Runs in backends and workers, inside a transaction, since conversions are
 * looked up in the catalog.  Servers take and send UTF-8.  What one side
 * cannot represent becomes a question mark, and is never an error: better a
 * mark than no transcript, and an error in the transaction that claims would
 * hold up every job.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/encoding.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

/* Text of one encoding in another one, in the current memory context. */
static char *
convert(const char *text, int from, int to)
{
	unsigned char *src = (unsigned char *) text;
	int			len = strlen(text);
	int			size = len * MAX_CONVERSION_GROWTH + 1;
	unsigned char *dest;
	int			filled = 0;
	Oid			proc = FindDefaultConversionProc(from, to);

	if (!OidIsValid(proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("default conversion function for encoding \"%s\" to \"%s\" does not exist",
						pg_encoding_to_char(from), pg_encoding_to_char(to))));
	dest = palloc(size);
	while (len > 0)
	{
		int			taken = pg_do_encoding_conversion_buf(proc, from, to,
														  src, len, dest + filled,
														  size - filled, true);

		filled += strlen((char *) dest + filled);
		src += taken;
		len -= taken;
		if (len > 0)
		{
			int			skip = Min(pg_encoding_mblen(from, (char *) src), len);

			dest[filled++] = '?';
			src += skip;
			len -= skip;
		}
	}
	dest[filled] = '\0';
	return (char *) dest;
}

/*
 * Text from outside in the database's encoding; SQL_ASCII takes any bytes.  Where
 * nothing is to be converted it is the text itself.
 */
const char *
encoding_from_utf8(const char *text)
{
	int			encoding = GetDatabaseEncoding();

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return text;
	return convert(text, PG_UTF8, encoding);
}

/*
 * Text of the database as UTF-8.  Of SQL_ASCII nobody knows what it is: what
 * is UTF-8 is taken for that, and the rest was refused when it was set.
 */
char *
encoding_to_utf8(const char *text)
{
	int			encoding = GetDatabaseEncoding();
	char	   *copy;
	int			len = strlen(text);

	if (encoding != PG_UTF8 && encoding != PG_SQL_ASCII)
		return convert(text, encoding, PG_UTF8);
	copy = pstrdup(text);
	for (int i = 0; (i += pg_encoding_verifymbstr(PG_UTF8, copy + i, len - i)) < len; i++)
		copy[i] = '?';
	return copy;
}
