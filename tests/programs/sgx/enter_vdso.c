/* SPDX-License-Identifier: Apache-2.0 */
/* The vDSO's function, found by DT_HASH, enters each TCS and comes back; nothing is left of the entry. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	uint64_t sum = 0, cssa = 9;

	CHECK(vdso_symbol("__vdso_sgx_enter_enclave") != NULL, 1);
	CHECK(vdso_symbol("__vdso_sgx_enter_enclav") == NULL, 1);
	for (int thread = 0; thread < (int)ENCLAVE_THREADS; thread++)
		for (uint64_t i = 0; i < 100; i++) {
			memset(&run, 0, sizeof(run));
			run.user_data = i;
			CLEAN(&e, thread, OP_ADD, i, 1000, &sum);
			CHECK(sum, i + 1000);
			CHECK(run.exception_vector, 0);
			CHECK(run.exception_error_code, 0);
			CHECK(run.exception_addr, 0);
			CHECK(run.user_data, i);
			CHECK(run.tcs, tcs_of(&e, thread));
			CLEAN(&e, thread, OP_CSSA, 0, &cssa, 0);
			CHECK(cssa, 0);
		}
	return success();
}
