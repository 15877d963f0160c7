/*-------------------------------------------------------------------------
 *
 * child.c
 *	  transcribe_media as a child of the agent.
 *
 * Loading FFmpeg's libraries costs more than a short recording does.  So the
 * agent starts one process, the template, which loads them and then does
 * nothing but copy itself: for each socket that it is sent there is one child,
 * which takes it as its descriptor 0.  The template itself never sees a byte
 * of a recording.
 *
 * Frames come and go over descriptor 0, a stream socket; see wire.h.  A child
 * says HELLO and waits until it is told what to OPEN; it prepares that one
 * recording, and exits.  It writes without hurry: an agent that does not read
 * makes it wait.
 *
 * However it ends, it ends by exit(): where the postmaster is process 1 it
 * inherits our orphans, and one that dies of a signal makes it restart the
 * whole cluster.  So signals that mean "go" are turned into exit status 1,
 * and those that reach a process group for other reasons are ignored.
 *
 *-------------------------------------------------------------------------
 */
#include "media/child.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "media/media.h"
#include "media/open.h"
#include "media/prepare.h"

/* The socket to the agent. */
#define AGENT_FD	0

/*
 * What a CHUNK frame needs besides its audio: spans, of which there is one
 * for every 0.5 s at most (so that 4 hours have 28,800, of 16 bytes), and text.
 */
#define CHUNK_OVERHEAD	(512 * 1024)

/* The conversation: what was received, and of which job it is. */
typedef struct Child
{
	WireBuffer	in;
	uint64_t	job;
} Child;

/* SIGTERM and SIGQUIT: gone, at once, and not of a signal. */
static void
quit(int signo)
{
	(void) signo;
	_exit(1);
}

/*
 * Signals, and the tie to the parent.  SIGINT is a query cancel of the
 * worker, sent to its whole process group: it must not end our work.  The
 * parent has blocked them until they have their handlers.
 */
static void
set_signals(pid_t parent)
{
	struct sigaction action = {.sa_flags = SA_RESTART};
	sigset_t	none;

	action.sa_handler = quit;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGQUIT, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGPIPE, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	/* The parent may have died before the kernel knew that we care. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (parent > 0 && getppid() != parent)
		_exit(1);
}

/* Write out bytes, all.  An agent that is gone needs no explanation. */
static void
write_all(const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t		n = write(AGENT_FD, data, len);

		if (n > 0)
		{
			data += n;
			len -= (size_t) n;
		}
		else if (n < 0 && errno != EINTR)
			_exit(1);
	}
}

/* Write out a frame, whole. */
static void
send_frame(WireBuffer *out)
{
	if (out->failed)
		_exit(1);
	write_all(out->data + out->start, wire_pending(out));
	wire_free(out);
}

/*
 * Wait for the next frame.  Returns false at the end of the connection; what
 * is no frame ends the process.
 */
static bool
receive_frame(Child *child, WireFrame *frame)
{
	int			result;

	while ((result = wire_next(&child->in, frame)) == 0)
	{
		char	   *room = wire_room(&child->in, 4096);
		ssize_t		n;

		if (room == NULL)
			_exit(1);
		n = read(AGENT_FD, room, 4096);
		if (n == 0)
			return false;
		if (n > 0)
			wire_received(&child->in, (size_t) n);
		else if (errno != EINTR)
			_exit(1);
	}
	if (result < 0)
		_exit(1);
	return true;
}

static void
send_source(void *arg, const WireSource *source)
{
	WireBuffer	out = {0};

	wire_put_source(&out, ((Child *) arg)->job, source);
	send_frame(&out);
}

static void
send_decoded(void *arg, double seconds)
{
	WireBuffer	out = {0};

	wire_begin(&out, WIRE_DECODED, ((Child *) arg)->job);
	wire_put_f64(&out, seconds);
	wire_end(&out);
	send_frame(&out);
}

static bool
send_chunk(void *arg, const WireChunk *chunk, MediaError *error)
{
	WireBuffer	out = {0};

	wire_put_chunk_head(&out, ((Child *) arg)->job, chunk);
	if (out.failed)
	{
		wire_free(&out);
		return media_no_memory(error);
	}
	send_frame(&out);
	write_all(chunk->audio, chunk->audio_len);
	return true;
}

