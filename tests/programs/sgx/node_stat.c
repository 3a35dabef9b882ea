/* SPDX-License-Identifier: Apache-2.0 */
/* What stat, lstat, fstat, fstatat and statx say of the nodes: a misc device, the same by path and by descriptor. */
#include "sgx.h"
#include <sys/sysmacros.h>

static void same(const struct stat *a, const struct stat *b)
{
	CHECK(a->st_dev, b->st_dev);
	CHECK(a->st_ino, b->st_ino);
	CHECK(a->st_rdev, b->st_rdev);
	CHECK(a->st_mode, b->st_mode);
	CHECK(a->st_size, b->st_size);
	CHECK(a->st_nlink, b->st_nlink);
	CHECK(a->st_mtime, b->st_mtime);
	CHECK(a->st_blksize, b->st_blksize);
}

static unsigned long look(const char *path)
{
	struct stat first, other, folder;
	struct statx x;
	int fd = (int)WORKS(open(path, O_RDONLY)), only = (int)WORKS(open(path, O_PATH));

	WORKS(stat(path, &first));
	CHECK(S_ISCHR(first.st_mode), 1);
	CHECK(major(first.st_rdev), 10);
	CHECK(first.st_nlink, 1);
	CHECK(first.st_size, 0);
	CHECK(first.st_blocks, 0);
	WORKS(stat("/dev", &folder));
	CHECK(first.st_dev, folder.st_dev);
	WORKS(lstat(path, &other));
	same(&first, &other);
	WORKS(fstat(fd, &other));
	same(&first, &other);
	WORKS(fstat(only, &other));
	same(&first, &other);
	WORKS(fstatat(AT_FDCWD, path, &other, AT_SYMLINK_NOFOLLOW));
	same(&first, &other);
	WORKS(fstatat(fd, "", &other, AT_EMPTY_PATH));
	same(&first, &other);
	WORKS(syscall(SYS_stat, path, &other));
	same(&first, &other);
	WORKS(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &x));
	CHECK(x.stx_ino, first.st_ino);
	CHECK(x.stx_mode, first.st_mode);
	CHECK(makedev(x.stx_rdev_major, x.stx_rdev_minor), first.st_rdev);
	CHECK(makedev(x.stx_dev_major, x.stx_dev_minor), first.st_dev);
	CHECK(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	memset(&x, 0, sizeof(x));
	WORKS(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
	CHECK(x.stx_ino, first.st_ino);
	CHECK(makedev(x.stx_rdev_major, x.stx_rdev_minor), first.st_rdev);
	close(fd);
	close(only);
	FAILS(EFAULT, syscall(SYS_stat, path, 8));
	FAILS(EINVAL, fstatat(AT_FDCWD, path, &other, 1 << 30));
	FAILS(EINVAL, statx(AT_FDCWD, path, 1 << 30, STATX_BASIC_STATS, &x));
	FAILS(EBADF, fstat(fd, &other));
	return first.st_rdev;
}

int main(void)
{
	unsigned long enclave = look(SGX_ENCLAVE), provision = look(SGX_PROVISION);

	CHECK(enclave != provision, 1);
	return success();
}
