/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A4: a file on a noexec mount is added as data, to become code later. The driver takes nothing from there; what it takes,
 * a copy, has a ceiling, and the enclave's own EMODPE does not raise it. No policy is needed, and none changes it.
 */
#include "policy.h"

#include <sched.h>
#include <sys/mount.h>

/* The enclave's page of constants as a file that cannot be executed, mapped; the file's mount is this process's only. */
static unsigned char *constants(const unsigned char *image)
{
	int file;

	WORKS(mkdir("noexec", 0700));
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "noexec", "tmpfs", MS_NOEXEC, NULL))
		skip("run as root to have a mount with noexec");
	file = (int)WORKS(open("noexec/constants.bin", O_RDWR | O_CREAT, 0700));
	CHECK(write(file, image + AT_CONSTANT, PAGE), PAGE);
	WORKS(close(file));
	return file_mapped("noexec/constants.bin", PROT_READ, MAP_PRIVATE);
}

int main(int argc, char **argv)
{
	struct enclave e = created(0);
	unsigned char *image = file_mapped(CODE, PROT_READ, MAP_PRIVATE), *mapped = constants(image), *copy = anonymous(PAGE);

	(void)argc;
	begin(argv);
	memcpy(copy, mapped, PAGE);
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];

		if (p->offset != AT_CONSTANT) {
			WORKS(sgx_add(e.fd, image + p->offset, p->offset, p->length, p->flags));
			continue;
		}
		FAILS(EACCES, sgx_add(e.fd, mapped, AT_CONSTANT, PAGE, SECINFO_REG | SECINFO_R));
		WORKS(sgx_add(e.fd, copy, AT_CONSTANT, PAGE, SECINFO_REG | SECINFO_R));
	}
	WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&e);
	use(&e);
	EXTEND(&e, 0, AT_CONSTANT, SECINFO_REG | SECINFO_R | SECINFO_X);
	FAILS(EACCES, protect(&e, AT_CONSTANT, PAGE, RX));
	FAILS(EACCES, protect(&e, AT_CONSTANT, PAGE, PROT_EXEC));
	/* As data it is there still. */
	EXCEPTION(&e, 1, OP_JUMP, in(&e, AT_CONSTANT), 0, 0, 14, 0x15, in(&e, AT_CONSTANT));
	CHECK(peek(&e, AT_CONSTANT) == *(uint64_t *)copy, 1);
	/* A mapping anew: the old one is gone, as with any MAP_FIXED. */
	FAILS(EACCES, map(&e, AT_CONSTANT, PAGE, RX));
	WORKS(map(&e, AT_CONSTANT, PAGE, PROT_READ));
	CHECK(peek(&e, AT_CONSTANT) == *(uint64_t *)copy, 1);
	return success();
}
