/*-------------------------------------------------------------------------
 *
 * checkup.c
 *	  transcribe_check: whether all is there that jobs need, in one call.
 *
 * Runs in the caller's backend, as the caller: jobs and servers are those that
 * it may see and use.  It looks from the bottom up, at library, launcher and
 * workers, programs, directories, keys, servers, and then at the jobs, which is
 * the work of the view transcribe_problems.  Programs and servers are tried for
 * real, by a probe (probe.c), and so there is waiting here, for as long as a
 * probe may take; once the time is up no other server is asked.
 *
 * A row is true if what it is about works, false if it keeps jobs from completing,
 * and NULL if it is worth knowing and does not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "session/check.h"
#include "session/identity.h"
#include "session/path.h"
#include "session/probe.h"
#include "shared/extension.h"
#include "shared/server.h"
#include "shared/state.h"
#include "shared/statement.h"
#include "transcribe.h"
#include "worker/endpoint.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(transcribe_check);

/* When this is over no other server is asked. */
#define SERVERS_TIMEOUT_MS	60000

/* A worker that has not come to work so often in a row has a reason. */
#define FAILED_STARTS		3

/* What ok is. */
typedef enum Verdict
{
	BAD,
	GOOD,
	NOTE
} Verdict;

/* A server that the caller may use. */
typedef struct Candidate
{
	char	   *name;
	char	   *state;			/* as in transcribe_servers */
	char	   *error;			/* or NULL */
} Candidate;

static ReturnSetInfo *rows;		/* where rows go */

static void
put(const char *item, Verdict ok, const char *detail, const char *hint)
{
	Datum		values[4] = {0};
	bool		nulls[4] = {false};

	values[0] = CStringGetTextDatum(item);
	values[1] = BoolGetDatum(ok == GOOD);
	nulls[1] = ok == NOTE;
	values[2] = CStringGetTextDatum(detail);
	nulls[3] = hint == NULL;
	if (hint != NULL)
		values[3] = CStringGetTextDatum(hint);
	tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
}

/* Whether the library is loaded, and of the version of the objects. */
static void
check_library(void)
{
	Oid			schema;
	char	   *version;

	if (!extension_find(&schema, &version))
		version = TRANSCRIBE_VERSION;
	if (transcribe_state() == NULL)
		put("library", BAD, "it was not loaded when the server started",
			psprintf("Run %s and restart the server.", identity_preload_command()));
	else if (!extension_serves(version) && extension_library_is_older(version))
		put("library", BAD,
			psprintf("version %s is loaded, which does not serve the installed objects, of version %s",
					 TRANSCRIBE_VERSION, version),
			"Restart the server.");
	else if (!extension_serves(version))
		put("library", BAD,
			psprintf("version %s is loaded, which does not serve the installed objects, of version %s",
					 TRANSCRIBE_VERSION, version),
			"ALTER EXTENSION transcribe UPDATE;");
	else if (strcmp(version, TRANSCRIBE_VERSION) != 0)
		put("library", NOTE,
			psprintf("version %s is loaded, which serves the installed objects, of version %s",
					 TRANSCRIBE_VERSION, version),
			"ALTER EXTENSION transcribe UPDATE;");
	else
		put("library", GOOD, psprintf("version %s", version), NULL);
}

/* Whether the launcher is there, and may start workers. */
static void
check_launcher(TranscribeState *state)
{
	if (RecoveryInProgress())
		put("launcher", NOTE, "this is a standby, on which nothing runs",
			"SELECT pg_promote(); starts it, if that is wanted.");
	else if (pg_atomic_read_u64(&state->launcher) == 0)
		put("launcher", BAD, "it is not there",
			"The server's log says why it ended. Where it says that there are too many background workers: ALTER SYSTEM SET max_worker_processes to a larger number, and restart the server.");
	else
		put("launcher", GOOD, "it is there", NULL);

	if (transcribe_enabled)
		put("enabled", GOOD, "jobs are begun", NULL);
	else
		put("enabled", BAD, "transcribe.enabled is off: no job is begun",
			"ALTER SYSTEM SET transcribe.enabled = on; SELECT pg_reload_conf();");
}

