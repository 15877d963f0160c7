/*-------------------------------------------------------------------------
 *
 * test_response.c
 *	  What servers answer, and what becomes of it.
 *
 * Answers in the shapes that known servers give them, answers that nobody
 * should give, and refusals.
 *
 * sources: src/worker/response.c src/worker/utf8.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <math.h>
#include <stdlib.h>

#include "lib/stringinfo.h"

#include "tap.h"
#include "worker/response.h"

#define BAD		"\xEF\xBF\xBD"
#define NONE	RESPONSE_NO_NUMBER

/* Answers with status 200, from a literal; of JSON unless told otherwise. */
#define ANSWER(body)	answer(body, sizeof(body) - 1, "application/json")
#define TEXT(body)		answer(body, sizeof(body) - 1, "text/plain; charset=utf-8")

/* What is told of a refusal with status 400. */
#define REFUSAL(body, expected) \
	(strcmp(refusal(body, sizeof(body) - 1), \
			"server answered with status 400" expected) == 0)

#define REFUSES(body, format)	response_refuses_format(body, strlen(body), format)

/* The last answer as it was read, and what was wrong with it. */
static Response got;
static const char *problem;

extern const char *__asan_default_options(void);

/* In a worker a memory context is reset; here the program ends. */
const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* The bytes in memory of just their size, to see reads behind their end. */
static char *
exactly(const char *body, size_t len)
{
	char	   *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, body, len);
	return copy;
}

static bool
answer(const char *body, size_t len, const char *type)
{
	char	   *copy = exactly(body, len);
	bool		good;

	problem = NULL;
	good = response_parse(copy, len, type, &got, &problem);

	/* Nothing of the result may point into the body. */
	memset(copy, 'x', len);
	free(copy);
	return good && problem == NULL;
}

static char *
refusal(const char *body, size_t len)
{
	char	   *copy = exactly(body, len);
	char	   *said = response_refusal(copy, len, 400);

	memset(copy, 'x', len);
	free(copy);
	return said;
}

/* NULL equals NULL only. */
static bool
is(const char *value, const char *expected)
{
	return value == NULL || expected == NULL ? value == expected :
		strcmp(value, expected) == 0;
}

/* Whether the last answer was refused for that reason. */
static bool
refused(bool good, const char *reason)
{
	return !good && is(problem, reason);
}

static bool
segment_is(int i, double start, double end, const char *text)
{
	return i < got.nsegments && got.segments[i].start == start &&
		got.segments[i].end == end && is(got.segments[i].text, text);
}

static bool
word_is(const ResponseWords *words, int i, double start, double end,
		const char *word)
{
	return i < words->count && words->word[i].start == start &&
		words->word[i].end == end && is(words->word[i].word, word);
}

/* The shapes that OpenAI's models give. */
static void
test_openai(void)
{
	ok(ANSWER("{\"task\":\"transcribe\",\"language\":\"english\",\"duration\":"
			  "8.47,\"text\":\"Hello. World.\",\"segments\":[{\"id\":0,\"seek\":0,"
			  "\"start\":0.0,\"end\":3.32,\"text\":\" Hello.\",\"tokens\":[1,[2],3],"
			  "\"temperature\":0.0,\"avg_logprob\":-0.28,\"compression_ratio\":1.23,"
			  "\"no_speech_prob\":0.0098},{\"id\":1,\"start\":3.5,\"end\":8.1e0,"
			  "\"text\":\" World.\"}],\"words\":[{\"word\":\"Hello\",\"start\":0.1,"
			  "\"end\":0.5},{\"word\":\"World\",\"start\":3.5,\"end\":4}],"
			  "\"usage\":{\"type\":\"duration\",\"seconds\":9}}") &&
	   is(got.text, "Hello. World.") && is(got.language, "english") &&
	   got.duration == 8.47 && got.has_segments && got.nsegments == 2,
	   "verbose JSON is read");
	ok(segment_is(0, 0, 3.32, " Hello.") && segment_is(1, 3.5, 8.1, " World.") &&
	   got.segments[0].avg_logprob == -0.28 &&
	   got.segments[0].compression_ratio == 1.23 &&
	   got.segments[0].no_speech_prob == 0.0098, "and its segments");
	ok(got.segments[1].avg_logprob == NONE &&
	   got.segments[1].compression_ratio == NONE &&
	   got.segments[1].no_speech_prob == NONE &&
	   got.segments[1].speaker == NULL && got.segments[1].words.count == 0,
	   "what a segment does not say is not there");
	ok(got.words.count == 2 && word_is(&got.words, 0, 0.1, 0.5, "Hello") &&
	   word_is(&got.words, 1, 3.5, 4, "World"), "and its words");

	ok(ANSWER("{\"text\":\"Hi\",\"usage\":{\"input_token_details\":"
			  "{\"text_tokens\":0}}}") && is(got.text, "Hi") &&
	   got.language == NULL && got.duration == NONE && !got.has_segments &&
	   got.nsegments == 0 && got.words.count == 0, "text alone is enough");
	ok(ANSWER("{\"text\":\"x\",\"languages\":[{\"code\":\"de\"},{\"code\":\"en\"}]}") &&
	   is(got.language, "de"), "of several languages the first is told");
	ok(ANSWER("{\"task\":\"transcribe\",\"text\":\"Hi. Yes.\",\"duration\":4,"
			  "\"segments\":[{\"type\":\"transcript.text.segment\",\"id\":\"seg_1\","
			  "\"start\":0,\"end\":1,\"text\":\"Hi.\",\"speaker\":\"A\"},"
			  "{\"id\":\"seg_2\",\"start\":1,\"end\":2,\"text\":\"Yes.\","
			  "\"speaker\":\"agent\"}]}") && got.nsegments == 2 &&
	   is(got.segments[0].speaker, "A") && is(got.segments[1].speaker, "agent"),
	   "speakers are read");
}

