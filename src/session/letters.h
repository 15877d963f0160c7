/*-------------------------------------------------------------------------
 *
 * letters.h
 *	  Text as a reader sees it: letters, and where a line may be broken.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_LETTERS_H
#define TRANSCRIBE_LETTERS_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* One character of a text. */
typedef struct Letter
{
	const char *bytes;			/* in the text it was read from */
	uint8		len;
	bool		counts;			/* takes a place in a line; accents do not */
	bool		blank;			/* nothing to see at the end of a line */
	bool		breaks;			/* a line may begin with it */
	bool		ideograph;		/* of a script that is written without blanks */
} Letter;

/* A text; it has no blanks at its ends. */
typedef struct Letters
{
	Letter	   *letter;
	int			n;
} Letters;

extern Letters letters_read(const char *text, int len);
extern int	letters_count(const Letter *letter, int n);
extern void letters_append(StringInfo out, const Letter *letter, int n);
extern bool letters_end_sentence(const Letters *text);
extern const char *letters_between(const Letters *left, const Letters *right);

#endif							/* TRANSCRIBE_LETTERS_H */
