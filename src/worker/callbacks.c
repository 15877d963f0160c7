/*-------------------------------------------------------------------------
 *
 * callbacks.c
 *	  Starting the processes that call functions for jobs that have ended.
 *
 * Runs in the worker.  It looks at the table when a job has ended, unless that was
 * empty, when a session says that it has changed it, when one is due, and when a
 * process has ended.  It claims the first call of each process and starts it as the role that asked; the process
 * does the rest (runner.c).  Nobody but this worker starts any in its database:
 * so what is claimed by a number that it does not know has lost its process.
 *
 * When the worker leaves they are ended first, and what they were calling is
 * queued again at no cost.  A call that ended its process by itself, or was
 * terminated, has cost an attempt.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/callbacks.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "shared/callback.h"
#include "shared/extension.h"
#include "shared/failpoint.h"
#include "shared/statement.h"
#include "transcribe.h"
#include "worker/worker.h"

/*
 * After some were started, when to see whether there is work for more; those
 * have claimed all that they work at by then.
 */
#define MORE_MS			1000

/* When to try again where no process could be had. */
#define NO_PROCESS_MS	10000

/* How long to wait for processes that were told to end. */
#define STOP_MS			500

/* A process of ours, from the claim of its first call on. */
typedef struct Runner
{
	int64		token;			/* 0: none */
	NameData	owner;
	Oid			roleid;
	BackgroundWorkerHandle *handle; /* NULL: not yet started */
} Runner;

static Runner runners[TRANSCRIBE_MAX_CALLBACK_WORKERS];
static bool rescue_wanted = true;	/* some claims may have lost their process */
static TimestampTz look_at = DT_NOBEGIN;	/* at the table */
static bool empty = false;		/* so was the table */
static TimestampTz next_due = DT_NOEND; /* of what is queued there */

/* There may be something to call. */
void
callbacks_look_again(void)
{
	look_at = DT_NOBEGIN;
}

/* A job has ended. */
void
callbacks_note_end(void)
{
	if (!empty)
		callbacks_look_again();
}

static int
count_runners(const char *owner)
{
	int			n = 0;

	for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
	{
		if (runners[i].token != 0 &&
			(owner == NULL || strcmp(NameStr(runners[i].owner), owner) == 0))
			n++;
	}
	return n;
}

bool
callbacks_running(void)
{
	return count_runners(NULL) > 0;
}

/* When there is something to call; DT_NOEND: not as far as is known. */
TimestampTz
callbacks_due(void)
{
	if (transcribe_callback_workers == 0 || next_due == DT_NOEND)
		return DT_NOEND;
	return Max(next_due, look_at);
}

/* The numbers of the processes that are there, as an array. */
static Datum
tokens(void)
{
	Datum		values[TRANSCRIBE_MAX_CALLBACK_WORKERS];
	int			n = 0;

	for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
	{
		if (runners[i].token != 0)
			values[n++] = Int64GetDatum(runners[i].token);
	}
	return statement_numbers(values, n);
}

static void
forget(Runner *runner)
{
	if (runner->handle != NULL)
		pfree(runner->handle);
	memset(runner, 0, sizeof(Runner));
}

/* Forget the processes that have ended. */
static void
collect(void)
{
	for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
	{
		Runner	   *runner = &runners[i];
		pid_t		pid;

		if (runner->token == 0 || (runner->handle != NULL &&
								   GetBackgroundWorkerPid(runner->handle, &pid) != BGWH_STOPPED))
			continue;
		forget(runner);
		rescue_wanted = true;
		callbacks_look_again();
	}
}

/* A free place, with another number than any. */
static Runner *
take_place(void)
{
	for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
	{
		if (runners[i].token != 0)
			continue;
		while (runners[i].token == 0)
		{
			if (!pg_strong_random(&runners[i].token, sizeof(int64)))
				elog(ERROR, "could not generate random number");
		}
		return &runners[i];
	}
	return NULL;
}

/*
 * Claim the first call of a role for a new process.  Where there can be none as
 * that role, the call has failed for good.
 */
static bool
claim(Oid schema, const char *owner)
{
	Runner	   *runner = take_place();
	const char *problem;

	if (runner == NULL || callback_claim(schema, runner->token, owner) == NULL)
	{
		if (runner != NULL)
			forget(runner);
		return false;
	}
	namestrcpy(&runner->owner, owner);
	runner->roleid = get_role_oid(owner, true);
	if (OidIsValid(runner->roleid))
		problem = callback_role_problem(runner->roleid);
	else
		problem = psprintf("role \"%s\" does not exist", owner);
	if (problem == NULL)
		return true;
	callback_fail(schema, runner->token, problem,
				  OidIsValid(runner->roleid) ? ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION :
				  ERRCODE_UNDEFINED_OBJECT, true);
	forget(runner);
	return true;
}

/*
 * Claim for so many new processes: for roles that have the fewest first, and of
 * these for those that have waited longest.
 */
static int
claim_for(Oid schema, List *groups, int room)
{
	TimestampTz now = GetCurrentTimestamp();
	int			claimed = 0;

	for (int fewest = 0; fewest < transcribe_callback_workers; fewest++)
	{
		ListCell   *lc;

		foreach(lc, groups)
		{
			CallbackGroup *group = lfirst(lc);

			if (claimed == room || group->due > now || group->ready == 0 ||
				count_runners(NameStr(group->owner)) > fewest)
				continue;
			if (claim(schema, NameStr(group->owner)))
			{
				group->ready--;
				claimed++;
			}
			else
				group->ready = 0;
		}
	}
	return claimed;
}

