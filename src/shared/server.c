/*-------------------------------------------------------------------------
 *
 * server.c
 *	  The options of Whisper servers: one table, checked and read by it.
 *
 * Runs in backends (the validator, and transcribe_enqueue) and in workers,
 * inside a transaction.  Options of servers are public (any role may read
 * pg_foreign_server), so whatever is secret belongs to a user mapping.
 *
 *-------------------------------------------------------------------------
 */
#include "shared/server.h"

#include <limits.h>

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "compat.h"
#include "shared/fields.h"
#include "shared/profile.h"

/* What kind of value an option takes. */
typedef enum OptionKind
{
	OPTION_STRING,				/* printable, not empty */
	OPTION_URL,
	OPTION_PATH,				/* of a URL, from the slash on */
	OPTION_VERSION,				/* letters, digits, points and dashes */
	OPTION_HEADER,				/* a header's name, or name: scheme */
	OPTION_FIELDS,				/* a JSON object; they add up */
	OPTION_CHOICE,				/* one of the words in choices */
	OPTION_SWITCH,				/* one of two words: true for the second */
	OPTION_TEMPERATURE,			/* a number from min to max, kept as it is */
	OPTION_FACTOR,				/* a number from min to max */
	OPTION_LEVEL,				/* dBFS from min to max, or "auto" for 0 */
	OPTION_INTEGER,				/* from min to max */
	OPTION_TIME,				/* milliseconds from min to max, with a unit */
	OPTION_BYTES,				/* bytes from min to max, with a unit */
	OPTION_SECRET,				/* printable ASCII, never shown */
	OPTION_FILE,				/* absolute path; for superusers to set */
	OPTION_FUNCTION				/* a function's name; likewise */
} OptionKind;

typedef struct Option
{
	const char *name;
	Oid			catalog;		/* which kind of object takes it */
	OptionKind	kind;
	size_t		field;			/* of TranscribeServer */
	const char *fallback;		/* its default, as one would write it */
	int			min;
	int			max;
	const char *choices;
} Option;

#define FIELD(name) offsetof(TranscribeServer, name)

/*
 * Every option there is; what a profile changes of the defaults is in
 * profile.c.  A request may take as long as its audio lasts, and a minute,
 * which is enough for local servers without a GPU and for one that has to load
 * its model first; 25 MB is OpenAI's limit of a whole request, of which
 * max_upload_bytes leaves some for the other fields.  The default of
 * chunk_seconds depends on what is asked for: request_chunk_seconds().
 */
