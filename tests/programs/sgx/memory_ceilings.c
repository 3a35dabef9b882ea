/* SPDX-License-Identifier: Apache-2.0 */
/* No mapping allows more than the pages under it were added with; pages that do not exist object to nothing. */
#include "sgx.h"

static struct enclave e;

/* For each protection: whether a mapping may have it, by mmap and by mprotect. */
static void ceiling(uint64_t offset, uint64_t length, int allowed)
{
	for (int prot = 0; prot < 8; prot++) {
		void *at = (void *)in(&e, offset);

		if (prot & ~allowed)
			FAILS(EACCES, map_at(&e, offset, length, prot));
		else
			CHECK(map_at(&e, offset, length, prot), at);
		CHECK(map_at(&e, offset, length, PROT_NONE), at);
		if (prot & ~allowed)
			FAILS(EACCES, mprotect(at, length, prot));
		else
			WORKS(mprotect(at, length, prot));
	}
}

static void all(void)
{
	ceiling(0, PAGE, PROT_READ | PROT_EXEC);
	ceiling(AT_CONSTANT, PAGE, PROT_READ);
	ceiling(AT_DATA, PAGE, PROT_READ | PROT_WRITE);
	ceiling(enclave_tcs[0], PAGE, PROT_READ | PROT_WRITE);
	ceiling(AT_DATA_END, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	ceiling(ENCLAVE_SIZE - PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	/* Of several pages, each has its say. */
	ceiling(0, AT_DATA + PAGE, PROT_READ);
	ceiling(AT_DATA, AT_DATA_END - AT_DATA + PAGE, PROT_READ | PROT_WRITE);
	ceiling(AT_DATA, AT_CONSTANT + PAGE - AT_DATA, PROT_READ);
	ceiling(0, ENCLAVE_SIZE, PROT_READ);
}

int main(void)
{
	e = created(0);
	ceiling(0, ENCLAVE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
	add_all(e.fd);
	all();
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	all();
	return success();
}
