/* SPDX-License-Identifier: Apache-2.0 */
/* A user handler throws, and the caller of the vDSO's function catches; what lies between is destroyed. */
#include "sgx.h"

static int destroyed;

struct object {
	~object() { destroyed++; }
};

extern "C" int thrower(long, long, long, long, long, long, struct sgx_enclave_run *r)
{
	object one;

	throw int(r->function);
}

/* All in one frame: ERESUME must come from where EENTER did. */
static __attribute__((noinline)) int call(const struct enclave *e, unsigned int function, uint64_t op, uint64_t a, uint64_t b)
{
	try {
		object two;

		run.user_handler = (uintptr_t)thrower;
		enter(e, 0, function, op, a, b, 0);
	} catch (int function) {
		return function;
	}
	return -1;
}

int main()
{
	struct enclave e = loaded();

	for (int i = 0; i < 10; i++)
		CHECK(call(&e, EENTER, OP_NOP, 0, 0), EEXIT);
	CHECK(destroyed, 20);
	CHECK(call(&e, EENTER, OP_UD2, 0, 0), ERESUME);
	CHECK(destroyed, 22);
	CHECK(call(&e, EENTER, OP_FRAME_ADD, FRAME_RIP, 2), EEXIT);
	CHECK(call(&e, ERESUME, 0, 0, 0), EEXIT);
	return success();
}
