/*-------------------------------------------------------------------------
 *
 * attempt.c
 *	  One thing that a decoder which was taken over might try.
 *
 *	  attempt RECORDING LAYERS WHAT [thread]
 *
 * Goes the way of transcribe_media up to the point at which it would read
 * the recording: warm up, open, lock in.  Then it tries WHAT, once, and
 * writes to descriptor 1 what came of it: "succeeded", or the name of an
 * errno.  If it is killed, that is the answer.
 *
 * LAYERS is "production" for the lock-in as it is, or names the only layer to
 * be entered: limits, landlock, seccomp; or "none", which shows what would
 * come of it outside.  With "thread" the attempt is made by a thread that was
 * started before the lock-in, and entered by itself.  WHAT is one of the
 * table below; or "layers", which asks for those that hold, and for the
 * version of Landlock; or "threads", which asks how many of the threads that
 * transcribe_media starts are filtered.
 *
 * Run by test/t/015_sandbox.pl, with a socket as descriptor 0 and in a
 * directory of its own.  Never installed.
 *
 *-------------------------------------------------------------------------
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "media/open.h"
#include "media/prepare.h"
#include "media/sandbox.h"

/* The limits where one layer is tried alone. */
#define MEMORY		(UINT64_C(1) << 30)
#define CPU_SECONDS	1

/* Of a recording that is worth a second thread. */
#define LARGE_FILE	((off_t) 1 << 30)

/* What a decoder may well need, and what it never gets. */
#define SOME_MEMORY	((size_t) 64 << 20)
#define TOO_MUCH	((size_t) 4 << 30)

/* A file that everybody may read, and that is none of ours. */
#define SECRET		"/etc/passwd"

/* A file of ours in the working directory, and one that is not there. */
#define SCRATCH		"scratch"
#define NEW_FILE	"new"

static int	recording = -1;
static int	scratch_fd = -1;
static void *page;				/* of memory that may be written */
static pid_t parent;
static pid_t self;

/* A child that an attempt did get must not go on with our work. */
static long
forked(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t) pid, NULL, 0);
	return pid;
}

/* Opening, and all that takes a name. */
static long
try_open(void)
{
	return syscall(SYS_openat, AT_FDCWD, SECRET, O_RDONLY);
}

static long
try_openat2(void)
{
	struct open_how how = {.flags = O_RDONLY};

	return syscall(SYS_openat2, AT_FDCWD, SECRET, &how, sizeof(how));
}

static long
try_open_write(void)
{
	return syscall(SYS_openat, AT_FDCWD, SCRATCH, O_WRONLY);
}

static long
try_creat(void)
{
	return syscall(SYS_openat, AT_FDCWD, NEW_FILE,
				   O_WRONLY | O_CREAT | O_TRUNC, 0600);
}

static long
try_open_self_mem(void)
{
	int			fd = (int) syscall(SYS_openat, AT_FDCWD, "/proc/self/mem",
								   O_RDWR);

	return fd < 0 ? -1 : pwrite(fd, "x", 1, (off_t) (uintptr_t) page);
}

static long
try_stat(void)
{
	struct stat status;

	return syscall(SYS_newfstatat, AT_FDCWD, SECRET, &status, 0);
}

/* What allows fstat() of a descriptor must not allow this. */
static long
try_stat_as_fstat(void)
{
	struct stat status;

	return syscall(SYS_newfstatat, AT_FDCWD, SECRET, &status, AT_EMPTY_PATH);
}

static long
try_unlink(void)
{
	return syscall(SYS_unlinkat, AT_FDCWD, SCRATCH, 0);
}

static long
try_rename(void)
{
	return syscall(SYS_renameat2, AT_FDCWD, SCRATCH, AT_FDCWD,
				   NEW_FILE, 0);
}

static long
try_truncate(void)
{
	return syscall(SYS_truncate, SCRATCH, 1);
}

