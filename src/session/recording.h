/*-------------------------------------------------------------------------
 *
 * recording.h
 *	  What a job is enqueued for: a file, bytes, or a large object.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_SESSION_RECORDING_H
#define TRANSCRIBE_SESSION_RECORDING_H

#include "postgres.h"

#include "session/tables.h"

typedef enum RecordingKind
{
	RECORDING_NONE,				/* values of this type are no recordings */
	RECORDING_PATH,				/* text */
	RECORDING_BYTES,			/* bytea */
	RECORDING_LARGE_OBJECT		/* oid */
} RecordingKind;

typedef struct Recording
{
	RecordingKind kind;
	char	   *path;			/* as in transcribe_jobs.path */
	bytea	   *bytes;			/* not compressed, nor elsewhere */
	Oid			large_object;
} Recording;

extern RecordingKind recording_kind(Oid type);
extern void recording_init(Recording *recording, RecordingKind kind, Datum value);
extern void recording_check(const Recording *recording, Oid roleid);
extern void recording_store(TablesScope *scope, const Recording *recording,
							int64 job_id, const char *owner);

#endif							/* TRANSCRIBE_SESSION_RECORDING_H */
