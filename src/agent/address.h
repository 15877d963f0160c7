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
extern bool address_is_loopback(const struct sockaddr *address);
extern bool address_of_text(const char *text,
							struct sockaddr_storage *address);

#endif							/* TRANSCRIBE_AGENT_ADDRESS_H */
