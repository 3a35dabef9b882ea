/* SPDX-License-Identifier: Apache-2.0 */
/* A heap that grows page after page may do so by grants (native/supervised/grant.c); nobody can tell. */
#ifndef GRANTED_H
#define GRANTED_H

#include "sgx.h"

#define AT(n) (AT_HOLES + (n) * PAGE)
#define PENDING (SECINFO_RW | SECINFO_PENDING)

static struct enclave e;
static uint64_t used; /* pages of the heap so far */

static inline void grow(int thread, uint64_t first, uint64_t pages)
{
	uint64_t refused = 1;

	CLEAN(&e, thread, OP_GROW, in(&e, AT(first)), pages, &refused);
	CHECK(refused, 0);
}

/* A run long enough for grants, which ends inside of one; the index behind it. */
static inline uint64_t more(void)
{
	grow(0, used, 37);
	used += 37;
	poke(&e, AT(used - 1) + 16, used);
	CHECK(peek(&e, AT(used - 1) + 16), used);
	return used;
}

static inline void begin(void)
{
	e = loaded();
	CHECK(map_at(&e, AT_HOLES, 1024 * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
}

#endif
