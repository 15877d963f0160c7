/*-------------------------------------------------------------------------
 *
 * closure.c
 *	  Servers that are not to be asked for a while, and why.
 *
 * Runs in workers, which close servers and open them again, and in backends,
 * which show closures and end them by hand.  They are in shared memory, so
 * that they outlast the worker; a restart of the cluster forgets them, and the
 * next request finds out again.  All concern the current database only.
 *
 * A closure is of a server as a whole, or of the requests to it that carry
 * one key; and it is of the options that server and key had then.  One who has
 * altered them has it tried again.  When its time is over it still stands, but one request may go out
 * to find out; what becomes of that ends the closure or lengthens it.
 *
 * Locks: see state.h.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/closure.h"

#include "miscadmin.h"

/* Closures are not of this process's requests. */
static bool set_aside = false;

/*
 * From now on this process neither heeds nor makes nor ends closures: a check
 * asks a server that is closed, and what comes of it is the business of no job.
 * Neither is there any memory to find them in if the library was not preloaded.
 */
void
closure_set_aside(bool aside)
{
	set_aside = aside;
}

/* Whether the entry is a closure of this server in this database. */
static bool
is_of_server(const StateClosure *entry, Oid serverid)
{
	return entry->kind != CLOSURE_NONE && entry->dbid == MyDatabaseId &&
		entry->serverid == serverid;
}

/* Whether it is of the server as a whole, or of what carries that key. */
static bool
concerns(const StateClosure *entry, Oid serverid, TranscribeKey key)
{
	return is_of_server(entry, serverid) &&
		(!entry->of_key || entry->key.mapping == key.mapping);
}

/* Under the lock, exclusively. */
static void
free_entry(TranscribeState *state, StateClosure *entry)
{
	entry->kind = CLOSURE_NONE;
	pg_atomic_fetch_sub_u32(&state->nclosures, 1);
}

/*
 * Close a server, or change how it is closed.  Where all entries are taken,
 * the one that ends first gives way: losing a closure costs one request.
 */
void
closure_put(const StateClosure *closure)
{
	TranscribeState *state = transcribe_state();
	StateClosure *target = NULL;

	if (set_aside)
		return;
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < STATE_CLOSURES; i++)
	{
		StateClosure *entry = &state->closures[i];

		if (is_of_server(entry, closure->serverid) &&
			entry->of_key == closure->of_key &&
			(!entry->of_key || entry->key.mapping == closure->key.mapping))
		{
			target = entry;
			break;
		}
		if (target == NULL ||
			(target->kind != CLOSURE_NONE &&
			 (entry->kind == CLOSURE_NONE || entry->until < target->until)))
			target = entry;
	}
	if (target->kind == CLOSURE_NONE)
		pg_atomic_fetch_add_u32(&state->nclosures, 1);
	*target = *closure;
	target->dbid = MyDatabaseId;
	LWLockRelease(state->lock);
}

/*
 * What stands in the way of requests to the server with that key: of several
 * closures the one that lasts longest.  False if nothing does.
 */
bool
closure_get(const TranscribeServer *server, TranscribeKey key,
			StateClosure *closure)
{
	TranscribeState *state = transcribe_state();
	bool		found = false;

	/* Nearly always there is none at all. */
	if (set_aside || pg_atomic_read_u32(&state->nclosures) == 0)
		return false;
	LWLockAcquire(state->lock, LW_SHARED);
	for (int i = 0; i < STATE_CLOSURES; i++)
	{
		StateClosure *entry = &state->closures[i];

		if (concerns(entry, server->serverid, key) &&
			entry->version == server->version &&
			(!entry->of_key || entry->key.version == key.version) &&
			(!found || entry->until > closure->until))
		{
			*closure = *entry;
			found = true;
		}
	}
	LWLockRelease(state->lock);
	return found;
}

/* A request with that key was answered: nothing stands in the way of it. */
void
closure_remove(Oid serverid, TranscribeKey key)
{
	TranscribeState *state = transcribe_state();

	if (set_aside || pg_atomic_read_u32(&state->nclosures) == 0)
		return;
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < STATE_CLOSURES; i++)
	{
		if (concerns(&state->closures[i], serverid, key))
			free_entry(state, &state->closures[i]);
	}
	LWLockRelease(state->lock);
}

/* Open a server again, for all keys. */
void
closure_remove_all(Oid serverid)
{
	TranscribeState *state = transcribe_state();

	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < STATE_CLOSURES; i++)
	{
		if (is_of_server(&state->closures[i], serverid))
			free_entry(state, &state->closures[i]);
	}
	LWLockRelease(state->lock);
}

/* Copies of all closures of the database, in the current memory context. */
StateClosure *
closure_list(int *n)
{
	TranscribeState *state = transcribe_state();
	StateClosure *list = palloc_array(StateClosure, STATE_CLOSURES);

	*n = 0;
	LWLockAcquire(state->lock, LW_SHARED);
	for (int i = 0; i < STATE_CLOSURES; i++)
	{
		if (state->closures[i].kind != CLOSURE_NONE &&
			state->closures[i].dbid == MyDatabaseId)
			list[(*n)++] = state->closures[i];
	}
	LWLockRelease(state->lock);
	return list;
}
