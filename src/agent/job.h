/*-------------------------------------------------------------------------
 *
 * job.h
 *	  The jobs that the agent carries: what the worker says of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_AGENT_JOB_H
#define TRANSCRIBE_AGENT_JOB_H

#include "wire/wire.h"

extern void job_open(uint64_t id, const WireOpen *open);
extern void job_send(uint64_t id, const WireSend *send);
extern void job_release(uint64_t id, uint32_t chunk_no);
extern void job_drop(uint64_t id);
extern void job_watch_all(void);
extern void job_turn_all(void);
extern void job_drop_all(void);

#endif							/* TRANSCRIBE_AGENT_JOB_H */
