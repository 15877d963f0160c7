/*-------------------------------------------------------------------------
 *
 * fields.h
 *	  Form fields that are written as a JSON object.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_FIELDS_H
#define TRANSCRIBE_FIELDS_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* As many values there may be in one object. */
#define FIELDS_MAX	16

typedef struct Field
{
	char	   *name;
	char	   *value;			/* NULL: the field is not sent at all */
	bool		more;			/* one more value of the field before it */
} Field;

extern List *fields_parse(const char *json, const char **problem);

#endif							/* TRANSCRIBE_FIELDS_H */
