/*-------------------------------------------------------------------------
 *
 * identity.h
 *	  Who and where we are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_IDENTITY_H
#define TRANSCRIBE_IDENTITY_H

extern char *identity_preload_command(void);
extern bool identity_check_preload(const char *what);

#endif							/* TRANSCRIBE_IDENTITY_H */
