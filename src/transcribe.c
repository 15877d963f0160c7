/*-------------------------------------------------------------------------
 *
 * transcribe.c
 *	  Where the server meets the extension: settings, shared memory, launcher.
 *
 * _PG_init runs in the postmaster when the library is preloaded, and else in
 * whatever backend first calls one of our functions.  In the latter case the
 * SQL functions work, but there is no shared memory and no launcher; those
 * who need them ask transcribe_state(), which is NULL then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "launcher/launcher.h"
#include "session/wake.h"
#include "shared/ended.h"
#include "shared/state.h"
#include "transcribe.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

bool		transcribe_enabled;
char	   *transcribe_server;
char	   *transcribe_media_directories;
int			transcribe_max_workers;
int			transcribe_jobs_per_worker;
int			transcribe_media_processes;
int			transcribe_idle_timeout;
int			transcribe_naptime;
int			transcribe_retain_completed;
int			transcribe_retain_failed;
int			transcribe_max_file_size;
int			transcribe_max_duration;
int			transcribe_media_timeout;
int			transcribe_max_response;
int			transcribe_synchronous_commit;
int			transcribe_notify;
int			transcribe_callback_workers;
int			transcribe_callback_timeout;
int			transcribe_sandbox;

static const struct config_enum_entry sandbox_options[] = {
	{"prefer", TRANSCRIBE_SANDBOX_PREFER, false},
	{"require", TRANSCRIBE_SANDBOX_REQUIRE, false},
	{NULL, 0, false}
};

static const struct config_enum_entry notify_options[] = {
	{"off", TRANSCRIBE_NOTIFY_OFF, false},
	{"final", TRANSCRIBE_NOTIFY_FINAL, false},
	{"all", TRANSCRIBE_NOTIFY_ALL, false},
	{NULL, 0, false}
};

static const struct config_enum_entry commit_options[] = {
	{"off", SYNCHRONOUS_COMMIT_OFF, false},
	{"local", SYNCHRONOUS_COMMIT_LOCAL_FLUSH, false},
	{"remote_write", SYNCHRONOUS_COMMIT_REMOTE_WRITE, false},
	{"on", SYNCHRONOUS_COMMIT_REMOTE_FLUSH, false},
	{"remote_apply", SYNCHRONOUS_COMMIT_REMOTE_APPLY, false},
	{NULL, 0, false}
};

/*
 * Split transcribe.media_directories.  The list lives in the current memory
 * context; its strings in a copy of the value that does too.
 */
List *
transcribe_media_directory_list(void)
{
	List	   *list = NIL;

	/* The check hook has seen to it that this cannot fail. */
	(void) SplitDirectoriesString(pstrdup(transcribe_media_directories), ',',
								  &list);
	return list;
}

/*
 * Directories must be absolute, and neither hold the data directory nor lie
 * in it: what is readable there is not a recording.
 */
static bool
check_media_directories(char **newval, void **extra, GucSource source)
{
	List	   *list;
	ListCell   *lc;

	if (!SplitDirectoriesString(pstrdup(*newval), ',', &list))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	foreach(lc, list)
	{
		char	   *directory = lfirst(lc);

		if (!is_absolute_path(directory))
		{
			GUC_check_errdetail("\"%s\" is not an absolute path.", directory);
			return false;
		}
		if (DataDir != NULL &&
			(path_is_prefix_of_path(directory, DataDir) ||
			 path_is_prefix_of_path(DataDir, directory)))
		{
			GUC_check_errdetail("\"%s\" holds the data directory or lies in it.",
								directory);
			return false;
		}
	}
	return true;
}

