/*-------------------------------------------------------------------------
 *
 * database.h
 *	  What launcher and workers ask of a database as a whole.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_DATABASE_H
#define TRANSCRIBE_DATABASE_H

#include "postgres.h"

extern bool database_is_wanted(Oid dbid);
extern bool database_find(Oid dbid, Oid *owner, bool *open);

#endif							/* TRANSCRIBE_DATABASE_H */