static const Option options_table[] = {
	{"profile", ForeignServerRelationId, OPTION_CHOICE, FIELD(profile),
	"generic", 0, 0, PROFILES},
	{"url", ForeignServerRelationId, OPTION_URL, FIELD(url), NULL},
	{"path", ForeignServerRelationId, OPTION_PATH, FIELD(path),
	"/audio/transcriptions"},
	{"translation_path", ForeignServerRelationId, OPTION_PATH, FIELD(translation_path),
	"/audio/translations"},
	{"api_version", ForeignServerRelationId, OPTION_VERSION, FIELD(api_version), NULL},
	{"auth_header", ForeignServerRelationId, OPTION_HEADER, FIELD(auth_header),
	"Authorization: Bearer"},
	{"model", ForeignServerRelationId, OPTION_STRING, FIELD(model), NULL},
	{"language", ForeignServerRelationId, OPTION_STRING, FIELD(language), NULL},
	{"prompt", ForeignServerRelationId, OPTION_STRING, FIELD(prompt), NULL},
	{"max_prompt_length", ForeignServerRelationId, OPTION_INTEGER, FIELD(max_prompt_length),
	"0", 0, 1000000},
	{"temperature", ForeignServerRelationId, OPTION_TEMPERATURE, FIELD(temperature), NULL, 0, 1},
	{"extra_fields", ForeignServerRelationId, OPTION_FIELDS, FIELD(extra_fields), NULL},
	{"response_format", ForeignServerRelationId, OPTION_CHOICE, FIELD(response_format),
	"verbose_json", 0, 0, "verbose_json, json, diarized_json, text"},
	{"audio_format", ForeignServerRelationId, OPTION_CHOICE, FIELD(audio_format),
	"mp3", 0, 0, "mp3, flac, opus, wav"},
	{"channels", ForeignServerRelationId, OPTION_SWITCH, FIELD(split_channels),
	"mix", 0, 0, "mix, split"},
	{"trim_silence", ForeignServerRelationId, OPTION_SWITCH, FIELD(keep_silence),
	"on", 0, 0, "on, off"},
	{"min_silence_duration", ForeignServerRelationId, OPTION_TIME, FIELD(min_silence),
	"2s", 500, 600 * 1000},
	{"speech_pad_before", ForeignServerRelationId, OPTION_TIME, FIELD(pad_before),
	"200ms", 0, 5 * 1000},
	{"speech_pad_after", ForeignServerRelationId, OPTION_TIME, FIELD(pad_after),
	"300ms", 0, 5 * 1000},
	{"silence_threshold", ForeignServerRelationId, OPTION_LEVEL, FIELD(silence_threshold),
	"auto", -90, -20},
	{"chunk_seconds", ForeignServerRelationId, OPTION_INTEGER, FIELD(chunk_seconds),
	NULL, 5, 3600},
	{"max_upload_bytes", ForeignServerRelationId, OPTION_BYTES, FIELD(max_upload_bytes),
	"24MB", 64 * 1024, 60 * 1024 * 1024},
	{"request_interval", ForeignServerRelationId, OPTION_TIME, FIELD(request_interval),
	"0", 0, 3600 * 1000},
	{"requests_per_minute", ForeignServerRelationId, OPTION_INTEGER,
	FIELD(requests_per_minute), "0", 0, 100000},
	{"max_requests", ForeignServerRelationId, OPTION_INTEGER, FIELD(max_requests),
	"8", 0, 1000},
	{"connect_timeout", ForeignServerRelationId, OPTION_TIME, FIELD(connect_timeout),
	"10s", 1, 3600 * 1000},
	{"request_timeout", ForeignServerRelationId, OPTION_TIME, FIELD(request_timeout),
	"60s", 1, 24 * 3600 * 1000},
	{"timeout_factor", ForeignServerRelationId, OPTION_FACTOR, FIELD(timeout_factor),
	"1", 0, 100},
	{"max_attempts", ForeignServerRelationId, OPTION_INTEGER, FIELD(max_attempts),
	"5", 1, 1000},
	{"retry_interval", ForeignServerRelationId, OPTION_TIME, FIELD(retry_interval),
	"1s", 1, 3600 * 1000},
	{"retry_max_interval", ForeignServerRelationId, OPTION_TIME, FIELD(retry_max_interval),
	"5min", 1, 24 * 3600 * 1000},
	{"hold", ForeignServerRelationId, OPTION_SWITCH, FIELD(held),
	"off", 0, 0, "off, on"},
	{"link_local", ForeignServerRelationId, OPTION_SWITCH, FIELD(link_local),
	"refuse", 0, 0, "refuse, allow"},
	{"insecure_key", ForeignServerRelationId, OPTION_SWITCH, FIELD(insecure_key),
	"refuse", 0, 0, "refuse, allow"},
	{"ca_file", ForeignServerRelationId, OPTION_FILE, FIELD(ca_file), NULL},
	{"on_complete", ForeignServerRelationId, OPTION_FUNCTION, FIELD(on_complete), NULL},
	{"api_key", UserMappingRelationId, OPTION_SECRET, 0, NULL},
	{"api_key_file", UserMappingRelationId, OPTION_FILE, 0, NULL},
};

/* No control characters: a value may become a line of an HTTP header. */
static bool
is_printable(const char *value)
{
	for (const char *p = value; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			return false;
	}
	return value[0] != '\0';
}

/* Whether value is a token of HTTP: a header's name, say. */
static bool
is_token(const char *value, size_t len)
{
	return len > 0 && strspn(value, "!#$%&'*+-.^_`|~0123456789"
							 "abcdefghijklmnopqrstuvwxyz"
							 "ABCDEFGHIJKLMNOPQRSTUVWXYZ") >= len;
}