/* Settings that may change while the server runs. */
static void
define_settings(void)
{
	DefineCustomBoolVariable("transcribe.enabled",
							 "Whether workers begin jobs.",
							 "When this is off, those that are running go on to their end, and all others wait in the queue.",
							 &transcribe_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("transcribe.server",
							   "Server that transcribe_enqueue uses when none is named.",
							   "Several, separated by commas, are tried in this order.",
							   &transcribe_server, "whisper",
							   PGC_USERSET, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomStringVariable("transcribe.media_directories",
							   "Directories below which every role may name recordings.",
							   "Comma-separated and absolute. Members of pg_read_server_files may name any regular file; when this is empty, nobody else may name one.",
							   &transcribe_media_directories, "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_media_directories, NULL, NULL);
	DefineCustomIntVariable("transcribe.media_processes",
							"Recordings that one worker decodes at the same time.",
							"More than the machine has cores only makes each of them slower.",
							&transcribe_media_processes, 2, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.idle_timeout",
							"Time after which a worker without jobs leaves.",
							"A worker that is still there starts the next job some milliseconds sooner.",
							&transcribe_idle_timeout, 60, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.naptime",
							"Time between visits to a database with prepared transactions that enqueued jobs, and between removals of old jobs.",
							"Databases without either are never polled; a worker that is there looks for orphans that often.",
							&transcribe_naptime, 60, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.retain_completed",
							"Time for which completed jobs are kept, and their transcripts.",
							"-1 means for ever.",
							&transcribe_retain_completed, -1, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.retain_failed",
							"Time for which jobs are kept that failed or were cancelled.",
							"-1 means for ever.",
							&transcribe_retain_failed, -1, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.callback_workers",
							"Functions that are called at the same time for jobs that have ended, in one database.",
							"Each takes a process that counts against max_worker_processes. 0 calls none.",
							&transcribe_callback_workers, 2, 0,
							TRANSCRIBE_MAX_CALLBACK_WORKERS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.callback_timeout",
							"Longest time that such a function may take.",
							"0 means no limit.",
							&transcribe_callback_timeout, 600, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.max_file_size",
							"Largest recording that is read.",
							"0 means no limit.",
							&transcribe_max_file_size, 4096, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.max_duration",
							"Longest recording that is read, as decoded.",
							"What the file's header claims does not count. 0 means no limit.",
							&transcribe_max_duration, 12 * 3600, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.media_timeout",
							"Longest time that reading a recording may take.",
							"Time in which it waits for its chunks to be sent does not count. 0 means no limit.",
							&transcribe_media_timeout, 4 * 3600, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.max_response",
							"Largest answer that is taken from a server.",
							"A longer one fails the job.",
							&transcribe_max_response, 16 * 1024, 1, 48 * 1024,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomEnumVariable("transcribe.sandbox",
							 "Whether recordings are read where the system does not allow all of the sandbox.",
							 "\"prefer\" reads them with the layers that hold and says in the log which do not, \"require\" fails the job.",
							 &transcribe_sandbox,
							 TRANSCRIBE_SANDBOX_PREFER, sandbox_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("transcribe.synchronous_commit",
							 "synchronous_commit of the transactions that save results.",
							 "Claims and progress always commit asynchronously: losing one only means that the job is claimed again.",
							 &transcribe_synchronous_commit,
							 SYNCHRONOUS_COMMIT_LOCAL_FLUSH, commit_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("transcribe.notify",
							 "Which changes of a job are announced on the channel \"transcribe\".",
							 "\"final\" announces completed and failed, \"all\" retries and the begin of transcribing too.",
							 &transcribe_notify,
							 TRANSCRIBE_NOTIFY_FINAL, notify_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* Settings that fix the size of shared memory. */
static void
define_startup_settings(void)
{
	DefineCustomIntVariable("transcribe.max_workers",
							"Workers that transcribe may run at the same time, one per active database.",
							"They count against max_worker_processes. 0 keeps the queue still.",
							&transcribe_max_workers, 4, 0, TRANSCRIBE_MAX_WORKERS,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("transcribe.jobs_per_worker",
							"Jobs that one worker carries at the same time.",
							"Most of them wait for a server; transcribe.media_processes limits those that decode.",
							&transcribe_jobs_per_worker, 200, 1,
							TRANSCRIBE_MAX_JOBS_PER_WORKER,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

void
_PG_init(void)
{
	define_settings();
	if (process_shared_preload_libraries_in_progress)
		define_startup_settings();
	MarkGUCPrefixReserved("transcribe");

	wake_init();
	ended_init();

	/* Nothing of ours may start while pg_upgrade runs the new cluster. */
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	state_init();
	launcher_register();
}
