/*-------------------------------------------------------------------------
 *
 * save.h
 *	  An answer becomes rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_SAVE_H
#define TRANSCRIBE_SAVE_H

#include "worker/job.h"

extern void save_answers(int64 incarnation, List *jobs);

#endif							/* TRANSCRIBE_SAVE_H */
