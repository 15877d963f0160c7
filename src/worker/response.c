/*-------------------------------------------------------------------------
 *
 * response.c
 *	  From the bytes of an answer to segments, or to a refusal.
 *
 * Runs in the worker; pure, and built as a frontend for its unit test.
 * Results live in the current memory context.
 *
 * Servers that speak OpenAI's API differ: every field but "text" may be
 * missing, numbers come as strings, words stand at the top level or inside
 * segments and are called "word" or "text", errors have four shapes.  So the
 * reader is a table of the places where something of use may stand, and
 * whatever else there is passes by.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "worker/response.h"
#include "worker/utf8.h"

/* Real answers nest four deep; the parser recurses, so there is a limit. */
#define MAX_DEPTH		32

/*
 * An hour of speech is some thousand segments and ten thousand words.  Each
 * takes a row, and twenty times the three bytes that it may be sent as.
 */
#define MAX_ITEMS		100000

/* What is told of a refusal is for a row of a table, not for a page. */
#define MAX_MESSAGE		1000

/* Real servers need some two hundred bytes to say what they have counted. */
#define MAX_USAGE		4096

/* What stands at a place of the answer. */
typedef enum Target
{
	TARGET_TEXT,
	TARGET_LANGUAGE,
	TARGET_DURATION,
	TARGET_SEGMENT_START,
	TARGET_SEGMENT_END,
	TARGET_SEGMENT_TEXT,
	TARGET_SEGMENT_SPEAKER,
	TARGET_SEGMENT_LOGPROB,
	TARGET_SEGMENT_COMPRESSION,
	TARGET_SEGMENT_NO_SPEECH,
	TARGET_WORD,
	TARGET_WORD_START,
	TARGET_WORD_END,
	TARGET_SEGMENT_WORD,
	TARGET_SEGMENT_WORD_START,
	TARGET_SEGMENT_WORD_END,
	TARGET_ERROR_MESSAGE,
	TARGET_ERROR_CODE,
	TARGET_ERROR_PARAM,
	TARGET_ERROR_PLACE,
	TARGET_ERROR_DETAIL
} Target;

/* Places: keys from the root, "[]" for any element of an array. */
static const struct
{
	const char *path;
	Target		target;
}			places[] = {
	{".text", TARGET_TEXT},
	{".language", TARGET_LANGUAGE},
	{".languages[].code", TARGET_LANGUAGE},
	{".duration", TARGET_DURATION},
	{".segments[].start", TARGET_SEGMENT_START},
	{".segments[].end", TARGET_SEGMENT_END},
	{".segments[].text", TARGET_SEGMENT_TEXT},
	{".segments[].speaker", TARGET_SEGMENT_SPEAKER},
	{".segments[].avg_logprob", TARGET_SEGMENT_LOGPROB},
	{".segments[].compression_ratio", TARGET_SEGMENT_COMPRESSION},
	{".segments[].no_speech_prob", TARGET_SEGMENT_NO_SPEECH},
	{".words[].word", TARGET_WORD},
	{".words[].text", TARGET_WORD},
	{".words[].start", TARGET_WORD_START},
	{".words[].end", TARGET_WORD_END},
	{".segments[].words[].word", TARGET_SEGMENT_WORD},
	{".segments[].words[].text", TARGET_SEGMENT_WORD},
	{".segments[].words[].start", TARGET_SEGMENT_WORD_START},
	{".segments[].words[].end", TARGET_SEGMENT_WORD_END},
	{".error", TARGET_ERROR_MESSAGE},
	{".error.message", TARGET_ERROR_MESSAGE},
	{".error.code", TARGET_ERROR_CODE},
	{".error.param", TARGET_ERROR_PARAM},
	{".message", TARGET_ERROR_MESSAGE},
	{".code", TARGET_ERROR_CODE},
	{".param", TARGET_ERROR_PARAM},
	{".detail", TARGET_ERROR_MESSAGE},
	{".detail[].msg", TARGET_ERROR_DETAIL},
	{".detail[].loc[]", TARGET_ERROR_PLACE},
};

