/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A27, A25: mprotect over a range with one page that may not is all or nothing; mremap neither grows nor doubles a mapping,
 * nor takes code to where it may not be; where reading implies executing, nothing is mapped.
 */
#include "policy.h"

#include <sys/personality.h>

/* A page of code stays where it is, once: in place, elsewhere, at a place of one's choice, with the old one left behind. */
static void stays(const struct enclave *e)
{
	char *code = (char *)in(e, 0), *other = (char *)reserve(0x10000);

	FAILS(EFAULT, mremap(code, PAGE, 2 * PAGE, 0));
	FAILS(EFAULT, mremap(code, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
	FAILS(EFAULT, mremap(code, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other));
	FAILS(EFAULT, mremap(code, 0, PAGE, MREMAP_MAYMOVE));
	FAILS(EFAULT, mremap(code, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other));
	FAILS(EINVAL, mremap(code, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
	use(e);
}

/* An enclave's page is found by its address, so a mapping of code that moves is one of what lies there. */
static void moves(const struct enclave *e, uint64_t to)
{
	char *code = (char *)in(e, 0), *target = (char *)in(e, to);

	WORKS(map(e, to, PAGE, RW));
	poke(e, to, 11);
	REFUSED(mremap(code, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target));
	if (!policed)
		WORKS(mremap(target, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, code));
	else
		/* Neither has what was there gone. */
		CHECK(peek(e, to), 11);
	use(e);
}

int main(int argc, char **argv)
{
	struct enclave e;

	(void)argc;
	begin(argv);
	e = loose();
	map_all(&e);
	/* The first page was nothing yet, the second was writable. */
	WORKS(map(&e, AT_LOOSE + PAGE, PAGE, RW));
	poke(&e, AT_LOOSE + PAGE, 9);
	WORKS(map(&e, AT_LOOSE, PAGE, PROT_READ));
	REFUSED(protect(&e, AT_LOOSE, 2 * PAGE, RX));
	if (policed) {
		/* The first page has not become executable, nor was that remembered. */
		poke(&e, AT_LOOSE + PAGE, 10);
		WORKS(protect(&e, AT_LOOSE, PAGE, RW));
		FAILS(EACCES, protect(&e, AT_LOOSE, PAGE, RX));
	}
	stays(&e);
	moves(&e, AT_LOOSE + PAGE);
	/* A25: the driver by itself, whatever the page is. */
	CHECK(personality(READ_IMPLIES_EXEC) & READ_IMPLIES_EXEC, 0);
	FAILS(EACCES, map(&e, AT_CONSTANT, PAGE, PROT_READ));
	FAILS(EACCES, protect(&e, 0, PAGE, PROT_READ));
	return success();
}
