/*-------------------------------------------------------------------------
 *
 * runner.h
 *	  The process that calls functions of one role for jobs that have ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_RUNNER_H
#define TRANSCRIBE_RUNNER_H

#include "postgres.h"

extern PGDLLEXPORT void transcribe_runner_main(Datum arg);

#endif							/* TRANSCRIBE_RUNNER_H */
