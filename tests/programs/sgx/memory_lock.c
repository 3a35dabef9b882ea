/* SPDX-License-Identifier: Apache-2.0 */
/* mlock, MAP_LOCKED and MAP_POPULATE succeed on enclaves and change nothing. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	void *data = (void *)in(&e, AT_DATA);

	poke(&e, AT_DATA, 3);
	WORKS(mlock(data, PAGE));
	WORKS(munlock(data, PAGE));
	WORKS(mlock2(data, PAGE, MLOCK_ONFAULT));
	CHECK(mmap(data, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_LOCKED, e.fd, 0), data);
	CHECK(peek(&e, AT_DATA), 3);
	CHECK(mmap(data, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_POPULATE, e.fd, 0), data);
	CHECK(peek(&e, AT_DATA), 3);
	WORKS(munlock(data, PAGE));
	WORKS(munlockall());
	CHECK(peek(&e, AT_DATA), 3);
	return success();
}
