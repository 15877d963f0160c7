/*-------------------------------------------------------------------------
 *
 * spare.c
 *	  What a recording costs once the agent's spare child is waiting.
 *
 *	  spare PROGRAM RECORDING FORMAT CHUNK_SECONDS
 *
 * Acts as the agent towards one transcribe_media: starts it with a socket as
 * descriptor 0, waits for its HELLO, which it says when it is warm, has it
 * OPEN the recording with the options that a server has by default, and reads
 * frames up to END, keeping nothing of them.  Then it writes one line of JSON,
 * for media.py: CPU time since OPEN and before it, wall time since OPEN to the
 * first chunk, the last and END, and the child's peak memory.
 *
 * Being in C it speaks the wire that the tree has, and is small: what a
 * process measures as its peak includes that of the one it was forked from.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "media/silence.h"
#include "media/silence.h"
#include "wire/wire.h"

/* The server option max_upload_bytes, as it is by default: 24 MB. */
#define MAX_CHUNK_BYTES (24 * 1024 * 1024)

/* Read in one go, as much as a socket holds. */
#define READ_SIZE		(256 * 1024)

/* What was seen; times are wall seconds since OPEN. */
typedef struct Seen
{
	uint32_t	chunks;
	double		first;			/* first chunk */
	double		last;			/* last chunk */
	double		first_by;		/* position that was told next, after it */
	double		end;
	double		duration;
	double		kept;
} Seen;

static void
die(const char *what)
{
	fprintf(stderr, "spare: %s: %s\n", what,
			errno != 0 ? strerror(errno) : "not as agreed");
	exit(1);
}

static double
seconds_of(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) != 0)
		die("clock_gettime");
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* Start the program as the agent does; returns our end of the socket. */
static int
start(const char *program, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	char		parent[16];
	char	   *argv[] = {(char *) program, "--child", parent, NULL};
	char	   *envp[] = {NULL};
	int			pair[2];

	snprintf(parent, sizeof(parent), "%d", (int) getpid());
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		die("socketpair");
	errno = posix_spawn_file_actions_init(&actions);
	if (errno == 0)
		errno = posix_spawn_file_actions_adddup2(&actions, pair[1], 0);
	if (errno == 0)
		errno = posix_spawn(pid, program, &actions, NULL, argv, envp);
	if (errno != 0)
		die(program);
	posix_spawn_file_actions_destroy(&actions);
	close(pair[1]);
	return pair[0];
}

/* Wait for the next frame; the caller takes it out of the buffer. */
static WireFrame
receive(int fd, WireBuffer *in)
{
	WireFrame	frame;
	int			result;

	while ((result = wire_next(in, &frame)) == 0)
	{
		char	   *room = wire_room(in, READ_SIZE);
		ssize_t		n = room != NULL ? read(fd, room, READ_SIZE) : -1;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("read");
		wire_received(in, (size_t) n);
	}
	if (result < 0)
		die("frame");
	return frame;
}

static void
take_out(WireBuffer *in, const WireFrame *frame)
{
	wire_consumed(in, WIRE_HEADER_SIZE + frame->len);
}

/* Write out what is in the buffer. */
static void
send_all(int fd, WireBuffer *out)
{
	while (!out->failed && wire_pending(out) > 0)
	{
		ssize_t		n = write(fd, out->data + out->start, wire_pending(out));

		if (n > 0)
			wire_consumed(out, (size_t) n);
		else if (errno != EINTR)
			die("write");
	}
	if (out->failed)
		die("out of memory");
	wire_free(out);
}

/* The conversation up to the point at which the spare waits for its OPEN. */
static void
greet(int fd, WireBuffer *in)
{
	WireBuffer	out = {0};
	WireFrame	frame = receive(fd, in);

	if (frame.type != WIRE_HELLO || !wire_get_hello(&frame))
		die("HELLO");
	take_out(in, &frame);
	wire_put_hello(&out);
	send_all(fd, &out);
}

/*
 * Read frames to END.  How far the child had decoded when it sent the first
 * chunk is not told; it is no further than what it tells next, a tenth of a
 * second later, or END.
 */
static void
listen_to(int fd, WireBuffer *in, double opened, Seen *seen)
{
	for (;;)
	{
		WireFrame	frame = receive(fd, in);
		double		now = seconds_of(CLOCK_MONOTONIC) - opened;
		WireEnd		end;
		WireFailed	failed;
		double		position;

		switch (frame.type)
		{
			case WIRE_CHUNK:
				if (seen->chunks++ == 0)
					seen->first = now;
				seen->last = now;
				break;
			case WIRE_DECODED:
				position = wire_get_f64(&frame);
				if (seen->chunks > 0 && seen->first_by == 0)
					seen->first_by = position;
				break;
			case WIRE_FAILED:
				errno = 0;
				die(wire_get_failed(&frame, &failed) ? failed.message :
					"FAILED");
				break;
			case WIRE_END:
				if (!wire_get_end(&frame, &end))
					die("END");
				seen->end = now;
				seen->duration = end.duration;
				seen->kept = end.kept;
				if (seen->first_by == 0)
					seen->first_by = end.duration;
				take_out(in, &frame);
				return;
			default:
				break;
		}
		take_out(in, &frame);
	}
}

int
main(int argc, char **argv)
{
	WireBuffer	in = {0};
	WireBuffer	out = {0};
	WireOpen	open = {.max_chunk_bytes = MAX_CHUNK_BYTES};
	Seen		seen = {0};
	struct rusage usage;
	clockid_t	clock;
	double		warm_up;
	double		cpu;
	double		opened;
	pid_t		pid;
	int			status;
	int			fd;

	if (argc != 5)
	{
		fputs("usage: spare PROGRAM RECORDING FORMAT CHUNK_SECONDS\n", stderr);
		return 2;
	}
	open.path = argv[2];
	open.format = argv[3];
	open.chunk_seconds = atof(argv[4]);
	open.min_silence = SILENCE_MIN_SECONDS;
	open.pad_before = SILENCE_PAD_BEFORE;
	open.pad_after = SILENCE_PAD_AFTER;

	fd = start(argv[1], &pid);
	greet(fd, &in);
	if ((errno = clock_getcpuclockid(pid, &clock)) != 0)
		die("clock_getcpuclockid");
	warm_up = seconds_of(clock);

	opened = seconds_of(CLOCK_MONOTONIC);
	wire_put_open(&out, 1, &open);
	send_all(fd, &out);
	listen_to(fd, &in, opened, &seen);

	/* All that it used, its end included. */
	if (wait4(pid, &status, 0, &usage) != pid || status != 0)
		die("wait4");
	cpu = (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	wire_free(&in);
	close(fd);

	printf("{\"cpu\": %.6f, \"warm_up\": %.6f, \"first\": %.6f, "
		   "\"last\": %.6f, \"end\": %.6f, \"first_by\": %.3f, "
		   "\"duration\": %.3f, \"kept\": %.3f, \"chunks\": %u, "
		   "\"peak_kb\": %ld}\n",
		   cpu - warm_up, warm_up, seen.first, seen.last, seen.end,
		   seen.first_by, seen.duration, seen.kept, seen.chunks,
		   usage.ru_maxrss);
	return 0;
}
