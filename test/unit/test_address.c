/*-------------------------------------------------------------------------
 *
 * test_address.c
 *	  Which addresses a request may be sent to, and a key in clear text.
 *
 * sources: src/agent/address.c
 *
 *-------------------------------------------------------------------------
 */
#include "agent/address.h"

#include <stdio.h>
#include <sys/socket.h>

#include "tap.h"

typedef struct Case
{
	const char *address;
	bool		allowed;
	bool		link_local;		/* allowed if link-local ones are */
	bool		loopback;
} Case;

static const Case cases[] = {
	{"127.0.0.1", true, true, true},
	{"127.255.255.254", true, true, true},
	{"10.1.2.3", true, true, false},
	{"192.0.2.1", true, true, false},
	{"126.255.255.255", true, true, false},
	{"128.0.0.1", true, true, false},
	{"0.0.0.0", false, false, false},
	{"224.0.0.1", false, false, false},
	{"255.255.255.255", false, false, false},
	{"169.254.169.254", false, true, false},
	{"::1", true, true, true},
	{"::ffff:127.0.0.1", true, true, true},
	{"::ffff:10.0.0.1", true, true, false},
	{"::ffff:169.254.169.254", false, true, false},
	{"::", false, false, false},
	{"fe80::1", false, true, false},
	{"fd00:ec2::254", false, true, false},
	{"fd00::2", true, true, false},
	{"ff02::1", false, false, false},
	{"64:ff9b::a9fe:a9fe", false, true, false},
	{"2002:a9fe:a9fe::1", false, true, false},
	{"2001:db8::1", true, true, false},
};

int
main(void)
{
	bool		allowed = true;
	bool		link_local = true;
	bool		loopback = true;
	struct sockaddr_storage storage;
	struct
	{
		sa_family_t family;
	}			other = {AF_UNIX};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		const Case *one = &cases[i];
		const struct sockaddr *address = (struct sockaddr *) &storage;

		if (!address_of_text(one->address, &storage) ||
			address_allowed(address, false) != one->allowed ||
			address_allowed(address, true) != one->link_local ||
			address_is_loopback(address) != one->loopback)
			printf("# %s\n", one->address);
		allowed = allowed && address_allowed(address, false) == one->allowed;
		link_local = link_local &&
			address_allowed(address, true) == one->link_local;
		loopback = loopback && address_is_loopback(address) == one->loopback;
	}
	ok(allowed, "what no server has, and link-local ones, are refused");
	ok(link_local, "the latter are allowed if that is asked for");
	ok(loopback, "the loopback is known, however it is written");
	ok(!address_of_text("localhost", &storage) && !address_of_text("", &storage) &&
	   !address_of_text("127.0.0.1.example", &storage) &&
	   !address_of_text("/run/socket", &storage), "what is not in digits is none");
	ok(!address_allowed((struct sockaddr *) &other, true) &&
	   !address_is_loopback((struct sockaddr *) &other),
	   "families other than the internet's are refused");
	return done();
}
