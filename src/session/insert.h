/*-------------------------------------------------------------------------
 *
 * insert.h
 *	  A row into transcribe_jobs, without an executor of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_INSERT_H
#define TRANSCRIBE_INSERT_H

#include "postgres.h"

/* The columns that are given; the others have their defaults. */
#define INSERT_COLUMNS	8

extern int64 insert_job(Oid schema, const Datum *values);

#endif							/* TRANSCRIBE_INSERT_H */
