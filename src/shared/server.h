/*-------------------------------------------------------------------------
 *
 * server.h
 *	  Whisper servers: foreign servers of the wrapper "transcribe".
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_SERVER_H
#define TRANSCRIBE_SERVER_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* The options of a server, with defaults filled in; times in milliseconds. */
typedef struct TranscribeServer
{
	Oid			serverid;
	uint32		version;		/* changes with the options */
	char	   *name;
	char	   *profile;
	char	   *url;			/* without a slash at its end */
	char	   *path;			/* below that; may hold {model} */
	char	   *translation_path;	/* likewise */
	char	   *api_version;	/* or NULL */
	char	   *auth_header;	/* that carries the key: a name, or name: scheme */
	char	   *model;			/* or NULL */
	char	   *language;		/* or NULL: the server detects it */
	char	   *prompt;			/* or NULL */
	int			max_prompt_length;	/* characters; 0: no limit */
	char	   *temperature;	/* or NULL: the server's default */
	List	   *extra_fields;	/* of Field; a later one replaces earlier ones */
	char	   *response_format;
	char	   *audio_format;
	bool		split_channels; /* each is transcribed on its own */
	bool		keep_silence;	/* it is sent with the rest */
	int			min_silence;	/* longer ones are cut down, */
	int			pad_before;		/* to so much before speech, */
	int			pad_after;		/* and after it */
	int			silence_threshold;	/* dBFS; 0: by the noise floor */
	int			chunk_seconds;	/* 0: as the response format needs it */
	int			max_upload_bytes;
	int			request_interval;
	int			requests_per_minute;	/* 0: no limit */
	int			max_requests;	/* likewise */
	int			connect_timeout;
	int			request_timeout;	/* and, for each millisecond of audio, */
	double		timeout_factor; /* so many more */
	int			max_attempts;
	int			retry_interval;
	int			retry_max_interval;
	bool		held;			/* no more jobs are begun */
	bool		insecure_key;	/* a key may go out in clear text */
	bool		link_local;		/* link-local addresses are allowed */
	char	   *ca_file;		/* or NULL: the system's certificates */
	char	   *on_complete;	/* function to call after its jobs, or NULL */
} TranscribeServer;

/* Whose key a server is asked with. */
typedef struct TranscribeKey
{
	Oid			mapping;		/* user mapping that gives it, or none */
	uint32		version;		/* changes with the mapping's options */
} TranscribeKey;

/* Why a role cannot use a server. */
typedef enum ServerProblem
{
	SERVER_USABLE,
	SERVER_MISSING,
	SERVER_OTHER_WRAPPER,
	SERVER_NO_USAGE,
	SERVER_NO_URL
} ServerProblem;

/* Servers in a list; an index entry holds as many names. */
#define SERVER_LIST_MAX		16

extern List *server_list_parse(const char *text);
extern List *server_list_require(const char *text);
extern char *server_list_text(List *names);
extern uint32 server_options_version(List *options);
extern void server_defaults(TranscribeServer *server);
extern void server_validate_options(List *options, Oid catalog);
extern ServerProblem server_find(const char *name, Oid roleid,
								 const char *model, TranscribeServer *server);
extern void server_copy(TranscribeServer *copy, const TranscribeServer *server);
extern void server_check_usage(const char *name, Oid roleid,
							   TranscribeServer *server);

#endif							/* TRANSCRIBE_SERVER_H */
