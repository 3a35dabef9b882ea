/* SPDX-License-Identifier: Apache-2.0 */
/* MAP_FIXED that the driver refuses leaves a hole where something was; one that is refused earlier leaves it alone. */
#include "sgx.h"

static int mapped(void *at)
{
	void *found = mmap(at, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (found == MAP_FAILED)
		return (int)CHECK(errno, EEXIST) > 0;
	WORKS(munmap(found, PAGE));
	return 0;
}

int main(void)
{
	struct enclave e = initialised(0);
	char *at = (char *)in(&e, AT_DATA);
	int w = (int)WORKS(open(SGX_ENCLAVE, O_WRONLY));

	CHECK(mapped(at), 1);
	FAILS(EINVAL, mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, e.fd, 0));
	CHECK(mapped(at), 1);
	FAILS(EACCES, mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, w, 0));
	CHECK(mapped(at), 1);
	FAILS(EEXIST, mmap(at, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE, e.fd, 0));
	CHECK(mapped(at), 1);
	FAILS(EACCES, map_at(&e, AT_DATA, PAGE, PROT_READ | PROT_EXEC));
	CHECK(mapped(at), 0);
	CHECK(mapped(at + PAGE), 1);
	/* The same where an enclave was mapped. */
	CHECK(map_at(&e, AT_DATA, 2 * PAGE, PROT_READ), at);
	CHECK(mapped(at), 1);
	FAILS(EACCES, map_at(&e, AT_DATA, PAGE, PROT_READ | PROT_EXEC));
	CHECK(mapped(at), 0);
	CHECK(mapped(at + PAGE), 1);
	return success();
}
