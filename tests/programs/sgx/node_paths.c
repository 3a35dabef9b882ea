/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that lead to the node, and some that do not: relative ones, links, a slash behind. Compared with a device. */
#include "sgx.h"

static const char *name;

/* By open, stat, lstat and access. */
static void all(const char *format)
{
	char path[300];
	struct stat status;
	int fd;

	snprintf(path, sizeof(path), format, name);
	fd = open(path, O_RDONLY);
	printf("%s: %s", format, fd < 0 ? strerror(errno) : "opens");
	printf(", %s", stat(path, &status) ? strerror(errno) : S_ISCHR(status.st_mode) ? "device" : "other");
	printf(", %s", lstat(path, &status) ? strerror(errno) : S_ISCHR(status.st_mode) ? "device" : "other");
	printf(", %s\n", access(path, R_OK) ? strerror(errno) : "may be read");
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : SGX_ENCLAVE;
	char folder[] = "/tmp/sgxXXXXXX";

	name = strrchr(path, '/') + 1;
	WORKS(chdir("/tmp"));
	WORKS(mkdtemp(folder) ? 0 : -1);
	WORKS(chdir(folder));
	WORKS(symlink(path, "link"));
	WORKS(symlink("link", "second"));
	WORKS(symlink("/dev", "folder"));
	all("/dev/%s");
	all("/dev/%s/");
	all("/dev/%s/.");
	all("/dev/%s/..");
	all("/dev/%s/x");
	all("//dev//%s");
	all("/dev/../dev/./%s");
	all("/dev/pts/../%s");
	all("/dev/nothing/../%s");
	all("/dev/%s0");
	all("../../dev/%s");
	all("%s");
	all("link");
	all("second");
	all("folder/%s");
	all("folder/../dev/%s");
	all("/proc/self/root/dev/%s");
	all("/proc/self/cwd/link");
	FAILS(ELOOP, open("link", O_RDONLY | O_NOFOLLOW));
	unlink("link");
	unlink("second");
	unlink("folder");
	WORKS(chdir("/dev"));
	WORKS(rmdir(folder));
	all("%s");
	all("./%s");
	all("../dev/%s");
	all("/proc/self/cwd/%s");
	all("");
	WORKS(chdir("/"));
	all("dev/%s");
	all("%s");
	return success();
}
