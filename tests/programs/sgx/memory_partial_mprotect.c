/* SPDX-License-Identifier: Apache-2.0 */
/* mprotect over several mappings stops at the first that refuses; those before it have changed, those behind have not. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	uint64_t value;
	char *data = (char *)in(&e, AT_DATA);

	/* Data that may be written, a constant that may not; all mapped for reading, each page on its own. */
	for (uint64_t at = AT_DATA; at < AT_DATA_END; at += PAGE)
		CHECK(map_at(&e, at, PAGE, PROT_READ), in(&e, at));
	CHECK(map_at(&e, AT_DATA_END, AT_CONSTANT - AT_DATA_END, PROT_NONE), in(&e, AT_DATA_END));
	EXCEPTION(&e, 0, OP_WRITE, data, 1, 0, 14, 6, data);
	RESUME(&e, 0);
	CHECK(run.function, ERESUME);
	CHECK(run.exception_vector, 14);
	FAILS(EACCES, mprotect(data, AT_CONSTANT + PAGE - AT_DATA, PROT_READ | PROT_WRITE));
	RESUMES(&e, 0);
	poke(&e, AT_DATA_END - PAGE, 5);
	CHECK(peek(&e, AT_DATA), 1);
	CHECK(peek(&e, AT_DATA_END - PAGE), 5);
	CHECK(peek(&e, AT_CONSTANT), 0x0706050403020100);
	/* A gap: ENOMEM, and what is before it has changed. */
	WORKS(munmap(data + PAGE, PAGE));
	FAILS(ENOMEM, mprotect(data, 3 * PAGE, PROT_NONE));
	EXCEPTION(&e, 0, OP_READ, data, &value, 0, 14, 4, data);
	WORKS(mprotect(data, PAGE, PROT_READ));
	RESUMES(&e, 0);
	CHECK(value, 1);
	CHECK(peek(&e, AT_DATA + 2 * PAGE), 0);
	return success();
}
