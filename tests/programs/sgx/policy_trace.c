/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals one by one, each when there is a line on stdin: a line on stdout before the first, and after each. */
#include "policy.h"

static void next(const char *say)
{
	char line[80];

	puts(say);
	fflush(stdout);
	CHECK(fgets(line, sizeof(line), stdin) != NULL, 1);
}

int main(int argc, char **argv)
{
	struct enclave whole, part;
	struct sgx_enclave_modify_types told;
	unsigned char *copy = anonymous(2 * PAGE), *plain = file_mapped("plain.bin", PROT_READ, MAP_PRIVATE);

	(void)argc;
	begin(argv);
	memcpy(copy, enclave_sigstruct, sizeof(enclave_sigstruct));
	whole = loose();
	map_all(&whole);
	WORKS(map(&whole, AT_LOOSE, PAGE, RW));
	use(&whole);
	part = approved();
	next("begin");
	FAILS(EACCES, sgx_add(part.fd, plain, AT_LOOSE, PAGE, SECINFO_REG | SECINFO_R | SECINFO_X));
	next("load");
	FAILS(EACCES, sgx_init(part.fd, copy));
	next("init");
	FAILS(EACCES, map(&whole, AT_LOOSE, PAGE, RX));
	next("mmap");
	FAILS(EACCES, protect(&whole, AT_LOOSE, PAGE, RX));
	next("mprotect");
	FAILS(EACCES, sgx_modify(&whole, AT_DATA, PAGE, SECINFO_TCS, &told));
	next("modify");
	/* Nothing of it has happened. */
	poke(&whole, AT_LOOSE, 3);
	CHECK(peek(&whole, AT_LOOSE), 3);
	WORKS(sgx_init(part.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	return success();
}
