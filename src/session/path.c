/*-------------------------------------------------------------------------
 *
 * path.c
 *	  Whether a role may name a file as its recording, said at once.
 *
 * Runs in the caller's backend, so that a mistake is an error of the call
 * and not of a job some seconds later.  It is a courtesy, not the guard: the
 * media child opens the file itself, and decides again when it does.  A role
 * learns of no file outside the directories that it may use.
 *
 *-------------------------------------------------------------------------
 */
#include "session/path.h"

#include <limits.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"

#include "transcribe.h"

/* Name of the operating-system user that the server runs as. */
const char *
path_system_user(void)
{
	struct passwd *pw = getpwuid(geteuid());

	return pw != NULL ? pstrdup(pw->pw_name) : psprintf("%u", (unsigned) geteuid());
}

/*
 * The first component of the path that cannot be passed or is not there,
 * with its slashes: what the user must look at.
 */
char *
path_failing_component(const char *path)
{
	char	   *part = pstrdup(path);
	struct stat st;

	for (char *slash = strchr(part + 1, '/'); slash != NULL;
		 slash = strchr(slash + 1, '/'))
	{
		*slash = '\0';
		if (stat(part, &st) != 0 || access(part, X_OK) != 0)
			return part;
		*slash = '/';
	}
	return part;
}

/* The file cannot be reached; errno says why. */
static void
report_unreadable(const char *path)
{
	int			save_errno = errno;
	char	   *component = path_failing_component(path);

	errno = save_errno;
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not read audio file \"%s\": %m", path),
			 strcmp(component, path) != 0 ?
			 errdetail("The problem is at \"%s\".", component) : 0,
			 errhint("The file is read on the database server, by the operating-system user \"%s\".",
					 path_system_user())));
}

/*
 * Whether the file lies below one of transcribe.media_directories, after
 * all symbolic links.
 */
static bool
below_media_directory(const char *path)
{
	char		resolved[PATH_MAX];
	char		root[PATH_MAX];
	ListCell   *lc;

	if (realpath(path, resolved) == NULL)
		return false;
	foreach(lc, transcribe_media_directory_list())
	{
		if (realpath(lfirst(lc), root) != NULL &&
			path_is_prefix_of_path(root, resolved))
			return true;
	}
	return false;
}

/*
 * Whether the path, as it is written, points below a media directory, as that
 * is written or as it really is.
 */
static bool
written_below_media_directory(const char *path)
{
	char		root[PATH_MAX];
	char	   *canonical = pstrdup(path);
	ListCell   *lc;

	canonicalize_path(canonical);
	foreach(lc, transcribe_media_directory_list())
	{
		if (path_is_prefix_of_path(lfirst(lc), canonical) ||
			(realpath(lfirst(lc), root) != NULL &&
			 path_is_prefix_of_path(root, canonical)))
			return true;
	}
	return false;
}

static void
report_not_allowed(const char *path)
{
	bool		none = transcribe_media_directory_list() == NIL;

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to read audio file \"%s\"", path),
			 none ?
			 errdetail("transcribe.media_directories is empty.") :
			 errdetail("The file is not below a directory of transcribe.media_directories."),
			 errhint("Have its directory added to transcribe.media_directories, or be granted pg_read_server_files.")));
}

/*
 * Raise an error unless the role may name this path and a regular file that
 * the server can read is there.
 */
void
path_check(const char *path, Oid roleid)
{
	bool		any = has_privs_of_role(roleid, ROLE_PG_READ_SERVER_FILES);
	struct stat st;

	if (!is_absolute_path(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path of audio file \"%s\" is not absolute", path),
				 errhint("Give the whole path of the file on the database server, beginning with a slash.")));
	if (!any && !written_below_media_directory(path))
		report_not_allowed(path);
	if (strlen(path) >= PATH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path of audio file is too long"),
				 errdetail("It has %zu bytes; the operating system takes at most %d.",
						   strlen(path), PATH_MAX - 1)));

	/*
	 * Here a link that leaves the directory and a file that is not there
	 * look alike to a role without rights beyond: both must, only the second
	 * says more.
	 */
	if (stat(path, &st) != 0)
		report_unreadable(path);
	if (!any && !below_media_directory(path))
		report_not_allowed(path);
	if (S_ISDIR(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("audio file \"%s\" is a directory", path)));
	if (!S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("audio file \"%s\" is not a regular file", path),
				 errdetail("Devices, pipes and sockets are not read.")));
	if (access(path, R_OK) != 0)
		report_unreadable(path);
}
