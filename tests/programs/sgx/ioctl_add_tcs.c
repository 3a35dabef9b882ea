/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES of a TCS: EADD refuses reserved bytes, which is EIO, and the page can be added later; it minds no others. */
#include "sgx.h"

static unsigned char page[PAGE] __attribute__((aligned(PAGE)));

static int add(int fd, uint64_t at, size_t offset, uint64_t value, size_t size)
{
	memset(page, 0, sizeof(page));
	memcpy(page + offset, &value, size);
	return sgx_add(fd, page, at, PAGE, SECINFO_TCS);
}

int main(void)
{
	int fd = created(0).fd;

	FAILS(EIO, add(fd, 0, 72, 1, 8));
	FAILS(EIO, add(fd, 0, 80, 1, 8));
	FAILS(EIO, add(fd, 0, 88, 1, 8));
	FAILS(EIO, add(fd, 0, 4095, 1, 1));
	WORKS(add(fd, 0, 0, 0, 0));
	FAILS(EBUSY, add(fd, 0, 0, 0, 0));
	WORKS(add(fd, PAGE, 0, 1, 8));	       /* STATE */
	WORKS(add(fd, 2 * PAGE, 8, 1, 8));     /* FLAGS.DBGOPTIN */
	WORKS(add(fd, 3 * PAGE, 16, 1, 8));    /* OSSA */
	WORKS(add(fd, 4 * PAGE, 24, 1, 4));    /* CSSA */
	WORKS(add(fd, 5 * PAGE, 40, 1, 8));    /* AEP */
	WORKS(add(fd, 6 * PAGE, 48, 1, 8));    /* OFSBASE */
	WORKS(add(fd, 7 * PAGE, 56, ~0ul, 8)); /* OGSBASE */
	return success();
}