pg_noreturn static void
report_value(const Option *option, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"%s\"", option->name),
			 errdetail_internal("%s", detail)));
}

/*
 * A URL of http or https, with a host and perhaps a path.  What else a URL
 * may carry would be shown to everybody, or sent where nobody expects it.
 */
static void
check_url(const Option *option, const char *value)
{
	const char *rest;

	if (pg_strncasecmp(value, "http://", 7) == 0)
		rest = value + 7;
	else if (pg_strncasecmp(value, "https://", 8) == 0)
		rest = value + 8;
	else
		report_value(option, "It must begin with http:// or https://.");
	if (rest[0] == '\0' || rest[0] == '/')
		report_value(option, "It names no host.");
	if (strstr(value, "?api-version=") != NULL)
		report_value(option, "It must have no query: the version goes into the option \"api_version\".");
	if (strpbrk(value, "?#") != NULL)
		report_value(option, "It must have neither a query nor a fragment.");
	if (memchr(rest, '@', strcspn(rest, "/")) != NULL)
		report_value(option, "It must hold no user name or password: keys belong into a user mapping.");
	if (strchr(value, ' ') != NULL || !is_printable(value))
		report_value(option, "It must hold neither blanks nor control characters.");
}

/* A path below the URL, in which {model} stands for the model. */
static void
check_path(const Option *option, const char *value)
{
	if (value[0] != '/')
		report_value(option, "It must begin with a slash.");
	for (const char *p = value; *p != '\0'; p++)
	{
		if (*p <= 0x20 || *p >= 0x7f || *p == '?' || *p == '#')
			report_value(option, "It must be printable ASCII without blanks, a query or a fragment.");
	}
	for (const char *p = strpbrk(value, "{}"); p != NULL; p = strpbrk(p, "{}"))
	{
		if (strncmp(p, "{model}", 7) != 0)
			report_value(option, "Only {model} may stand in braces.");
		p += 7;
	}
}

/* A header's name, or that and the scheme that comes before the key. */
static void
check_header(const Option *option, const char *value)
{
	size_t		name_len = strcspn(value, ":");
	const char *scheme = value + name_len;

	if (!is_token(value, name_len) ||
		(scheme[0] != '\0' &&
		 (scheme[1] != ' ' || !is_token(scheme + 2, strlen(scheme + 2)))))
		report_value(option, "It must be \"Authorization: Bearer\", or the name of a header such as \"api-key\".");
}

/* Whether the value is one of the comma-separated words. */
static bool
is_choice(const char *value, const char *choices)
{
	size_t		len = strlen(value);

	for (const char *word = choices; word != NULL; word = strchr(word, ','))
	{
		word += strspn(word, ", ");
		if (strncmp(word, value, len) == 0 &&
			(word[len] == ',' || word[len] == '\0'))
			return len > 0;
	}
	return false;
}

/* An option that is a number, in milliseconds, bytes, or as it is. */
static int
parse_number(const Option *option, const char *value)
{
	int			flags = option->kind == OPTION_TIME ? GUC_UNIT_MS :
		option->kind == OPTION_BYTES ? GUC_UNIT_BYTE : 0;
	const char *hint = NULL;
	int			result;

	if (option->kind == OPTION_LEVEL && strcmp(value, "auto") == 0)
		return 0;
	if (!parse_int(value, &result, flags, &hint))
		report_value(option, hint != NULL ? hint :
					 option->kind == OPTION_INTEGER ? "It must be an integer." :
					 option->kind == OPTION_LEVEL ?
					 "It must be \"auto\" or a level in dBFS such as -50." :
					 option->kind == OPTION_TIME ?
					 "It must be a time such as 500ms, 10s or 5min." :
					 "It must be a size such as 24MB.");
	if (result < option->min || result > option->max)
		report_value(option, psprintf("It must be from %d to %d%s.",
									  option->min, option->max,
									  option->kind == OPTION_TIME ? " milliseconds" :
									  option->kind == OPTION_BYTES ? " bytes" :
									  option->kind == OPTION_LEVEL ? " dBFS, or \"auto\"" : ""));
	return result;
}