/* How others differ. */
static void
test_others(void)
{
	ok(ANSWER("{\"text\":\"a b\",\"segments\":[{\"start\":0,\"end\":2,\"text\":"
			  "\"a b\",\"words\":[{\"word\":\" a\",\"start\":0,\"end\":1,"
			  "\"probability\":0.5},{\"word\":\" b\",\"start\":1,\"end\":2}]},"
			  "{\"start\":2,\"end\":3,\"text\":\"c\",\"words\":[{\"word\":\" c\","
			  "\"start\":2.5,\"end\":3}]}]}") && got.words.count == 0 &&
	   got.segments[0].words.count == 2 && got.segments[1].words.count == 1 &&
	   word_is(&got.segments[0].words, 1, 1, 2, " b") &&
	   word_is(&got.segments[1].words, 0, 2.5, 3, " c"),
	   "words inside segments stay with their segment");
	ok(ANSWER("{\"words\":[{\"start\":0,\"end\":1,\"text\":\"a\"}],\"segments\":["
			  "{\"id\":0,\"start\":0,\"end\":1,\"text\":\"a\",\"words\":[{\"start\":0,"
			  "\"end\":1,\"text\":\"a\"}]}],\"text\":\"a\"}") &&
	   word_is(&got.words, 0, 0, 1, "a") &&
	   word_is(&got.segments[0].words, 0, 0, 1, "a"),
	   "a word may be called text");
	ok(ANSWER("{\"text\":\"a\",\"duration\":\"61.5\",\"segments\":[{\"start\":"
			  "\"1.5\",\"end\":\"2e0\",\"text\":\"a\",\"no_speech_prob\":null,"
			  "\"speaker\":1}]}") && got.duration == 61.5 &&
	   segment_is(0, 1.5, 2, "a") && got.segments[0].no_speech_prob == NONE &&
	   is(got.segments[0].speaker, "1"),
	   "numbers may be strings, and a speaker a number");
	ok(ANSWER("{\"segments\":[{\"text\":\"a\"}]}") && got.text == NULL &&
	   segment_is(0, NONE, NONE, "a"), "segments alone are enough");
	ok(ANSWER("{\"text\":\"\",\"segments\":[]}") && got.has_segments &&
	   got.nsegments == 0 && is(got.text, ""), "nobody may have said anything");
	ok(ANSWER("{\"text\":\"a\",\"segments\":null,\"words\":null,\"language\":null,"
			  "\"duration\":null}") && !got.has_segments && got.language == NULL &&
	   got.duration == NONE, "what is null is not there");
	ok(ANSWER("{\"text\":\"a\",\"segments\":[]}") && !got.has_segments &&
	   ANSWER("{\"text\":\"a\",\"segments\":[{\"start\":0},{\"text\":\" \\n\"}]}") &&
	   !got.has_segments && ANSWER("{\"text\":\"a\",\"segments\":[\"a\"]}") &&
	   !got.has_segments, "segments that say nothing do not lose the text");
	ok(ANSWER("{\"text\":\"a\",\"error\":null}") &&
	   ANSWER("{\"text\":\"a\",\"error\":\"\"}") &&
	   ANSWER("{\"text\":\"a\",\"message\":\"done\"}"),
	   "an answer with a text is no error");
}

/* Whole answers of whisper.cpp's server, whose words are tokens. */
static void
test_whisper_cpp(void)
{
	ok(ANSWER("{\"task\":\"transcribe\",\"language\":\"english\",\"duration\":11.0,"
			  "\"text\":\" And so, my fellow Americans,\\n ask not.\\n\",\"segments\":["
			  "{\"id\":0,\"text\":\" And so, my fellow Americans,\",\"start\":0.32,"
			  "\"end\":2.6,\"tokens\":[400,370,11],\"words\":["
			  "{\"word\":\" And\",\"start\":0.32,\"end\":0.37,\"t_dtw\":-1,\"probability\":0.71},"
			  "{\"word\":\" so\",\"start\":0.37,\"end\":0.63,\"t_dtw\":-1,\"probability\":0.99},"
			  "{\"word\":\",\",\"start\":0.63,\"end\":0.86,\"t_dtw\":-1,\"probability\":0.5},"
			  "{\"word\":\" Amer\",\"start\":1.6,\"end\":1.9,\"t_dtw\":-1,\"probability\":0.9},"
			  "{\"word\":\"ic\",\"start\":1.9,\"end\":2.1,\"t_dtw\":-1,\"probability\":0.9},"
			  "{\"word\":\"ans\",\"start\":2.1,\"end\":2.5,\"t_dtw\":-1,\"probability\":0.9}],"
			  "\"temperature\":0.0,\"avg_logprob\":-0.38,\"no_speech_prob\":0.01},"
			  "{\"id\":1,\"text\":\" ask not.\",\"start\":3.0,\"end\":4.0,\"tokens\":[1029],"
			  "\"words\":[{\"word\":\" ask\",\"probability\":0.9},{\"word\":\" not\",\"probability\":0.9},"
			  "{\"word\":\".\",\"probability\":0.9}],\"temperature\":0.0,"
			  "\"avg_logprob\":null,\"no_speech_prob\":0.01}],"
			  "\"detected_language\":\"english\",\"detected_language_probability\":0.99,"
			  "\"language_probabilities\":{\"en\":0.99,\"cy\":0.002}}") &&
	   is(got.language, "english") && got.duration == 11 && got.nsegments == 2 &&
	   segment_is(0, 0.32, 2.6, " And so, my fellow Americans,") &&
	   got.segments[0].compression_ratio == NONE &&
	   got.segments[0].no_speech_prob == 0.01 && got.segments[1].avg_logprob == NONE,
	   "whisper.cpp: an answer is read");
	ok(got.segments[0].words.count == 3 &&
	   word_is(&got.segments[0].words, 0, 0.32, 0.37, " And") &&
	   word_is(&got.segments[0].words, 1, 0.37, 0.86, " so,") &&
	   word_is(&got.segments[0].words, 2, 1.6, 2.5, " Americans") &&
	   got.segments[1].words.count == 2 &&
	   word_is(&got.segments[1].words, 1, NONE, NONE, " not."),
	   "whisper.cpp: tokens become words");
	ok(ANSWER("{\"segments\":[{\"text\":\" \xE6\x88\x91\xE5\x9C\xA8 Go \xD0\xB4\xD0\xB0\",\"words\":["
			  "{\"word\":\" \xE6\x88\x91\"},{\"word\":\"\xE5\x9C\xA8\"},"
			  "{\"word\":\" G\"},{\"word\":\"o\"},{\"word\":\" \xD0\xB4\"},{\"word\":\"\xD0\xB0\"},"
			  "{\"word\":null},{\"word\":\"x\"},{\"word\":\"\"}]}]}") &&
	   got.segments[0].words.count == 6 &&
	   is(got.segments[0].words.word[1].word, "\xE5\x9C\xA8") &&
	   is(got.segments[0].words.word[2].word, " Go") &&
	   is(got.segments[0].words.word[3].word, " \xD0\xB4\xD0\xB0") &&
	   got.segments[0].words.word[4].word == NULL &&
	   is(got.segments[0].words.word[5].word, "x"),
	   "whisper.cpp: but not in scripts without blanks");
	ok(ANSWER("{\"text\":\" And so,\\n ask not.\\n\"}") && !got.has_segments &&
	   is(got.text, " And so,\n ask not.\n"), "whisper.cpp: json is text alone");
	ok(REFUSAL("{\"error\":\"failed to process audio\"}", ": failed to process audio") &&
	   REFUSAL("Invalid request", ": Invalid request") &&
	   REFUSAL("File Not Found (/inference)", ": File Not Found (/inference)") &&
	   REFUSAL("500 Internal Server Error\nstof", ": 500 Internal Server Error stof"),
	   "whisper.cpp: its refusals are told");
}

