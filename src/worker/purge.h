/*-------------------------------------------------------------------------
 *
 * purge.h
 *	  When old jobs are removed, and how many at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_PURGE_H
#define TRANSCRIBE_PURGE_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern TimestampTz purge_due(void);
extern bool purge_has_more(void);
extern void purge_batch(void);
extern void purge_put_off(void);
extern void purge_note_end(void);
extern void purge_reset(void);

#endif							/* TRANSCRIBE_PURGE_H */
