/*-------------------------------------------------------------------------
 *
 * extension.h
 *	  Where the extension is installed in this database, and in which version.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_EXTENSION_H
#define TRANSCRIBE_EXTENSION_H

#include "postgres.h"

extern bool extension_find(Oid *schema, char **version);
extern bool extension_hold(Oid *schema, char **version);
extern bool extension_serves(const char *version);
extern bool extension_library_is_older(const char *version);
extern void extension_report_version(int elevel, const char *version);

#endif							/* TRANSCRIBE_EXTENSION_H */
