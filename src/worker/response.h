/*-------------------------------------------------------------------------
 *
 * response.h
 *	  What a Whisper server answered.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_RESPONSE_H
#define TRANSCRIBE_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>

/* A number that the server did not give. */
#define RESPONSE_NO_NUMBER	(-1e300)

typedef struct ResponseWord
{
	double		start;			/* seconds in the chunk, or RESPONSE_NO_NUMBER */
	double		end;
	char	   *word;
} ResponseWord;

typedef struct ResponseWords
{
	ResponseWord *word;
	int			count;
	int			size;
} ResponseWords;

typedef struct ResponseSegment
{
	double		start;			/* seconds in the chunk, or RESPONSE_NO_NUMBER */
	double		end;
	char	   *text;			/* or NULL */
	char	   *speaker;		/* or NULL */
	double		avg_logprob;	/* or RESPONSE_NO_NUMBER, as the next two */
	double		compression_ratio;
	double		no_speech_prob;
	ResponseWords words;
} ResponseSegment;

typedef struct Response
{
	char	   *text;			/* or NULL */
	char	   *language;		/* a name or a code, or NULL */
	double		duration;
	bool		has_segments;	/* they are the answer; else the text is */
	ResponseSegment *segments;
	int			nsegments;
	int			segments_size;
	ResponseWords words;		/* those not inside segments */
	char	   *usage;			/* what was counted, as JSON, or NULL */
	char	   *error_message;	/* of a refusal, or NULL */
	char	   *error_code;
	char	   *error_param;	/* the field that was refused */
} Response;

/* What a server takes at most, if it refused a chunk for its size. */
typedef struct ResponseLimit
{
	bool		too_long;		/* in seconds; else too large, in bytes */
	double		number;			/* as the server says; 0: it does not */
} ResponseLimit;

extern bool response_parse(const char *body, size_t len,
						   const char *content_type, Response *response,
						   const char **problem);
extern bool response_is_out_of_quota(const char *body, size_t len);
extern bool response_refuses_format(const char *body, size_t len,
									const char *format);
extern bool response_refuses_size(const char *body, size_t len, int status,
								  ResponseLimit *limit);
extern bool response_refuses_model(const char *body, size_t len);
extern char *response_refusal(const char *body, size_t len, int status);

#endif							/* TRANSCRIBE_RESPONSE_H */