/* An option that is a number with a fraction. */
static double
parse_factor(const Option *option, const char *value)
{
	char	   *end;
	double		result = strtod(value, &end);

	if (end == value || *end != '\0' ||
		!(result >= option->min && result <= option->max))
		report_value(option, psprintf("It must be a number from %d to %d.",
									  option->min, option->max));
	return result;
}

static void
check_value(const Option *option, const char *value)
{
	const char *problem;

	/* It goes out as UTF-8, and nobody knows what it is in. */
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		pg_verify_mbstr(PG_UTF8, value, strlen(value), false);
	switch (option->kind)
	{
		case OPTION_STRING:
			if (!is_printable(value))
				report_value(option, "It must not be empty, and hold no control characters.");
			break;
		case OPTION_URL:
			check_url(option, value);
			break;
		case OPTION_PATH:
			check_path(option, value);
			break;
		case OPTION_VERSION:
			if (value[0] == '\0' ||
				value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")] != '\0')
				report_value(option, "It must be a version such as 2025-03-01-preview.");
			break;
		case OPTION_HEADER:
			check_header(option, value);
			break;
		case OPTION_FIELDS:
			(void) fields_parse(value, &problem);
			if (problem != NULL)
				report_value(option, problem);
			break;
		case OPTION_CHOICE:
		case OPTION_SWITCH:
			if (!is_choice(value, option->choices))
				report_value(option, psprintf("It must be one of: %s.",
											  option->choices));
			break;
		case OPTION_TEMPERATURE:
		case OPTION_FACTOR:
			(void) parse_factor(option, value);
			break;
		case OPTION_INTEGER:
		case OPTION_TIME:
		case OPTION_BYTES:
		case OPTION_LEVEL:
			(void) parse_number(option, value);
			break;
		case OPTION_SECRET:
			for (const char *p = value; *p != '\0'; p++)
			{
				if (*p <= 0x20 || *p >= 0x7f)
					report_value(option, "It must be printable ASCII without blanks.");
			}
			if (value[0] == '\0')
				report_value(option, "It must not be empty.");
			break;
		case OPTION_FILE:
			if (!superuser())
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("permission denied to set option \"%s\"", option->name),
						 errhint("Only superusers may name files that the server reads.")));
			if (!is_absolute_path(value) || !is_printable(value))
				report_value(option, "It must be an absolute path.");
			break;
		case OPTION_FUNCTION:
			if (!superuser())
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("permission denied to set option \"%s\"", option->name),
						 errhint("Only superusers may name a function that others have called.")));
			if (!is_printable(value))
				report_value(option, "It must be the name of a function.");
			break;
	}
}

/* The hint that lists what an object takes. */
static char *
valid_options(Oid catalog)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (size_t i = 0; i < lengthof(options_table); i++)
	{
		if (options_table[i].catalog == catalog)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "",
							 options_table[i].name);
	}
	return buf.data;
}

static const Option *
find_option(const char *name, Oid catalog)
{
	for (size_t i = 0; i < lengthof(options_table); i++)
	{
		if (options_table[i].catalog == catalog &&
			strcmp(options_table[i].name, name) == 0)
			return &options_table[i];
	}
	return NULL;
}

/*
 * The names in a list of servers, without repetitions; NIL if it is no list.
 * They are separated by commas; one that holds a comma or a blank is quoted.
 */
List *
server_list_parse(const char *text)
{
	List	   *raw;
	List	   *names = NIL;
	ListCell   *lc;

	if (!SplitGUCList(pstrdup(text), ',', &raw) ||
		list_length(raw) > SERVER_LIST_MAX)
		return NIL;
	foreach(lc, raw)
	{
		bool		known = false;
		ListCell   *other;

		foreach(other, names)
			known |= strcmp(lfirst(other), lfirst(lc)) == 0;
		if (!known)
			names = lappend(names, lfirst(lc));
	}
	return names;
}

