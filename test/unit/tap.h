/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  Just enough TAP for a test that is a plain program.
 *
 * Included once, by the program's only file: ok() for each thing that must
 * hold, and "return done();" at the end of main.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_TAP_H
#define TRANSCRIBE_TAP_H

#include <stdbool.h>
#include <stdio.h>

static int	tap_count;
static int	tap_failed;

/* One test, named by what must hold.  Returns the condition. */
static inline bool
ok(bool cond, const char *name)
{
	tap_count++;
	tap_failed += !cond;
	printf("%sok %d - %s\n", cond ? "" : "not ", tap_count, name);
	fflush(stdout);
	return cond;
}

/* The plan, and the exit status of the program. */
static inline int
done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed > 0;
}

#endif							/* TRANSCRIBE_TAP_H */
