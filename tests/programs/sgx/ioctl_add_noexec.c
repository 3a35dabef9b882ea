/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES from a file on a noexec mount: EACCES, whatever the page's permissions; a copy of it in memory is fine. */
#include "sgx.h"
#include <sched.h>
#include <sys/mount.h>

int main(void)
{
	char folder[] = "/tmp/sgxXXXXXX", *mapped, *copy;
	int fd, file;

	WORKS(mkdtemp(folder) ? 0 : -1);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", folder, "tmpfs", MS_NOEXEC, NULL)) {
		rmdir(folder);
		skip("run as root to have a mount with noexec");
	}
	WORKS(chdir(folder));
	file = (int)WORKS(open("source", O_RDWR | O_CREAT, 0600));
	CHECK(write(file, enclave_image, PAGE), PAGE);
	fd = created(0).fd;
	mapped = (char *)WORKS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0));
	FAILS(EACCES, sgx_add(fd, mapped, 0, PAGE, SECINFO_REG | SECINFO_R));
	FAILS(EACCES, sgx_add(fd, mapped, 0, PAGE, SECINFO_REG | SECINFO_R | SECINFO_X));
	FAILS(EACCES, sgx_add(fd, mapped, 0, PAGE, SECINFO_REG));
	FAILS(EACCES, sgx_add(fd, mapped, 0, PAGE, SECINFO_TCS));
	copy = (char *)WORKS(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	memcpy(copy, mapped, PAGE);
	WORKS(sgx_add(fd, copy, 0, PAGE, SECINFO_REG | SECINFO_R | SECINFO_X));
	WORKS(chdir("/"));
	umount2(folder, MNT_DETACH);
	rmdir(folder);
	return success();
}
