/*-------------------------------------------------------------------------
 *
 * sandbox.c
 *	  Giving up every right that decoding does not need.
 *
 * Runs in transcribe_media, between opening the recording and reading its
 * first byte.  From then on an exploit in a demuxer or decoder owns a process
 * that can read one file, write to one socket, and burn a bounded amount of
 * memory and time; it cannot open, connect, execute or look at others.
 *
 * There are three layers, and each is taken if it is there: old kernels know
 * no Landlock, and container runtimes may refuse seccomp filters.  The caller
 * learns which ones hold.
 *
 *-------------------------------------------------------------------------
 */
#include "media/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What decoding, encoding and the C library need. */
static const int allowed[] = {
	SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64),
	SCMP_SYS(write), SCMP_SYS(writev),
	SCMP_SYS(lseek), SCMP_SYS(_llseek), SCMP_SYS(fstat), SCMP_SYS(fstat64),
	SCMP_SYS(close),
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
	SCMP_SYS(brk), SCMP_SYS(futex), SCMP_SYS(futex_time64),
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_gettime64),
	SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time),
	SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid),
	SCMP_SYS(getrusage), SCMP_SYS(sysinfo),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_yield),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(sigreturn),
	SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

/*
 * Libraries try these in good faith (locales, tables, /dev/urandom) and go
 * on without; as if the file's permissions said no.  Among them newfstatat():
 * the C library's fstat() is one, but a filter cannot tell it from a look at
 * any file, whose name goes with the same flag.  Nothing depends on it.
 */
static const int refused[] = {
	SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(creat),
	SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(stat64), SCMP_SYS(lstat64),
	SCMP_SYS(newfstatat), SCMP_SYS(fstatat64), SCMP_SYS(statx), SCMP_SYS(access),
	SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink),
	SCMP_SYS(readlinkat), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
	SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2),
	SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(link), SCMP_SYS(linkat),
	SCMP_SYS(symlink), SCMP_SYS(symlinkat),
};

/*
 * Nothing of ours ever tries these: whoever does has taken the process over.
 * All other calls fail with EPERM, so that a new C library with a new habit
 * does not turn into an outage.
 */
static const int deadly[] = {
	SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace),
	SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(clone), SCMP_SYS(clone3),
	SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
	SCMP_SYS(socket), SCMP_SYS(socketpair), SCMP_SYS(socketcall),
	SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept),
	SCMP_SYS(accept4), SCMP_SYS(sendto), SCMP_SYS(sendmsg),
	SCMP_SYS(sendmmsg), SCMP_SYS(recvmsg), SCMP_SYS(io_uring_setup),
	SCMP_SYS(bpf), SCMP_SYS(userfaultfd), SCMP_SYS(unshare), SCMP_SYS(setns),
	SCMP_SYS(mount), SCMP_SYS(pidfd_getfd), SCMP_SYS(keyctl),
	SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(perf_event_open),
};

#define LENGTH(array)	(sizeof(array) / sizeof((array)[0]))

/* Built ahead, by the template; NULL if it could not be. */
static scmp_filter_ctx filter;

/* Add one action for many calls.  Returns false if libseccomp refused. */
static bool
add_rules(uint32_t action, const int *calls, size_t ncalls)
{
	for (size_t i = 0; i < ncalls; i++)
	{
		int			result = seccomp_rule_add(filter, action, calls[i], 0);

		/* A call that this architecture does not have needs no rule. */
		if (result != 0 && result != -EDOM)
			return false;
	}
	return true;
}

/*
 * Add the calls that get memory, but never any that can be executed.  The
 * third argument of each is what it may be used for.
 */
static bool
add_memory_rules(void)
{
	static const int calls[] = {
		SCMP_SYS(mmap), SCMP_SYS(mmap2), SCMP_SYS(mprotect)
	};

	for (size_t i = 0; i < LENGTH(calls); i++)
	{
		int			result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i],
											  1, SCMP_A2(SCMP_CMP_MASKED_EQ,
														 PROT_EXEC, 0));

		if (result != 0 && result != -EDOM)
			return false;
	}
	return true;
}

/*
 * Build the filter.  It takes a millisecond, which the template spends once for
 * all recordings.
 */