/* Where the parser is. */
typedef struct Reader
{
	Response   *response;
	JsonLexContext *lex;
	const char *usage;			/* where the object of that name begins */
	bool		bad_usage;		/* it holds a number that is none */
	int			depth;			/* of open objects and arrays */
	StringInfoData path;		/* of the value being read */
	int			path_len[MAX_DEPTH + 1];	/* its length at each depth */
	bool		too_many;
} Reader;

/* Make room for one more element of an array; false past the limit. */
static bool
grow(void **array, int *size, int count, size_t element)
{
	if (count >= MAX_ITEMS)
		return false;
	if (count < *size)
		return true;
	*size = *size > 0 ? *size * 2 : 4;
	*array = *array == NULL ? palloc(*size * element) :
		repalloc(*array, *size * element);
	return true;
}

static void
add_segment(Reader *reader)
{
	Response   *response = reader->response;
	ResponseSegment *segment;

	if (!grow((void **) &response->segments, &response->segments_size,
			  response->nsegments, sizeof(ResponseSegment)))
	{
		reader->too_many = true;
		return;
	}
	segment = &response->segments[response->nsegments++];
	memset(segment, 0, sizeof(*segment));
	segment->start = segment->end = RESPONSE_NO_NUMBER;
	segment->avg_logprob = RESPONSE_NO_NUMBER;
	segment->compression_ratio = RESPONSE_NO_NUMBER;
	segment->no_speech_prob = RESPONSE_NO_NUMBER;
}

static void
add_word(Reader *reader, ResponseWords *words)
{
	ResponseWord *word;

	if (!grow((void **) &words->word, &words->size, words->count,
			  sizeof(ResponseWord)))
	{
		reader->too_many = true;
		return;
	}
	word = &words->word[words->count++];
	word->start = word->end = RESPONSE_NO_NUMBER;
	word->word = NULL;
}

/* A number, also if it came as a string; what is not finite is none. */
static double
number_of(const char *token)
{
	char	   *end;
	double		value = strtod(token, &end);

	if (end == token || *end != '\0' || !isfinite(value) || fabs(value) > 1e9)
		return RESPONSE_NO_NUMBER;
	return value;
}

static ResponseSegment *
last_segment(Response *response)
{
	return response->nsegments > 0 ?
		&response->segments[response->nsegments - 1] : NULL;
}

static ResponseWord *
last_word(ResponseWords *words)
{
	return words->count > 0 ? &words->word[words->count - 1] : NULL;
}

/* Keep a word's field. */
static void
store_word(ResponseWords *words, Target target, Target first, char *token)
{
	ResponseWord *word = last_word(words);

	if (word == NULL)
		return;
	if (target == first)
		word->word = token;
	else if (target == first + 1)
		word->start = number_of(token);
	else
		word->end = number_of(token);
}

/* Keep a segment's field. */
static void
store_segment(ResponseSegment *segment, Target target, char *token)
{
	switch (target)
	{
		case TARGET_SEGMENT_START:
			segment->start = number_of(token);
			break;
		case TARGET_SEGMENT_END:
			segment->end = number_of(token);
			break;
		case TARGET_SEGMENT_TEXT:
			segment->text = token;
			break;
		case TARGET_SEGMENT_SPEAKER:
			segment->speaker = token;
			break;
		case TARGET_SEGMENT_LOGPROB:
			segment->avg_logprob = number_of(token);
			break;
		case TARGET_SEGMENT_COMPRESSION:
			segment->compression_ratio = number_of(token);
			break;
		case TARGET_SEGMENT_NO_SPEECH:
			segment->no_speech_prob = number_of(token);
			break;
		default:
			store_word(&segment->words, target, TARGET_SEGMENT_WORD, token);
			break;
	}
}