static long
try_chmod(void)
{
	return syscall(SYS_fchmodat, AT_FDCWD, SCRATCH, 0777);
}

static long
try_memfd_create(void)
{
	return syscall(SYS_memfd_create, "x", 0);
}

static long
try_mq_open(void)
{
	return syscall(SYS_mq_open, "transcribe-attempt", O_RDWR | O_CREAT, 0600,
				   NULL);
}

static long
try_shmget(void)
{
	long		id = syscall(SYS_shmget, IPC_PRIVATE, 4096, IPC_CREAT | 0600);

	if (id >= 0)
		syscall(SYS_shmctl, id, IPC_RMID, NULL);
	return id;
}

/* The network. */
static long
try_socket_inet(void)
{
	return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static long
try_socket_unix(void)
{
	return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
}

/* The socket that is there is no way to another place either. */
static long
try_connect(void)
{
	struct sockaddr address = {.sa_family = AF_UNSPEC};

	return syscall(SYS_connect, STDIN_FILENO, &address, sizeof(address));
}

/* By a socket made before the lock-in, which the real process has not. */
static int	tcp_socket = -1;

static long
try_connect_tcp(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(1),
		.sin_addr = {htonl(INADDR_LOOPBACK)}
	};

	return syscall(SYS_connect, tcp_socket, &address, sizeof(address));
}

static long
try_sendmsg(void)
{
	struct iovec part = {"x", 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	return syscall(SYS_sendmsg, STDIN_FILENO, &message, 0);
}

static long
try_recvmsg(void)
{
	char		byte;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	return syscall(SYS_recvmsg, STDIN_FILENO, &message, MSG_DONTWAIT);
}

/* Processes and threads. */
static long
try_fork(void)
{
#ifdef SYS_fork
	return forked(syscall(SYS_fork));
#else
	return forked(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
#endif
}

static long
try_vfork(void)
{
	return forked(syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0));
}

static long
try_clone3(void)
{
	struct clone_args args = {.exit_signal = SIGCHLD};

	return forked(syscall(SYS_clone3, &args, sizeof(args)));
}

static void *
do_nothing(void *arg)
{
	return arg;
}

static long
try_pthread_create(void)
{
	pthread_t	thread;

	errno = pthread_create(&thread, NULL, do_nothing, NULL);
	if (errno != 0)
		return -1;
	return pthread_join(thread, NULL);
}

/* Then it is the other program that says so. */
static long
try_execve(void)
{
	char	   *argv[] = {"echo", "-n", "succeeded", NULL};
	char	   *envp[] = {NULL};

	return syscall(SYS_execve, "/bin/echo", argv, envp);
}

static long
try_ptrace_parent(void)
{
	return syscall(SYS_ptrace, PTRACE_SEIZE, parent, 0, 0);
}

static long
try_ptrace_traceme(void)
{
	return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static long
try_process_vm_readv(void)
{
	char		byte;
	struct iovec ours = {&byte, 1};
	struct iovec theirs = {page, 1};

	return syscall(SYS_process_vm_readv, parent, &ours, 1, &theirs, 1, 0);
}

static long
try_kill_parent(void)
{
	return syscall(SYS_kill, parent, 0);
}

static long
try_kill_self(void)
{
	return syscall(SYS_kill, self, 0);
}

static long
try_kill_group(void)
{
	return syscall(SYS_kill, 0, 0);
}

static long
try_tgkill(void)
{
	return syscall(SYS_tgkill, parent, parent, 0);
}

static long
try_pidfd_open(void)
{
	return syscall(SYS_pidfd_open, parent, 0);
}

/* Code. */
static long
try_mmap_exec(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}

static long
try_mprotect_exec(void)
{
	return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static long
try_pkey_mprotect_exec(void)
{
	return syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_EXEC, -1);
}

/* Makes all readable memory executable. */
static long
try_personality(void)
{
	return syscall(SYS_personality, 0x0400000);
}

/* More than was given.  Volatile, or a newer GCC spares itself the allocation. */
static long
try_memory(void)
{
	char	   *volatile memory = malloc(TOO_MUCH);

	if (memory == NULL)
		return -1;
	memory[0] = 1;
	return 0;
}

static long
try_cpu(void)
{
	struct timespec used;

	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	while (used.tv_sec < CPU_SECONDS + 2);
	return 0;
}

static long
try_file_size(void)
{
	return write(scratch_fd, "x", 1);
}

static long
raise_limit(int resource, rlim_t value)
{
	struct rlimit limit = {value, value};

	return syscall(SYS_prlimit64, 0, resource, &limit, NULL);
}

static long
try_raise_memory(void)
{
	return raise_limit(RLIMIT_AS, (rlim_t) 1 << 45);
}

static long
try_raise_core(void)
{
	struct rlimit limit;

	if (syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, &limit) == 0 &&
		limit.rlim_cur > 0)
		return 0;
	return raise_limit(RLIMIT_CORE, 1 << 20);
}

static long
try_dumpable(void)
{
	return syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

/* Parts of the kernel that have had many holes. */
static long
try_io_uring(void)
{
	struct io_uring_params params = {0};

	return syscall(SYS_io_uring_setup, 1, &params);
}

static long
try_bpf(void)
{
	return syscall(SYS_bpf, 0, NULL, 0);
}

static long
try_userfaultfd(void)
{
	return syscall(SYS_userfaultfd, 1 /* of user mode only */ );
}

static long
try_perf_event_open(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr),
		.exclude_kernel = 1, .exclude_hv = 1
	};

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static long
try_keyctl(void)
{
	return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID,
				   KEY_SPEC_SESSION_KEYRING, 1);
}

