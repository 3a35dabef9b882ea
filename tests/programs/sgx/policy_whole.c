/* SPDX-License-Identifier: Apache-2.0 */
/* A27, A25: mprotect over a range with one page that may not is all or nothing; mremap neither grows nor doubles. */
#include "policy.h"

#include <sys/personality.h>

int main(int argc, char **argv)
{
	struct enclave e;
	void *at;

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
	at = (void *)in(&e, AT_LOOSE);
	FAILS(EFAULT, mremap(at, PAGE, 4 * PAGE, 0) == MAP_FAILED ? -1 : 0);
	return success();
}
