/* SPDX-License-Identifier: Apache-2.0 */
/* mremap of an enclave's mapping: it shrinks and moves, but does not grow, double, or leave something behind. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	uint64_t value = 0;
	char *data = (char *)in(&e, AT_DATA), *other = (char *)reserve(0x10000);

	poke(&e, AT_DATA, 11);
	poke(&e, AT_DATA + PAGE, 12);
	FAILS(EFAULT, mremap(data, 4 * PAGE, 5 * PAGE, 0));
	FAILS(EFAULT, mremap(data, 4 * PAGE, 5 * PAGE, MREMAP_MAYMOVE));
	FAILS(EFAULT, mremap(data, PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other));
	FAILS(EFAULT, mremap(data, 0, PAGE, MREMAP_MAYMOVE));
	FAILS(EINVAL, mremap(data, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
	FAILS(EINVAL, mremap(data + 1, PAGE, PAGE, MREMAP_MAYMOVE));
	FAILS(EINVAL, mremap(data, PAGE, 0, MREMAP_MAYMOVE));
	FAILS(EINVAL, mremap(data, PAGE, PAGE, MREMAP_FIXED, other));
	CHECK(mremap(data, 4 * PAGE, 4 * PAGE, 0), data);
	CHECK(peek(&e, AT_DATA), 11);
	/* Shrunk: what is cut off can be mapped again. */
	CHECK(mremap(data, 4 * PAGE, PAGE, 0), data);
	EXCEPTION(&e, 0, OP_READ, data + PAGE, &value, 0, 14, 4, data + PAGE);
	CHECK(map_at(&e, AT_DATA + PAGE, 3 * PAGE, PROT_READ | PROT_WRITE), data + PAGE);
	RESUMES(&e, 0);
	CHECK(value, 12);
	/* Moved away, out of the enclave's range, and back. */
	CHECK(mremap(data, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other), other);
	EXCEPTION(&e, 0, OP_READ, data, &value, 0, 14, 4, data);
	CHECK(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, data), data);
	RESUMES(&e, 0);
	CHECK(value, 11);
	return success();
}
