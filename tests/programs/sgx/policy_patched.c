/* SPDX-License-Identifier: Apache-2.0 */
/* A6: a privately changed page of an approved file is refused, also when it was changed back; its other pages are not. */
#include "policy.h"

#define FLAGS (SECINFO_REG | SECINFO_R | SECINFO_X)

int main(int argc, char **argv)
{
	struct enclave e = created(0);
	unsigned char *code = file_mapped("pages.bin", RW, MAP_PRIVATE), *shared;
	struct sgx_enclave_add_pages add = { 0 };
	struct secinfo secinfo = { .flags = FLAGS };

	(void)argc;
	begin(argv);
	code[2 * PAGE + 5] ^= 1;
	((volatile unsigned char *)code)[4 * PAGE] ^= 1;
	((volatile unsigned char *)code)[4 * PAGE] ^= 1;
	/* The pages before the changed one are added and counted, it and those behind it are not. */
	add.src = (uintptr_t)code;
	add.offset = AT_LOOSE;
	add.length = 4 * PAGE;
	add.secinfo = (uintptr_t)&secinfo;
	REFUSED(ioctl(e.fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add));
	if (!policed)
		return success();
	CHECK(add.count, 2 * PAGE);
	FAILS(EBUSY, sgx_add(e.fd, code + 3 * PAGE, AT_LOOSE + PAGE, PAGE, FLAGS));
	FAILS(EACCES, sgx_add(e.fd, code + 2 * PAGE, AT_LOOSE + 2 * PAGE, PAGE, FLAGS));
	WORKS(sgx_add(e.fd, code + 3 * PAGE, AT_LOOSE + 2 * PAGE, PAGE, FLAGS));
	FAILS(EACCES, sgx_add(e.fd, code + 4 * PAGE, AT_LOOSE + 3 * PAGE, PAGE, FLAGS));
	/* As data it may be. */
	WORKS(sgx_add(e.fd, code + 4 * PAGE, AT_LOOSE + 3 * PAGE, PAGE, SECINFO_RW));
	/* Thrown away, it is the file's again. */
	WORKS(madvise(code + 2 * PAGE, PAGE, MADV_DONTNEED));
	WORKS(sgx_add(e.fd, code + 2 * PAGE, AT_LOOSE + 4 * PAGE, PAGE, FLAGS));
	shared = file_mapped("pages.bin", PROT_READ, MAP_SHARED);
	WORKS(sgx_add(e.fd, shared, AT_LOOSE + 5 * PAGE, PAGE, FLAGS));
	return success();
}