static long
try_unshare(void)
{
	return syscall(SYS_unshare, CLONE_NEWUSER);
}

static long
try_setns(void)
{
	return syscall(SYS_setns, recording, 0);
}

static long
try_mount(void)
{
	return syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL);
}

static long
try_setuid(void)
{
	return syscall(SYS_setuid, getuid());
}

/* Typing into somebody's terminal. */
static long
try_tiocsti(void)
{
	return ioctl(STDIN_FILENO, TIOCSTI, "x");
}

/* Numbers of another architecture, by which open() would be another call. */
static long
try_int_0x80(void)
{
#ifdef __x86_64__
	long		result;

	__asm__ volatile ("int $0x80":"=a" (result):"a"(20):"memory");

	return result;
#else
	errno = ENOSYS;
	return -1;
#endif
}

static long
try_x32(void)
{
	return syscall(0x40000000 | SYS_getpid);
}

/* What must go on working. */
static long
can_read(void)
{
	char		bytes[16];

	return read(recording, bytes, sizeof(bytes)) == sizeof(bytes) &&
		lseek(recording, 0, SEEK_SET) == 0 ? 0 : -1;
}

static long
can_write_agent(void)
{
	return write(STDIN_FILENO, "x", 1);
}

static long
can_read_agent(void)
{
	char		byte;

	return read(STDIN_FILENO, &byte, 1) == 1 ? 0 : -1;
}

static long
can_allocate(void)
{
	char	   *volatile memory = malloc(SOME_MEMORY);

	if (memory == NULL)
		return -1;
	memset(memory, 1, SOME_MEMORY);
	free(memory);
	return 0;
}

static long
can_tell_time(void)
{
	struct timespec now;

	return syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
}