/* Whole answers of speaches: pydantic writes every field, null or not. */
static void
test_speaches(void)
{
	ok(ANSWER("{\"duration\":7.1,\"language\":\"en\",\"text\":\"Mr. John.\","
			  "\"segments\":[{\"id\":1,\"avg_logprob\":-0.21,\"compression_ratio\":1.4,"
			  "\"end\":3.2,\"no_speech_prob\":0.02,\"seek\":0,\"start\":0.0,"
			  "\"temperature\":0.0,\"text\":\" Mr. John.\",\"tokens\":[50364,2221]}],"
			  "\"usage\":null,\"words\":null}") &&
	   is(got.language, "en") && segment_is(0, 0, 3.2, " Mr. John.") &&
	   got.usage == NULL && got.words.count == 0, "speaches: an answer is read");
	ok(ANSWER("{\"duration\":7.1,\"language\":\"en\",\"text\":\"Mr. John.\",\"segments\":"
			  "[{\"id\":1,\"start\":0.0,\"end\":3.2,\"text\":\" Mr. John.\"}],\"words\":["
			  "{\"end\":0.5,\"start\":0.0,\"word\":\" Mr.\"},"
			  "{\"end\":0.9,\"start\":0.5,\"word\":\" John.\"}]}") &&
	   got.words.count == 2 && word_is(&got.words, 1, 0.5, 0.9, " John."),
	   "speaches: and its words");
	ok(ANSWER("{\"text\":\"Hi\",\"logprobs\":null,\"usage\":null}") && is(got.text, "Hi") &&
	   TEXT("Hi") && is(got.text, "Hi"), "speaches: json and text are read");
	ok(REFUSAL("{\"detail\":\"Model 'x' is not installed locally.\"}",
			   ": Model 'x' is not installed locally.") &&
	   REFUSAL("{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"model\"],"
			   "\"msg\":\"Field required\",\"input\":null},{\"type\":\"missing\","
			   "\"loc\":[\"body\",\"file\"],\"msg\":\"Field required\"}]}",
			   ": model: Field required") &&
	   REFUSAL("{\"detail\":[]}", "") && REFUSAL("Internal Server Error", ": Internal Server Error"),
	   "speaches: its refusals are told");
}

/* Whole answers of vLLM. */
static void
test_vllm(void)
{
	ok(ANSWER("{\"duration\":\"17.653125\",\"language\":null,\"text\":\" Hey.\","
			  "\"segments\":[{\"id\":0,\"avg_logprob\":-0.4,\"compression_ratio\":0.9,"
			  "\"end\":11.540000000000001,\"no_speech_prob\":null,\"seek\":0,"
			  "\"start\":0.0,\"temperature\":0.0,\"text\":\" Hey.\",\"tokens\":[1911]}],"
			  "\"words\":null}") &&
	   got.duration == 17.653125 && got.language == NULL &&
	   segment_is(0, 0, 11.540000000000001, " Hey.") &&
	   got.segments[0].no_speech_prob == NONE, "vLLM: an answer is read");
	ok(ANSWER("{\"text\":\"Hey.\",\"usage\":{\"type\":\"duration\",\"seconds\":18}}") &&
	   is(got.usage, "{\"type\":\"duration\",\"seconds\":18}") && !got.has_segments,
	   "vLLM: text is, and what it counted");
	ok(REFUSAL("{\"error\":{\"message\":\"The model `x` does not exist.\",\"type\":"
			   "\"NotFoundError\",\"param\":\"model\",\"code\":404}}",
			   ": The model `x` does not exist.") &&
	   REFUSAL("{\"object\":\"error\",\"message\":\"Maximum file size exceeded\",\"type\":"
			   "\"BadRequestError\",\"param\":null,\"code\":400}",
			   ": Maximum file size exceeded"),
	   "vLLM: its refusals are told, old and new");
}