/*
 * Background workers that are there and not ours.  Those of parallel queries
 * come and go.
 */
static int
other_workers(void)
{
	int			n = pgstat_fetch_stat_numbackends();
	int			others = 0;

	for (int i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *entry = transcribe_backend_entry(i);
		const char *type;

		if (entry == NULL || entry->backendStatus.st_backendType != B_BG_WORKER)
			continue;
		type = GetBackgroundWorkerTypeByPid(entry->backendStatus.st_procpid);
		if (type != NULL && strncmp(type, "transcribe ", 11) != 0 &&
			strcmp(type, "parallel worker") != 0)
			others++;
	}
	return others;
}

/* Whether workers find processes, and this database's worker comes to work. */
static void
check_workers(TranscribeState *state)
{
	int			others = other_workers();
	int			needed = transcribe_max_workers + 1;
	int			database;
	int			failures = 0;
	char	   *detail;

	if (transcribe_max_workers == 0)
	{
		put("workers", BAD, "transcribe.max_workers is 0: no job ever runs",
			"ALTER SYSTEM SET transcribe.max_workers = 4; and restart the server.");
		return;
	}
	detail = psprintf("launcher and workers need up to %d of max_worker_processes = %d, and others have %d",
					  needed, max_worker_processes, others);
	if (needed + others > max_worker_processes)
		put("workers", BAD, detail,
			psprintf("ALTER SYSTEM SET max_worker_processes = %d; and restart the server.",
					 Max(max_worker_processes, 8) + needed + others - max_worker_processes));
	else
		put("workers", GOOD, detail, NULL);

	LWLockAcquire(state->lock, LW_SHARED);
	database = state_find_database(MyDatabaseId, false);
	if (database >= 0)
		failures = state->databases[database].failures;
	LWLockRelease(state->lock);
	if (failures >= FAILED_STARTS)
		put("worker", BAD,
			psprintf("that of this database was started %d times and did not come to work",
					 failures),
			"The server's log says why, in an ERROR of the transcribe worker.");
}

/* What is wrong with a program as a file, or NULL. */
static char *
program_problem(const char *program)
{
	char	   *path = psprintf("%s/%s", pkglib_path, program);
	struct stat st;

	if (stat(path, &st) != 0 || access(path, X_OK) != 0)
		return psprintf("could not execute \"%s\": %m", path);
	if (!S_ISREG(st.st_mode))
		return psprintf("\"%s\" is not a regular file", path);
	return NULL;
}

/* What holds of the sandbox. */
static void
report_sandbox(uint32 layers)
{
	bool		required = transcribe_sandbox == TRANSCRIBE_SANDBOX_REQUIRE;

	if (layers == WIRE_SANDBOX_ALL)
	{
		put("sandbox", GOOD, "recordings are read within limits, Landlock and seccomp", NULL);
		return;
	}
	put("sandbox", required ? BAD : NOTE,
		psprintf("recordings are read without all of it, missing:%s%s%s",
				 layers & WIRE_SANDBOX_LIMITS ? "" : " limits",
				 layers & WIRE_SANDBOX_LANDLOCK ? "" : " Landlock",
				 layers & WIRE_SANDBOX_SECCOMP ? "" : " seccomp"),
		layers & WIRE_SANDBOX_LANDLOCK ?
		"Have the container's runtime allow seccomp()." :
		"Landlock needs Linux 5.13, landlock in /sys/kernel/security/lsm (else lsm=landlock,... on the kernel's command line), and a container's runtime that allows its system calls.");
}

