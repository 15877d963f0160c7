/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The settings a worker runs under, whatever the database says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_WORKER_SETTINGS_H
#define TRANSCRIBE_WORKER_SETTINGS_H

extern void settings_override(void);

#endif							/* TRANSCRIBE_WORKER_SETTINGS_H */
