/*-------------------------------------------------------------------------
 *
 * encoding.h
 *	  Text between the database's encoding and that of servers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_ENCODING_H
#define TRANSCRIBE_ENCODING_H

#include "postgres.h"

extern const char *encoding_from_utf8(const char *text);
extern char *encoding_to_utf8(const char *text);

#endif							/* TRANSCRIBE_ENCODING_H */