/* Tell what the probe has found of the programs. */
static void
report_programs(Probe *probe)
{
	static const char install[] =
		"\"make install\", or the package, puts it there; chmod 0755 makes it executable.";
	static const char restart[] =
		"Restart the server; if it comes back, install library and programs together again.";
	const char *code = probe->code;
	const char *error = probe->error != NULL ? check_text(probe->error) : NULL;
	const char *problem = program_problem("transcribe_agent");
	bool		of_agent = code != NULL &&
		(strcmp(code, "agent_unavailable") == 0 || strcmp(code, "crashed") == 0 ||
		 (strcmp(code, "other_version") == 0 &&
		  strncmp(error, "transcribe_agent", 16) == 0));

	if (problem != NULL || of_agent)
	{
		put("agent", BAD, problem != NULL ? problem : error,
			problem != NULL ? install : restart);
		return;
	}
	put("agent", GOOD, "transcribe_agent works", NULL);

	problem = program_problem("transcribe_media");
	if (code != NULL && strcmp(code, "sandbox_unavailable") == 0)
	{
		put("media", BAD, error,
			"ALTER SYSTEM SET transcribe.sandbox = 'prefer'; SELECT pg_reload_conf(); reads recordings with the layers that hold.");
		return;
	}
	if (problem != NULL || code != NULL)
	{
		put("media", BAD, problem != NULL ? problem : error,
			problem != NULL || strcmp(code, "not_found") == 0 ? install : restart);
		return;
	}
	put("media", GOOD, "transcribe_media reads a recording", NULL);
	report_sandbox(probe->job->source.sandbox);
}

/* Whether agent and media program work, for which they are started. */
static void
check_programs(void)
{
	Probe	   *probe = palloc0(sizeof(Probe));

	PG_ENSURE_ERROR_CLEANUP(probe_end, PointerGetDatum(probe));
	{
		probe_media(probe);
		report_programs(probe);
	}
	PG_END_ENSURE_ERROR_CLEANUP(probe_end, PointerGetDatum(probe));
	probe_end(0, PointerGetDatum(probe));
}

/* What is wrong with a directory, and what helps; NULL if nothing is. */
static char *
directory_problem(const char *directory, char **hint)
{
	const char *user = path_system_user();
	struct stat st;
	char	   *component;

	if (stat(directory, &st) == 0 && !S_ISDIR(st.st_mode))
	{
		*hint = "ALTER SYSTEM SET transcribe.media_directories to directories; SELECT pg_reload_conf();";
		return "it is not a directory";
	}
	if (access(directory, X_OK) == 0)
		return NULL;
	if (errno == ENOENT)
		*hint = psprintf("mkdir -p '%s', or take it out of transcribe.media_directories.",
						 directory);
	else
	{
		int			save_errno = errno;

		component = path_failing_component(directory);
		*hint = psprintf("setfacl -m u:%s:x '%s'", user, component);
		errno = save_errno;
		return psprintf("the operating-system user \"%s\" cannot pass \"%s\": %m",
						user, component);
	}
	return psprintf("%m");
}

/* Whether the directories are there that roles may name recordings in. */
static void
check_directories(void)
{
	List	   *directories = transcribe_media_directory_list();
	ListCell   *lc;

	if (directories == NIL)
		put("directories", NOTE,
			"transcribe.media_directories is empty: only members of pg_read_server_files may name recordings",
			"ALTER SYSTEM SET transcribe.media_directories = '/srv/audio'; SELECT pg_reload_conf(); with your directory lets all roles do so.");
	foreach(lc, directories)
	{
		char	   *hint = NULL;
		char	   *problem = directory_problem(lfirst(lc), &hint);

		put(psprintf("directory %s", (char *) lfirst(lc)),
			problem != NULL ? BAD : GOOD,
			problem != NULL ? problem : "it can be passed by the server's operating-system user",
			hint);
	}
}

