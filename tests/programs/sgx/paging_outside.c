/* SPDX-License-Identifier: Apache-2.0 */
/* What the host does with pages of a debug enclave that are out, which it sees: it reads and writes them. */
#include "paging.h"

int main(void)
{
	struct enclave e = pressed(ATTRIBUTE_DEBUG);
	volatile uint64_t *seen = (uint64_t *)in(&e, AT_HOLES);
	int memory = (int)WORKS(open("/proc/self/mem", O_RDWR)), pipes[2];
	uint64_t value = 0;

	for (uint64_t i = 0; i < PAGES; i++) {
		CHECK(seen[i * PAGE / 8], 1000 + i);
		seen[i * PAGE / 8 + 1] = i;
	}
	press(&e);
	for (uint64_t i = 0; i < PAGES; i++)
		CHECK(peek(&e, AT_PAGE(i) + 8), i);
	/* The kernel does not wait for a page on a program's behalf (docs/coverage.md). */
	press(&e);
	WORKS(pipe(pipes));
	FAILS(EFAULT, write(pipes[1], (void *)&seen[0], 8));
	CHECK(seen[0], 1000);
	CHECK(write(pipes[1], (void *)&seen[0], 8), 8);
	/* For a debugger the driver brings it back. */
	press(&e);
	for (uint64_t i = 0; i < PAGES; i++) {
		CHECK(pread(memory, &value, 8, (off_t)in(&e, AT_PAGE(i))), 8);
		CHECK(value, 1000 + i);
		value = 2000 + i;
		CHECK(pwrite(memory, &value, 8, (off_t)in(&e, AT_PAGE(i))), 8);
	}
	press(&e);
	for (uint64_t i = 0; i < PAGES; i++)
		CHECK(peek(&e, AT_PAGE(i)), 2000 + i);
	return success();
}
