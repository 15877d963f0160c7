/*-------------------------------------------------------------------------
 *
 * address.h
 *	  Which addresses a request may be sent to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_AGENT_ADDRESS_H
#define TRANSCRIBE_AGENT_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

extern bool address_allowed(const struct sockaddr *address, bool link_local);

#endif							/* TRANSCRIBE_AGENT_ADDRESS_H */
