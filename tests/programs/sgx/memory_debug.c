/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave for debugging is the same to INIT, and a debugger's way reads and writes it, to the byte. */
#include "sgx.h"

int main(void)
{
	struct enclave e = initialised(ATTRIBUTE_DEBUG);
	int memory = (int)WORKS(open("/proc/self/mem", O_RDWR));
	unsigned char bytes[8] = { 0 };

	map_all(&e);
	CHECK(pread(memory, bytes, 8, (off_t)in(&e, AT_CONSTANT)), 8);
	CHECK(bytes[7], 7);
	poke(&e, AT_DATA, 0x1122334455667788);
	CHECK(pread(memory, bytes, 3, (off_t)in(&e, AT_DATA) + 1), 3);
	CHECK(bytes[0], 0x77);
	CHECK(bytes[1], 0x66);
	CHECK(bytes[2], 0x55);
	CHECK(pwrite(memory, "\xaa\xbb", 2, (off_t)in(&e, AT_DATA) + 3), 2);
	CHECK(peek(&e, AT_DATA), 0x112233bbaa667788);
	/* Over the end of a page. */
	CHECK(pread(memory, bytes, 8, (off_t)in(&e, AT_DATA + PAGE) - 4), 8);
	CHECK(bytes[7], 0);
	return success();
}
