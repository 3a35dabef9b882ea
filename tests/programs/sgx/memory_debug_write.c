/* SPDX-License-Identifier: Apache-2.0 */
/* A debugger writes to an enclave for debugging where its mapping is not writable: no one asks the mapping. */
#include "sgx.h"

static struct enclave e;

static void sees(void *unused)
{
	uint64_t value = 0;

	(void)unused;
	CLEAN(&e, 1, OP_READ, in(&e, AT_CONSTANT), &value, 0);
	CHECK(value, 0x0706050403020101);
	CLEAN(&e, 1, OP_READ, in(&e, PAGE - 8), &value, 0);
	CHECK(value >> 56, 0x90);
}

int main(void)
{
	int memory = (int)WORKS(open("/proc/self/mem", O_RDWR));

	e = initialised(ATTRIBUTE_DEBUG);
	map_all(&e);
	CHECK(pwrite(memory, "\x01", 1, (off_t)in(&e, AT_CONSTANT)), 1);
	CHECK(pwrite(memory, "\x90", 1, (off_t)e.base + PAGE - 1), 1);
	CHECK(peek(&e, AT_CONSTANT), 0x0706050403020101);
	CHECK(peek(&e, PAGE - 8) >> 56, 0x90);
	/* It is the enclave that is changed, not this process's view of it. */
	CHECK(map_at(&e, AT_CONSTANT, PAGE, PROT_READ), in(&e, AT_CONSTANT));
	CHECK(peek(&e, AT_CONSTANT), 0x0706050403020101);
	CHECK(in_child(sees, NULL), 0);
	return success();
}
