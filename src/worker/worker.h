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

#include "worker/job.h"

extern PGDLLEXPORT void transcribe_worker_main(Datum arg);

/* The pause after an error. */
#define ERROR_PAUSE_MS		1000

/* Milliseconds of a clock that nobody sets. */
extern int64 worker_clock(void);

/* Whether it has been told to go. */
extern bool worker_is_leaving(void);

/* Have it look at the queue, though nobody says that there is something. */
extern void worker_look_again(void);

/*
 * Begin and end a transaction; and out of one, after an error, which goes to the
 * log unless it stands there already.
 */
extern void worker_begin(bool durable);
extern void worker_commit(void);
extern void worker_abort(bool again);

/* Do something for one job, to which alone an error matters. */
extern void worker_do_for_job(Job *job, void (*step) (Job *job, void *arg),
							  void *arg);

#endif							/* TRANSCRIBE_WORKER_H */