/* Open, lock in, prepare; everything is told to the agent. */
static void
run(Child *child, WireOpen *open)
{
	MediaSink	sink = {child, send_source, send_decoded, send_chunk};
	MediaError *error = calloc(1, sizeof(*error));
	WireBuffer	out = {0};
	Prepared	prepared;
	struct stat status;
	unsigned	layers;
	int			fd;

	if (error == NULL)
		_exit(1);
	if (open->max_chunk_bytes == 0 ||
		open->max_chunk_bytes > WIRE_MAX_PAYLOAD - CHUNK_OVERHEAD)
		open->max_chunk_bytes = WIRE_MAX_PAYLOAD - CHUNK_OVERHEAD;

	fd = open_recording(open, &status, error);
	if (fd >= 0 && prepare_lock_in(open, status.st_size, false, &layers, error) &&
		prepare_recording(fd, &status, open, layers, &sink, &prepared,
						  error))
		wire_put_end(&out, child->job, &prepared.end);
	else
	{
		WireFailed	failed = {error->code, error->message};

		wire_put_failed(&out, child->job, &failed);
	}
	send_frame(&out);
	free(error);
}

/* Talk to the agent, from HELLO to the end.  Returns the exit status. */
static int
converse(void)
{
	Child		child = {0};
	WireBuffer	out = {0};
	WireFrame	frame;
	WireOpen	open;

	wire_put_hello(&out);
	send_frame(&out);

	if (!receive_frame(&child, &frame))
		return 0;
	if (frame.type != WIRE_HELLO || !wire_get_hello(&frame))
		return 1;
	wire_consumed(&child.in, WIRE_HEADER_SIZE + frame.len);

	/* The strings of the frame stay in the buffer until the end. */
	if (!receive_frame(&child, &frame))
		return 0;
	if (frame.type != WIRE_OPEN || !wire_get_open(&frame, &open))
		return 1;
	child.job = frame.job;
	run(&child, &open);
	wire_free(&child.in);
	return 0;
}

/* What every process of ours begins with. */
static void
begin(pid_t parent)
{
	set_signals(parent);
	close_range(STDERR_FILENO + 1, ~0U, 0);
	prepare_warm_up();
	prepare_rehearse();
}

/*
 * Be a child by itself.  parent is its process, or 0 if that is not known.
 * Returns the exit status.
 */
int
child_main(pid_t parent)
{
	begin(parent);
	return converse();
}

/*
 * Wait for the agent to send a socket; -1 if it has hung up.  One that came
 * without a socket is none of the agent's.
 */
static int
receive_socket(void)
{
	union
	{
		struct cmsghdr header;
		char		space[CMSG_SPACE(sizeof(int))];
	}			control;
	char		byte;
	struct iovec data = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header;
	ssize_t		n;
	int			fd;

	do
		n = recvmsg(AGENT_FD, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (header == NULL || header->cmsg_level != SOL_SOCKET ||
		header->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

/*
 * Copy this process.  The copy is a child of the agent, like the template
 * itself: the agent waits for it, ends it, and has it ended by the kernel if
 * it goes.  That takes the bare system call, which is safe here: there is no
 * other thread, and so no lock that one could hold.
 */
static pid_t
copy(void)
{
	return (pid_t) syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL,
						   NULL);
}

/*
 * Be the template.  Each socket that the agent sends is answered by the
 * process that has it, or by a negative errno.  Returns the exit status.
 */
int
template_main(pid_t parent)
{
	int			fd;

	begin(parent);
	while ((fd = receive_socket()) >= 0)
	{
		pid_t		pid = copy();
		int32_t		answer = pid < 0 ? -errno : (int32_t) pid;

		if (pid == 0)
		{
			dup2(fd, AGENT_FD);
			close(fd);
			set_signals(parent);

			/* What libraries do at exit is the template's, or nobody's. */
			_exit(converse());
		}
		close(fd);
		write_all((const char *) &answer, sizeof(answer));
	}
	return 0;
}