/* Tell of the key in a user mapping, if it has one. */
static void
check_key(ForeignServer *server, Oid umuser, List *options)
{
	Job		   *job = job_create(0);
	char	   *role = OidIsValid(umuser) ? GetUserNameFromId(umuser, true) : "PUBLIC";
	const char *file = NULL;
	bool		given = false;
	const char *problem;
	char	   *item;
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		given |= strncmp(def->defname, "api_key", 7) == 0;
		file = strcmp(def->defname, "api_key_file") == 0 ? defGetString(def) :
			strcmp(def->defname, "api_key") == 0 ? NULL : file;
	}
	if (file != NULL)
		job->api_key_file = MemoryContextStrdup(job->context, file);
	problem = endpoint_read_key(job);
	job_free(job);
	if (!given || role == NULL)
		return;
	if (OidIsValid(umuser))
		role = unconstify(char *, quote_identifier(role));
	item = psprintf("key of %s at %s", role, server->servername);
	if (problem != NULL)
		put(item, BAD, problem,
			psprintf("chown %s and chmod 0600 that file, with the key in its only line; or ALTER USER MAPPING FOR %s SERVER %s OPTIONS (SET api_key_file '...'); and then SELECT transcribe_resume_server(%s);",
					 path_system_user(), role,
					 quote_identifier(server->servername),
					 quote_literal_cstr(server->servername)));
	else
		put(item, GOOD, file != NULL ? "its file can be read" :
			"it is in the user mapping", NULL);
}

/*
 * The keys in user mappings of our servers: all of them for a superuser, else
 * those that the caller's jobs may use.
 */
static void
check_keys(void)
{
	Relation	rel = table_open(UserMappingRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_user_mapping mapping = (Form_pg_user_mapping) GETSTRUCT(tuple);
		ForeignServer *server = GetForeignServerExtended(mapping->umserver, FSV_MISSING_OK);
		bool		isnull;
		Datum		options;

		if (server == NULL ||
			strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "transcribe") != 0)
			continue;
		if (!superuser() &&
			((OidIsValid(mapping->umuser) && mapping->umuser != GetUserId()) ||
			 transcribe_server_usage(server->serverid, GetUserId()) != ACLCHECK_OK))
			continue;
		options = heap_getattr(tuple, Anum_pg_user_mapping_umoptions,
							   RelationGetDescr(rel), &isnull);
		if (!isnull)
			check_key(server, mapping->umuser, untransformRelOptions(options));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* A text in a row of the result, in the memory context of the caller; or NULL. */
static char *
result_text(MemoryContext context, uint64 row, int column)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[row],
									 SPI_tuptable->tupdesc, column);

	return value != NULL ? MemoryContextStrdup(context, value) : NULL;
}

/* The servers that the caller may use, each with a state, the worst it has. */
static List *
find_servers(Oid schema)
{
	static Statement statement = {
		.sql = "SELECT server, state, error FROM %1$s.transcribe_servers ORDER BY server, retry_at"
	};
	MemoryContext context = CurrentMemoryContext;
	List	   *servers = NIL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	statement_execute(&statement, schema, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(context);
		Candidate  *candidate = palloc(sizeof(Candidate));

		candidate->name = result_text(context, i, 1);
		candidate->state = result_text(context, i, 2);
		candidate->error = result_text(context, i, 3);
		if (servers != NIL &&
			strcmp(((Candidate *) llast(servers))->name, candidate->name) == 0)
			lfirst(list_tail(servers)) = candidate;
		else
			servers = lappend(servers, candidate);
		MemoryContextSwitchTo(oldcontext);
	}
	SPI_finish();
	return servers;
}

