/* SPDX-License-Identifier: Apache-2.0 */
/* fork: the child enters the same enclave, not a copy; what either writes there the other finds. */
#include "sgx.h"

static struct enclave e;

static void child(void *data)
{
	uint64_t sum = 0;

	(void)data;
	CLEAN(&e, 1, OP_ADD, 40, 2, &sum);
	CHECK(sum, 42);
	CLEAN(&e, 1, OP_READ, in(&e, AT_DATA), &sum, 0);
	CHECK(sum, 1111);
	CLEAN(&e, 1, OP_WRITE, in(&e, AT_DATA), 2222, 0);
	/* Its mappings are its own. */
	WORKS(munmap((void *)in(&e, AT_DATA), PAGE));
	EXCEPTION(&e, 1, OP_READ, in(&e, AT_DATA), &sum, 0, 14, 4, in(&e, AT_DATA));
	WORKS(close(e.fd));
}

static void grandchild(void *data)
{
	(void)data;
	CHECK(in_child(data, NULL), 0);
}

static void without(void *data)
{
	uint64_t value;

	(void)data;
	EXCEPTION(&e, 2, OP_READ, in(&e, AT_DATA), &value, 0, 14, 4, in(&e, AT_DATA));
	CLEAN(&e, 3, OP_READ, in(&e, AT_CONSTANT), &value, 0);
}

static void sees(void *data)
{
	(void)data;
	CHECK(peek(&e, AT_DATA), 3333);
}

int main(void)
{
	e = loaded();
	poke(&e, AT_DATA, 1111);
	CHECK(in_child(child, NULL), 0);
	CHECK(peek(&e, AT_DATA), 2222);
	poke(&e, AT_DATA, 3333);
	CHECK(in_child(grandchild, sees), 0);
	WORKS(madvise((void *)in(&e, AT_DATA), PAGE, MADV_DONTFORK));
	CHECK(in_child(without, NULL), 0);
	CHECK(peek(&e, AT_DATA), 3333);
	return success();
}
