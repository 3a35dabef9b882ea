/* SPDX-License-Identifier: Apache-2.0 */
/* A heap that grows while the enclave runs: thousands of pages, accepted one by one, each with what is written to it. */
#include "sgx.h"

#define PAGES 2000ul

int main(int argc, char **argv)
{
	struct enclave e = loaded();
	struct timespec before, after;
	uint64_t refused = 1, pages = argc > 1 ? strtoul(argv[1], NULL, 0) : PAGES;
	double seconds;

	CHECK(map_at(&e, AT_HOLES, pages * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	clock_gettime(CLOCK_MONOTONIC, &before);
	CLEAN(&e, 0, OP_GROW, in(&e, AT_HOLES), pages, &refused);
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK(refused, 0);
	for (uint64_t i = 0; i < pages; i += 97) {
		CHECK(peek(&e, AT_HOLES + i * PAGE), 0);
		poke(&e, AT_HOLES + i * PAGE + 8, i);
	}
	for (uint64_t i = 0; i < pages; i += 97)
		CHECK(peek(&e, AT_HOLES + i * PAGE + 8), i);
	seconds = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
	if (argc > 1)
		printf("%.0f pages a second\n", (double)pages / seconds);
	return success();
}
