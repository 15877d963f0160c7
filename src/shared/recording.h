/*-------------------------------------------------------------------------
 *
 * recording.h
 *	  How jobs.path names a recording that stands in the database.
 *
 * A file's path is absolute, so that it is told apart by its first character.
 * Bytes have their hash for a name, which makes the same bytes the same
 * recording; they stand in transcribe_recordings, in pieces.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_RECORDING_H
#define TRANSCRIBE_RECORDING_H

#define RECORDING_BYTES_PREFIX			"bytea:"
#define RECORDING_LARGE_OBJECT_PREFIX	"large_object:"

/* Bytes that are stored, and read, at once. */
#define RECORDING_PIECE_SIZE			(1024 * 1024)

#endif							/* TRANSCRIBE_RECORDING_H */