/* The same, or an error if it is no list. */
List *
server_list_require(const char *text)
{
	List	   *names = server_list_parse(text);

	if (names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid list of servers: \"%s\"", text),
				 errdetail("It takes 1 to %d names.", SERVER_LIST_MAX),
				 errhint("Separate names by commas, and put one that holds a blank or a comma in double quotes.")));
	return names;
}

/* The list as it is stored: written in one way only. */
char *
server_list_text(List *names)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, names)
	{
		const char *name = lfirst(lc);

		if (text.len > 0)
			appendStringInfoString(&text, ", ");
		if (strpbrk(name, ", \t\r\n\v\f\"") == NULL && name[0] != '\0')
		{
			appendStringInfoString(&text, name);
			continue;
		}
		appendStringInfoChar(&text, '"');
		for (const char *p = name; *p != '\0'; p++)
		{
			if (*p == '"')
				appendStringInfoChar(&text, '"');
			appendStringInfoChar(&text, *p);
		}
		appendStringInfoChar(&text, '"');
	}
	return text.data;
}

/* Raise an error unless all options are ones that the object takes. */
void
server_validate_options(List *options, Oid catalog)
{
	ListCell   *lc;
	char	   *valid = valid_options(catalog);

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const Option *option = find_option(def->defname, catalog);

		if (option == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", def->defname),
					 valid[0] != '\0' ?
					 errhint("Valid options in this context are: %s", valid) :
					 errhint("There are no valid options in this context.")));
		check_value(option, defGetString(def));
	}
}

/* Store one value into its field. */
static void
store_value(TranscribeServer *server, const Option *option, const char *value)
{
	void	   *field = (char *) server + option->field;
	const char *problem;

	switch (option->kind)
	{
		case OPTION_INTEGER:
		case OPTION_TIME:
		case OPTION_BYTES:
		case OPTION_LEVEL:
			*(int *) field = parse_number(option, value);
			break;
		case OPTION_FACTOR:
			*(double *) field = parse_factor(option, value);
			break;
		case OPTION_SWITCH:
			*(bool *) field = strncmp(option->choices, value, strlen(value)) != 0;
			break;
		case OPTION_FIELDS:
			*(List **) field = list_concat(*(List **) field,
										   fields_parse(value, &problem));
			break;
		default:
			*(char **) field = pstrdup(value);
			break;
	}
}

/* The value of an option among those that are set, or NULL. */
static const char *
given_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0)
			return defGetString(def);
	}
	return NULL;
}

/* Replace defaults by those of the profile: for any model, or for this one. */
static void
apply_profile(TranscribeServer *server, const char *model)
{
	const ProfileDefault *row;
	int			next = 0;

	while ((row = profile_default(server->profile, model, &next)) != NULL)
	{
		const Option *option = find_option(row->option, ForeignServerRelationId);

		if (option == NULL)
			elog(ERROR, "profile \"%s\" sets the option \"%s\", which does not exist",
				 row->profile, row->option);
		store_value(server, option, row->value);
	}
}

/*
 * Read a server's options; those that are not set get their defaults: of the
 * profile for the model that is asked for, of the profile, of the table.
 */
static void
parse_options(List *options, const char *model, TranscribeServer *server)
{
	const char *profile = given_option(options, "profile");
	ListCell   *lc;

	memset(server, 0, sizeof(*server));
	for (size_t i = 0; i < lengthof(options_table); i++)
	{
		if (options_table[i].fallback != NULL)
			store_value(server, &options_table[i], options_table[i].fallback);
	}
	if (profile != NULL)
		server->profile = pstrdup(profile);
	if (model == NULL)
		model = given_option(options, "model");
	apply_profile(server, NULL);
	if (model != NULL)
		apply_profile(server, model);
	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const Option *option = find_option(def->defname, ForeignServerRelationId);

		if (option != NULL)
			store_value(server, option, defGetString(def));
	}
	if (server->url != NULL)
	{
		size_t		len = strlen(server->url);

		while (len > 0 && server->url[len - 1] == '/')
			server->url[--len] = '\0';
	}
}

