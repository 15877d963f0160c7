/*-------------------------------------------------------------------------
 *
 * columns.h
 *	  The two columns of a user's table that jobs are made of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_COLUMNS_H
#define TRANSCRIBE_COLUMNS_H

#include "postgres.h"

#include "utils/relcache.h"

#include "session/recording.h"

typedef struct SourceColumns
{
	AttrNumber	session;
	Oid			output;			/* what makes text of it */
	AttrNumber	path;
	RecordingKind kind;
} SourceColumns;

extern void columns_find(SourceColumns *columns, Relation rel,
						 const char *session, const char *path);
extern text *columns_session(const SourceColumns *columns, const char *prefix,
							 Datum value);

#endif							/* TRANSCRIBE_COLUMNS_H */
