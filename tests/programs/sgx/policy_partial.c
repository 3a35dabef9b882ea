/* SPDX-License-Identifier: Apache-2.0 */
/* A23, A32: one range over two mappings, of which the second is refused; a page that is there already. */
#include "policy.h"

#define FLAGS (SECINFO_REG | SECINFO_R | SECINFO_X)

int main(int argc, char **argv)
{
	struct enclave e = created(0);
	struct secinfo secinfo = { .flags = FLAGS };
	struct sgx_enclave_add_pages add = { 0 };
	unsigned char *at = anonymous(8 * PAGE);
	int good = (int)WORKS(open("pages.bin", O_RDONLY)), other = (int)WORKS(open("plain.bin", O_RDONLY));

	(void)argc;
	begin(argv);
	CHECK(mmap(at, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, good, 0), at);
	CHECK(mmap(at + 2 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, other, 0), at + 2 * PAGE);
	add.src = (uintptr_t)at;
	add.offset = AT_LOOSE;
	add.length = 4 * PAGE;
	add.secinfo = (uintptr_t)&secinfo;
	if (policed) {
		FAILS(EACCES, ioctl(e.fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add));
		CHECK(add.count, 2 * PAGE);
		/* The rest is untouched: another page can be put there. */
		WORKS(sgx_add(e.fd, at, AT_LOOSE + 2 * PAGE, PAGE, FLAGS));
	} else {
		WORKS(sgx_add(e.fd, at, AT_LOOSE, 4 * PAGE, FLAGS));
	}
	/* Occupied, and it stays what it was. */
	FAILS(EBUSY, sgx_add(e.fd, at + PAGE, AT_LOOSE, PAGE, FLAGS));
	FAILS(EBUSY, sgx_add(e.fd, at + 2 * PAGE, AT_LOOSE, PAGE, SECINFO_REG | SECINFO_R));
	return success();
}