/* In a transaction: see what there is to call, and claim what can be begun. */
static void
look(bool may_begin)
{
	TimestampTz now = GetCurrentTimestamp();
	int			room = transcribe_callback_workers - count_runners(NULL);
	Oid			schema;
	char	   *version;
	List	   *groups;
	ListCell   *lc;

	look_at = next_due = DT_NOEND;
	if (!extension_hold(&schema, &version) || !extension_serves(version))
		return;
	if (rescue_wanted)
		callback_rescue(schema, tokens());
	groups = callback_groups(schema, TRANSCRIBE_MAX_CALLBACK_WORKERS);
	empty = groups == NIL && callback_none(schema);
	if (may_begin && room > 0 && claim_for(schema, groups, room) > 0)
		look_at = TimestampTzPlusMilliseconds(now, MORE_MS);
	foreach(lc, groups)
	{
		CallbackGroup *group = lfirst(lc);

		next_due = Min(next_due, group->due);
		if (group->due > now)
			look_at = Min(look_at, group->due);
	}
}

/* Start a process for what was claimed for it; false if there is none. */
static bool
start(Runner *runner)
{
	BackgroundWorker worker;
	CallbackOrder order = {
		.dbid = MyDatabaseId, .owner = runner->roleid, .token = runner->token
	};
	MemoryContext oldcontext;
	bool		started;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "transcribe");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "transcribe_runner_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "transcribe callback");
	snprintf(worker.bgw_type, BGW_MAXLEN, "transcribe callback");
	memcpy(worker.bgw_extra, &order, sizeof(order));
	worker.bgw_notify_pid = MyProcPid;
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, &runner->handle);
	MemoryContextSwitchTo(oldcontext);
	if (!started)
		runner->handle = NULL;
	return started;
}

/* In a transaction of its own: what these numbers have claimed goes back. */
static void
give_back(Datum numbers)
{
	Oid			schema;
	char	   *version;

	PG_TRY();
	{
		worker_begin(false);
		if (extension_hold(&schema, &version) && extension_serves(version))
			callback_give_back(schema, numbers);
		worker_commit();
	}
	PG_CATCH();
	{
		worker_abort(false);
	}
	PG_END_TRY();
}

/* Start those for which something was claimed. */
static void
start_claimed(void)
{
	static bool warned = false;

	for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
	{
		Runner	   *runner = &runners[i];
		Datum		number;

		if (runner->token == 0 || runner->handle != NULL)
			continue;
		FAILPOINT("callback_claimed");
		if (start(runner))
			continue;
		if (!warned)
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("could not start transcribe callback: out of background worker slots"),
					 errhint("Consider increasing max_worker_processes.")));
		warned = true;
		number = Int64GetDatum(runner->token);
		give_back(statement_numbers(&number, 1));
		forget(runner);
		next_due = Min(next_due, GetCurrentTimestamp());
		look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NO_PROCESS_MS);
	}
}

/* Look at the table if there is a reason to, and begin what may begin. */
void
callbacks_turn(bool may_begin)
{
	/* At a shutdown they end as we do: see callbacks_stop(). */
	if (worker_is_leaving())
		return;
	collect();
	if (GetCurrentTimestamp() < look_at)
		return;
	PG_TRY();
	{
		/* A claim must not be lost: a crash of the call is counted by it. */
		worker_begin(true);
		look(may_begin);
		worker_commit();
		rescue_wanted = false;
	}
	PG_CATCH();
	{
		worker_abort(false);

		/* Nothing was claimed. */
		for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
		{
			if (runners[i].token != 0 && runners[i].handle == NULL)
				forget(&runners[i]);
		}
		look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ERROR_PAUSE_MS);
	}
	PG_END_TRY();
	start_claimed();
}

/* Tell the processes to end. */
void
callbacks_terminate(void)
{
	for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
	{
		if (runners[i].handle != NULL)
			TerminateBackgroundWorker(runners[i].handle);
	}
}

/* Whether one is there still. */
static bool
any_alive(void)
{
	for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
	{
		pid_t		pid;

		if (runners[i].handle != NULL &&
			GetBackgroundWorkerPid(runners[i].handle, &pid) != BGWH_STOPPED)
			return true;
	}
	return false;
}

/*
 * The worker leaves: end them, and queue again what they were calling.  One that
 * does not end in time finds that its claim is lost.
 */
void
callbacks_stop(void)
{
	int64		until = worker_clock() + STOP_MS;

	if (!callbacks_running())
		return;
	callbacks_terminate();
	while (any_alive() && worker_clock() < until)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 transcribe_wait_event("TranscribeCallbacksEnd"));
		ResetLatch(MyLatch);
	}
	give_back(tokens());
	next_due = Min(next_due, GetCurrentTimestamp());
	look_at = DT_NOBEGIN;
	for (int i = 0; i < TRANSCRIBE_MAX_CALLBACK_WORKERS; i++)
	{
		if (runners[i].token != 0)
			forget(&runners[i]);
	}
}
