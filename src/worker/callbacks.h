/*-------------------------------------------------------------------------
 *
 * callbacks.h
 *	  Starting the processes that call functions for jobs that have ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_CALLBACKS_H
#define TRANSCRIBE_CALLBACKS_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern void callbacks_look_again(void);
extern void callbacks_note_end(void);
extern void callbacks_turn(bool may_begin);
extern bool callbacks_running(void);
extern TimestampTz callbacks_due(void);
extern void callbacks_terminate(void);
extern void callbacks_stop(void);

#endif							/* TRANSCRIBE_CALLBACKS_H */
