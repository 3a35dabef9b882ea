/* SPDX-License-Identifier: Apache-2.0 */
/* munmap of a part takes nothing from the enclave: mapped again, its pages are as they were. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	uint64_t value = 0;
	char *data = (char *)in(&e, AT_DATA);

	for (uint64_t at = AT_DATA; at < AT_DATA_END; at += PAGE)
		poke(&e, at, at);
	WORKS(munmap(data + PAGE, 2 * PAGE));
	CHECK(peek(&e, AT_DATA), AT_DATA);
	CHECK(peek(&e, AT_DATA + 3 * PAGE), AT_DATA + 3 * PAGE);
	EXCEPTION(&e, 0, OP_READ, data + PAGE, &value, 0, 14, 4, data + PAGE);
	CHECK(map_at(&e, AT_DATA + PAGE, PAGE, PROT_READ), data + PAGE);
	RESUMES(&e, 0);
	CHECK(value, AT_DATA + PAGE);
	/* Without any mapping it cannot be entered; with the descriptor it is mapped again. */
	WORKS(munmap((void *)e.base, ENCLAVE_SIZE));
	CHECK(ENTER(&e, 0, OP_NOP, 0, 0, 0), 0);
	CHECK(run.function, EENTER);
	CHECK(run.exception_vector, 14);
	map_all(&e);
	CHECK(peek(&e, AT_DATA + 3 * PAGE), AT_DATA + 3 * PAGE);
	return success();
}