static const struct
{
	const char *name;
	long		(*attempt) (void);
}			attempts[] = {
	{"open", try_open},
	{"openat2", try_openat2},
	{"open-write", try_open_write},
	{"creat", try_creat},
	{"proc-self-mem", try_open_self_mem},
	{"stat", try_stat},
	{"stat-as-fstat", try_stat_as_fstat},
	{"unlink", try_unlink},
	{"rename", try_rename},
	{"truncate", try_truncate},
	{"chmod", try_chmod},
	{"memfd_create", try_memfd_create},
	{"mq_open", try_mq_open},
	{"shmget", try_shmget},
	{"socket-inet", try_socket_inet},
	{"socket-unix", try_socket_unix},
	{"connect", try_connect},
	{"connect-tcp", try_connect_tcp},
	{"sendmsg", try_sendmsg},
	{"recvmsg", try_recvmsg},
	{"fork", try_fork},
	{"vfork", try_vfork},
	{"clone3", try_clone3},
	{"pthread_create", try_pthread_create},
	{"execve", try_execve},
	{"ptrace-parent", try_ptrace_parent},
	{"ptrace-traceme", try_ptrace_traceme},
	{"process_vm_readv", try_process_vm_readv},
	{"kill-parent", try_kill_parent},
	{"kill-self", try_kill_self},
	{"kill-group", try_kill_group},
	{"tgkill", try_tgkill},
	{"pidfd_open", try_pidfd_open},
	{"mmap-exec", try_mmap_exec},
	{"mprotect-exec", try_mprotect_exec},
	{"pkey_mprotect-exec", try_pkey_mprotect_exec},
	{"personality", try_personality},
	{"memory", try_memory},
	{"cpu", try_cpu},
	{"file-size", try_file_size},
	{"raise-memory", try_raise_memory},
	{"raise-core", try_raise_core},
	{"dumpable", try_dumpable},
	{"io_uring_setup", try_io_uring},
	{"bpf", try_bpf},
	{"userfaultfd", try_userfaultfd},
	{"perf_event_open", try_perf_event_open},
	{"keyctl", try_keyctl},
	{"unshare", try_unshare},
	{"setns", try_setns},
	{"mount", try_mount},
	{"setuid", try_setuid},
	{"tiocsti", try_tiocsti},
	{"int-0x80", try_int_0x80},
	{"x32", try_x32},
	{"read", can_read},
	{"write-agent", can_write_agent},
	{"read-agent", can_read_agent},
	{"malloc", can_allocate},
	{"clock", can_tell_time},
};

#define LENGTH(array)	(sizeof(array) / sizeof((array)[0]))

static void
say(const char *what)
{
	if (write(STDOUT_FILENO, what, strlen(what)) < 0)
		_exit(2);
}

static void
report(long result)
{
	if (result >= 0)
		say("succeeded");
	else
		say(strerrorname_np(errno));
}

static void
die(const char *why)
{
	fprintf(stderr, "attempt: %s\n", why);
	exit(2);
}

/* What both threads are told. */
static unsigned wanted;			/* layers */
static long (*attempt) (void);
static pthread_barrier_t entered;
static pthread_barrier_t locked_in;

/* The second thread: enters first, and tries when all is locked. */
static void *
second(void *arg)
{
	if (wanted != 0)
		sandbox_enter_thread(wanted);
	pthread_barrier_wait(&entered);
	pthread_barrier_wait(&locked_in);
	report(attempt());
	_exit(0);
	return arg;
}

static unsigned
layers_of(const char *name)
{
	if (strcmp(name, "production") == 0)
		return SANDBOX_ALL;
	if (strcmp(name, "limits") == 0)
		return SANDBOX_LIMITS;
	if (strcmp(name, "landlock") == 0)
		return SANDBOX_LANDLOCK;
	if (strcmp(name, "seccomp") == 0)
		return SANDBOX_SECCOMP;
	if (strcmp(name, "none") != 0)
		die("unknown layer");
	return 0;
}

/* Enter as wanted; returns the layers that hold. */
static unsigned
lock_in(const WireOpen *open, bool production)
{
	SandboxLimits limits = {.memory = MEMORY, .cpu_seconds = CPU_SECONDS};

	if (production)
	{
		unsigned	layers;
		MediaError	error;

		if (!prepare_lock_in(open, LARGE_FILE, false, &layers, &error))
			die(error.message);
		return layers;
	}
	return wanted != 0 ? sandbox_enter(&limits, wanted) : 0;
}

