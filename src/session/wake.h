/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking the database's worker when this transaction commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_WAKE_H
#define TRANSCRIBE_WAKE_H

extern void wake_init(void);
extern void wake_at_commit(void);
extern void wake_for_servers(void);

#endif							/* TRANSCRIBE_WAKE_H */
