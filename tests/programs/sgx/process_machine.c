/* SPDX-License-Identifier: Apache-2.0 */
/* The machine as programs ask for it: CPUID, before and after the device is open. */
#include "sgx.h"
#include <cpuid.h>

static void look(void)
{
	unsigned int a = 0, b = 0, c = 0, d = 0;
	uint64_t size;

	CHECK(__get_cpuid_count(7, 0, &a, &b, &c, &d), 1);
	CHECK(b >> 2 & 1, 1);
	CHECK(c >> 30 & 1, 1);
	CHECK(__get_cpuid_count(0x12, 0, &a, &b, &c, &d), 1);
	CHECK(a & 1, 1);
	CHECK(b & ~3u, 0);
	CHECK((d >> 8 & 0xff) >= 31, 1);
	__cpuid_count(0x12, 1, a, b, c, d);
	CHECK(a & 6, 6);
	CHECK(c & 3, 3);
	__cpuid_count(0x12, 2, a, b, c, d);
	CHECK(a & 15, 1);
	size = (c & 0xfffff000) + ((uint64_t)(d & 0xfffff) << 32);
	CHECK(size > 0, 1);
	CHECK(size % PAGE, 0);
}

int main(void)
{
	look();
	sgx_open();
	look();
	return success();
}
