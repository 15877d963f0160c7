/*-------------------------------------------------------------------------
 *
 * command.h
 *	  transcribe_media from the command line.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_COMMAND_H
#define TRANSCRIBE_MEDIA_COMMAND_H

extern int	command_main(int argc, char **argv);

#endif							/* TRANSCRIBE_MEDIA_COMMAND_H */
