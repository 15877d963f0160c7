/*-------------------------------------------------------------------------
 *
 * utf8.h
 *	  Making text from outside harmless.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_UTF8_H
#define TRANSCRIBE_UTF8_H

#include "lib/stringinfo.h"

extern void utf8_append_clean(StringInfo out, const char *in, size_t len);
extern int	utf8_append_json(StringInfo out, const char *in, size_t len);

#endif							/* TRANSCRIBE_UTF8_H */
