/* SPDX-License-Identifier: Apache-2.0 */
/* The dynamic loader finds the function in the vDSO, with its version, and it enters the enclave. */
#include "sgx.h"
#include <dlfcn.h>

int main(void)
{
	struct enclave e = loaded();
	void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
	uint64_t sum = 0;

	CHECK(vdso != NULL, 1);
	CHECK(dlvsym(vdso, "__vdso_sgx_enter_enclave", "LINUX_2.5") == NULL, 1);
	vdso_enter = (vdso_enter_t)(uintptr_t)dlvsym(vdso, "__vdso_sgx_enter_enclave", "LINUX_2.6");
	CHECK(vdso_enter, vdso_symbol("__vdso_sgx_enter_enclave"));
	CLEAN(&e, 0, OP_ADD, 30, 12, &sum);
	CHECK(sum, 42);
	return success();
}
