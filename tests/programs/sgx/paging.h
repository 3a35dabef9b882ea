/* SPDX-License-Identifier: Apache-2.0 */
/* For programs on an EPC of 128 pages: pages that leave it, by what the enclave does with others. */
#ifndef PAGING_H
#define PAGING_H

#include "sgx.h"

#define PAGES 64ul
#define AT_OTHERS (AT_HOLES + PAGES * PAGE)
#define OTHERS 160ul
#define AT_PAGE(i) (AT_HOLES + (i) * PAGE)

static inline void grow(const struct enclave *e, uint64_t offset, uint64_t pages)
{
	uint64_t refused = 1;

	CHECK(map_at(e, offset, pages * PAGE, PROT_READ | PROT_WRITE), in(e, offset));
	CLEAN(e, 0, OP_GROW, in(e, offset), pages, &refused);
	CHECK(refused, 0);
}

/* All pages but these leave the EPC, and the oldest of these. */
static __attribute__((unused)) void press(const struct enclave *e)
{
	for (uint64_t i = 0; i < OTHERS; i++)
		poke(e, AT_OTHERS + i * PAGE, i);
}

/* An enclave of which PAGES pages with 1000, 1001 .. are out. */
static __attribute__((unused)) struct enclave pressed(uint64_t attributes)
{
	struct enclave e = initialised(attributes);

	map_all(&e);
	grow(&e, AT_HOLES, PAGES);
	for (uint64_t i = 0; i < PAGES; i++)
		poke(&e, AT_PAGE(i), 1000 + i);
	grow(&e, AT_OTHERS, OTHERS);
	press(&e);
	return e;
}

static __attribute__((unused)) void all_as_they_were(const struct enclave *e)
{
	for (uint64_t i = 0; i < PAGES; i++)
		CHECK(peek(e, AT_PAGE(i)), 1000 + i);
}

#endif
