/*-------------------------------------------------------------------------
 *
 * hint.h
 *	  Which databases were at work, over a restart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_HINT_H
#define TRANSCRIBE_HINT_H

#include "postgres.h"

extern int	hint_read(Oid *databases, int max);
extern void hint_write(const Oid *databases, int count);

#endif							/* TRANSCRIBE_HINT_H */
