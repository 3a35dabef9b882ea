/* SPDX-License-Identifier: Apache-2.0 */
/* From outside, an enclave's memory reads as all ones, and what is written there is dropped. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	volatile uint64_t *data = (uint64_t *)in(&e, AT_DATA), *constant = (uint64_t *)in(&e, AT_CONSTANT);

	poke(&e, AT_DATA, 1234);
	CHECK(*data, -1);
	CHECK(*constant, -1);
	CHECK(*(volatile uint64_t *)tcs_of(&e, 0), -1);
	CHECK(*(volatile unsigned char *)e.base, 0xff);
	*data = 5;
	CHECK(*data, -1);
	CHECK(peek(&e, AT_DATA), 1234);
	CHECK(peek(&e, AT_CONSTANT), 0x0706050403020100);
	memset((void *)data, 7, PAGE);
	CHECK(peek(&e, AT_DATA), 1234);
	CHECK(peek(&e, AT_DATA + 8), 0);
	return success();
}
