/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a mount namespace of one's own any file can have any path. Neither the code nor the program is what it is called: the
 * paths are those of the machine on which the policy was written.
 */
#include "policy.h"

#include <sched.h>
#include <sys/mount.h>

static void copy(const char *from, const char *to)
{
	unsigned char *at = file_mapped(from, PROT_READ, MAP_PRIVATE);
	struct stat status;
	int fd = (int)WORKS(open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700));

	WORKS(stat(from, &status));
	CHECK(write(fd, at, (size_t)status.st_size), status.st_size);
	WORKS(close(fd));
}

int main(int argc, char **argv)
{
	char *again[] = { argv[0], argv[1], "again", NULL };
	struct enclave e;

	(void)argc;
	begin(argv);
	if (has(argv, "again")) {
		REFUSED(open(SGX_ENCLAVE, O_RDWR));
		return success();
	}
	e = created(0);
	copy(CODE, "other.bin");
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("other.bin", CODE, NULL, MS_BIND, NULL) || mount("stranger", argv[0], NULL, MS_BIND, NULL))
		skip("run as root to have a mount namespace");
	WORKS(add_image(e.fd, file_mapped(CODE, PROT_READ, MAP_PRIVATE)));
	REFUSED(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	execv(argv[0], again);
	return 1;
}
