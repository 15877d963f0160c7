/*-------------------------------------------------------------------------
 *
 * finish.c
 *	  A chunk's samples to what is sent: loudness, encoding, delivery.
 *
 * Runs in transcribe_media.  Encoding takes as long as decoding, so that it
 * is done beside it, by a second thread, where the process may use a second
 * processor.  That is no more work than one thread would have: a machine
 * that has no processor to spare loses nothing by it.
 *
 * The thread is given one chunk at a time, works on nothing else, and never
 * speaks to anyone: chunks are delivered by the main thread, in order, when
 * it looks after each packet.  It is started and locked in before the first
 * byte of a recording is read.
 *
 *-------------------------------------------------------------------------
 */
#include "media/finish.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "media/loudness.h"
#include "media/sandbox.h"

/* What the thread is at; the one who may change it is named. */
typedef enum HelperState
{
	HELPER_IDLE,				/* main: to one of the next two */
	HELPER_TO_LOCK_IN,			/* the thread: to IDLE */
	HELPER_TO_ENCODE,			/* the thread: to ENCODED */
	HELPER_ENCODED				/* main: to IDLE */
} HelperState;

/*
 * The thread and its task.  The lock guards the state alone: whoever may
 * change the state owns the rest.
 */
static struct Helper
{
	bool		started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_int	state;			/* HelperState; read without the lock, too */
	unsigned	layers;			/* of the sandbox: wanted, then those that hold */
	const EncodeFormat *format;
	Chunk	   *chunk;
	bool		ok;
	MediaError	error;
}			helper = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER
};

/* Give a chunk back, and all that hangs on it. */
void
finish_free_chunk(Chunk *chunk)
{
	if (chunk == NULL)
		return;
	encode_free(chunk->audio);
	free(chunk->spans);
	free(chunk->pcm);
	free(chunk);
}

/* Find out how loud the samples are. */
static bool
measure_chunk(Chunk *chunk, MediaError *error)
{
	Loudness	loudness;

	if (!loudness_measure(chunk->pcm, chunk->samples, &loudness))
		return media_no_memory(error);
	chunk->wire.loudness = loudness.loudness;
	chunk->wire.gain = loudness.gain;
	return true;
}

/* Bring the samples to one loudness, and encode them. */
static bool
encode_chunk(const EncodeFormat *format, Chunk *chunk, MediaError *error)
{
	loudness_apply(chunk->pcm, chunk->samples, chunk->wire.gain);
	if (!encode_audio(format, chunk->pcm, chunk->samples, &chunk->audio,
					  &chunk->wire.audio_len, error))
		return false;
	free(chunk->pcm);
	chunk->pcm = NULL;
	chunk->wire.filename = format->filename;
	chunk->wire.content_type = format->content_type;
	chunk->wire.size = chunk->wire.audio_len;
	chunk->wire.audio = (const char *) chunk->audio;
	return true;
}

/* Tell the sink of an encoded chunk; the chunk is given back. */
static bool
deliver(Finish *finish, Chunk *chunk, MediaError *error)
{
	bool		ok;

	finish->kept += chunk->samples;
	finish->power += chunk->samples * pow(10, chunk->wire.loudness / 10);
	ok = finish->sink->chunk(finish->sink->arg, &chunk->wire, error);
	finish_free_chunk(chunk);
	return ok;
}

static void
set_state(HelperState state)
{
	pthread_mutex_lock(&helper.lock);
	atomic_store(&helper.state, state);
	pthread_cond_broadcast(&helper.changed);
	pthread_mutex_unlock(&helper.lock);
}

/* Wait until the state is one of two. */
static void
wait_for(HelperState one, HelperState other)
{
	pthread_mutex_lock(&helper.lock);
	while (atomic_load(&helper.state) != (int) one &&
		   atomic_load(&helper.state) != (int) other)
		pthread_cond_wait(&helper.changed, &helper.lock);
	pthread_mutex_unlock(&helper.lock);
}

/* The life of the thread; it ends with the process. */
static void *
helper_main(void *arg)
{
	(void) arg;
	for (;;)
	{
		wait_for(HELPER_TO_LOCK_IN, HELPER_TO_ENCODE);
		if (atomic_load(&helper.state) == HELPER_TO_LOCK_IN)
		{
			helper.layers = sandbox_enter_thread(helper.layers);
			set_state(HELPER_IDLE);
		}
		else
		{
			helper.ok = encode_chunk(helper.format, helper.chunk,
									 &helper.error);
			set_state(HELPER_ENCODED);
		}
	}
	return NULL;
}

