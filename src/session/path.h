/*-------------------------------------------------------------------------
 *
 * path.h
 *	  Whether a role may name a file as its recording.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_PATH_H
#define TRANSCRIBE_PATH_H

#include "postgres.h"

extern void path_check(const char *path, Oid roleid);

#endif							/* TRANSCRIBE_PATH_H */