/* Whole answers of LocalAI. */
static void
test_localai(void)
{
	ok(ANSWER("{\"segments\":[{\"id\":0,\"start\":0,\"end\":1.5,\"text\":\"Hi there\","
			  "\"tokens\":[50364,2421],\"speaker\":\"SPEAKER_00\",\"words\":["
			  "{\"start\":0,\"end\":0.5,\"text\":\"Hi\"},{\"start\":0.5,\"end\":1.5,\"text\":\"there\"}]}],"
			  "\"words\":[{\"start\":0,\"end\":0.5,\"text\":\"Hi\"},{\"start\":0.5,\"end\":1.5,\"text\":\"there\"}],"
			  "\"text\":\"Hi there\",\"language\":\"en\",\"duration\":1.5}") &&
	   segment_is(0, 0, 1.5, "Hi there") && is(got.segments[0].speaker, "SPEAKER_00") &&
	   got.segments[0].words.count == 2 &&
	   word_is(&got.segments[0].words, 1, 0.5, 1.5, "there") && got.words.count == 2,
	   "LocalAI: an answer is read, and words are called text");
	ok(ANSWER("{\"segments\":[],\"words\":[],\"text\":\"Hi there\"}") && !got.has_segments &&
	   ANSWER("{\"segments\":null,\"text\":\"Hi there\"}") && !got.has_segments &&
	   ANSWER("{\"segments\":[],\"words\":[],\"text\":\"\"}") && got.has_segments,
	   "LocalAI: no segments are not the same as nothing said");
	ok(REFUSAL("{\"error\":{\"code\":500,\"message\":\"could not load model\",\"type\":\"\"}}",
			   ": could not load model") && REFUSAL("", ""),
	   "LocalAI: its refusals are told, if there is one");
}

/* What Azure, Groq and OpenAI's newest models add. */
static void
test_vendors(void)
{
	ok(ANSWER("{\"task\":\"transcribe\",\"language\":\"German\",\"duration\":3.1,\"text\":"
			  "\" Guten Tag.\",\"segments\":[{\"id\":0,\"seek\":0,\"start\":0,\"end\":2.96,"
			  "\"text\":\" Guten Tag.\",\"tokens\":[50365],\"temperature\":0,"
			  "\"avg_logprob\":-0.1,\"compression_ratio\":0.8,\"no_speech_prob\":1e-10}],"
			  "\"x_groq\":{\"id\":\"req_01\"}}") &&
	   is(got.language, "German") && segment_is(0, 0, 2.96, " Guten Tag.") &&
	   got.segments[0].no_speech_prob == 1e-10, "Groq: an answer is read");
	ok(REFUSAL("{\"error\":{\"code\":\"DeploymentNotFound\",\"message\":\"The API deployment "
			   "for this resource does not exist.\"}}",
			   ": The API deployment for this resource does not exist.") &&
	   REFUSAL("{\"error\":{\"code\":\"429\",\"message\":\"Please retry after 20 seconds.\"}}",
			   ": Please retry after 20 seconds.") &&
	   REFUSAL("{\"statusCode\":401,\"message\":\"Access denied due to invalid key.\"}",
			   ": Access denied due to invalid key."), "Azure: its refusals are told");
	ok(refused(ANSWER("{\"error\":{\"code\":429,\"message\":\"slow\"}}"), "it is an error: slow") &&
	   is(got.error_code, "429"), "Azure: a code may be a number");
	ok(ANSWER("{\"text\":\"Ja. Yes.\",\"languages\":[{\"code\":\"de\"},{\"code\":\"en\"}],"
			  "\"usage\":{\"type\":\"tokens\",\"total_tokens\":61,\"input_tokens\":40,"
			  "\"input_token_details\":{\"text_tokens\":0,\"audio_tokens\":40},"
			  "\"output_tokens\":21}}") && is(got.language, "de") && !got.has_segments &&
	   is(got.usage, "{\"type\":\"tokens\",\"total_tokens\":61,\"input_tokens\":40,"
		  "\"input_token_details\":{\"text_tokens\":0,\"audio_tokens\":40},"
		  "\"output_tokens\":21}"), "gpt-transcribe: an answer is read");
	ok(ANSWER("{\"task\":\"transcribe\",\"duration\":4.2,\"text\":\"Hi. Yes.\",\"segments\":["
			  "{\"type\":\"transcript.text.segment\",\"id\":\"seg_001\",\"start\":0.0,\"end\":1.1,"
			  "\"text\":\"Hi.\",\"speaker\":\"A\"},{\"type\":\"transcript.text.segment\","
			  "\"id\":\"seg_002\",\"start\":1.1,\"end\":4.2,\"text\":\"Yes.\",\"speaker\":\"B\"}],"
			  "\"usage\":{\"type\":\"duration\",\"seconds\":5}}") && got.nsegments == 2 &&
	   segment_is(1, 1.1, 4.2, "Yes.") && is(got.segments[1].speaker, "B") &&
	   got.segments[1].avg_logprob == NONE &&
	   is(got.usage, "{\"type\":\"duration\",\"seconds\":5}"), "diarized_json is read");
}

