/*-------------------------------------------------------------------------
 *
 * callback.h
 *	  Functions that are called when a job has ended: which, and by whom.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_CALLBACK_H
#define TRANSCRIBE_CALLBACK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* What the worker tells the process that it starts: in bgw_extra. */
typedef struct CallbackOrder
{
	Oid			dbid;
	Oid			owner;
	int64		token;			/* its rows are claimed by this number */
} CallbackOrder;

/* A row that was claimed. */
typedef struct Callback
{
	int64		job_id;
	char	   *function;
	char	   *function_owner;
} Callback;

/* What waits of one role. */
typedef struct CallbackGroup
{
	NameData	owner;
	TimestampTz due;			/* of its first */
	int			ready;			/* how many are due, up to a limit */
} CallbackGroup;

extern Oid	callback_resolve(const char *name);
extern char *callback_signature(Oid function);
extern char *callback_function_owner(Oid function);
extern const char *callback_role_problem(Oid roleid);

/* In a transaction, connected to SPI, as somebody who may write the table: */
extern bool callback_none(Oid schema);
extern List *callback_groups(Oid schema, int limit);
extern Callback *callback_claim(Oid schema, int64 token, const char *owner);
extern Callback *callback_claimed(Oid schema, int64 token);
extern bool callback_complete(Oid schema, int64 token, int64 job_id);
extern void callback_fail(Oid schema, int64 token, const char *error,
						  int sqlstate, bool final);
extern void callback_rescue(Oid schema, Datum tokens);
extern void callback_give_back(Oid schema, Datum tokens);

#endif							/* TRANSCRIBE_CALLBACK_H */
