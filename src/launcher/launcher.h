/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The process that starts workers where they are wanted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_LAUNCHER_H
#define TRANSCRIBE_LAUNCHER_H

#include "postgres.h"

extern void launcher_register(void);
extern PGDLLEXPORT void transcribe_launcher_main(Datum arg);

#endif							/* TRANSCRIBE_LAUNCHER_H */
