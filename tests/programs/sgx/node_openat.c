/* SPDX-License-Identifier: Apache-2.0 */
/* openat(2) and openat2(2) relative to a folder's descriptor, with their errors. Compared with a device. */
#include "sgx.h"
#include <linux/openat2.h>

static int opened;

static long how(int folder, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve, size_t size)
{
	struct {
		struct open_how how;
		uint64_t more;
	} a = { { flags, mode, resolve }, 0 };
	long fd = syscall(SYS_openat2, folder, path, &a, size);

	if (fd >= 0)
		close((int)fd);
	return fd;
}

static int at(int folder, const char *path, int flags)
{
	int fd = openat(folder, path, flags);

	if (fd >= 0)
		close(fd);
	opened += fd >= 0;
	return fd;
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : SGX_ENCLAVE, *name = strrchr(path, '/') + 1;
	int dev = (int)WORKS(open("/dev", O_RDONLY | O_DIRECTORY)), only = (int)WORKS(open("/dev", O_PATH));
	int device = (int)WORKS(open(path, O_RDONLY)), root = (int)WORKS(open("/", O_PATH));

	SAY(at(dev, name, O_RDWR));
	SAY(at(only, name, O_RDWR));
	SAY(at(dev, path, O_RDWR));
	SAY(at(-1, path, O_RDWR));
	SAY(at(-1, name, O_RDWR));
	SAY(at(99, name, O_RDWR));
	SAY(at(device, name, O_RDWR));
	SAY(at(device, path, O_RDWR));
	SAY(at(device, "", O_RDWR));
	SAY(at(root, name, O_RDWR));
	SAY(at(root, path + 1, O_RDWR));
	SAY(at(AT_FDCWD, path, O_RDWR));
	SAY(at(dev, NULL, O_RDWR));
	SAY(at(dev, (const char *)8, O_RDWR));
	SAY(how(dev, name, O_RDWR, 0, 0, 24));
	SAY(how(dev, name, O_RDWR, 0, 0, 32));
	SAY(how(dev, name, O_RDWR, 0, 0, 16));
	SAY(how(dev, name, O_RDWR, 0, 0, 5000));
	SAY(how(dev, name, O_RDWR, 0600, 0, 24));
	SAY(how(dev, name, 1ul << 40, 0, 0, 24));
	SAY(how(dev, name, O_RDWR, 0, RESOLVE_BENEATH, 24));
	SAY(how(dev, path, O_RDWR, 0, RESOLVE_BENEATH, 24));
	SAY(how(root, path, O_RDWR, 0, RESOLVE_IN_ROOT, 24));
	SAY(how(dev, path, O_RDWR, 0, RESOLVE_IN_ROOT, 24));
	SAY(how(dev, path, O_RDWR, 0, RESOLVE_NO_SYMLINKS, 24));
	SAY(how(dev, name, O_RDWR, 0, RESOLVE_NO_XDEV, 24));
	SAY(how(dev, name, O_RDWR, 0, 1 << 20, 24));
	SAY(how(dev, name, O_RDWR | O_DIRECTORY, 0, 0, 24));
	SAY(syscall(SYS_openat2, dev, name, (void *)8, 24));
	SAY(how(dev, NULL, O_RDWR, 0, 0, 24));
	CHECK(opened > 0, 1);
	return success();
}
