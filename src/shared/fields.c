/*-------------------------------------------------------------------------
 *
 * fields.c
 *	  Form fields that are written as a JSON object.
 *
 * Runs wherever options of servers are checked and read.  Values go out as
 * they are written: a number keeps its digits.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/fields.h"

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "compat.h"

#define NOT_AN_OBJECT \
	"It must be a JSON object such as {\"beam_size\": 5}."
#define NOT_A_VALUE \
	"Values must be strings, numbers, booleans, null, or arrays of these."

/* Where the parser is. */
typedef struct Reader
{
	List	   *fields;			/* of Field, in order */
	int			depth;			/* of open objects and arrays */
	char	   *name;			/* of the member being read */
	bool		empty;			/* no value of it was read yet */
	const char *problem;		/* the first one, or NULL */
} Reader;

/* Fields that only we can fill in, and why. */
static const struct
{
	const char *name;
	const char *why;
}			reserved[] = {
	{"file", "it carries the audio"},
	{"model", "it has an option of its own"},
	{"language", "it has an option of its own"},
	{"prompt", "it has an option of its own"},
	{"temperature", "it has an option of its own"},
	{"response_format", "it has an option of its own"},
	{"stream", "answers have to come in one piece"},
};

static void
complain(Reader *reader, const char *problem)
{
	if (reader->problem == NULL)
		reader->problem = problem;
}

/* Add a value of the member being read, or NULL if it is not to be sent. */
static void
add_value(Reader *reader, char *value)
{
	Field	   *field = palloc(sizeof(Field));

	field->name = reader->name;
	field->value = value;
	field->more = !reader->empty;
	reader->empty = false;
	reader->fields = lappend(reader->fields, field);
	if (list_length(reader->fields) > FIELDS_MAX)
		complain(reader, psprintf("It must hold no more than %d values.", FIELDS_MAX));
}

static TranscribeJsonAction
on_start(void *arg)
{
	Reader	   *reader = arg;

	reader->depth++;
	return TRANSCRIBE_JSON_OK;
}

static TranscribeJsonAction
on_object_start(void *arg)
{
	Reader	   *reader = arg;

	if (reader->depth > 0)
		complain(reader, NOT_A_VALUE);
	return on_start(arg);
}

static TranscribeJsonAction
on_array_start(void *arg)
{
	Reader	   *reader = arg;

	if (reader->depth == 0)
		complain(reader, NOT_AN_OBJECT);
	else if (reader->depth > 1)
		complain(reader, NOT_A_VALUE);
	return on_start(arg);
}

static TranscribeJsonAction
on_end(void *arg)
{
	Reader	   *reader = arg;

	reader->depth--;
	return TRANSCRIBE_JSON_OK;
}

static TranscribeJsonAction
on_field_start(void *arg, char *name, bool isnull)
{
	Reader	   *reader = arg;

	reader->name = name;
	reader->empty = true;
	if (name[0] == '\0')
		complain(reader, "The name of a field must not be empty.");
	for (char *p = name; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			complain(reader, "The name of a field must hold no control characters.");
	}
	for (size_t i = 0; i < lengthof(reserved); i++)
	{
		if (strcmp(reserved[i].name, name) == 0)
			complain(reader, psprintf("The field \"%s\" cannot be set here: %s.",
									  name, reserved[i].why));
	}
	return TRANSCRIBE_JSON_OK;
}

/* An array that held nothing means the same as null. */
static TranscribeJsonAction
on_field_end(void *arg, char *name, bool isnull)
{
	Reader	   *reader = arg;

	if (reader->depth == 1 && reader->empty)
		add_value(reader, NULL);
	return TRANSCRIBE_JSON_OK;
}

static TranscribeJsonAction
on_scalar(void *arg, char *token, JsonTokenType type)
{
	Reader	   *reader = arg;

	if (reader->depth == 0)
		complain(reader, NOT_AN_OBJECT);
	else if (type != JSON_TOKEN_NULL)
		add_value(reader, token);
	return TRANSCRIBE_JSON_OK;
}

/*
 * Read an object of fields: a list of Field in the current memory context, or
 * NIL and a sentence that says what is wrong with it.
 */
List *
fields_parse(const char *json, const char **problem)
{
	Reader		reader = {0};
	JsonSemAction action = {0};
	JsonLexContext *lex = transcribe_json_lexer(pstrdup(json), strlen(json),
												GetDatabaseEncoding());

	action.semstate = &reader;
	action.object_start = on_object_start;
	action.object_end = on_end;
	action.array_start = on_array_start;
	action.array_end = on_end;
	action.object_field_start = on_field_start;
	action.object_field_end = on_field_end;
	action.scalar = on_scalar;
	if (pg_parse_json(lex, &action) != JSON_SUCCESS)
		complain(&reader, NOT_AN_OBJECT);
	*problem = reader.problem;
	return reader.problem == NULL ? reader.fields : NIL;
}
