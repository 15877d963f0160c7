/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  What the parts of the worker ask of its main loop.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_WORKER_H
#define TRANSCRIBE_WORKER_H

#include "postgres.h"

extern PGDLLEXPORT void transcribe_worker_main(Datum arg);

/* Milliseconds of a clock that nobody sets. */
extern int64 worker_clock(void);

/* The number under which this worker claims jobs. */
extern int64 worker_incarnation(void);

#endif							/* TRANSCRIBE_WORKER_H */
