/*-------------------------------------------------------------------------
 *
 * transcribe.h
 *	  The settings, as transcribe.c defines them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_H
#define TRANSCRIBE_H

/* transcribe.notify */
typedef enum TranscribeNotify
{
	TRANSCRIBE_NOTIFY_OFF,
	TRANSCRIBE_NOTIFY_FINAL,
	TRANSCRIBE_NOTIFY_ALL
} TranscribeNotify;

/* transcribe.sandbox */
typedef enum TranscribeSandbox
{
	TRANSCRIBE_SANDBOX_PREFER,
	TRANSCRIBE_SANDBOX_REQUIRE
} TranscribeSandbox;

/* The most that transcribe.callback_workers may be. */
#define TRANSCRIBE_MAX_CALLBACK_WORKERS	16

extern bool transcribe_enabled;
extern char *transcribe_server;
extern char *transcribe_media_directories;
extern int	transcribe_max_workers;
extern int	transcribe_jobs_per_worker;
extern int	transcribe_media_processes;
extern int	transcribe_idle_timeout;	/* seconds */
extern int	transcribe_naptime;		/* seconds */
extern int	transcribe_retain_completed;	/* seconds; -1: for ever */
extern int	transcribe_retain_failed;	/* likewise */
extern int	transcribe_max_file_size;	/* megabytes */
extern int	transcribe_max_duration;	/* seconds */
extern int	transcribe_media_timeout;	/* seconds */
extern int	transcribe_max_response;	/* kilobytes */
extern int	transcribe_synchronous_commit;	/* a SyncCommitLevel */
extern int	transcribe_sandbox;		/* a TranscribeSandbox */
extern int	transcribe_notify;		/* a TranscribeNotify */
extern int	transcribe_callback_workers;
extern int	transcribe_callback_timeout;	/* seconds */

/* The directories of transcribe.media_directories, as a List of char *. */
struct List;
extern struct List *transcribe_media_directory_list(void);

#endif							/* TRANSCRIBE_H */
