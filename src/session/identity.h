/*-------------------------------------------------------------------------
 *
 * identity.h
 *	  Whether the library was preloaded.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_IDENTITY_H
#define TRANSCRIBE_IDENTITY_H

extern bool identity_check_preload(const char *what);

#endif							/* TRANSCRIBE_IDENTITY_H */
