/*-------------------------------------------------------------------------
 *
 * bring.c
 *	  Recordings that stand in the database, brought to where media reads them.
 *
 * Runs in the worker.  Bytes and large objects become a temporary file, of
 * PostgreSQL's own kind: in its directory, within its limits, and removed by it
 * whatever happens to us.  Media opens that as it opens any other, and as soon
 * as it has, the file loses its name.
 *
 * A turn of the worker brings one piece of each recording, in a transaction of
 * its own, so that neither a snapshot is old nor another job kept waiting.  The
 * bytes of jobs that have completed go the same way, some at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/bring.h"

#include <sys/stat.h>

#include "catalog/pg_largeobject.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/large_object.h"
#include "utils/acl.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "shared/failpoint.h"
#include "shared/recording.h"
#include "transcribe.h"
#include "worker/queue.h"
#include "worker/worker.h"

/* How long one turn brings pieces; a piece takes some milliseconds. */
#define TURN_MS				50

/* Pieces that are removed in one transaction, which takes some 20 ms. */
#define FORGET_PIECES		16

/* The file of a job's recording. */
struct JobFile
{
	File		file;			/* of PostgreSQL's; -1: closed */
	int			pieces;			/* that have been brought */
	int64		size;			/* bytes that have */
	uint64		hash;			/* of these */
	bool		whole;
};

/* Jobs that have completed, with bytes: a range. */
typedef struct Leftover
{
	int64		first_job;
	int64		last_job;
} Leftover;

static List *leftovers = NIL;	/* of Leftover, in TopMemoryContext */
static bool looked = false;		/* for those of the workers before us */

static bool
has_prefix(const Job *job, const char *prefix)
{
	return strncmp(job->path, prefix, strlen(prefix)) == 0;
}

/* Whether the job's recording has to be brought before it can be opened. */
bool
bring_is_wanted(const Job *job)
{
	return job->file == NULL && !is_absolute_path(job->path);
}

/* Whether it has a file that is not opened yet, and perhaps not whole. */
bool
bring_is_under_way(const Job *job)
{
	return job->state == JOB_WAITING && job->file != NULL;
}

/* Make the file. */
void
bring_begin(Job *job)
{
	struct JobFile *file = MemoryContextAllocZero(job->context, sizeof(*file));

	file->file = OpenTemporaryFile(true);
	job->file = file;
	job_note(job, "reading the recording from the database");
}

/* The next piece of a large object, as its owner may read it; or the job fails. */
static bytea *
large_object_piece(Job *job)
{
	Oid			id = (Oid) strtoul(job->path + strlen(RECORDING_LARGE_OBJECT_PREFIX), NULL, 10);

	if (!LargeObjectExists(id))
		job_fail(job, "not_found", false, true, -1,
				 "large object %u does not exist any more", id);
	else if (!lo_compat_privileges &&
			 pg_largeobject_aclcheck_snapshot(id, job->owner_oid, ACL_SELECT,
											  GetActiveSnapshot()) != ACLCHECK_OK)
		job_fail(job, "permission_denied", false, true, -1,
				 "role \"%s\" may not read large object %u", job->owner, id);
	else
		return DatumGetByteaPP(DirectFunctionCall3(be_lo_get_fragment,
												   ObjectIdGetDatum(id),
												   Int64GetDatum(job->file->size),
												   Int32GetDatum(RECORDING_PIECE_SIZE)));
	return NULL;
}

/* The next piece of the recording; NULL behind the last, or the job fails. */
static bytea *
next_piece(Job *job)
{
	if (has_prefix(job, RECORDING_LARGE_OBJECT_PREFIX))
		return large_object_piece(job);
	if (has_prefix(job, RECORDING_BYTES_PREFIX))
		return queue_piece(job->id, job->file->pieces);
	job_fail(job, "not_found", false, true, -1, "path \"%s\" is not absolute",
			 job->path);
	return NULL;
}

/* Append a piece to the file. */
static void
append_piece(Job *job, const char *data, int size)
{
	struct JobFile *file = job->file;
	int64		limit = transcribe_max_file_size * INT64CONST(1024) * 1024;

	errno = 0;
	if (FileWrite(file->file, unconstify(char *, data), size, file->size,
				  WAIT_EVENT_BUFFILE_WRITE) != size)
	{
		if (errno == 0)
			errno = ENOSPC;
		job_fail(job, "io_error", true, true, -1,
				 "could not write the recording to a temporary file: %s",
				 strerror(errno));
		return;
	}
	file->hash = hash_bytes_extended((const unsigned char *) data, size, file->hash);
	file->size += size;
	file->pieces++;
	if (limit > 0 && file->size > limit)
		job_fail(job, "file_too_large", false, true, -1,
				 "recording has more than the %d MB that are allowed",
				 transcribe_max_file_size);
}

