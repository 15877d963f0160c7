/*-------------------------------------------------------------------------
 *
 * child.h
 *	  transcribe_media as a child of the agent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_MEDIA_CHILD_H
#define TRANSCRIBE_MEDIA_CHILD_H

#include <sys/types.h>

extern int	child_main(pid_t parent);
extern int	template_main(pid_t parent);

#endif							/* TRANSCRIBE_MEDIA_CHILD_H */
