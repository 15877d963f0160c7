/*-------------------------------------------------------------------------
 *
 * progress.h
 *	  How far a job is: for its row, for transcribe_progress and transcribe_stats.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_PROGRESS_H
#define TRANSCRIBE_PROGRESS_H

#include "worker/job.h"

extern int	progress_percent(Job *job);
extern void progress_publish(Job *job);
extern void progress_count(Job *job);

#endif							/* TRANSCRIBE_PROGRESS_H */