/* Bring a piece of a recording. */
static void
bring_step(Job *job, void *arg)
{
	bytea	   *piece = NULL;
	int			size = 0;

	worker_begin(false);
	if (queue_find_extension())
		piece = next_piece(job);
	else
		worker_look_again();
	if (piece != NULL)
		size = VARSIZE_ANY_EXHDR(piece);
	if (size > 0)
		append_piece(job, VARDATA_ANY(piece), size);
	FAILPOINT("piece_brought");
	worker_commit();

	if (job->state >= JOB_ENDING || size == RECORDING_PIECE_SIZE)
		return;
	job->file->whole = true;
	if (job->file->size == 0)
		job_fail(job, "not_found", false, true, -1,
				 "the bytes of the recording are not there");
}

/* Bring a piece of each recording that is under way, or of some of them. */
void
bring_turn(List *jobs, int64 *wake_at)
{
	int64		until = worker_clock() + TURN_MS;
	ListCell   *lc;

	foreach(lc, jobs)
	{
		Job		   *job = lfirst(lc);

		if (!bring_is_under_way(job) || job->file->whole)
			continue;
		*wake_at = 0;
		if (worker_clock() < until)
			worker_do_for_job(job, bring_step, NULL);
	}
}

/* Whether all of it is there. */
bool
bring_is_whole(const Job *job)
{
	return job->file->whole;
}

/* What media is to open then. */
const char *
bring_path(const Job *job)
{
	return psprintf("%s/%s", DataDir, FilePathName(job->file->file));
}

/* The recording's identity, whatever file it is brought in. */
void
bring_identity(const Job *job, char identity[WIRE_IDENTITY_SIZE])
{
	snprintf(identity, WIRE_IDENTITY_SIZE, "stored-%lld-%016llx",
			 (long long) job->file->size, (unsigned long long) job->file->hash);
}

/*
 * By what media knows the file, if the recording is the one of that identity;
 * else empty, which is nothing's.
 */
const char *
bring_done_of(const Job *job, const char *identity)
{
	char		own[WIRE_IDENTITY_SIZE];
	struct stat st;
	WireSource	source = {0};

	bring_identity(job, own);
	if (strcmp(own, identity) != 0 ||
		stat(FilePathName(job->file->file), &st) != 0)
		return "";
	source.size = (uint64) st.st_size;
	source.mtime_ns = st.st_mtim.tv_sec * INT64CONST(1000000000) + st.st_mtim.tv_nsec;
	source.device = st.st_dev;
	source.inode = st.st_ino;
	wire_identity(&source, own);
	return pstrdup(own);
}

/* Media has opened the file: its name goes, and the rest with its last reader. */
void
bring_close(Job *job)
{
	if (job->file->file >= 0)
		FileClose(job->file->file);
	job->file->file = -1;
}

/* The job has no use for its file any more, or needs another one. */
void
bring_end(Job *job)
{
	if (job->file == NULL)
		return;
	bring_close(job);
	job->file = NULL;
}

/* Remember to remove what is stored of jobs. */
static void
add_leftover(int64 first_job, int64 last_job)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	Leftover   *leftover = palloc(sizeof(Leftover));

	leftover->first_job = first_job;
	leftover->last_job = last_job;
	leftovers = lappend(leftovers, leftover);
	MemoryContextSwitchTo(oldcontext);
}

/* A job has completed: its bytes, if it has any, are not needed any more. */
void
bring_note_completed(const Job *job)
{
	if (has_prefix(job, RECORDING_BYTES_PREFIX))
		add_leftover(job->id, job->id);
}

/* Whether there are bytes to be removed, or may be. */
bool
bring_has_leftovers(void)
{
	if (!looked)
		add_leftover(PG_INT64_MIN, PG_INT64_MAX);
	looked = true;
	return leftovers != NIL;
}

/* Inside a transaction: remove some of them. */
static void
forget_some(void)
{
	int			room = FORGET_PIECES;

	while (leftovers != NIL && room > 0)
	{
		Leftover   *leftover = linitial(leftovers);

		room -= queue_forget_recordings(leftover->first_job, leftover->last_job,
										room);
		if (room > 0)
		{
			leftovers = list_delete_first(leftovers);
			pfree(leftover);
		}
	}
}

/* Remove some of what jobs that have completed have left. */
void
bring_forget_turn(int64 *wake_at)
{
	static int64 not_before = 0;

	if (worker_is_leaving() || !bring_has_leftovers())
		return;
	if (worker_clock() >= not_before)
	{
		PG_TRY();
		{
			worker_begin(false);
			if (queue_find_extension())
				forget_some();
			else
				worker_look_again();
			FAILPOINT("bytes_forgotten");
			worker_commit();
		}
		PG_CATCH();
		{
			worker_abort(false);
			not_before = worker_clock() + ERROR_PAUSE_MS;
		}
		PG_END_TRY();
	}
	if (bring_has_leftovers())
		*wake_at = Min(*wake_at, not_before);
}
