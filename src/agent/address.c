/*-------------------------------------------------------------------------
 *
 * address.c
 *	  Which addresses a request may be sent to.
 *
 * Runs in the agent, on the address that is about to be connected to: a name
 * may resolve to something else each time it is asked for.  Pure.
 *
 * Refused without exception: addresses that no server has (unspecified,
 * multicast, reserved); the unspecified one would reach this machine under a
 * name that does not look like it.  Refused unless allowed by the request:
 * link-local addresses, because in a cloud the one at 169.254.169.254 hands
 * out the machine's own credentials to whoever asks.  Private addresses and
 * the loopback are where local transcription servers live, and are allowed.
 *
 *-------------------------------------------------------------------------
 */
#include "agent/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

/* An IPv4 address, in the machine's byte order. */
static bool
ipv4_allowed(uint32_t address, bool link_local)
{
	if (address >> 24 == 0 || address >> 28 >= 0xe)
		return false;
	return link_local || address >> 16 != 0xa9fe;
}

/*
 * An IPv6 address.  Those that carry an IPv4 address are judged by it: mapped
 * (::ffff:0:0/96), compatible (::/96, which leaves out the loopback ::1 but
 * not ::), translated (64:ff9b::/96) and 6to4 (2002::/16).
 */
static bool
ipv6_allowed(const uint8_t *b, bool link_local)
{
	static const uint8_t loopback[16] = {[15] = 1};
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t compatible[12];
	static const uint8_t translated[12] = {0x00, 0x64, 0xff, 0x9b};
	static const uint8_t metadata[16] = {0xfd, 0x00, 0x0e, 0xc2,
		[14] = 0x02, [15] = 0x54};
	const uint8_t *inner = NULL;

	if (memcmp(b, loopback, 16) == 0)
		return true;
	if (memcmp(b, mapped, 12) == 0 || memcmp(b, compatible, 12) == 0 ||
		memcmp(b, translated, 12) == 0)
		inner = b + 12;
	else if (b[0] == 0x20 && b[1] == 0x02)
		inner = b + 2;
	if (inner != NULL)
	{
		uint32_t	address;

		memcpy(&address, inner, sizeof(address));
		return ipv4_allowed(ntohl(address), link_local);
	}
	if (b[0] == 0xff)
		return false;

	/* fd00:ec2::254 is a cloud's credentials under a private address. */
	return link_local || ((b[0] != 0xfe || (b[1] & 0xc0) != 0x80) &&
						  memcmp(b, metadata, 16) != 0);
}

/*
 * May a request be sent there?  link_local: the request allows link-local
 * addresses.  Families other than the two of the internet are refused.
 */
bool
address_allowed(const struct sockaddr *address, bool link_local)
{
	if (address->sa_family == AF_INET)
	{
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		return ipv4_allowed(ntohl(in.sin_addr.s_addr), link_local);
	}
	if (address->sa_family == AF_INET6)
	{
		struct sockaddr_in6 in6;

		memcpy(&in6, address, sizeof(in6));
		return ipv6_allowed(in6.sin6_addr.s6_addr, link_local);
	}
	return false;
}

/* Does what is sent there stay on this machine? */
bool
address_is_loopback(const struct sockaddr *address)
{
	static const uint8_t loopback[16] = {[15] = 1};
	static const uint8_t mapped[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};

	if (address->sa_family == AF_INET)
	{
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		return ntohl(in.sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family == AF_INET6)
	{
		struct sockaddr_in6 in6;

		memcpy(&in6, address, sizeof(in6));
		return memcmp(&in6.sin6_addr, loopback, 16) == 0 ||
			memcmp(&in6.sin6_addr, mapped, 13) == 0;
	}
	return false;
}

/* The address that is written in digits; false if none is. */
bool
address_of_text(const char *text, struct sockaddr_storage *address)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		memcpy(address, &in, sizeof(in));
	else if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
		memcpy(address, &in6, sizeof(in6));
	else
		return false;
	return true;
}