/* Keep a value that stands at a place of interest. */
static void
store(Reader *reader, Target target, char *token)
{
	Response   *response = reader->response;

	switch (target)
	{
		case TARGET_TEXT:
			response->text = token;
			break;
		case TARGET_LANGUAGE:
			/* Several may be detected; the first is the main one. */
			if (response->language == NULL)
				response->language = token;
			break;
		case TARGET_DURATION:
			response->duration = number_of(token);
			break;
		case TARGET_WORD:
		case TARGET_WORD_START:
		case TARGET_WORD_END:
			store_word(&response->words, target, TARGET_WORD, token);
			break;
		case TARGET_ERROR_MESSAGE:
			if (response->error_message == NULL)
				response->error_message = token;
			break;
		case TARGET_ERROR_CODE:
			response->error_code = token;
			break;
		case TARGET_ERROR_PARAM:
			response->error_param = token;
			break;
		case TARGET_ERROR_PLACE:
			/* From the outside in; of several errors the first is told. */
			if (response->error_message == NULL)
				response->error_param = token;
			break;
		case TARGET_ERROR_DETAIL:
			if (response->error_message == NULL)
				response->error_message = response->error_param == NULL ? token :
					psprintf("%s: %s", response->error_param, token);
			break;
		default:
			if (last_segment(response) != NULL)
				store_segment(last_segment(response), target, token);
			break;
	}
}

/* Cut the path back to that of the innermost open object or array. */
static void
reset_path(Reader *reader)
{
	reader->path.len = reader->path_len[reader->depth];
	reader->path.data[reader->path.len] = '\0';
}

/* An object or array opens: its elements' paths begin with its own. */
static void
open_value(Reader *reader, bool is_array)
{
	if (is_array)
		appendStringInfoString(&reader->path, "[]");
	if (reader->depth < MAX_DEPTH)
		reader->depth++;
	reader->path_len[reader->depth] = reader->path.len;
}

static void
close_value(Reader *reader)
{
	reader->depth--;
	reset_path(reader);
}

static TranscribeJsonAction
on_object_start(void *arg)
{
	Reader	   *reader = arg;

	if (reader->depth > 0)
	{
		const char *path = reader->path.data;

		if (strcmp(path, ".usage") == 0)
		{
			reader->usage = reader->lex->token_start;
			reader->bad_usage = false;
		}
		else if (strcmp(path, ".segments[]") == 0)
			add_segment(reader);
		else if (strcmp(path, ".words[]") == 0)
			add_word(reader, &reader->response->words);
		else if (strcmp(path, ".segments[].words[]") == 0 &&
				 last_segment(reader->response) != NULL)
			add_word(reader, &last_segment(reader->response)->words);
	}
	open_value(reader, false);
	return TRANSCRIBE_JSON_OK;
}

static TranscribeJsonAction
on_array_start(void *arg)
{
	Reader	   *reader = arg;

	if (strcmp(reader->path.data, ".segments") == 0)
		reader->response->has_segments = true;
	open_value(reader, true);
	return TRANSCRIBE_JSON_OK;
}

static TranscribeJsonAction
on_array_end(void *arg)
{
	close_value(arg);
	return TRANSCRIBE_JSON_OK;
}

/*
 * The end of the object "usage": keep its text, if a column of type jsonb is
 * sure to take it.
 */
static void
keep_usage(Reader *reader)
{
	size_t		len = reader->lex->prev_token_terminator - reader->usage;

	if (!reader->bad_usage && len <= MAX_USAGE)
		reader->response->usage = pnstrdup(reader->usage, len);
	reader->usage = NULL;
}

static TranscribeJsonAction
on_object_end(void *arg)
{
	Reader	   *reader = arg;

	reset_path(reader);
	if (reader->usage != NULL && strcmp(reader->path.data, ".usage") == 0)
		keep_usage(reader);
	close_value(reader);
	return TRANSCRIBE_JSON_OK;
}

/*
 * A field's name; a long one is no name that we look for.  Names and values
 * are ours to free, and an answer may be made of nothing else.
 */
