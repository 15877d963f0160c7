/*-------------------------------------------------------------------------
 *
 * test_profile.c
 *	  Which defaults a profile replaces, for which models.
 *
 * sources: src/shared/profile.c
 *
 *-------------------------------------------------------------------------
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "shared/profile.h"
#include "tap.h"

/* How many rows apply; the last value of the option goes to *value. */
static int
rows(const char *profile, const char *model, const char *option,
	 const char **value)
{
	const ProfileDefault *row;
	int			next = 0;
	int			count = 0;

	*value = NULL;
	while ((row = profile_default(profile, model, &next)) != NULL)
	{
		count++;
		if (strcmp(row->option, option) == 0)
			*value = row->value;
	}
	return count;
}

/* Whether the model is asked for that format; NULL: the table's default. */
static bool
asks(const char *profile, const char *model, const char *format)
{
	const char *value;

	rows(profile, model, "response_format", &value);
	return value == NULL || format == NULL ? value == format :
		strcmp(value, format) == 0;
}

static void
test_models(void)
{
	ok(asks("openai", "whisper-1", NULL) && asks("openai", NULL, NULL) &&
	   asks("openai", "gpt-4o-audio-preview", NULL),
	   "most models keep the default format");
	ok(asks("openai", "gpt-4o-transcribe", "json") &&
	   asks("openai", "gpt-4o-mini-transcribe", "json") &&
	   asks("openai", "gpt-4o-mini-transcribe-2025-12-15", "json") &&
	   asks("openai", "gpt-transcribe", "json") &&
	   asks("azure", "gpt-4o-transcribe", "json"),
	   "those that give text alone are known, with and without a date");
	ok(asks("openai", "gpt-4o-transcribe-diarize", "diarized_json") &&
	   asks("azure", "gpt-4o-transcribe-diarize", "diarized_json"),
	   "a later row comes before an earlier one");
	ok(asks("generic", "gpt-4o-transcribe", NULL) &&
	   asks("groq", "gpt-4o-transcribe", NULL), "of their profiles only");
}

static void
test_profiles(void)
{
	char		names[] = PROFILES;
	const char *value;
	bool		all = true;

	ok(rows("generic", NULL, "url", &value) == 0 &&
	   rows("generic", "whisper-1", "url", &value) == 0,
	   "generic changes nothing");
	for (char *name = strtok(names, ", "); name != NULL; name = strtok(NULL, ", "))
		all = all && (strcmp(name, "generic") == 0 ||
					  rows(name, NULL, "url", &value) > 0);
	ok(all, "every other profile changes something");
	ok(rows("watson", NULL, "url", &value) == 0, "an unknown one has nothing");
	ok(rows("openai", "whisper-1", "url", &value) == 0 && value == NULL,
	   "what holds for any model is not told for one again");
}

int
main(void)
{
	test_models();
	test_profiles();
	return done();
}
