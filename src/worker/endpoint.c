/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *	  Where a claimed job goes, with whose key, and what it may read.
 *
 * Runs in the worker, in the transaction that claims.  Rights are those of
 * the job's owner now, not those it had when it enqueued.  The key is that
 * of the owner's user mapping, else of PUBLIC's, never another identity's;
 * a file is read anew each time, so that a new key needs no command.
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
#include "mb/pg_wchar.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

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

/* Read the key from a file into the job; false if the job failed by it. */
static bool
read_key_file(Job *job, const char *path)
{
	int			fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	char	   *key;
	ssize_t		len;

	if (fd < 0)
	{
		job_fail(job, "key_missing", false, true, -1,
				 "could not open api_key_file \"%s\": %m", path);
		return false;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !key_file_is_private(&st))
	{
		close(fd);
		job_fail(job, "key_missing", false, true, -1,
				 "api_key_file \"%s\" must be a regular file with permissions 0600 or less if it is the server user's, or 0640 or less if it is root's",
				 path);
		return false;
	}
	key = MemoryContextAllocZero(job->context, MAX_KEY_FILE + 1);
	job->api_key = key;
	len = read(fd, key, MAX_KEY_FILE);
	close(fd);
	while (len > 0 && strchr(" \t\r\n", key[len - 1]) != NULL)
		key[--len] = '\0';
	for (int i = 0; i < len; i++)
	{
		if (key[i] <= 0x20 || key[i] >= 0x7f)
			len = -1;
	}
	if (len <= 0)
	{
		job_fail(job, "key_missing", false, true, -1,
				 "api_key_file \"%s\" does not hold a key in one line of printable ASCII",
				 path);
		return false;
	}
	return true;
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

/* Find the key, if there is one; false if the job failed by it. */
static bool
resolve_key(Job *job)
{
	HeapTuple	tuple = find_mapping(job->owner_oid, job->server.serverid);
	Datum		options;
	bool		isnull;
	bool		good = true;
	ListCell   *lc;

	if (!HeapTupleIsValid(tuple))
		return true;
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							  Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
	{
		foreach(lc, untransformRelOptions(options))
		{
			DefElem    *def = lfirst_node(DefElem, lc);

			if (strcmp(def->defname, "api_key") == 0)
				job->api_key = MemoryContextStrdup(job->context, defGetString(def));
			else if (strcmp(def->defname, "api_key_file") == 0)
				good = read_key_file(job, defGetString(def));
		}
	}
	ReleaseSysCache(tuple);
	return good;
}

/* Find the server; false if the job failed by it. */
static bool
resolve_server(Job *job)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);
	ServerProblem problem = server_find(job->server_name, job->owner_oid,
										&job->server);

	MemoryContextSwitchTo(oldcontext);
	switch (problem)
	{
		case SERVER_USABLE:
			break;
		case SERVER_MISSING:
		case SERVER_OTHER_WRAPPER:
			job_fail(job, "server_missing", false, true, -1,
					 "server \"%s\" does not exist any more", job->server_name);
			break;
		case SERVER_NO_USAGE:
			job_fail(job, "permission_denied", false, true, -1,
					 "role \"%s\" has no USAGE on server \"%s\"",
					 job->owner, job->server_name);
			break;
		case SERVER_NO_URL:
			job_fail(job, "server_missing", false, true, -1,
					 "server \"%s\" has no option \"url\"", job->server_name);
			break;
	}
	return problem == SERVER_USABLE;
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
		&job->server.language, &job->server.prompt,
		&job->server.model, &job->server.temperature
	};
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);

	for (size_t i = 0; i < lengthof(texts); i++)
	{
		if (*texts[i] != NULL)
			*texts[i] = pg_server_to_any(*texts[i], strlen(*texts[i]), PG_UTF8);
	}
	MemoryContextSwitchTo(oldcontext);
}

/* Find out all that a job needs, or fail it. */
void
endpoint_resolve(Job *job)
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
	if (resolve_server(job) && resolve_key(job))
		convert_options(job);
}
