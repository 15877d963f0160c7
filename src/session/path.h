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

extern const char *path_system_user(void);
extern char *path_failing_component(const char *path);
extern void path_check(const char *path, Oid roleid);

#endif							/* TRANSCRIBE_PATH_H */
