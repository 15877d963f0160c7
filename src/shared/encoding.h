/*-------------------------------------------------------------------------
 *
 * encoding.h
 *	  Texts from outside, which are UTF-8, in the database's encoding.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ENCODING_H
#define TRANSCRIBE_ENCODING_H

#include "postgres.h"

extern char *encoding_from_utf8(const char *utf8);

#endif							/* TRANSCRIBE_ENCODING_H */
