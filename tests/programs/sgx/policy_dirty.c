/* SPDX-License-Identifier: Apache-2.0 */
/* A8, A10, A11, A15: executable after writable, in whatever way it is tried; and both at once. */
#include "policy.h"

static struct enclave e;

static void executable(void *data)
{
	(void)data;
	REFUSED(protect(&e, AT_LOOSE, PAGE, RX));
}

static void mapped_anew(void *data)
{
	(void)data;
	REFUSED(map(&e, AT_LOOSE, PAGE, RX));
}

int main(int argc, char **argv)
{
	(void)argc;
	begin(argv);
	e = loose();
	map_all(&e);
	/* A10: both at once. */
	REFUSED(map(&e, AT_LOOSE, PAGE, RWX));
	WORKS(unmap(&e, AT_LOOSE, PAGE));
	/* A8: one after the other. */
	WORKS(map(&e, AT_LOOSE, PAGE, RW));
	poke(&e, AT_LOOSE, 0x1234);
	executable(NULL);
	/* A11: laundered by munmap, by a child, by paging out and in. */
	WORKS(unmap(&e, AT_LOOSE, PAGE));
	mapped_anew(NULL);
	CHECK(in_child(mapped_anew, NULL), 0);
	WORKS(map(&e, AT_LOOSE, PAGE, RW));
	CHECK(in_child(executable, NULL), 0);
	if (has(argv, "paged")) {
		/* More than fits: by the time all of it was touched, the page was out, and comes back. */
		WORKS(map(&e, AT_HOLES, 0x100000, RW));
		for (uint64_t at = AT_HOLES; at < AT_HOLES + 0x100000; at += PAGE)
			CHECK(ACCEPT(&e, 0, at, SECINFO_RW | SECINFO_PENDING), 0);
		for (uint64_t at = AT_HOLES; at < AT_HOLES + 0x100000; at += PAGE)
			poke(&e, at, 1);
		CHECK(peek(&e, AT_LOOSE), 0x1234);
		executable(NULL);
	}
	/* The second page has been nothing yet: first X, then W. */
	WORKS(map(&e, AT_LOOSE + PAGE, PAGE, RX));
	REFUSED(protect(&e, AT_LOOSE + PAGE, PAGE, RW));
	WORKS(unmap(&e, AT_LOOSE + PAGE, PAGE));
	REFUSED(map(&e, AT_LOOSE + PAGE, PAGE, RW));
	/* A15: holes. */
	REFUSED(map(&e, AT_HOLES + 0x200000, PAGE, RWX));
	WORKS(map(&e, AT_HOLES + 0x300000, PAGE, PROT_NONE));
	WORKS(map(&e, AT_HOLES + 0x400000, PAGE, RW));
	return success();
}
