/* SPDX-License-Identifier: Apache-2.0 */
/* What the vDSO's function refuses by itself: -EINVAL, and struct sgx_enclave_run as it was. */
#include "sgx.h"

static int refused(unsigned int function)
{
	struct sgx_enclave_run before;
	int result;

	memset(&before, 0, sizeof(before));
	memcpy(&before, &run, sizeof(run));
	result = vdso_call(OP_NOP, 0, 0, function, 0, 0, &run);
	CHECK(memcmp(&before, &run, sizeof(run)), 0);
	return result;
}

int main(void)
{
	static const unsigned int functions[] = { 0, 1, 4, 5, 0x80000002, 0xffffffff };
	struct enclave e = loaded();

	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	run.function = 77;
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++)
		CHECK(refused(functions[i]), -EINVAL);
	for (size_t byte = 40; byte < sizeof(run); byte++) {
		((unsigned char *)&run)[byte] = 1;
		CHECK(refused(EENTER), -EINVAL);
		CHECK(refused(ERESUME), -EINVAL);
		((unsigned char *)&run)[byte] = 0;
	}
	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	return success();
}
