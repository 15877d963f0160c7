/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *	  Where a claimed job goes, with whose key, and what it may read.
 *
 * Runs in the worker.  endpoint_resolve() does so in the transaction that
 * claims.  Rights are those of the job's owner now, not those it had when it
 * enqueued.  The key is that of the owner's user mapping, else of PUBLIC's,
 * never another identity's.  endpoint_read_key() runs before each request,
 * outside of any transaction: a file with a key is read anew each time, so
 * that a new key needs no command and reaches jobs that are running.
 *
 * Whatever is wrong fails the job, by job_fail(); only what nobody foresaw
 * is an error of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/endpoint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "shared/encoding.h"
#include "shared/fields.h"
#include "worker/limits.h"
#include "worker/plan.h"
#include "worker/request.h"
#include "worker/worker.h"

/* A key is some dozens of characters; a token may have a few thousand. */
#define MAX_KEY_FILE	16384

/*
 * Whether a file may hold a key: only its owner may read it, who is the
 * server's user, or root with the server's group.  As libpq asks of keys.
 */
static bool
key_file_is_private(const struct stat *st)
{
	if (st->st_uid == geteuid())
		return (st->st_mode & (S_IRWXG | S_IRWXO)) == 0;
	if (st->st_uid == 0)
		return (st->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) == 0;
	return false;
}

/*
 * Before a request: read the job's key, if it stands in a file.  NULL if that
 * went well, else what is wrong with the file.
 */
const char *
endpoint_read_key(Job *job)
{
	const char *path = job->api_key_file;
	struct stat st;
	char	   *key;
	ssize_t		len;
	int			fd;

	if (path == NULL)
		return NULL;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return psprintf("could not open api_key_file \"%s\": %m", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !key_file_is_private(&st))
	{
		close(fd);
		return psprintf("api_key_file \"%s\" must be a regular file with permissions 0600 or less if it is the server user's, or 0640 or less if it is root's",
						path);
	}
	if (job->api_key == NULL)
		job->api_key = MemoryContextAlloc(job->context, MAX_KEY_FILE + 2);
	key = job->api_key;
	explicit_bzero(key, MAX_KEY_FILE + 2);
	len = read(fd, key, MAX_KEY_FILE + 1);
	close(fd);
	if (len > MAX_KEY_FILE)
		len = -1;
	while (len > 0 && strchr(" \t\r\n", key[len - 1]) != NULL)
		key[--len] = '\0';
	for (int i = 0; i < len; i++)
	{
		if (key[i] <= 0x20 || key[i] >= 0x7f)
			len = -1;
	}
	if (len <= 0)
		return psprintf("api_key_file \"%s\" does not hold a key in one line of printable ASCII",
						path);
	return NULL;
}

/* The user mapping that applies to the role on the server, or NULL. */
static HeapTuple
find_mapping(Oid roleid, Oid serverid)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
										ObjectIdGetDatum(roleid),
										ObjectIdGetDatum(serverid));

	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
								ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(serverid));
	return tuple;
}

/* Its options, as a list of DefElem. */
static List *
mapping_options(HeapTuple tuple)
{
	bool		isnull;
	Datum		options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
										  Anum_pg_user_mapping_umoptions, &isnull);

	return isnull ? NIL : untransformRelOptions(options);
}

/* Find the key, or the file that it stands in, if there is one. */
static void
resolve_key(Job *job)
{
	HeapTuple	tuple = find_mapping(job->owner_oid, job->server.serverid);
	ListCell   *lc;

	if (!HeapTupleIsValid(tuple))
		return;
	foreach(lc, mapping_options(tuple))
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		job->api_key = job->api_key_file = NULL;
		if (strcmp(def->defname, "api_key") == 0)
			job->api_key = MemoryContextStrdup(job->context, defGetString(def));
		else if (strcmp(def->defname, "api_key_file") == 0)
			job->api_key_file = MemoryContextStrdup(job->context, defGetString(def));
	}
	ReleaseSysCache(tuple);
}

/*
 * The servers of a list that a role may use now, as EndpointCandidates in the
 * order of the list, with their options for the model, or for their own if
 * that is NULL.  What is wrong with the others is told when none is left.
 * Those that are held count only if all are, which has the jobs wait.
 */
static List *
find_candidates(const char *servers, const char *owner, const char *model)
{
	Oid			roleid = get_role_oid(owner, true);
	List	   *candidates = NIL;
	List	   *held = NIL;
	ListCell   *lc;

	if (!OidIsValid(roleid))
		return NIL;
	foreach(lc, server_list_parse(servers))
	{
		EndpointCandidate *candidate = palloc0(sizeof(EndpointCandidate));
		HeapTuple	mapping;

		if (server_find(lfirst(lc), roleid, model,
						&candidate->server) != SERVER_USABLE)
			continue;
		mapping = find_mapping(roleid, candidate->server.serverid);
		if (HeapTupleIsValid(mapping))
		{
			candidate->key.mapping = ((Form_pg_user_mapping) GETSTRUCT(mapping))->oid;
			candidate->key.version = server_options_version(mapping_options(mapping));
			ReleaseSysCache(mapping);
		}
		if (candidate->server.held)
			held = lappend(held, candidate);
		else
			candidates = lappend(candidates, candidate);
	}
	if (candidates == NIL)
		candidates = held;
	if (candidates != NIL)
		((EndpointCandidate *) llast(candidates))->last = true;
	return candidates;
}

