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

extern void check_server(const char *server, ReturnSetInfo *rsinfo);

#endif							/* TRANSCRIBE_CHECK_H */
