/*-------------------------------------------------------------------------
 *
 * fuzz_response.c
 *	  Any bytes at all, read as what a server answered.
 *
 * sources: src/worker/response.c src/worker/utf8.c
 *
 * The first byte of the input says whether it is called plain text.  Whatever
 * comes out must be fit for a table: valid text, finite numbers, and a reason
 * where there is no transcript.
 *
 * Allocations are our own, in place of those of libpgcommon: they are freed
 * together after each input, as a worker does with a memory context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "worker/response.h"
#include "worker/utf8.h"

/* One allocation; the memory that is handed out follows. */
typedef struct Chunk
{
	struct Chunk *next;
	struct Chunk *prev;
} Chunk;

static Chunk all = {&all, &all};

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool cond)
{
	if (!cond)
		abort();
}

void *
palloc(Size size)
{
	Chunk	   *chunk = malloc(sizeof(Chunk) + size);

	check(chunk != NULL);
	chunk->next = all.next;
	chunk->prev = &all;
	all.next = all.next->prev = chunk;
	return chunk + 1;
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void
pfree(void *pointer)
{
	Chunk	   *chunk = (Chunk *) pointer - 1;

	chunk->next->prev = chunk->prev;
	chunk->prev->next = chunk->next;
	free(chunk);
}

void *
repalloc(void *pointer, Size size)
{
	Chunk	   *chunk = realloc((Chunk *) pointer - 1, sizeof(Chunk) + size);

	check(chunk != NULL);
	chunk->next->prev = chunk->prev->next = chunk;
	return chunk + 1;
}

char *
pnstrdup(const char *in, Size len)
{
	char	   *copy;

	len = strnlen(in, len);
	copy = memcpy(palloc(len + 1), in, len);
	copy[len] = '\0';
	return copy;
}

char *
pstrdup(const char *in)
{
	return pnstrdup(in, strlen(in));
}

/* Text that may be missing; if it is there, cleaning finds nothing in it. */
static void
check_text(const char *text)
{
	StringInfoData clean;

	if (text == NULL)
		return;
	initStringInfo(&clean);
	utf8_append_clean(&clean, text, strlen(text));
	check(strcmp(clean.data, text) == 0);
	pfree(clean.data);
}

static void
check_number(double value)
{
	check(value == RESPONSE_NO_NUMBER || fabs(value) <= 1e9);
}

static void
check_words(const ResponseWords *words)
{
	check(words->count <= words->size);
	for (int i = 0; i < words->count; i++)
	{
		check_number(words->word[i].start);
		check_number(words->word[i].end);
		check_text(words->word[i].word);
	}
}

/* A transcript. */
static void
check_response(const Response *response)
{
	check(response->text != NULL || response->has_segments);
	check(response->nsegments <= response->segments_size);
	check_text(response->text);
	check_text(response->language);
	check_number(response->duration);
	check_text(response->usage);
	check(response->usage == NULL || response->usage[0] == '{');
	check_words(&response->words);
	for (int i = 0; i < response->nsegments; i++)
	{
		const ResponseSegment *segment = &response->segments[i];

		check_text(segment->text);
		check_text(segment->speaker);
		check_number(segment->start);
		check_number(segment->end);
		check_number(segment->avg_logprob);
		check_number(segment->compression_ratio);
		check_number(segment->no_speech_prob);
		check_words(&segment->words);
	}
}

/* A reason: one line, of a length for a row. */
static void
check_reason(const char *reason, size_t most)
{
	check(reason != NULL && reason[0] != '\0' && strlen(reason) <= most);
	check_text(reason);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *type = size > 0 && data[0] % 4 == 0 ? "text/plain" :
		"application/json";
	size_t		len = size > 0 ? size - 1 : 0;

	/* A copy of just its size, to see reads behind the end. */
	char	   *body = malloc(len > 0 ? len : 1);
	const char *problem = NULL;
	char	   *refusal;
	Response	response;

	check(body != NULL);
	if (len > 0)
		memcpy(body, data + 1, len);
	if (response_parse(body, len, type, &response, &problem))
		check_response(&response);
	else
		check_reason(problem, strlen("it is an error: ") + 500);

	refusal = response_refusal(body, len, 400);
	check_reason(refusal, strlen("server answered with status 400: ") + 1000);
	for (int i = 0; refusal[i] != '\0'; i++)
		check((unsigned char) refusal[i] >= 0x20);

	while (all.next != &all)
		pfree(all.next + 1);
	free(body);
	return 0;
}