/* Whether two texts are the same, or both missing. */
static bool
same_text(const char *one, const char *other)
{
	return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

/* What find_candidates() finds, which may have been looked up a moment ago. */
List *
endpoint_look_up(EndpointLookup *lookup, const char *servers, const char *owner,
				 const char *model)
{
	if (lookup->servers == NULL || strcmp(lookup->servers, servers) != 0 ||
		strcmp(lookup->owner, owner) != 0 || !same_text(lookup->model, model))
	{
		lookup->servers = servers;
		lookup->owner = owner;
		lookup->model = model;
		lookup->candidates = find_candidates(servers, owner, model);
	}
	return lookup->candidates;
}

/* None of the job's servers can be used: say why of the first. */
static void
fail_without_server(Job *job)
{
	List	   *names = server_list_parse(job->servers);
	const char *name = names != NIL ? linitial(names) : job->servers;
	TranscribeServer server;

	switch (server_find(name, job->owner_oid, NULL, &server))
	{
		case SERVER_USABLE:
			break;
		case SERVER_MISSING:
		case SERVER_OTHER_WRAPPER:
			job_fail(job, "server_missing", false, true, -1,
					 "server \"%s\" does not exist any more", name);
			break;
		case SERVER_NO_USAGE:
			job_fail(job, "permission_denied", false, true, -1,
					 "role \"%s\" has no USAGE on server \"%s\"",
					 job->owner, name);
			break;
		case SERVER_NO_URL:
			job_fail(job, "server_missing", false, true, -1,
					 "server \"%s\" has no option \"url\"", name);
			break;
	}
}

/*
 * The first of the candidates that has room.  After an attempt that failed the
 * search begins behind the server that it was made at, and comes round.  That
 * none has room happens when the last place was taken a moment ago: then the
 * job waits at the one whose turn it is.
 */
static EndpointCandidate *
choose_candidate(Job *job, List *candidates)
{
	int			n = list_length(candidates);
	int			first = 0;

	for (int i = 0; i < n && job->served_by != NULL; i++)
	{
		EndpointCandidate *candidate = list_nth(candidates, i);

		if (strcmp(candidate->server.name, job->served_by) == 0)
			first = (i + 1) % n;
	}
	for (int i = 0; i < n; i++)
	{
		EndpointCandidate *candidate = list_nth(candidates, (first + i) % n);
		int64		closed_until;

		if (limits_room(&candidate->server, candidate->key, n == 1,
						worker_clock(), &closed_until) > 0)
			return candidate;
	}
	return list_nth(candidates, first);
}

/* Find the server; false if the job failed by it. */
static bool
resolve_server(Job *job, EndpointLookup *lookup)
{
	List	   *candidates = endpoint_look_up(lookup, job->servers, job->owner,
											  job->options.model);
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);
	EndpointCandidate *chosen;

	if (candidates == NIL)
		fail_without_server(job);
	else
	{
		chosen = choose_candidate(job, candidates);
		server_copy(&job->server, &chosen->server);
		job->key = chosen->key;
		job->last_server = chosen->last;
		job->alternatives = list_length(candidates) > 1;
		job->held = true;
		limits_hold(job->server.serverid);
	}
	MemoryContextSwitchTo(oldcontext);
	return candidates != NIL;
}

/*
 * What goes to the server goes as UTF-8.  Here, because a conversion needs a
 * transaction, and requests are made outside of any.
 */
static void
convert_options(Job *job)
{
	char	  **texts[] = {
		&job->options.language, &job->options.prompt,
		&job->options.model, &job->options.temperature,
		&job->server.name, &job->server.language, &job->server.prompt,
		&job->server.model, &job->server.temperature
	};
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);
	ListCell   *lc;

	for (size_t i = 0; i < lengthof(texts); i++)
	{
		if (*texts[i] != NULL)
			*texts[i] = encoding_to_utf8(*texts[i]);
	}
	foreach(lc, job->server.extra_fields)
	{
		Field	   *field = lfirst(lc);

		field->name = encoding_to_utf8(field->name);
		if (field->value != NULL)
			field->value = encoding_to_utf8(field->value);
	}
	MemoryContextSwitchTo(oldcontext);
}

/* Find out all that a job needs, or fail it. */
void
endpoint_resolve(Job *job, EndpointLookup *lookup)
{
	job->owner_oid = get_role_oid(job->owner, true);
	if (!OidIsValid(job->owner_oid))
	{
		job_fail(job, "owner_missing", false, true, -1,
				 "role \"%s\", which enqueued the job, does not exist any more",
				 job->owner);
		return;
	}
	job->any_file = has_privs_of_role(job->owner_oid, ROLE_PG_READ_SERVER_FILES);
	if (!resolve_server(job, lookup))
		return;
	resolve_key(job);
	plan_make(job);
	convert_options(job);
	if (!request_is_possible(job))
		job_fail(job, "bad_url", false, true, -1,
				 "the path at server \"%s\" needs a model, and neither the server nor the job names one",
				 job->server.name);
}
