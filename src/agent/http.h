/*-------------------------------------------------------------------------
 *
 * http.h
 *	  All requests that are under way, and the wait for everything.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_AGENT_HTTP_H
#define TRANSCRIBE_AGENT_HTTP_H

#include "agent/transfer.h"

extern void http_start(WireBuffer *out);
extern void http_send(uint64_t job, HttpAudio *audio, const WireSend *send);
extern void http_drop(uint64_t job);
extern void http_perform(void);
extern void http_stop(void);

extern int	http_watch(int fd, bool in, bool out);
extern void http_wait(int timeout_ms);
extern bool http_readable(int slot);

#endif							/* TRANSCRIBE_AGENT_HTTP_H */
