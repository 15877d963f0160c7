/*-------------------------------------------------------------------------
 *
 * open.c
 *	  Finding a recording, and making sure that it may be read.
 *
 * Runs in transcribe_media before it locks itself in, with all rights of the
 * server's operating-system user, and therefore reads nothing but names.
 * The path is a user's word.  Where roots are given, what is opened lies
 * below one of them, whatever links say and whoever moves them meanwhile.
 * Nothing here waits for a FIFO's writer or a terminal's carrier.
 *
 *-------------------------------------------------------------------------
 */
#include "media/open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * O_NONBLOCK: opening a FIFO does not wait for its other end.  O_NOCTTY: a
 * terminal does not become ours.  Neither matters for a regular file.
 */
#define OPEN_FLAGS	(O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/*
 * A rename somewhere in the tree makes openat2() give up with EAGAIN rather
 * than decide wrongly; so often in a row it is no accident.
 */
#define MAX_RETRIES	16

/* Report that the path could not be opened, from errno. */
static void
open_failed(const char *path, MediaError *error)
{
	const char *code = MEDIA_IO_ERROR;

	switch (errno)
	{
		case ENOENT:
		case ENOTDIR:
		case ELOOP:
		case ENAMETOOLONG:
			code = MEDIA_NOT_FOUND;
			break;
		case EACCES:
		case EPERM:
			code = MEDIA_PERMISSION_DENIED;
			break;
		case ENXIO:				/* a socket, or a device that is not there */
		case ENODEV:
			code = MEDIA_NOT_REGULAR_FILE;
			break;
		case ENOMEM:
			code = MEDIA_OUT_OF_MEMORY;
			break;
	}
	media_fail(error, code, "could not open audio file \"%s\": %s",
			   path, strerror(errno));
}

/* The same answer for all that lies outside, be it there or not. */
static void
not_allowed(const char *path, MediaError *error)
{
	media_fail(error, MEDIA_NOT_ALLOWED,
			   "audio file \"%s\" is not in an allowed directory", path);
}

/*
 * If path lies below root, the part of it that follows; else NULL.  Both are
 * compared as text: the caller knows what that is worth.
 */
static const char *
below(const char *path, const char *root)
{
	size_t		len = strlen(root);

	while (len > 0 && root[len - 1] == '/')
		len--;
	if (strncmp(path, root, len) != 0 || path[len] != '/')
		return NULL;
	path += len;
	while (*path == '/')
		path++;
	return path;
}

/*
 * Open a relative path without links, one component at a time, for kernels
 * (before 5.6) and containers that have no openat2().
 */
static int
open_by_walking(int dir, const char *relative)
{
	char		component[NAME_MAX + 1];
	int			at = dir;

	for (;;)
	{
		size_t		len = strcspn(relative, "/");
		bool		last = relative[len] == '\0';
		int			flags = O_NOFOLLOW |
			(last ? OPEN_FLAGS : O_PATH | O_DIRECTORY | O_CLOEXEC);
		int			next = -1;

		errno = ENAMETOOLONG;
		if (len <= NAME_MAX)
		{
			memcpy(component, relative, len);
			component[len] = '\0';
			next = openat(at, component, flags);
		}
		if (at != dir)
		{
			int			save_errno = errno;

			close(at);
			errno = save_errno;
		}
		if (last || next < 0)
			return next;
		at = next;
		relative += len + 1;
	}
}

/*
 * Open a path below a directory.  Neither contains links, as realpath() left
 * them; if one appears meanwhile, opening fails.
 */
static int
open_beneath(const char *root, const char *relative)
{
	struct open_how how = {
		.flags = OPEN_FLAGS,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
		RESOLVE_NO_MAGICLINKS
	};
	int			dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int			save_errno;
	int			fd;

	if (dir < 0)
		return -1;
	for (int i = 0; i < MAX_RETRIES; i++)
	{
		fd = (int) syscall(SYS_openat2, dir, relative, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}

	/* EPERM is what older container runtimes answer to calls unknown to them. */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		fd = open_by_walking(dir, relative);
	save_errno = errno;
	close(dir);
	errno = save_errno;
	return fd;
}

/*
 * The path could not be resolved.  Say why only if its text stays below a
 * root: the difference between "no such file" and "not allowed" would tell
 * what exists elsewhere.
 */
static void
resolve_failed(const WireOpen *open, MediaError *error)
{
	int			save_errno = errno;

	for (uint32_t i = 0; i < open->nroots; i++)
	{
		const char *relative = below(open->path, open->roots[i]);

		if (relative != NULL && strncmp(relative, "../", 3) != 0 &&
			strstr(relative, "/../") == NULL)
		{
			errno = save_errno;
			open_failed(open->path, error);
			return;
		}
	}
	not_allowed(open->path, error);
}

/* Open a path that must lie below one of the roots.  Returns -1 if not. */
static int
open_allowed(const WireOpen *open, MediaError *error)
{
	char	   *path = realpath(open->path, NULL);
	bool		found = false;
	int			fd = -1;

	if (path == NULL)
	{
		resolve_failed(open, error);
		return -1;
	}
	for (uint32_t i = 0; i < open->nroots && !found; i++)
	{
		char	   *root = realpath(open->roots[i], NULL);
		const char *relative = root != NULL ? below(path, root) : NULL;

		if (relative != NULL)
		{
			found = true;
			fd = open_beneath(root, relative);
			if (fd < 0)
				open_failed(open->path, error);
		}
		free(root);
	}
	free(path);
	if (!found)
		not_allowed(open->path, error);
	return fd;
}

/* Is what was opened a recording that we take?  Sets the error if not. */
static bool
acceptable(const WireOpen *open, const struct stat *status,
		   MediaError *error)
{
	if (S_ISDIR(status->st_mode))
		return media_fail(error, MEDIA_IS_DIRECTORY,
						  "\"%s\" is a directory", open->path);
	if (!S_ISREG(status->st_mode))
		return media_fail(error, MEDIA_NOT_REGULAR_FILE,
						  "\"%s\" is not a regular file", open->path);
	if (status->st_size == 0)
		return media_fail(error, MEDIA_EMPTY_FILE,
						  "audio file \"%s\" is empty", open->path);
	if (open->max_source_bytes > 0 &&
		(uint64_t) status->st_size > open->max_source_bytes)
		return media_fail(error, MEDIA_FILE_TOO_LARGE,
						  "audio file \"%s\" has %lld bytes, more than the %llu that are allowed",
						  open->path, (long long) status->st_size,
						  (unsigned long long) open->max_source_bytes);
	return true;
}

/*
 * Open the recording.  Returns a descriptor to be read from, blocking, and
 * the file's status; or -1 with the error set.
 */
int
open_recording(const WireOpen *wanted, struct stat *status, MediaError *error)
{
	int			fd;

	if (wanted->nroots > 0)
		fd = open_allowed(wanted, error);
	else
	{
		fd = open(wanted->path, OPEN_FLAGS);
		if (fd < 0)
			open_failed(wanted->path, error);
	}
	if (fd < 0)
		return -1;
	if (fstat(fd, status) != 0)
		open_failed(wanted->path, error);
	else if (acceptable(wanted, status, error))
	{
		if (fcntl(fd, F_SETFL, O_RDONLY) == 0)
			return fd;
		open_failed(wanted->path, error);
	}
	close(fd);
	return -1;
}
