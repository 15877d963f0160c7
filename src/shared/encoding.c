/*-------------------------------------------------------------------------
 *
 * encoding.c
 *	  Texts from outside, which are UTF-8, in the database's encoding.
 *
 * Runs in backends and workers, inside a transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/encoding.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

/*
 * Text from outside, which is UTF-8, in the database's encoding.  What that
 * cannot represent becomes a question mark: better a mark than no transcript.
 */
char *
encoding_from_utf8(const char *utf8)
{
	unsigned char *src = (unsigned char *) utf8;
	int			len = strlen(utf8);
	int			size = len * MAX_CONVERSION_GROWTH + 1;
	int			encoding = GetDatabaseEncoding();
	unsigned char *dest;
	int			filled = 0;
	Oid			proc;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pstrdup(utf8);
	proc = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("default conversion function for encoding \"%s\" to \"%s\" does not exist",
						"UTF8", pg_encoding_to_char(encoding))));
	dest = palloc(size);
	while (len > 0)
	{
		int			taken = pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding,
														  src, len, dest + filled,
														  size - filled, true);

		filled += strlen((char *) dest + filled);
		src += taken;
		len -= taken;
		if (len > 0)
		{
			int			skip = Min(pg_utf_mblen(src), len);

			dest[filled++] = '?';
			src += skip;
			len -= skip;
		}
	}
	dest[filled] = '\0';
	return (char *) dest;
}
