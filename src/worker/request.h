/*-------------------------------------------------------------------------
 *
 * request.h
 *	  A chunk and a server become a request.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_REQUEST_H
#define TRANSCRIBE_REQUEST_H

#include "worker/job.h"

extern const char *request_model(Job *job);
extern bool request_is_possible(Job *job);
extern const char *request_format(Job *job);
extern int	request_chunk_seconds(Job *job);
extern void request_learn_text(Job *job, bool refused);
extern int64 request_timeout(const TranscribeServer *server, double seconds);
extern void request_forget_text(void);
extern void request_put(WireBuffer *out, Job *job, JobChunk *chunk,
						uint32 request_no);

#endif							/* TRANSCRIBE_REQUEST_H */