/*
 * Start the thread if there is a processor for it.  Signals are left to the
 * main thread.  Without the thread all is done in the main one.
 */
void
finish_start_thread(void)
{
	pthread_t	thread;
	cpu_set_t	processors;
	sigset_t	all;
	sigset_t	before;

	if (helper.started ||
		sched_getaffinity(0, sizeof(processors), &processors) != 0 ||
		CPU_COUNT(&processors) < 2)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	helper.started = pthread_create(&thread, NULL, helper_main, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/*
 * Lock the thread in, before the main thread takes from the process what that
 * needs.  Returns which of the wanted layers hold for it.
 */
unsigned
finish_lock_in(unsigned wanted)
{
	if (!helper.started)
		return wanted;
	helper.layers = wanted;
	set_state(HELPER_TO_LOCK_IN);
	wait_for(HELPER_IDLE, HELPER_IDLE);
	return helper.layers;
}

/* Take back what the thread has encoded, and deliver it. */
static bool
deliver_encoded(Finish *finish, MediaError *error)
{
	Chunk	   *chunk = helper.chunk;

	helper.chunk = NULL;
	set_state(HELPER_IDLE);
	if (helper.ok)
		return deliver(finish, chunk, error);
	finish_free_chunk(chunk);
	return media_fail(error, helper.error.code, "%s", helper.error.message);
}

/* Deliver what is ready, without waiting.  To be called often. */
bool
finish_poll(Finish *finish, MediaError *error)
{
	if (atomic_load_explicit(&helper.state, memory_order_relaxed) !=
		HELPER_ENCODED)
		return true;
	wait_for(HELPER_ENCODED, HELPER_ENCODED);
	return deliver_encoded(finish, error);
}

/* Deliver all that was handed over. */
bool
finish_wait(Finish *finish, MediaError *error)
{
	wait_for(HELPER_IDLE, HELPER_ENCODED);
	return atomic_load(&helper.state) == HELPER_IDLE ||
		deliver_encoded(finish, error);
}

/* Wait for the thread, and throw away what it has. */
void
finish_abandon(void)
{
	wait_for(HELPER_IDLE, HELPER_ENCODED);
	if (atomic_load(&helper.state) == HELPER_IDLE)
		return;
	finish_free_chunk(helper.chunk);
	helper.chunk = NULL;
	set_state(HELPER_IDLE);
}

/* Encode a chunk in this thread, and deliver it after the earlier one. */
static bool
finish_here(Finish *finish, Chunk *chunk, MediaError *error)
{
	if (encode_chunk(finish->format, chunk, error) &&
		finish_wait(finish, error))
		return deliver(finish, chunk, error);
	finish_free_chunk(chunk);
	return false;
}

/*
 * Take a chunk over, and see to it that it is delivered.  It is measured by
 * the caller: the thread has more to do, and uses memory up only when it
 * encodes.  While the thread still works on the chunk before, the caller
 * waits: memory is that of two chunks, of which one grows while the other is
 * used up.  When all has been decoded it encodes the chunk itself instead.
 */
bool
finish_chunk(Finish *finish, Chunk *chunk, MediaError *error)
{
	chunk->wire.chunk_no = finish->chunks++;
	if (!measure_chunk(chunk, error))
	{
		finish_free_chunk(chunk);
		return false;
	}
	if (!helper.started ||
		(finish->ending && atomic_load(&helper.state) == HELPER_TO_ENCODE))
		return finish_here(finish, chunk, error);
	if (!finish_wait(finish, error))
	{
		finish_free_chunk(chunk);
		return false;
	}
	helper.format = finish->format;
	helper.chunk = chunk;
	memset(&helper.error, 0, sizeof(helper.error));
	set_state(HELPER_TO_ENCODE);
	return true;
}

/* Loudness of all chunks before correction, in LUFS; 0 if there is none. */
double
finish_loudness(const Finish *finish)
{
	return finish->kept == 0 ? 0 : 10 * log10(finish->power / finish->kept);
}
