/*-------------------------------------------------------------------------
 *
 * agent.h
 *	  The worker's end of the socket to its agent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_AGENT_H
#define TRANSCRIBE_AGENT_H

#include "postgres.h"

#include "wire/wire.h"

/* Called for each frame that comes in; it must not keep pointers into it. */
typedef void (*AgentFrameHandler) (WireFrame *frame);

extern bool agent_start(void);
extern bool agent_running(void);
extern int	agent_pid(void);
extern int	agent_socket(void);
extern WireBuffer *agent_output(void);
extern bool agent_wants_write(void);
extern bool agent_pump(AgentFrameHandler handler);
extern bool agent_flush(void);
extern const char *agent_stop(void);
extern bool agent_is_stranger(void);

#endif							/* TRANSCRIBE_AGENT_H */
