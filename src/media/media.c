/*-------------------------------------------------------------------------
 *
 * media.c
 *	  transcribe_media: one recording to chunks of speech.
 *
 * A plain program without PostgreSQL in it, run by the agent or by a person.
 * The agent says "--template" and its own process number.  "--child" is for
 * tests and benchmarks, which want a child by itself.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/child.h"
#include "media/command.h"

int
main(int argc, char **argv)
{
	struct stat status;

	if (argc >= 2 && strcmp(argv[1], "--template") == 0)
		return template_main(argc >= 3 ? (pid_t) atol(argv[2]) : 0);
	if (argc >= 2 && strcmp(argv[1], "--child") == 0)
		return child_main(argc >= 3 ? (pid_t) atol(argv[2]) : 0);

	/* A person who only types the name has a terminal there, not a socket. */
	if (argc == 1 && fstat(STDIN_FILENO, &status) == 0 &&
		S_ISSOCK(status.st_mode))
		return child_main(0);
	return command_main(argc, argv);
}