/* What an attempt needs that the real process has not. */
static void
set_the_stage(void)
{
	parent = getppid();
	self = getpid();
	scratch_fd = open(SCRATCH, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	tcp_socket = socket(AF_INET, SOCK_STREAM, 0);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (scratch_fd < 0 || write(scratch_fd, "ab", 2) != 2 ||
		tcp_socket < 0 || page == MAP_FAILED)
		die("could not prepare the attempt");
}

/* The status files of all threads, opened while that is possible. */
static int	status_fd[8];
static int	nthreads;

static void
find_threads(void)
{
	DIR		   *tasks = opendir("/proc/self/task");
	struct dirent *entry;

	if (tasks == NULL)
		die("could not list the threads");
	while ((entry = readdir(tasks)) != NULL && nthreads < 8)
	{
		char		path[512];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
				 entry->d_name);
		status_fd[nthreads++] = open(path, O_RDONLY | O_CLOEXEC);
	}
	closedir(tasks);
}

static int
count_filtered(void)
{
	int			filtered = 0;

	for (int i = 0; i < nthreads; i++)
	{
		char		text[8192];
		ssize_t		n = pread(status_fd[i], text, sizeof(text) - 1, 0);

		if (n < 0)
			die("could not read the status of a thread");
		text[n] = '\0';
		filtered += strstr(text, "\nSeccomp:\t2\n") != NULL;
	}
	return filtered;
}

int
main(int argc, char **argv)
{
	WireOpen	open = {.format = "mp3", .chunk_seconds = 1, .max_seconds = 1};
	MediaError	error = {0};
	struct stat status;
	pthread_t	thread;
	bool		threaded = argc == 5 && strcmp(argv[4], "thread") == 0;
	bool		production;
	unsigned	layers;
	int			landlock;
	char		text[64];

	if (argc != 4 && !threaded)
		die("usage: attempt RECORDING LAYERS WHAT [thread]");
	open.path = argv[1];
	production = strcmp(argv[2], "production") == 0;
	wanted = layers_of(argv[2]);
	for (size_t i = 0; i < LENGTH(attempts); i++)
	{
		if (strcmp(attempts[i].name, argv[3]) == 0)
			attempt = attempts[i].attempt;
	}
	if (attempt == NULL && strcmp(argv[3], "layers") != 0 &&
		strcmp(argv[3], "threads") != 0)
		die("unknown attempt");

	prepare_warm_up();
	recording = open_recording(&open, &status, &error);
	if (recording < 0)
		die(error.message);
	set_the_stage();
	landlock = (int) syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	if (threaded)
	{
		pthread_barrier_init(&entered, NULL, 2);
		pthread_barrier_init(&locked_in, NULL, 2);
		if (pthread_create(&thread, NULL, second, NULL) != 0)
			die("could not start a thread");
		pthread_barrier_wait(&entered);
	}
	find_threads();
	layers = lock_in(&open, production);
	if (attempt == NULL && strcmp(argv[3], "threads") == 0)
	{
		snprintf(text, sizeof(text), "%d of %d", count_filtered(), nthreads);
		say(text);
	}
	else if (attempt == NULL)
	{
		snprintf(text, sizeof(text), "%s%s%s%d",
				 layers & SANDBOX_LIMITS ? "limits " : "",
				 layers & SANDBOX_LANDLOCK ? "landlock " : "",
				 layers & SANDBOX_SECCOMP ? "seccomp " : "",
				 landlock > 0 ? landlock : 0);
		say(text);
	}
	else if (threaded)
	{
		pthread_barrier_wait(&locked_in);
		pthread_join(thread, NULL);
	}
	else
		report(attempt());

	/* Not by exit(): what libraries do there is no part of the attempt. */
	_exit(0);
}
