/* SPDX-License-Identifier: Apache-2.0 */
/* Error codes of a page that waits for its EACCEPT: mapping, page-table entry and EPCM each have their say. */
#include "sgx.h"

#define AT(n) (AT_HOLES + (n) * PAGE)

static struct enclave e;
static int thread;

/* Never resumed: each thread has room for one more. */
static void raises(uint64_t op, uint64_t at, uint64_t b, int code)
{
	EXCEPTION(&e, thread, op, in(&e, at), b, 0, 14, code, in(&e, at));
	CLEAN(&e, thread, OP_FRAME_ADD, FRAME_RIP, op == OP_JUMP ? 0 : 3, 0);
	if (op != OP_JUMP)
		CHECK(enter(&e, thread, ERESUME, 0, 0, 0, 0), 0);
	thread += op == OP_JUMP;
}

int main(void)
{
	uint64_t value = 1;

	e = loaded();
	/* A mapping that is too narrow is seen before there is a page. */
	CHECK(map_at(&e, AT(0), PAGE, PROT_READ), in(&e, AT(0)));
	raises(OP_WRITE, AT(0), 1, 0x6);
	raises(OP_WRITE, AT(0), 1, 0x6);
	raises(OP_READ, AT(0), (uint64_t)&value, 0x8005);
	raises(OP_WRITE, AT(0), 1, 0x7);
	CHECK(ACCEPT(&e, 3, AT(0), SECINFO_RW | SECINFO_PENDING), 0);
	raises(OP_WRITE, AT(0), 1, 0x7);
	CHECK(peek(&e, AT(0)), 0);
	WORKS(mprotect((void *)in(&e, AT(0)), PAGE, PROT_READ | PROT_WRITE));
	poke(&e, AT(0), 5);
	/* None at all. */
	CHECK(map_at(&e, AT(1), PAGE, PROT_NONE), in(&e, AT(1)));
	raises(OP_READ, AT(1), (uint64_t)&value, 0x4);
	WORKS(mprotect((void *)in(&e, AT(1)), PAGE, PROT_READ | PROT_WRITE));
	raises(OP_WRITE, AT(1), 1, 0x8007);
	WORKS(mprotect((void *)in(&e, AT(1)), PAGE, PROT_NONE));
	raises(OP_WRITE, AT(1), 1, 0x6);
	/* Code. */
	CHECK(map_at(&e, AT(2), PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), in(&e, AT(2)));
	raises(OP_JUMP, AT(2), 0, 0x8015);
	CHECK(ACCEPT(&e, 3, AT(2), SECINFO_RW | SECINFO_PENDING), 0);
	raises(OP_JUMP, AT(2), 0, 0x8015);
	CHECK(map_at(&e, AT(0), PAGE, PROT_READ | PROT_WRITE), in(&e, AT(0)));
	CHECK(peek(&e, AT(0)), 5);
	return success();
}
