/*-------------------------------------------------------------------------
 *
 * profile.c
 *	  What is known of well-known Whisper servers: defaults for options.
 *
 * Runs wherever options are read; pure.
 *
 * Servers that speak OpenAI's API differ in paths, limits and fields.  A
 * profile is what a user would otherwise have to find out and write into
 * CREATE SERVER: rows that replace the defaults of other options.  A profile
 * can do nothing that options cannot, and an option that is set comes before
 * it.  The profile "generic" has no rows.
 *
 * Add a row only for what was read in the server's source or documentation,
 * or was seen to fail, and say why.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/profile.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>

/*
 * A later row comes before an earlier one, and a row for a model before one
 * for any.
 */
static const ProfileDefault defaults[] = {

	/*
	 * OpenAI.  whisper-1 gives segments; the newer models give text alone and
	 * refuse verbose_json, and those that tell speakers apart have a format of
	 * their own and refuse to begin without a strategy of chunking.
	 */
	{"openai", NULL, "url", "https://api.openai.com/v1"},
	{"openai", "gpt-*transcribe*", "response_format", "json"},
	{"openai", "gpt-*-diarize*", "response_format", "diarized_json"},
	{"openai", "gpt-*-diarize*", "extra_fields", "{\"chunking_strategy\": \"auto\"}"},

	/*
	 * Azure.  Below the resource's URL; the deployment, which people name like
	 * the model, is part of the path.  The version is the first that serves
	 * all of these models.  A key goes into a header of its own, since Bearer
	 * is for tokens of Entra ID.  A new deployment is allowed three requests a
	 * minute.
	 */
	{"azure", NULL, "path", "/openai/deployments/{model}/audio/transcriptions"},
	{"azure", NULL, "translation_path", "/openai/deployments/{model}/audio/translations"},
	{"azure", NULL, "api_version", "2025-03-01-preview"},
	{"azure", NULL, "auth_header", "api-key"},
	{"azure", NULL, "requests_per_minute", "3"},
	{"azure", "gpt-*transcribe*", "response_format", "json"},
	{"azure", "gpt-*-diarize*", "response_format", "diarized_json"},
	{"azure", "gpt-*-diarize*", "extra_fields", "{\"chunking_strategy\": \"auto\"}"},

	/* Groq, where nothing is paid for, and prompts that it refuses. */
	{"groq", NULL, "url", "https://api.groq.com/openai/v1"},
	{"groq", NULL, "requests_per_minute", "20"},
	{"groq", NULL, "max_prompt_length", "896"},

	/*
	 * speaches.  Left alone, it makes one segment of each stretch of up to
	 * 30 s that it decodes.
	 */
	{"speaches", NULL, "url", "http://localhost:8000/v1"},
	{"speaches", NULL, "extra_fields", "{\"without_timestamps\": false}"},

	/*
	 * whisper.cpp's server.  One path, and a field for translations.  It takes
	 * every recording for English unless told otherwise, works on one request
	 * while the others wait for a mutex, and breaks segments after 60
	 * characters, in the middle of words, unless it is given another length.
	 * It looks at each recording once more to tell how likely each language
	 * is, unless it need not.  WAV is what it reads in every version and
	 * however it was built.
	 */
	{"whisper.cpp", NULL, "url", "http://localhost:8080"},
	{"whisper.cpp", NULL, "path", "/inference"},
	{"whisper.cpp", NULL, "translation_path", "/inference"},
	{"whisper.cpp", NULL, "audio_format", "wav"},
	{"whisper.cpp", NULL, "language", "auto"},
	{"whisper.cpp", NULL, "max_requests", "1"},
	{"whisper.cpp", NULL, "extra_fields",
	"{\"max_len\": 100000, \"split_on_word\": true, \"no_language_probabilities\": true}"},

	/*
	 * vLLM.  It cuts what is longer than 30 s, and then places segments at
	 * multiples of 30 s, wherever it has cut, and loses the words behind the
	 * last segment before a cut.  So it gets less than that, encoded: MP3 adds
	 * a tenth of a second.  It batches requests, so that shorter ones cost
	 * nothing.
	 */
	{"vllm", NULL, "url", "http://localhost:8000/v1"},
	{"vllm", NULL, "chunk_seconds", "29"},

	/* LocalAI.  Takes 15 MB unless told otherwise; translates by a field. */
	{"localai", NULL, "url", "http://localhost:8080/v1"},
	{"localai", NULL, "translation_path", "/audio/transcriptions"},
	{"localai", NULL, "max_upload_bytes", "14MB"},
};

/*
 * The first row from *next on that applies to the profile, for any model if
 * model is NULL, else for this one; NULL if there is none any more.
 */
const ProfileDefault *
profile_default(const char *profile, const char *model, int *next)
{
	for (size_t i = *next; i < sizeof(defaults) / sizeof(defaults[0]); i++)
	{
		const ProfileDefault *row = &defaults[i];

		if (strcmp(row->profile, profile) != 0 ||
			(row->model != NULL) != (model != NULL))
			continue;
		if (model == NULL || fnmatch(row->model, model, 0) == 0)
		{
			*next = (int) i + 1;
			return row;
		}
	}
	return NULL;
}