/* A server without options, which can be asked nothing. */
void
server_defaults(TranscribeServer *server)
{
	parse_options(NIL, NULL, server);
}

/*
 * A number that changes when an option does; of a user mapping, too.  But for
 * "hold": a server that was held and is not any more is the one that it was.
 */
uint32
server_options_version(List *options)
{
	uint32		version = 0;
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		char	   *value = defGetString(def);

		if (strcmp(def->defname, "hold") == 0)
			continue;
		version = hash_combine(version, hash_bytes((unsigned char *) def->defname,
												   strlen(def->defname)));
		version = hash_combine(version, hash_bytes((unsigned char *) value,
												   strlen(value)));
	}
	return version;
}

/*
 * Find a server by name, for a role that wants to use it: it must exist, be
 * ours, have a URL, and the role must have USAGE on it.  What is wrong is for
 * the caller to say; the options live in the current memory context, and are
 * those for the model, or for the server's own if that is NULL.
 */
ServerProblem
server_find(const char *name, Oid roleid, const char *model,
			TranscribeServer *server)
{
	ForeignServer *found = GetForeignServerByName(name, true);

	if (found == NULL)
		return SERVER_MISSING;
	if (strcmp(GetForeignDataWrapper(found->fdwid)->fdwname, "transcribe") != 0)
		return SERVER_OTHER_WRAPPER;
	if (transcribe_server_usage(found->serverid, roleid) != ACLCHECK_OK)
		return SERVER_NO_USAGE;
	parse_options(found->options, model, server);
	server->serverid = found->serverid;
	server->version = server_options_version(found->options);
	server->name = pstrdup(found->servername);
	return server->url != NULL ? SERVER_USABLE : SERVER_NO_URL;
}

/* A copy of a server; its texts are copied into the current memory context. */
void
server_copy(TranscribeServer *copy, const TranscribeServer *server)
{
	char	  **texts[] = {
		&copy->name, &copy->profile, &copy->url, &copy->path,
		&copy->translation_path, &copy->api_version, &copy->auth_header,
		&copy->model, &copy->language, &copy->prompt, &copy->temperature,
		&copy->response_format, &copy->audio_format, &copy->ca_file,
		&copy->on_complete
	};
	ListCell   *lc;

	*copy = *server;
	for (size_t i = 0; i < lengthof(texts); i++)
	{
		if (*texts[i] != NULL)
			*texts[i] = pstrdup(*texts[i]);
	}
	copy->extra_fields = NIL;
	foreach(lc, server->extra_fields)
	{
		Field	   *field = palloc(sizeof(Field));

		*field = *(Field *) lfirst(lc);
		field->name = pstrdup(field->name);
		if (field->value != NULL)
			field->value = pstrdup(field->value);
		copy->extra_fields = lappend(copy->extra_fields, field);
	}
}

/* Find a server as above, or raise an error. */
void
server_check_usage(const char *name, Oid roleid, TranscribeServer *server)
{
	switch (server_find(name, roleid, NULL, server))
	{
		case SERVER_USABLE:
			break;
		case SERVER_MISSING:
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("server \"%s\" does not exist", name),
					 errhint("Create it with CREATE SERVER %s FOREIGN DATA WRAPPER transcribe OPTIONS (url '...'), or name another one in the argument \"server\" or in transcribe.server.",
							 quote_identifier(name))));
			break;
		case SERVER_OTHER_WRAPPER:
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("server \"%s\" is not a server of the foreign-data wrapper \"transcribe\"",
							name)));
			break;
		case SERVER_NO_USAGE:
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for foreign server %s", name),
					 errhint("Its owner can grant USAGE on it.")));
			break;
		case SERVER_NO_URL:
			ereport(ERROR,
					(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
					 errmsg("server \"%s\" has no option \"url\"", name),
					 errhint("Set it with ALTER SERVER %s OPTIONS (ADD url '...').",
							 quote_identifier(name))));
			break;
	}
}
