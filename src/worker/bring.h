/*-------------------------------------------------------------------------
 *
 * bring.h
 *	  Recordings that stand in the database, brought to where media reads them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_BRING_H
#define TRANSCRIBE_BRING_H

#include "worker/job.h"

extern bool bring_is_wanted(const Job *job);
extern bool bring_is_under_way(const Job *job);
extern bool bring_is_whole(const Job *job);
extern void bring_begin(Job *job);
extern void bring_turn(List *jobs, int64 *wake_at);
extern const char *bring_path(const Job *job);
extern const char *bring_done_of(const Job *job, const char *identity);
extern void bring_identity(const Job *job, char identity[WIRE_IDENTITY_SIZE]);
extern void bring_close(Job *job);
extern void bring_end(Job *job);

extern void bring_note_completed(const Job *job);
extern bool bring_has_leftovers(void);
extern void bring_forget_turn(int64 *wake_at);

#endif							/* TRANSCRIBE_BRING_H */
