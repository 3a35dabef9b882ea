/* SPDX-License-Identifier: Apache-2.0 */
/* A debugger writes to code that has run, whose way out may be patched: it sees no patch, and what it writes is run. */
#include "sgx.h"

static unsigned char code[PAGE];
static struct enclave e;
static int memory;

static uint64_t found(const char *bytes, size_t length)
{
	const unsigned char *at = memmem(code, PAGE, bytes, length);

	CHECK(!at, 0);
	return (uint64_t)(at - code);
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	uint64_t value = 0;

	CLEAN(&e, 0, OP_ADD, a, b, &value);
	return value;
}

static void put(uint64_t offset, const char *bytes, size_t length)
{
	CHECK(pwrite(memory, bytes, length, (off_t)in(&e, offset)), length);
}

static void changed_by_child(void *add)
{
	CHECK(sum(40, 2), 42);
	put(*(uint64_t *)add + 1, "\x29", 1);
	CHECK(sum(40, 2), 38);
}

int main(void)
{
	unsigned char again[PAGE];
	uint64_t add, leave;

	e = initialised(ATTRIBUTE_DEBUG);
	map_all(&e);
	memory = (int)WORKS(open("/proc/self/mem", O_RDWR));
	CHECK(pread(memory, code, PAGE, (off_t)e.base), PAGE);
	add = found("\x48\x01\xd6\x49\x89\x30", 6); /* add %rdx, %rsi */
	leave = found("\xb8\x04\x00\x00\x00\x0f\x01\xd7", 8); /* EEXIT */
	for (int i = 0; i < 3; i++) {
		CHECK(sum(40, 2), 42);
		CHECK(sum(40, 2), 42);
		CHECK(pread(memory, again, PAGE, (off_t)e.base), PAGE);
		CHECK(memcmp(code, again, PAGE), 0);
		put(add + 1, "\x29", 1); /* sub */
		CHECK(sum(40, 2), 38);
		/* A breakpoint at the way out, and gone again; then in the middle of it. */
		put(leave, "\xcc", 1);
		EXCEPTION(&e, 0, OP_NOP, 0, 0, 0, 6, 0, 0);
		put(leave, "\xb8", 1);
		CLEAN(&e, 1, OP_NOP, 0, 0, 0);
		RESUMES(&e, 0);
		CLEAN(&e, 0, OP_NOP, 0, 0, 0);
		put(leave + 7, "\xd0", 1); /* XGETBV for ENCLU */
		put(leave + 7, "\xd7", 1);
		put(add + 1, "\x01", 1);
	}
	/* What is written counts for all who have the enclave mapped, each with patches of its own. */
	CHECK(in_child(changed_by_child, &add), 0);
	CHECK(sum(40, 2), 38);
	return success();
}
