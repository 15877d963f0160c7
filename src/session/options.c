/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Checking the options that transcribe_enqueue is given for a job.
 *
 * Runs in the caller's backend.  What passes here is frozen into the job's
 * row and read again by worker/request.c.
 *
 *-------------------------------------------------------------------------
 */
#include "session/options.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#define OPTION_MAX_ATTEMPTS "max_attempts"

typedef struct JobOption
{
	const char *name;
	enum jbvType type;
	const char *form;			/* what it must be */
	const char *choices[2];		/* strings of which it must be one, if any */
	double		min;			/* numbers between which it must be */
	double		max;
	bool		whole;			/* without a fraction */
} JobOption;

static const JobOption job_options[] = {
	{"language", jbvString, "a string that is not empty"},
	{"prompt", jbvString, "a string that is not empty"},
	{"temperature", jbvNumeric, "a number from 0 to 1", .min = 0, .max = 1},
	{"model", jbvString, "a string that is not empty"},
	{"words", jbvBool, "true or false"},
	{"translate", jbvBool, "true or false"},
	{"channels", jbvString, "\"mix\" or \"split\"", {"mix", "split"}},
	{OPTION_MAX_ATTEMPTS, jbvNumeric, "an integer from 1 to 1000",
	.min = 1, .max = 1000, .whole = true},
};

#define OPTIONS_HINT \
	errhint("Valid options are: language (string), prompt (string), temperature (number from 0 to 1), model (string), words (boolean), translate (boolean), channels (mix or split), max_attempts (integer from 1 to 1000).")

/* Whether a string of JSON is this one. */
static bool
is_string(JsonbValue *value, const char *string)
{
	int			len = strlen(string);

	return value->val.string.len == len &&
		memcmp(value->val.string.val, string, len) == 0;
}

static double
number_of(JsonbValue *value)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8,
											  NumericGetDatum(value->val.numeric)));
}

static void
check_option(const char *name, JsonbValue *value)
{
	for (size_t i = 0; i < lengthof(job_options); i++)
	{
		const JobOption *option = &job_options[i];
		bool		good = value->type == option->type;

		if (strcmp(name, option->name) != 0)
			continue;
		if (good && value->type == jbvNumeric)
		{
			double		number = number_of(value);

			good = number >= option->min && number <= option->max &&
				(!option->whole || number == floor(number));
		}
		if (good && value->type == jbvString)
			good = value->val.string.len > 0;

		/* It goes out as UTF-8, and nobody knows what it is in. */
		if (good && value->type == jbvString && GetDatabaseEncoding() == PG_SQL_ASCII)
			pg_verify_mbstr(PG_UTF8, value->val.string.val, value->val.string.len, false);
		if (good && option->choices[0] != NULL)
			good = is_string(value, option->choices[0]) ||
				is_string(value, option->choices[1]);
		if (!good)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"%s\"", name),
					 errdetail("It must be %s.", option->form),
					 OPTIONS_HINT));
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid option \"%s\"", name),
			 OPTIONS_HINT));
}

/*
 * Raise an error unless options is an object of valid options.  One of them does
 * not concern requests, and stands in a column of its own.
 */
void
options_check(Jsonb *options, int *max_attempts)
{
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 OPTIONS_HINT));

	it = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&it, &key, false);
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		char	   *name = pnstrdup(key.val.string.val, key.val.string.len);

		(void) JsonbIteratorNext(&it, &value, true);
		check_option(name, &value);
		if (strcmp(name, OPTION_MAX_ATTEMPTS) == 0)
			*max_attempts = (int) number_of(&value);
	}
}