void
sandbox_prepare(void)
{
	filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (filter == NULL)
		return;

	/* Calls by another architecture's numbers are an attempt to get round. */
	if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
						 SCMP_ACT_KILL_PROCESS) == 0 &&
		add_rules(SCMP_ACT_ALLOW, allowed, LENGTH(allowed)) &&
		add_memory_rules() &&
		add_rules(SCMP_ACT_ERRNO(EACCES), refused, LENGTH(refused)) &&
		add_rules(SCMP_ACT_KILL_PROCESS, deadly, LENGTH(deadly)))
		return;
	seccomp_release(filter);
	filter = NULL;
}

static bool
set_limit(int resource, uint64_t value)
{
	struct rlimit limit = {value, value};
	struct rlimit present;

	/* Never more than we may have already. */
	if (getrlimit(resource, &present) == 0 && present.rlim_max < value)
		limit.rlim_cur = limit.rlim_max = present.rlim_max;
	return setrlimit(resource, &limit) == 0;
}

/*
 * Bound what the process may use up.  No new descriptor, process or file;
 * no core file, which would hold a piece of somebody's conversation.
 */
static bool
set_limits(const SandboxLimits *limits)
{
	bool		ok = true;

	ok &= set_limit(RLIMIT_CORE, 0);
	ok &= set_limit(RLIMIT_NOFILE, 0);
	ok &= set_limit(RLIMIT_NPROC, 0);
	ok &= set_limit(RLIMIT_AS, limits->memory);
	if (!limits->writes_files)
		ok &= set_limit(RLIMIT_FSIZE, 0);
	if (limits->cpu_seconds > 0)
		ok &= set_limit(RLIMIT_CPU, limits->cpu_seconds);
	return ok;
}

/* If memory runs out, this process goes first, and the server stays. */
static void
volunteer_for_oom(void)
{
	int			fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "1000", 4) < 0)
	{
		/* No better place in the queue, then; nothing depends on it. */
	}
	close(fd);
}

/*
 * Have the kernel refuse every file by Landlock, whatever system call asks.
 * The structure is our own: headers of the build may be older than the
 * kernel, and what a kernel does not know must be zero.
 */
static bool
enter_landlock(void)
{
#ifdef SYS_landlock_create_ruleset
	struct
	{
		uint64_t	fs;
		uint64_t	net;
		uint64_t	scoped;
	}			rights = {0};
	size_t		size;
	int			version;
	int			ruleset;
	bool		ok;

	/* With flag 1 the call answers which version of Landlock there is. */
	version = (int) syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	if (version < 1)
		return false;

	/* All rights that the version knows; without a rule, none is granted. */
	rights.fs = version >= 5 ? 0xffff : version >= 3 ? 0x7fff :
		version == 2 ? 0x3fff : 0x1fff;
	if (version >= 4)
		rights.net = 0x3;		/* binding and connecting, by TCP */
	if (version >= 6)
		rights.scoped = 0x3;	/* abstract sockets, and signals */
	size = version >= 6 ? sizeof(rights) : version >= 4 ?
		2 * sizeof(uint64_t) : sizeof(uint64_t);
	ruleset = (int) syscall(SYS_landlock_create_ruleset, &rights, size, 0);
	if (ruleset < 0)
		return false;
	ok = syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
	close(ruleset);
	return ok;
#else
	return false;
#endif
}

/*
 * Lock in the calling thread.  Returns which of the wanted layers hold for
 * it: the kernel keeps Landlock and seccomp for each thread apart.  The order
 * matters: each step needs what the next ones take away.
 */
unsigned
sandbox_enter_thread(unsigned wanted)
{
	unsigned	layers = 0;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return 0;
	if ((wanted & SANDBOX_LANDLOCK) && enter_landlock())
		layers |= SANDBOX_LANDLOCK;
	if ((wanted & SANDBOX_SECCOMP) && filter != NULL &&
		seccomp_load(filter) == 0)
		layers |= SANDBOX_SECCOMP;
	return layers;
}

/*
 * Lock in the process: its limits, and the calling thread.  All others must
 * have entered before, because what this takes away they need to enter.
 * Returns which of the wanted layers hold; what could not be had is left out,
 * and the caller decides whether that is enough.
 */
unsigned
sandbox_enter(const SandboxLimits *limits, unsigned wanted)
{
	unsigned	layers = 0;

	volunteer_for_oom();
	prctl(PR_SET_DUMPABLE, 0);
	if ((wanted & SANDBOX_LANDLOCK) &&
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && enter_landlock())
		layers |= SANDBOX_LANDLOCK;
	if ((wanted & SANDBOX_LIMITS) && set_limits(limits))
		layers |= SANDBOX_LIMITS;
	return layers | sandbox_enter_thread(wanted & SANDBOX_SECCOMP);
}