static TranscribeJsonAction
on_field_start(void *arg, char *name, bool isnull)
{
	Reader	   *reader = arg;

	reset_path(reader);
	appendStringInfo(&reader->path, ".%.64s", name);
	pfree(name);
	return TRANSCRIBE_JSON_OK;
}

/* Digits, perhaps with a point: what any type of PostgreSQL's can hold. */
static bool
is_plain_number(const char *token)
{
	size_t		len = strlen(token);

	return len <= 32 && strspn(token, "-.0123456789") == len;
}

static TranscribeJsonAction
on_scalar(void *arg, char *token, JsonTokenType type)
{
	Reader	   *reader = arg;

	if (reader->usage != NULL && type == JSON_TOKEN_NUMBER && !is_plain_number(token))
		reader->bad_usage = true;
	if (type == JSON_TOKEN_STRING || type == JSON_TOKEN_NUMBER)
	{
		for (size_t i = 0; i < lengthof(places); i++)
		{
			if (strcmp(places[i].path, reader->path.data) == 0)
			{
				store(reader, places[i].target, token);
				return TRANSCRIBE_JSON_OK;
			}
		}
	}
	pfree(token);
	return TRANSCRIBE_JSON_OK;
}

/* Parse JSON into response; false if it is none, or nested too deeply. */
static bool
parse_json(const char *body, size_t len, Response *response,
		   const char **problem)
{
	StringInfoData clean;
	Reader		reader = {0};
	JsonSemAction action = {0};
	JsonLexContext *lex;
	int			depth;
	bool		good;

	initStringInfo(&clean);
	depth = utf8_append_json(&clean, body, len);
	if (depth > MAX_DEPTH)
	{
		pfree(clean.data);
		*problem = "its JSON is nested too deeply";
		return false;
	}
	reader.response = response;
	initStringInfo(&reader.path);

	action.semstate = &reader;
	action.object_start = on_object_start;
	action.object_end = on_object_end;
	action.array_start = on_array_start;
	action.array_end = on_array_end;
	action.object_field_start = on_field_start;
	action.scalar = on_scalar;

	reader.lex = lex = transcribe_json_lexer(clean.data, clean.len, PG_UTF8);
	good = pg_parse_json(lex, &action) == JSON_SUCCESS;
	pfree(clean.data);
	pfree(reader.path.data);
	if (!good)
	{
		*problem = "it is not valid JSON";
		return false;
	}
	if (reader.too_many)
	{
		*problem = "it has too many segments or words";
		return false;
	}
	return true;
}

/*
 * Whether a text begins in a script that is written without blanks: Thai to
 * Lao, Burmese, kana, Chinese characters.
 */
static bool
is_unspaced(const char *text)
{
	pg_wchar	c;

	if (text[0] == '\0')
		return false;
	c = utf8_to_unicode((const unsigned char *) text);
	return (c >= 0x0E00 && c <= 0x0EFF) || (c >= 0x1000 && c <= 0x109F) ||
		(c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x9FFF);
}

/*
 * Make words of what may be parts of them.  whisper.cpp tells the times of
 * tokens: one that continues a word has no blank before it, as has the comma
 * that follows.  Where the first of them has none either, blanks mean nothing.
 */
static void
join_words(ResponseWords *words)
{
	StringInfoData joined = {0};	/* the last word, if it has several parts */
	int			kept = 0;

	if (words->count == 0 || words->word[0].word == NULL ||
		words->word[0].word[0] != ' ')
		return;
	for (int i = 0; i < words->count; i++)
	{
		ResponseWord *word = &words->word[i];
		ResponseWord *last = kept > 0 ? &words->word[kept - 1] : NULL;

		if (last == NULL || last->word == NULL || word->word == NULL ||
			word->word[0] == ' ' || is_unspaced(word->word))
		{
			words->word[kept++] = *word;
			joined.data = NULL;
			continue;
		}
		if (joined.data == NULL)
		{
			initStringInfo(&joined);
			appendStringInfoString(&joined, last->word);
		}
		appendStringInfoString(&joined, word->word);
		last->word = joined.data;
		last->end = word->end;
	}
	words->count = kept;
}

