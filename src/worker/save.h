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

extern bool save_chunk(Job *job, JobChunk *chunk);

#endif							/* TRANSCRIBE_SAVE_H */