/* What was counted is kept if any database takes it, and is never an error. */
static void
test_usage(void)
{
	StringInfoData body;

	ok(ANSWER("{\"text\":\"a\",\"usage\" : { \"seconds\" : -8.25 , \"x\":[{}] } }") &&
	   is(got.usage, "{ \"seconds\" : -8.25 , \"x\":[{}] }"),
	   "usage is kept as it came");
	ok(ANSWER("{\"text\":\"a\",\"usage\":{\"a\":1},\"usage\":{\"b\":2}}") &&
	   is(got.usage, "{\"b\":2}") &&
	   ANSWER("{\"text\":\"a\",\"usage\":{\"a\":\"\\u0000\\ud800\\u00e9\",\"n\":NaN}}") &&
	   is(got.usage, "{\"a\":\"" BAD BAD "\xC3\xA9\",\"n\":null}"),
	   "the last one, made harmless");
	ok(ANSWER("{\"text\":\"a\",\"usage\":null}") && got.usage == NULL &&
	   ANSWER("{\"text\":\"a\",\"usage\":5}") && got.usage == NULL &&
	   ANSWER("{\"text\":\"a\",\"usage\":[{\"a\":1}]}") && got.usage == NULL &&
	   ANSWER("{\"text\":\"a\",\"x\":{\"usage\":{\"a\":1}}}") && got.usage == NULL &&
	   ANSWER("{\"text\":\"a\",\"usage\":{\"usage\":{}}}") && is(got.usage, "{\"usage\":{}}"),
	   "only an object at its place is usage");
	ok(ANSWER("{\"text\":\"a\",\"usage\":{\"seconds\":1e999999999}}") && got.usage == NULL &&
	   ANSWER("{\"text\":\"a\",\"usage\":{\"a\":[123456789012345678901234567890123]}}") &&
	   got.usage == NULL && ANSWER("{\"text\":\"a\",\"y\":1e999,\"usage\":{\"seconds\":1}}") &&
	   is(got.usage, "{\"seconds\":1}"), "a number that no column holds leaves it out");

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"text\":\"a\",\"usage\":{\"x\":\"");
	for (int i = 0; i < 5000; i++)
		appendStringInfoChar(&body, 'x');
	appendStringInfoString(&body, "\"}}");
	ok(answer(body.data, body.len, "application/json") && got.usage == NULL,
	   "so does a length that nobody needs");
	pfree(body.data);
}

/* Numbers that are none. */
static void
test_numbers(void)
{
	ok(ANSWER("{\"text\":\"a\",\"duration\":1e400,\"segments\":[{\"start\":-1e400,"
			  "\"end\":1e308,\"avg_logprob\":-1e999,\"text\":\"a\"}]}") &&
	   got.duration == NONE && segment_is(0, NONE, NONE, "a") &&
	   got.segments[0].avg_logprob == NONE, "a number too large is none");
	ok(ANSWER("{\"text\":\"a\",\"duration\":\"nan\",\"segments\":[{\"start\":\"inf\","
			  "\"end\":\"-Infinity\",\"text\":\"a\"}]}") && got.duration == NONE &&
	   segment_is(0, NONE, NONE, "a"), "a string that is not finite is none");
	ok(ANSWER("{\"text\":\"a\",\"duration\":\"\",\"segments\":[{\"start\":\"1s\","
			  "\"end\":\"one\",\"text\":\"a\"}]}") && got.duration == NONE &&
	   segment_is(0, NONE, NONE, "a"), "a string that is no number is none");
	ok(ANSWER("{\"text\":\"a\",\"duration\":{\"s\":1},\"segments\":[{\"start\":[1],"
			  "\"end\":true,\"text\":\"a\"}]}") && got.duration == NONE &&
	   segment_is(0, NONE, NONE, "a"), "what is of another kind is none");
	ok(ANSWER("{\"text\":\"a\",\"segments\":[{\"start\":-0.5,\"end\":-0,\"text\":"
			  "\"a\"}]}") && segment_is(0, -0.5, 0, "a"),
	   "a negative time is read; the timeline brings it in");
	ok(ANSWER("{\"text\":\"a\",\"duration\":123456789012345678901234567890}") &&
	   got.duration == NONE && ANSWER("{\"text\":\"a\",\"duration\":1e9}") &&
	   got.duration == 1e9, "thirty years is the longest time");
	ok(ANSWER("{\"text\":\"NaN\",\"duration\":NaN,\"x\":[-Infinity,Infinity]}") &&
	   got.duration == NONE && strcmp(got.text, "NaN") == 0,
	   "numbers that JSON does not have are none");
}

/* Text with everything in it. */
static void
test_text(void)
{
	ok(ANSWER("{\"text\":\"a\\u0000b\\ud83d\\ude00\\ud83d \\\"q\\\" \\\\u0041\\n\"}") &&
	   is(got.text, "a" BAD "b\xF0\x9F\x98\x80" BAD " \"q\" \\u0041\n"),
	   "escapes become characters, or their replacement");
	ok(ANSWER("{\"text\":\"caf\xC3\xA9 \xFF\xED\xA0\x80 \xE2\x82\"}") &&
	   is(got.text, "caf\xC3\xA9 " BAD BAD BAD BAD " " BAD BAD),
	   "malformed bytes lose nothing but themselves");
	ok(ANSWER("\xEF\xBB\xBF {\"text\":\"a\"}\r\n") && is(got.text, "a"),
	   "a mark before and blanks around are no harm");
	ok(ANSWER("{\"te\\u0078t\":\"a\"}") && is(got.text, "a"),
	   "a name may be escaped");
	ok(ANSWER("{\"text\":17}") && is(got.text, "17"),
	   "a number that was said is text");
	ok(ANSWER("{\"text\":\"a\",\"text\":\"b\",\"duration\":1,\"duration\":2,"
			  "\"segments\":[{\"text\":\"c\",\"text\":\"d\",\"start\":1,\"start\":2}]}") &&
	   is(got.text, "b") && got.duration == 2 && segment_is(0, 2, NONE, "d"),
	   "of a name that comes twice the last counts");

	ok(TEXT(" Hello\nworld \xFF\n") && is(got.text, "Hello\nworld " BAD "\n") &&
	   !got.has_segments && got.duration == NONE, "plain text is text");
	ok(TEXT("") && is(got.text, "") && TEXT(" \n") && is(got.text, ""),
	   "plain text may be empty");
	ok(TEXT("\xEF\xBB\xBFHello") && is(got.text, "Hello"),
	   "a mark before plain text is no part of it");
	ok(TEXT(" {\"text\":\"a\"}") && is(got.text, "a") &&
	   answer("{\"text\":\"b\"}", 12, "TEXT/Plain") && is(got.text, "b") &&
	   answer("{\"text\":\"c\"}", 12, "") && is(got.text, "c"),
	   "JSON is JSON whatever it is called");
	ok(!answer("Hello", 5, "application/octet-stream") &&
	   !answer("Hello", 5, "text/html") && !answer("Hello", 5, ""),
	   "other text than what is called plain is refused");
}

