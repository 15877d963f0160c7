/*-------------------------------------------------------------------------
 *
 * state.h
 *	  What backends, launcher and workers share: the lock manual.
 *
 * One block of shared memory, sized at start by transcribe.max_workers and
 * transcribe.jobs_per_worker, and three kinds of slots in it.
 *
 * Database slots say which databases want a worker.  A slot is taken and
 * freed under the lock, exclusively; its atomics may be set without it, by
 * whoever knows the slot's number: at commit there must be no lock to wait
 * for and no error to throw.  A slot that was given to another database in
 * between is harmless: a spurious wake-up for it, and the number is checked
 * against the database, with visit_all as the last resort.
 *
 * Worker slots say who is alive.  The launcher takes a slot, the worker
 * attaches to it and frees it in its exit callback, each under the lock.
 * A job's claim carries the incarnation of its worker, and the worker is in
 * its slot before it claims: so a claim whose incarnation is in no slot is
 * an orphan, certainly and at once.  After a crash this memory is new and
 * all claims are orphans.
 *
 * Closures say which servers are not to be asked for a while (closure.c).  The
 * worker of their database and those who open a server by hand write them,
 * under the lock; their number may be read without it, to see that there are
 * none.
 *
 * Statistics are counted per server (stats.c), by its database's worker; who
 * reads them shares the lock.
 *
 * The ends of jobs are counted, so that who waits for one sleeps until there is
 * a reason to look (ended.c).  Each count stands for many jobs; whoever ends one
 * adds to it at commit, without the lock.
 *
 * Progress slots belong to a worker slot.  Their worker alone writes them;
 * writers hold the lock exclusively, readers share it.  The lock is held for
 * some stores only, never while anything is waited for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_STATE_H
#define TRANSCRIBE_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "shared/server.h"

#define TRANSCRIBE_MAX_WORKERS			64
#define TRANSCRIBE_MAX_JOBS_PER_WORKER	1000

/*
 * Databases that can be known at once, 40 kB.  A cluster with more of them is
 * served too, by visiting all after a wake-up of one that is not known, as
 * long as so many do not have jobs at the same time.
 */
#ifndef STATE_DATABASES
#define STATE_DATABASES					1024
#endif

/* A text for people, in transcribe_progress. */
#define STATE_MESSAGE_SIZE				128

typedef struct StateDatabase
{
	Oid			dbid;			/* InvalidOid: free; under the lock */
	pg_atomic_uint32 pending;	/* something was committed; set by anybody,
								 * cleared by the worker that looks */
	pg_atomic_uint32 altered;	/* a server or a key was; likewise */
	pg_atomic_uint32 callbacks; /* so was a callback, or a job cancelled;
								 * likewise */
	pg_atomic_uint64 earliest;	/* TimestampTz: no job was queued that is due
								 * before; lowered before pending is set,
								 * cleared to DT_NOEND after it is */
	pg_atomic_uint32 doubtful;	/* prepared transactions may hold jobs; counts
								 * each PREPARE, and is cleared by a worker
								 * that finds none left, if no other came
								 * meanwhile */
	pg_atomic_uint64 worker;	/* Latch * of its worker, or 0 */
	TimestampTz next_due;		/* when the next queued job may start, or an
								 * old one is to be removed; or DT_NOEND;
								 * under the lock */
	int			failures;		/* starts since a worker last came to work;
								 * under the lock */
	int			reported;		/* SQLSTATE of the error that was logged for
								 * it; its worker's */
} StateDatabase;

/* Closures at once in the cluster; 90 kB. */
#define STATE_CLOSURES					256

/* Why a server is closed. */
typedef enum ClosureKind
{
	CLOSURE_NONE,				/* the entry is free */
	CLOSURE_PAUSED,				/* it has asked for a pause */
	CLOSURE_UNREACHABLE,		/* request after request has failed */
	CLOSURE_STOPPED				/* it refuses the key, or wants to be paid */
} ClosureKind;

typedef struct StateClosure
{
	ClosureKind kind;
	Oid			dbid;
	Oid			serverid;
	uint32		version;		/* of the server's options */
	bool		of_key;			/* only for requests that carry this key: */
	TranscribeKey key;
	int			times;			/* closed so often, in a row */
	int64		until;			/* tried again then, in ms of a clock that
								 * nobody sets: worker_clock() */
	TimestampTz since;
	char		code[32];		/* as in transcribe_jobs.error_code */
	char		reason[256];	/* as in transcribe_jobs.error, in UTF-8 */
} StateClosure;

/* Servers that have statistics at once in the cluster; 140 kB. */
#define STATE_STATS						256