/* Whether there is anything but white space. */
static bool
is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n\f\v")] == '\0';
}

/*
 * How many bytes stand before the first that says something: white space,
 * and a byte-order mark, which is no part of the text.
 */
static size_t
leading_blanks(const char *body, size_t len)
{
	size_t		skip = 0;

	if (len >= 3 && memcmp(body, "\xEF\xBB\xBF", 3) == 0)
		skip = 3;
	while (skip < len && body[skip] != '\0' &&
		   strchr(" \t\r\n", body[skip]) != NULL)
		skip++;
	return skip;
}

/* So many bytes of a text at most, and no part of a character. */
static char *
clipped(const char *text, size_t most)
{
	size_t		len = strlen(text);

	if (len > most)
	{
		len = most;
		while (len > 0 && ((unsigned char) text[len] & 0xC0) == 0x80)
			len--;
	}
	return pnstrdup(text, len);
}

/* Whether any of the segments says something. */
static bool
segments_speak(const Response *response)
{
	for (int i = 0; i < response->nsegments; i++)
	{
		const char *text = response->segments[i].text;

		if (text != NULL && !is_blank(text))
			return true;
	}
	return false;
}

/*
 * Read the answer of a request that succeeded.  False, with what is wrong
 * about it, if it is no transcript.  Plain text counts as one where the
 * server says that it is plain text: a proxy's page with status 200 does not.
 */
bool
response_parse(const char *body, size_t len, const char *content_type,
			   Response *response, const char **problem)
{
	size_t		skip = leading_blanks(body, len);

	memset(response, 0, sizeof(*response));
	response->duration = RESPONSE_NO_NUMBER;
	if (skip == len && pg_strncasecmp(content_type, "text/plain", 10) != 0)
	{
		*problem = "it is empty";
		return false;
	}
	if (pg_strncasecmp(content_type, "text/plain", 10) == 0 &&
		(skip == len || body[skip] != '{'))
	{
		StringInfoData text;

		initStringInfo(&text);
		utf8_append_clean(&text, body + skip, len - skip);
		response->text = text.data;
		return true;
	}
	if (body[skip] == '<')
	{
		*problem = "it is a page of HTML or XML, not JSON";
		return false;
	}
	if (!parse_json(body, len, response, problem))
		return false;
	if (response->error_message != NULL && response->text == NULL)
	{
		*problem = psprintf("it is an error: %s",
							clipped(response->error_message, 500));
		return false;
	}
	if (response->text == NULL && !response->has_segments)
	{
		*problem = "it holds no text";
		return false;
	}

	for (int i = 0; i < response->nsegments; i++)
		join_words(&response->segments[i].words);

	/* Segments that say nothing must not lose a text that does. */
	if (response->text != NULL && !is_blank(response->text) &&
		!segments_speak(response))
		response->has_segments = false;
	return true;
}

/* Read what a server said when it refused; false if that is no JSON. */
static bool
parse_refusal(const char *body, size_t len, Response *response)
{
	size_t		skip = leading_blanks(body, len);
	const char *problem;

	memset(response, 0, sizeof(*response));
	return skip < len && body[skip] == '{' &&
		parse_json(body, len, response, &problem);
}

/*
 * Whether a refusal is of the response format alone: newer models answer with
 * nothing but json.  OpenAI and those who check fields by name tell which one
 * they refuse; others, such as vLLM, name the format in their message.
 */
bool
response_refuses_format(const char *body, size_t len, const char *format)
{
	Response	response;

	if (!parse_refusal(body, len, &response))
		return false;
	if (response.error_param != NULL &&
		strcmp(response.error_param, "response_format") == 0)
		return true;
	return response.error_message != NULL && strchr(format, '_') != NULL &&
		strstr(response.error_message, format) != NULL;
}