/* Places that look like those we read. */
static void
test_places(void)
{
	ok(ANSWER("{\"result\":{\"text\":\"no\",\"segments\":[{\"text\":\"no\"}]},"
			  "\"text\":\"yes\"}") && is(got.text, "yes") && !got.has_segments,
	   "a text elsewhere is another");
	ok(ANSWER("{\"text\":\"yes\",\"segments\":[[{\"text\":\"no\"}],"
			  "{\"text\":\"s\",\"alternatives\":[{\"text\":\"no\"}],"
			  "\"start\":1}]}") && got.nsegments == 1 &&
	   segment_is(0, 1, NONE, "s") && is(got.text, "yes"),
	   "a text further inside is another");
	ok(ANSWER("{\"text\":\"yes\",\"words\":[\"a\",[],{\"word\":\"w\"}],"
			  "\"segments\":[{\"words\":[1,{\"word\":\"x\"}],\"text\":\"s\"}]}") &&
	   got.words.count == 1 && word_is(&got.words, 0, NONE, NONE, "w") &&
	   got.segments[0].words.count == 1,
	   "elements of another kind are passed by");
	ok(refused(ANSWER("{\"segments\":{\"text\":\"no\"},\"words\":[{\"word\":\"w\"}]}"),
			   "it holds no text") &&
	   refused(ANSWER("[{\"text\":\"no\"}]"), "it holds no text") &&
	   refused(ANSWER("\"text\""), "it holds no text") &&
	   refused(ANSWER("{}"), "it holds no text") &&
	   refused(ANSWER("{\"text\":null}"), "it holds no text") &&
	   refused(ANSWER("{\"TEXT\":\"no\"}"), "it holds no text"),
	   "JSON without a text is refused");
}

/* What is no answer at all. */
static void
test_garbage(void)
{
	const char	whole[] = "{\"text\":\"a\\ud83d\\ude00\",\"segments\":"
		"[{\"start\":1.5,\"words\":[{\"word\":\"\xC3\xA9\"}]}]}";
	bool		cut = true;

	ok(refused(ANSWER(""), "it is empty") && refused(ANSWER(" \r\n\t"), "it is empty") &&
	   refused(ANSWER("\xEF\xBB\xBF"), "it is empty"),
	   "an empty answer is refused");
	ok(refused(ANSWER("<!DOCTYPE html><html></html>"),
			   "it is a page of HTML or XML, not JSON") &&
	   refused(ANSWER("\xEF\xBB\xBF\n <?xml version=\"1.0\"?>"),
			   "it is a page of HTML or XML, not JSON"),
	   "a page is refused, and called one");
	for (size_t len = 1; len < sizeof(whole) - 1; len++)
		cut = cut && refused(answer(whole, len, "application/json"),
							 "it is not valid JSON");
	ok(cut && ANSWER("{\"text\":\"a\"}"), "an answer cut anywhere is refused");
	ok(!ANSWER("data: {\"type\":\"error\"}\n\ndata: [DONE]\n\n") &&
	   !ANSWER("{\"text\":\"a\"}{\"text\":\"b\"}") && !ANSWER("{'text':'a'}") &&
	   !ANSWER("{\"text\":\"a\",}") && !ANSWER("{\"text\":\"a\"]") &&
	   !ANSWER("{\"text\":\"a\\x\"}") && !ANSWER("{\"text\":\"a\nb\"}") &&
	   !ANSWER("{\"text\":\"a\"}\0") && !ANSWER("\0\0\0\0") &&
	   !ANSWER("\x1f\x8b\x08\0\0\0\0\0") && !ANSWER("\xFF\xFE{\0}\0"),
	   "what is not JSON is refused");
	ok(refused(ANSWER("{\"error\":{\"message\":\"overloaded\",\"code\":429}}"),
			   "it is an error: overloaded") &&
	   is(got.error_code, "429") &&
	   refused(ANSWER("{\"detail\":\"busy\",\"segments\":[]}"),
			   "it is an error: busy"), "an error in an answer is told");
}