/* What became of a request. */
typedef enum StatsOutcome
{
	STATS_GOOD,
	STATS_RATE_LIMITED,
	STATS_UNAUTHORIZED,			/* the key, or the account */
	STATS_SERVER_ERROR,
	STATS_TIMEOUT,
	STATS_CONNECTION,			/* none was made, or it was lost */
	STATS_REFUSED,				/* this request, by any other status */
	STATS_BAD_RESPONSE,
	STATS_OTHER
} StatsOutcome;

#define STATS_OUTCOMES					(STATS_OTHER + 1)

/* How an attempt at a job ended. */
typedef enum StatsEnd
{
	STATS_COMPLETED,
	STATS_FAILED,				/* for good */
	STATS_RETRIED				/* at the job's cost */
} StatsEnd;

#define STATS_ENDS						(STATS_RETRIED + 1)

/* Times that requests take: four steps to the octave, from 1 ms to 4.6 h. */
#define STATS_LATENCIES					96

/* What was counted of a server since the cluster started, or a reset. */
typedef struct StateStats
{
	Oid			serverid;		/* InvalidOid: free */
	Oid			dbid;
	TimestampTz since;
	TimestampTz last;			/* something was counted */
	uint64		outcomes[STATS_OUTCOMES];	/* requests that have ended */
	uint64		ends[STATS_ENDS];	/* attempts at jobs */
	double		audio;			/* seconds sent, */
	uint64		bytes;			/* and what they took */
	double		elapsed;		/* seconds of all requests */
	double		trimmed;		/* seconds of recordings that were not sent */
	uint32		latencies[STATS_LATENCIES];
} StateStats;

/*
 * Counts of ended jobs; 16 kB.  The more there are, the less often somebody is
 * woken by another job than his.
 */
#define STATE_ENDED						1024

typedef struct StateEnded
{
	pg_atomic_uint32 count;
	ConditionVariable waiters;
} StateEnded;

typedef struct StateProgress
{
	int64		job_id;			/* 0: free */
	Oid			owner;
	Oid			serverid;		/* that it goes to */
	int			requests;		/* that are under way */
	bool		transcribing;	/* else preprocessing */
	float4		percent;
	int			chunk;			/* saved so far */
	int			chunks;			/* known so far */
	double		done;			/* seconds of the recording that are answered, */
	double		fresh;			/* of these since it was opened, */
	double		total;			/* of so many; 0: not known */
	TimestampTz opened;			/* when reading began */
	TimestampTz advanced;		/* when fresh last grew */
	TimestampTz since;			/* begin of the present step */
	char		message[STATE_MESSAGE_SIZE];
} StateProgress;

typedef struct StateWorker
{
	bool		in_use;
	int			pid;			/* 0: started, not yet attached */
	Oid			dbid;
	int			database;		/* number of the database slot */
	int64		incarnation;
	int			jobs;			/* in flight */
	int			requests;		/* of these jobs, under way */
	int			recordings;		/* that are being read */
	int			agent_pid;		/* or 0 */
	uint64		held_bytes;		/* of finished chunks that its agent holds */
	bool		looking;		/* it visits, and has found no job yet; set by
								 * the launcher, cleared by the worker */
	bool		wanted;			/* another database waits for a slot: leave as
								 * soon as there is nothing to do, */
	bool		give_way;		/* or as soon as nothing is under way; both
								 * are the launcher's */
	TimestampTz launched_at;
} StateWorker;

typedef struct TranscribeState
{
	LWLock	   *lock;
	pg_atomic_uint64 launcher;	/* Latch * of the launcher, or 0 */
	pg_atomic_uint32 visit_all; /* the launcher shall visit every database */
	StateDatabase databases[STATE_DATABASES];
	StateWorker workers[TRANSCRIBE_MAX_WORKERS];
	pg_atomic_uint32 nclosures; /* entries taken */
	StateClosure closures[STATE_CLOSURES];
	StateStats	stats[STATE_STATS];
	StateEnded	ended[STATE_ENDED];
	StateProgress progress[FLEXIBLE_ARRAY_MEMBER];	/* jobs_per_worker each */
} TranscribeState;

extern void state_init(void);
extern TranscribeState *transcribe_state(void);
extern int	state_find_database(Oid dbid, bool create);
extern void state_wake(pg_atomic_uint64 *latch);
extern StateProgress *state_worker_progress(int worker);
extern StateProgress *state_copy_progress(int *n);
extern int	state_incarnations(int64 *incarnations);

#endif							/* TRANSCRIBE_STATE_H */
