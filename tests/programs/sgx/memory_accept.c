/* SPDX-License-Identifier: Apache-2.0 */
/* EACCEPT of pages that nobody has touched: what it gives, and the exceptions that it raises. */
#include "sgx.h"

#define AT(n) (AT_HOLES + (n) * PAGE)
#define PENDING (SECINFO_RW | SECINFO_PENDING)

static struct enclave e;

/* The leaf faults; then it is stepped over. */
static inline __attribute__((always_inline)) void faults(struct leaf leaf, int vector, int code, uint64_t address)
{
	EXCEPTION(&e, 0, OP_LEAF, &leaf, EACCEPT, 0, vector, code, address);
	CLEAN(&e, 0, OP_FRAME_ADD, FRAME_RIP, 3, 0);
	RESUMES(&e, 0);
	CHECK(leaf.rax, EACCEPT);
	CHECK(leaf.rflags & STATUS_FLAGS, STATUS_FLAGS);
}

int main(void)
{
	struct leaf leaf = { .flags = PENDING };

	e = loaded();
	CHECK(map_at(&e, AT(0), 8 * PAGE, PROT_READ | PROT_WRITE), in(&e, AT(0)));
	CHECK(ACCEPT(&e, 0, AT(0), PENDING), 0);
	CHECK(peek(&e, AT(0)), 0);
	poke(&e, AT(0), 3);
	CHECK(peek(&e, AT(0)), 3);
	/* A second time, or as something else: it is not as asked. */
	CHECK(ACCEPT(&e, 0, AT(0), PENDING), ATTRIBUTES_MISMATCH);
	CHECK(ACCEPT(&e, 0, AT(1), PENDING | SECINFO_X), ATTRIBUTES_MISMATCH);
	CHECK(ACCEPT(&e, 0, AT(1), SECINFO_REG | SECINFO_R | SECINFO_PENDING), ATTRIBUTES_MISMATCH);
	CHECK(ACCEPT(&e, 0, AT(1), SECINFO_RW | SECINFO_PR), ATTRIBUTES_MISMATCH);
	CHECK(ACCEPT(&e, 0, AT(1), SECINFO_TRIM | SECINFO_MODIFIED), ATTRIBUTES_MISMATCH);
	CHECK(ACCEPT(&e, 0, AT(1), PENDING), 0);
	CHECK(ACCEPT(&e, 0, AT_DATA, PENDING), ATTRIBUTES_MISMATCH);
	CHECK(peek(&e, AT(0)), 3);
	/* Operands that cannot be. */
	leaf.page = in(&e, AT(2)) + 8;
	faults(leaf, 13, 0, 0);
	leaf.page = e.base + ENCLAVE_SIZE;
	faults(leaf, 13, 0, 0);
	leaf.page = in(&e, AT(2));
	leaf.secinfo = in(&e, AT_CONSTANT) + 8;
	faults(leaf, 13, 0, 0);
	leaf.secinfo = in(&e, AT_CONSTANT);
	faults(leaf, 13, 0, 0); /* its reserved bytes are not zero */
	leaf.secinfo = 0;
	leaf.flags = SECINFO_RW;
	faults(leaf, 13, 0, 0);
	leaf.flags = PENDING;
	leaf.secinfo = tcs_of(&e, 1);
	faults(leaf, 14, 0x8005, tcs_of(&e, 1));
	leaf.secinfo = in(&e, AT(5));
	faults(leaf, 14, 0x8005, in(&e, AT(5))); /* which is there now, and waits */
	leaf.secinfo = 0;
	/* Pages that are not mapped; mended, the leaf goes on. */
	leaf.page = in(&e, AT(8));
	EXCEPTION(&e, 0, OP_LEAF, &leaf, EACCEPT, 0, 14, 0x4, leaf.page);
	CHECK(map_at(&e, AT(8), PAGE, PROT_READ | PROT_WRITE), in(&e, AT(8)));
	RESUMES(&e, 0);
	CHECK(leaf.rax, 0);
	poke(&e, AT(8), 1);
	return success();
}
