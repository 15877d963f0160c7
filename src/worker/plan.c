/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  Whether what earlier attempts have saved can be gone on with.
 *
 * Runs in the worker, in the transaction that claims.  A chunk is saved with
 * its plan: the identity of the file, and a hash of the options that its text
 * depends on, the job's own before those of the server that it was made by.
 * What says only how the recording is cut, and how long or how often a server
 * is asked, is no part of it.
 *
 * A chunk is stale if the server that it was made by has other options by
 * now, or if the channels are to be transcribed in another way: where they
 * are mixed there is no place for one that was transcribed apart.  If any is
 * stale the job starts over; a transcript is not made of two halves.  Whether
 * the file is still the same is for the one to say who opens it.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/plan.h"

#include "catalog/pg_authid_d.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"

#include "shared/fields.h"

/* Raised whenever what was saved before cannot be gone on with. */
#define PLAN_VERSION	4

/* Whether the recording's channels are transcribed apart. */
bool
plan_splits_channels(const Job *job, const TranscribeServer *server)
{
	if (job->options.channels != NULL)
		return strcmp(job->options.channels, "split") == 0;
	return server->split_channels;
}

/* Append an option: the job's own, else the server's. */
static void
append_option(StringInfo out, const char *of_job, const char *of_server)
{
	const char *value = of_job != NULL ? of_job : of_server;

	/* Neither a missing one nor two that are joined look like another. */
	if (value != NULL)
		appendStringInfo(out, "%zu:%s", strlen(value), value);
	appendStringInfoChar(out, ';');
}

/* The hash of what the text depends on, where this server makes it. */
static void
hash_options(const Job *job, const TranscribeServer *server,
			 char hash[PLAN_HASH_SIZE])
{
	const JobOptions *options = &job->options;
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	appendStringInfo(&text, "%d;%d;%d;%d;", PLAN_VERSION,
					 plan_splits_channels(job, server), options->words,
					 options->translate);
	append_option(&text, options->model, server->model);
	append_option(&text, options->language, server->language);
	append_option(&text, options->prompt, server->prompt);
	append_option(&text, options->temperature, server->temperature);
	append_option(&text, NULL, server->response_format);
	appendStringInfo(&text, "%d;", server->max_prompt_length);
	foreach(lc, server->extra_fields)
	{
		append_option(&text, NULL, ((Field *) lfirst(lc))->name);
		append_option(&text, NULL, ((Field *) lfirst(lc))->value);
	}
	snprintf(hash, PLAN_HASH_SIZE, "%016llx",
			 (unsigned long long) hash_bytes_extended((unsigned char *) text.data,
													  text.len, 0));
	pfree(text.data);
}

/*
 * Whether what the named server has made by that plan would be made by the
 * same options today.  Its rights do not matter: nothing is sent there.
 */
static bool
is_fresh(const Job *job, const char *server_name, const char *plan)
{
	const char *slash = strrchr(plan, '/');
	TranscribeServer server;
	char		hash[PLAN_HASH_SIZE];

	if (slash == NULL || server_find(server_name, BOOTSTRAP_SUPERUSERID,
									 job->options.model, &server) != SERVER_USABLE)
		return false;
	if (plan_splits_channels(job, &server) !=
		plan_splits_channels(job, &job->server))
		return false;
	hash_options(job, &server, hash);
	return strcmp(slash + 1, hash) == 0;
}

/* Whether two plans are of the same file, by what stands before the hash. */
static bool
same_file(const char *plan, const char *other)
{
	size_t		len = strcspn(plan, "/");

	return strncmp(plan, other, len) == 0 && other[len] == '/';
}

/*
 * Make the job's plan, and forget what is saved if any of it is stale; then
 * the attempt starts over.  The job's server must have been found, and its
 * options must still be in the encoding of the database.
 */
void
plan_make(Job *job)
{
	JobSaved   *before = NULL;
	ListCell   *lc;

	hash_options(job, &job->server, job->plan_hash);
	foreach(lc, job->saved)
	{
		JobSaved   *saved = lfirst(lc);

		/* Most are as the one before. */
		if (before != NULL && strcmp(saved->plan, before->plan) == 0 &&
			strcmp(saved->server, before->server) == 0)
			continue;
		if (!is_fresh(job, saved->server, saved->plan) ||
			(before != NULL && !same_file(saved->plan, before->plan)))
		{
			job->saved = NIL;
			return;
		}
		before = saved;
	}
}