/* Depth and number, without a limit on the server's side. */
static void
test_limits(void)
{
	StringInfoData body;
	const char *deep = "its JSON is nested too deeply";

	initStringInfo(&body);
	for (int i = 0; i < 100000; i++)
		appendStringInfoString(&body, i % 2 ? "{\"a\":" : "[");
	ok(refused(answer(body.data, body.len, "application/json"), deep),
	   "a depth of a hundred thousand is refused");
	resetStringInfo(&body);
	for (int i = 0; i < 100000; i++)
		appendStringInfoString(&body, "{\"error\":");
	ok(refused(answer(body.data, body.len, "application/json"), deep) &&
	   is(refusal(body.data, body.len), "server answered with status 400"),
	   "in a refusal as well");

	ok(ANSWER("{\"text\":\"a\",\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
			  "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}") &&
	   refused(ANSWER("{\"text\":\"a\",\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
					  "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"), deep),
	   "a depth of 32 is the limit");

	resetStringInfo(&body);
	appendStringInfoString(&body, "{\"text\":\"a\",\"segments\":[");
	for (int i = 0; i < 5000; i++)
		appendStringInfo(&body, "%s{\"start\":%d,\"end\":%d,\"text\":\"s\","
						 "\"words\":[{\"word\":\"w\"}]}", i ? "," : "", i, i + 1);
	appendStringInfoString(&body, "]}");
	ok(answer(body.data, body.len, "application/json") &&
	   got.nsegments == 5000 && segment_is(4999, 4999, 5000, "s") &&
	   got.segments[4999].words.count == 1,
	   "thousands of segments are no depth");
	pfree(body.data);
}

/* A body of so many empty segments or words. */
static bool
holds(const char *name, int count)
{
	StringInfoData body;
	bool		good;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"text\":\"a\",\"%s\":[", name);
	for (int i = 0; i < count; i++)
		appendStringInfoString(&body, i ? ",{}" : "{}");
	appendStringInfoString(&body, "]}");
	good = answer(body.data, body.len, "application/json");
	pfree(body.data);
	free(got.segments);
	free(got.words.word);
	return good;
}

static void
test_numbers_of_items(void)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"segments\":[{\"text\":\"a\",\"words\":[{\"word\":\" \"}");
	for (int i = 0; i < 90000; i++)
		appendStringInfoString(&body, ",{\"word\":\"a\"}");
	appendStringInfoString(&body, "]}]}");
	ok(answer(body.data, body.len, "application/json") &&
	   got.segments[0].words.count == 1 &&
	   strlen(got.segments[0].words.word[0].word) == 90001,
	   "a word may have any number of parts");
	pfree(body.data);

	ok(holds("segments", 100000) && got.nsegments == 100000 &&
	   holds("words", 100000) && got.words.count == 100000,
	   "a hundred thousand segments or words are read");
	ok(refused(holds("segments", 100001),
			   "it has too many segments or words") &&
	   refused(holds("words", 100001), "it has too many segments or words"),
	   "more are refused");
}

/* Refusals, in the shapes that are known. */
static void
test_refusals(void)
{
	ok(REFUSAL("{\"error\":{\"message\":\"no \\\"file\\\"\",\"type\":"
			   "\"invalid_request_error\",\"param\":\"file\",\"code\":null}}",
			   ": no \"file\""), "an error's message is told");
	ok(REFUSAL("{\"error\":\"no model\"}", ": no model"), "or the error itself");
	ok(REFUSAL("{\"detail\":\"Not Found\"}", ": Not Found"), "or a detail");
	ok(REFUSAL("{\"detail\":[{\"loc\":[\"body\",\"file\"],\"msg\":\"field required\","
			   "\"type\":\"missing\"},{\"msg\":\"second\"}]}", ": file: field required"),
	   "or the first of several, and where it is");
	ok(REFUSAL("{\"message\":\"no route\",\"request_id\":\"x\"}", ": no route"),
	   "or a bare message");
	ok(REFUSAL("Invalid request", ": Invalid request") &&
	   REFUSAL(" \n413: too large", ": 413: too large"),
	   "or what was sent as plain text");
	ok(REFUSAL("{\"error\":{\"message\":\"a\\nb\\tc\\u0001\\u001f\\u0000\"}}",
			   ": a b c  " BAD) && REFUSAL("a\r\nb\0c", ": a  b" BAD "c"),
	   "in one line, of characters that can be stored");
	ok(REFUSAL("", "") && REFUSAL(" \r\n", "") && REFUSAL("{}", "") &&
	   REFUSAL("{\"error\":{\"code\":1}}", "") && REFUSAL("{\"error\":\" \"}", "") &&
	   REFUSAL("{\"error\":null}", "") && REFUSAL("{\"error\":\"cut", ""),
	   "nothing, if nothing was said");
	ok(REFUSAL("<html>Bad Gateway</html>", "") &&
	   REFUSAL("\r\n<!DOCTYPE html>", "") && REFUSAL("\xEF\xBB\xBF<html>", ""),
	   "and nothing of a page");
	ok(REFUSAL("\xEF\xBB\xBF\n {\"error\":\"x\"}", ": x"),
	   "blanks before a refusal are no harm");
}

/* Long messages, whose cut may fall anywhere in a character. */
static void
test_long_refusals(void)
{
	static const char *const kinds[] = {
		"e", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"
	};
	bool		good = true;
	size_t		head = strlen("server answered with status 400: ");

	for (int shift = 0; shift < 4; shift++)
	{
		for (int kind = 0; kind < (int) lengthof(kinds); kind++)
		{
			size_t		size = strlen(kinds[kind]);
			size_t		whole = (1000 - shift) / size * size + shift;
			StringInfoData body;
			char	   *text;
			char	   *json;

			initStringInfo(&body);
			appendStringInfoString(&body, "{\"error\":\"");
			for (int i = 0; i < shift; i++)
				appendStringInfoChar(&body, '.');
			for (int i = 0; i < 2000; i++)
				appendStringInfoString(&body, kinds[kind]);
			text = refusal(body.data + 10, body.len - 10);
			appendStringInfoString(&body, "\"}");
			json = refusal(body.data, body.len);
			good = good && is(text, json) && strlen(text) == head + whole &&
				strncmp(text + head, body.data + 10, whole) == 0;
		}
	}
	ok(good, "a long refusal is cut between two characters");

	good = true;
	for (int shift = 0; shift < 3; shift++)
	{
		StringInfoData body;

		initStringInfo(&body);
		appendStringInfo(&body, "{\"error\":\"%.*s", shift, "..");
		for (int i = 0; i < 1000; i++)
			appendStringInfoString(&body, "\xE2\x82\xAC");
		appendStringInfoString(&body, "\"}");
		good = good && !answer(body.data, body.len, "application/json") &&
			strlen(problem) <= strlen("it is an error: ") + 500 &&
			strcmp(problem + strlen(problem) - 3, "\xE2\x82\xAC") == 0;
	}
	ok(good, "so is an error in an answer");
}

