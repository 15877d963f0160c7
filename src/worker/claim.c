/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Which of the jobs that wait are claimed in this turn.
 *
 * Runs in the worker, in the transaction that claims.  The queue is seen as
 * groups: jobs of one owner, for the same servers, at one priority.  Places in
 * the worker are given out to groups one by one:
 *
 *	- only to a group whose servers have room, so that what waits for a slow,
 *	  paused or broken server stands in nobody's way;
 *	- by priority;
 *	- then to the owner who has the fewest jobs in the worker, so that one who
 *	  has enqueued a hundred thousand keeps nobody waiting;
 *	- then to the group whose first job has waited longest.
 *
 * Within its group a job's turn comes by run_at, then by id, which is for
 * the statement that claims to see to.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/claim.h"

#include "utils/timestamp.h"

#include "worker/endpoint.h"
#include "worker/job.h"
#include "worker/limits.h"
#include "worker/worker.h"

/* What a server, asked with some key, may still get in this turn. */
typedef struct ServerRoom
{
	Oid			serverid;
	TranscribeKey key;
	int			room;
	int64		closed_until;	/* on the worker's clock; 0: it is not closed */
} ServerRoom;

/* How many jobs an owner has in the worker. */
typedef struct OwnerShare
{
	const char *owner;
	int			jobs;
} OwnerShare;

/* The owner's share; made if there is none. */
static OwnerShare *
share_of(List **shares, const char *owner)
{
	OwnerShare *share;
	ListCell   *lc;

	foreach(lc, *shares)
	{
		share = lfirst(lc);
		if (strcmp(share->owner, owner) == 0)
			return share;
	}
	share = palloc0(sizeof(OwnerShare));
	share->owner = owner;
	*shares = lappend(*shares, share);
	return share;
}

/*
 * The candidate's room; asked for once in a turn, and counted down then.  A
 * single server gets a few jobs beyond what it may be asked at once, to be
 * read meanwhile; one of a list does not, since another may be free.
 */
static ServerRoom *
room_of(List **rooms, const EndpointCandidate *candidate, bool alone)
{
	ServerRoom *found;
	ListCell   *lc;

	foreach(lc, *rooms)
	{
		found = lfirst(lc);
		if (found->serverid == candidate->server.serverid &&
			found->key.mapping == candidate->key.mapping)
			return found;
	}
	found = palloc0(sizeof(ServerRoom));
	found->serverid = candidate->server.serverid;
	found->key = candidate->key;
	found->room = limits_room(&candidate->server, candidate->key, alone,
							  worker_clock(), &found->closed_until);
	*rooms = lappend(*rooms, found);
	return found;
}

/* The same server with other keys has the same room, but for what is closed. */
static void
take_one(List *rooms, ServerRoom *taken)
{
	ListCell   *lc;

	foreach(lc, rooms)
	{
		ServerRoom *room = lfirst(lc);

		if (room->serverid == taken->serverid && room->room > 0)
			room->room--;
	}
}

/*
 * Find a place for one more job of the group; false if none of its servers
 * has room.  Jobs that no server is left for are claimed all the same: that
 * is how they fail, and say why.
 */
static bool
find_place(ClaimGroup *group, List **rooms, EndpointLookup *lookup)
{
	ListCell   *lc;

	if (!group->looked_up)
	{
		group->candidates = endpoint_look_up(lookup, group->servers, group->owner, NULL);
		group->looked_up = true;
	}
	if (group->candidates == NIL)
		return true;
	foreach(lc, group->candidates)
	{
		ServerRoom *room = room_of(rooms, lfirst(lc),
								   list_length(group->candidates) == 1);

		if (room->room > 0)
		{
			take_one(*rooms, room);
			return true;
		}
	}
	return false;
}

/*
 * When a full group may get a place by time alone: when the first of its
 * servers is tried again.  DT_NOEND if that takes the end of a job.
 */
static TimestampTz
reopens_at(ClaimGroup *group, List **rooms, TimestampTz now)
{
	int64		until = PG_INT64_MAX;
	int64		wait;
	ListCell   *lc;

	foreach(lc, group->candidates)
	{
		ServerRoom *room = room_of(rooms, lfirst(lc),
								   list_length(group->candidates) == 1);

		if (room->closed_until > 0)
			until = Min(until, room->closed_until);
	}
	if (until == PG_INT64_MAX)
		return DT_NOEND;
	wait = Max(until - worker_clock(), 0);
	return TimestampTzPlusMilliseconds(now, wait);
}

/* The group whose turn it is, or NULL if none has one. */
static ClaimGroup *
next_group(List *groups, List **shares, TimestampTz now)
{
	ClaimGroup *best = NULL;
	int			best_jobs = 0;
	ListCell   *lc;

	foreach(lc, groups)
	{
		ClaimGroup *group = lfirst(lc);
		int			jobs;

		if (group->full || group->due > now)
			continue;
		jobs = share_of(shares, group->owner)->jobs;
		if (best == NULL || group->priority > best->priority ||
			(group->priority == best->priority &&
			 (jobs < best_jobs ||
			  (jobs == best_jobs && group->due < best->due))))
		{
			best = group;
			best_jobs = jobs;
		}
	}
	return best;
}

/*
 * Give out so many places to groups of waiting jobs, beside the jobs that the
 * worker has.  Returns when to look again, as far as that is known: when the
 * first of those that get none comes due, or its server is tried again.
 */
TimestampTz
claim_plan(List *groups, List *jobs, int room, TimestampTz now,
		   EndpointLookup *lookup)
{
	List	   *rooms = NIL;
	List	   *shares = NIL;
	TimestampTz next = DT_NOEND;
	ClaimGroup *group;
	ListCell   *lc;

	foreach(lc, jobs)
		share_of(&shares, ((Job *) lfirst(lc))->owner)->jobs++;
	while (room > 0 && (group = next_group(groups, &shares, now)) != NULL)
	{
		if (!find_place(group, &rooms, lookup))
		{
			group->full = true;
			continue;
		}
		group->room++;
		share_of(&shares, group->owner)->jobs++;
		room--;
	}
	foreach(lc, groups)
	{
		group = lfirst(lc);
		if (group->due > now)
			next = Min(next, group->due);
		else if (group->full)
			next = Min(next, reopens_at(group, &rooms, now));
	}
	return next;
}

/* How many places the groups have got. */
int
claim_places(List *groups)
{
	int			n = 0;
	ListCell   *lc;

	foreach(lc, groups)
		n += ((ClaimGroup *) lfirst(lc))->room;
	return n;
}