/* The number that follows these words; 0 if there is none. */
static double
number_behind(const char *text, const char *words)
{
	const char *found = text != NULL ? strstr(text, words) : NULL;
	char	   *end;
	double		number;

	if (found == NULL)
		return 0;
	number = strtod(found + strlen(words), &end);
	return end > found + strlen(words) && isfinite(number) && number > 0 ?
		number : 0;
}

/*
 * Whether a refusal is of the chunk's size, and what would not be refused.
 * That is every 413; and a 400 in the words that OpenAI and others have for
 * audio that is too long: "longer than 1400 seconds".
 */
bool
response_refuses_size(const char *body, size_t len, int status,
					  ResponseLimit *limit)
{
	Response	response;
	double		seconds = 0;

	memset(limit, 0, sizeof(*limit));
	if (status != 413 && status != 400)
		return false;
	if (parse_refusal(body, len, &response))
	{
		seconds = number_behind(response.error_message, "longer than ");
		if (seconds > 0 && strstr(response.error_message, " seconds") == NULL)
			seconds = 0;
	}
	limit->too_long = seconds > 0;
	limit->number = seconds > 0 ? seconds :
		number_behind(response.error_message, "limit (");
	return status == 413 || limit->too_long;
}

/*
 * Whether a refusal with status 429 is of the account, which waiting does not
 * mend, and not of the rate: by the codes that OpenAI documents.
 */
bool
response_is_out_of_quota(const char *body, size_t len)
{
	static const char *const codes[] = {
		"insufficient_quota", "credit_balance_exhausted",
		"organization_spend_limit_exceeded", "project_spend_limit_exceeded",
		"organization_usage_limit_exceeded"
	};
	Response	response;

	if (!parse_refusal(body, len, &response) || response.error_code == NULL)
		return false;
	for (size_t i = 0; i < lengthof(codes); i++)
	{
		if (strcmp(response.error_code, codes[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Whether a refusal is of the model: by its code or parameter, as OpenAI and
 * Azure give them, or by the words of servers that give neither.
 */
bool
response_refuses_model(const char *body, size_t len)
{
	static const char *const verdicts[] = {
		"not exist", "not found", "not installed", "not available",
		"not loaded", "not supported"
	};
	Response	response;

	if (!parse_refusal(body, len, &response))
		return false;
	if (response.error_param != NULL &&
		strcmp(response.error_param, "model") == 0)
		return true;
	if (response.error_code != NULL &&
		(strcmp(response.error_code, "model_not_found") == 0 ||
		 strcmp(response.error_code, "DeploymentNotFound") == 0))
		return true;
	if (response.error_message == NULL || (strstr(response.error_message, "model") == NULL &&
										   strstr(response.error_message, "Model") == NULL))
		return false;
	for (size_t i = 0; i < lengthof(verdicts); i++)
	{
		if (strstr(response.error_message, verdicts[i]) != NULL)
			return true;
	}
	return false;
}

/*
 * What a server said when it refused, in one line for the job's row: its own
 * message if it gave one in any of the known shapes, else the beginning of
 * what it sent if that is plain text.
 */
char *
response_refusal(const char *body, size_t len, int status)
{
	size_t		skip = leading_blanks(body, len);
	Response	response;
	const char *said = NULL;
	StringInfoData line;
	StringInfoData clean;

	initStringInfo(&clean);
	if (parse_refusal(body, len, &response))
		said = response.error_message;
	else if (skip < len && body[skip] != '{' && body[skip] != '<')
	{
		/* Enough for the last character that is told to be whole. */
		utf8_append_clean(&clean, body + skip, Min(len - skip, MAX_MESSAGE + 3));
		said = clean.data;
	}

	initStringInfo(&line);
	appendStringInfo(&line, "server answered with status %d", status);
	if (said != NULL && !is_blank(said))
	{
		appendStringInfo(&line, ": %s", clipped(said, MAX_MESSAGE));
		for (int i = 0; i < line.len; i++)
		{
			if ((unsigned char) line.data[i] < 0x20)
				line.data[i] = ' ';
		}
	}
	return line.data;
}