/* What a model says that answers with text alone. */
static void
test_format_refusals(void)
{
	static const char *const by_param =
		"{\"error\": {\"message\": \"no\", \"type\": \"invalid_request_error\", "
		"\"param\": \"response_format\", \"code\": \"unsupported_value\"}}";
	static const char *const by_words =
		"{\"error\": {\"message\": \"response_format 'verbose_json' is not "
		"compatible with model\", \"code\": \"unsupported_value\"}}";
	static const char *const other =
		"{\"error\": {\"message\": \"no\", \"param\": \"language\"}}";

	static const char *const vllm =
		"{\"error\":{\"message\":\"Currently do not support verbose_json for "
		"mistralai/Voxtral-Mini-3B-2507\",\"type\":\"BadRequestError\","
		"\"param\":null,\"code\":400}}";
	static const char *const by_place =
		"{\"detail\":[{\"type\":\"enum\",\"loc\":[\"body\",\"response_format\"],"
		"\"msg\":\"Input should be 'text' or 'json'\",\"input\":\"verbose_json\"}]}";

	ok(REFUSES(by_param, "verbose_json"),
	   "a refusal of the format is known by its parameter");
	ok(REFUSES(by_place, "verbose_json"), "or by the place of the field");
	ok(REFUSES(by_words, "verbose_json") && REFUSES(vllm, "verbose_json"),
	   "or by its words");
	ok(!REFUSES(other, "verbose_json") && !REFUSES(vllm, "diarized_json"),
	   "one of something else is none");
	ok(!REFUSES("{\"error\": \"the text is too long\"}", "text"),
	   "nor is one with a word that is also a format");
	ok(!REFUSES("<html>", "verbose_json") && !REFUSES("", "verbose_json"),
	   "nor is what is no JSON");
}

/* Whether that is a refusal of the size, and what is said to fit. */
static bool
refuses_size(int status, const char *body, bool too_long, double number)
{
	ResponseLimit limit;

	return response_refuses_size(body, strlen(body), status, &limit) &&
		limit.too_long == too_long && limit.number == number;
}

/* Refusals of the size, in the words of OpenAI and of proxies. */
static void
test_size_refusals(void)
{
	static const char *const too_large =
		"{\"error\": {\"message\": \"413: Maximum content size limit (26214400) "
		"exceeded (26345678 bytes read)\", \"type\": \"server_error\"}}";
	static const char *const too_long =
		"{\"error\": {\"message\": \"audio duration 2000.5 seconds is longer than "
		"1400 seconds which is the maximum for this model\", \"code\": \"invalid_value\"}}";
	static const char *const longer =
		"{\"error\": {\"message\": \"prompt is longer than 896 characters\"}}";
	ResponseLimit limit;

	ok(refuses_size(413, too_large, false, 26214400),
	   "too large a request is known, and what would not be");
	ok(refuses_size(413, "<html>413</html>", false, 0) && refuses_size(413, "", false, 0),
	   "also where the status alone says it");
	ok(refuses_size(413, "{\"error\": {\"message\": \"limit (-5)\"}}", false, 0) &&
	   refuses_size(413, "{\"error\": {\"message\": \"limit (1e999)\"}}", false, 0),
	   "a number that is none is not taken");
	ok(refuses_size(400, too_long, true, 1400) && refuses_size(413, too_long, true, 1400),
	   "too long a recording is known, and what would not be");
	ok(!response_refuses_size(longer, strlen(longer), 400, &limit) &&
	   !response_refuses_size(too_large, strlen(too_large), 400, &limit) &&
	   !response_refuses_size(too_long, strlen(too_long), 422, &limit),
	   "one of something else is none");
}

/* Refusals of the model, as servers word them. */
static void
test_model_refusals(void)
{
	static const char *const refusals[] = {
		"{\"error\": {\"message\": \"no\", \"code\": \"model_not_found\"}}",
		"{\"error\": {\"message\": \"no\", \"param\": \"model\"}}",
		"{\"error\": {\"code\": \"DeploymentNotFound\", \"message\": \"no\"}}",
		"{\"detail\": \"Model 'large' is not installed locally.\"}",
		"{\"error\": {\"message\": \"The model `x` does not exist.\"}}",
	};
	static const char *const others[] = {
		"", "<html>model not found", "{\"detail\": \"Not Found\"}",
		"{\"error\": {\"message\": \"too long for this model\"}}",
		"{\"error\": {\"message\": \"no\", \"param\": \"language\"}}",
	};

	for (size_t i = 0; i < lengthof(refusals); i++)
		ok(response_refuses_model(refusals[i], strlen(refusals[i])),
		   psprintf("of the model: %s", refusals[i]));
	for (size_t i = 0; i < lengthof(others); i++)
		ok(!response_refuses_model(others[i], strlen(others[i])),
		   psprintf("not of the model: %s", others[i]));
}

int
main(void)
{
	test_openai();
	test_others();
	test_whisper_cpp();
	test_speaches();
	test_vllm();
	test_localai();
	test_vendors();
	test_usage();
	test_numbers();
	test_text();
	test_places();
	test_garbage();
	test_limits();
	test_numbers_of_items();
	test_refusals();
	test_long_refusals();
	test_format_refusals();
	test_size_refusals();
	test_model_refusals();
	return done();
}
