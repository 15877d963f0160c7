/*-------------------------------------------------------------------------
 *
 * check.h
 *	  What a server does with a spoken sentence.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_CHECK_H
#define TRANSCRIBE_CHECK_H

#include "postgres.h"

#include "funcapi.h"

/* What there is to say of a server in one line. */
typedef struct CheckSummary
{
	bool		ok;
	char	   *detail;
	char	   *hint;			/* or NULL */
} CheckSummary;

extern void check_server_briefly(const char *server, CheckSummary *summary);
extern const char *check_text(const char *utf8);
extern void check_server(const char *server, ReturnSetInfo *rsinfo);

#endif							/* TRANSCRIBE_CHECK_H */