/* Tell of a server that is not asked what is known of it. */
static void
report_state(Candidate *candidate, const char *item)
{
	char	   *resume = psprintf("SELECT transcribe_resume_server(%s);",
								  quote_literal_cstr(candidate->name));

	if (strcmp(candidate->state, "held") == 0)
		put(item, NOTE, "it is held: no more jobs are begun", resume);
	else if (strcmp(candidate->state, "available") == 0)
		put(item, NOTE, "it was not asked",
			psprintf("SELECT * FROM transcribe_check_server(%s);",
					 quote_literal_cstr(candidate->name)));
	else
		put(item, strcmp(candidate->state, "paused") == 0 ? NOTE : BAD,
			psprintf("it is %s: %s", candidate->state,
					 candidate->error != NULL ? candidate->error : "not known why"),
			psprintf("SELECT * FROM transcribe_check_server(%s); when that is good: %s",
					 quote_literal_cstr(candidate->name), resume));
}

/* Ask a server for what the recording says. */
static void
ask_server(Candidate *candidate, const char *item)
{
	TranscribeServer config;
	CheckSummary summary;

	if (server_find(candidate->name, GetUserId(), NULL, &config) == SERVER_NO_URL)
	{
		put(item, BAD, "it has no option \"url\"",
			psprintf("ALTER SERVER %s OPTIONS (ADD url '...');",
					 quote_identifier(candidate->name)));
		return;
	}
	check_server_briefly(candidate->name, &summary);
	if (!summary.ok && summary.hint == NULL)
		summary.hint = psprintf("SELECT * FROM transcribe_check_server(%s); says more.",
								quote_literal_cstr(candidate->name));
	if (summary.ok && strcmp(candidate->state, "available") != 0)
		put(item, NOTE,
			psprintf("it is %s, but answers again: %s", candidate->state, summary.detail),
			psprintf("SELECT transcribe_resume_server(%s);",
					 quote_literal_cstr(candidate->name)));
	else
		put(item, summary.ok ? GOOD : BAD, summary.detail, summary.hint);
}

/* The servers that the caller may use; if they are to be asked, until time is up. */
static void
check_servers(Oid schema, bool ask)
{
	List	   *servers = find_servers(schema);
	int64		until = worker_clock() + SERVERS_TIMEOUT_MS;
	ListCell   *lc;

	if (servers == NIL)
		put("servers", BAD, "there is none that this role may use",
			"SELECT * FROM transcribe_setup('http://...'); makes one, GRANT USAGE ON FOREIGN SERVER ... TO ...; lets a role use it.");
	foreach(lc, servers)
	{
		Candidate  *candidate = lfirst(lc);
		char	   *item = psprintf("server %s", candidate->name);

		if (ask && worker_clock() < until && strcmp(candidate->state, "held") != 0)
			ask_server(candidate, item);
		else
			report_state(candidate, item);
	}
}

/* What stands in the way of jobs that the caller may see. */
static void
check_jobs(Oid schema)
{
	static Statement statement = {
		.sql = "SELECT item, ok, detail, hint FROM %1$s.transcribe_problems"
	};
	MemoryContext context = CurrentMemoryContext;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	statement_execute(&statement, schema, NULL, NULL);
	if (SPI_processed == 0)
		put("jobs", GOOD, "nothing stands in the way of those that wait, and none has failed during the last day", NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		bool		ok = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i],
													SPI_tuptable->tupdesc, 2, &isnull));

		put(result_text(context, i, 1), isnull ? NOTE : ok ? GOOD : BAD,
			result_text(context, i, 3), result_text(context, i, 4));
	}
	SPI_finish();
}

/* SQL: what jobs need, one row for each thing. */
Datum
transcribe_check(PG_FUNCTION_ARGS)
{
	bool		ask = PG_ARGISNULL(0) || PG_GETARG_BOOL(0);
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);

	InitMaterializedSRF(fcinfo, 0);
	rows = (ReturnSetInfo *) fcinfo->resultinfo;
	check_library();
	if (transcribe_state() != NULL)
	{
		check_launcher(transcribe_state());
		check_workers(transcribe_state());
	}
	check_programs();
	check_directories();
	check_keys();
	check_servers(schema, ask);
	check_jobs(schema);
	return (Datum) 0;
}
