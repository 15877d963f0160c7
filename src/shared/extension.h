/*-------------------------------------------------------------------------
 *
 * extension.h
 *	  Where the extension is installed in this database, if it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_EXTENSION_H
#define TRANSCRIBE_EXTENSION_H

#include "postgres.h"

extern bool extension_schema(Oid *schema);

#endif							/* TRANSCRIBE_EXTENSION_H */
