/* SPDX-License-Identifier: Apache-2.0 */
/* EEXIT goes where the enclave says, not only behind the ENCLU that entered it; not to what is no address. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();

	CHECK(RAW(&e, 0, OP_EXIT_TO, raw_abandon, 0, 0), 0);
	CHECK(RAW(&e, 0, OP_NOP, 0, 0, 0), EEXIT);
	CHECK(RAW(&e, 0, OP_EXIT_TO, raw_enclu + 3, 0, 0), EEXIT);
	EXCEPTION(&e, 1, OP_EXIT_TO, 1ul << 62, 0, 0, 13, 0, 0);
	CHECK(run.function, ERESUME);
	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	return success();
}
