/* SPDX-License-Identifier: Apache-2.0 */
/*
 * More pages than the EPC has: each comes back as it was, whatever order they are touched in; and RESTRICT_PERMISSIONS
 * and MODIFY_TYPES of many that are out. With an argument it says how quick that was.
 */
#include "sgx.h"

#define PAGES 1900ul
#define SECINFO_TRIM 0x400ul

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double sweep(const struct enclave *e, int rounds)
{
	double before = now();

	for (int i = 0; i < rounds; i++)
		CLEAN(e, 0, OP_SWEEP, in(e, AT_HOLES), PAGES, 0);
	return now() - before;
}

int main(int argc, char **argv)
{
	const int rounds = argc > 1 ? atoi(argv[1]) : 2;
	struct enclave e = loaded();
	struct sgx_enclave_restrict_permissions restricted;
	struct sgx_enclave_modify_types trimmed;
	uint64_t refused = 1, places[PAGES];
	double seconds, each, restrict_seconds, trim_seconds;

	CHECK(map_at(&e, AT_HOLES, PAGES * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	CLEAN(&e, 0, OP_GROW, in(&e, AT_HOLES), PAGES, &refused);
	CHECK(refused, 0);
	for (uint64_t i = 0; i < PAGES; i++)
		poke(&e, AT_HOLES + i * PAGE + 8, i * i + 1);
	seconds = sweep(&e, rounds);

	for (uint64_t i = 0, at = 7; i < PAGES; i++, at = (at * 1103515245 + 12345) % PAGES)
		places[i] = AT_HOLES + at * PAGE;
	each = now();
	for (uint64_t i = 0; i < 300; i++)
		CHECK(peek(&e, places[i]), rounds);
	each = (now() - each) / 300;
	for (uint64_t i = 0; i < PAGES; i++) {
		CHECK(peek(&e, AT_HOLES + i * PAGE + 8), i * i + 1);
		CHECK(peek(&e, AT_HOLES + i * PAGE + 16), 0);
	}

	restrict_seconds = now();
	WORKS(sgx_restrict(&e, AT_HOLES, PAGES * PAGE, PROT_READ, &restricted));
	restrict_seconds = now() - restrict_seconds;
	CHECK(restricted.count, PAGES * PAGE);
	trim_seconds = now();
	WORKS(sgx_modify(&e, AT_HOLES, PAGES * PAGE, SECINFO_TRIM, &trimmed));
	trim_seconds = now() - trim_seconds;
	CHECK(trimmed.count, PAGES * PAGE);
	if (argc > 1)
		printf("%.0f %.1f %.1f %.1f\n", 2e-6 * PAGES * PAGE * rounds / seconds, each * 1e6,
		       restrict_seconds / PAGES * 1e6, trim_seconds / PAGES * 1e6);
	return success();
}
