/*-------------------------------------------------------------------------
 *
 * options.h
 *	  The options of a job.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_OPTIONS_H
#define TRANSCRIBE_OPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

extern void options_check(Jsonb *options, int *max_attempts);

#endif							/* TRANSCRIBE_OPTIONS_H */
