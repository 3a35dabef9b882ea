/* SPDX-License-Identifier: Apache-2.0 */
/* Pages leave and come back whatever the program does with descriptors: closes all, has few, has none left. */
#include "paging.h"

#include <sys/resource.h>

static void fill(void)
{
	while (dup(1) >= 0)
		;
	CHECK(errno, EMFILE);
}

/* They are all what they were: the first one again. */
static void check_filled(int count)
{
	struct stat first, is;

	WORKS(fstat(1, &first));
	for (int fd = 3; fd < count; fd++) {
		WORKS(fstat(fd, &is));
		CHECK(is.st_ino, first.st_ino);
		CHECK(is.st_dev, first.st_dev);
	}
}

static void use(void *data)
{
	struct rlimit some = { (rlim_t)(intptr_t)data, (rlim_t)(intptr_t)data };
	struct enclave e;

	WORKS(setrlimit(RLIMIT_NOFILE, &some));
	e = pressed(0);
	all_as_they_were(&e);
	press(&e);
	WORKS(syscall(SYS_close_range, 3, ~0u, 0));
	all_as_they_were(&e);
	press(&e);
	WORKS(munmap((void *)in(&e, AT_PAGE(50)), PAGE));
	/* Again, and its number is somebody else's. */
	WORKS(syscall(SYS_close_range, 3, ~0u, 0));
	fill();
	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 50; i++)
			CHECK(peek(&e, AT_PAGE(i)), 1000 + i);
		press(&e);
	}
	check_filled((int)some.rlim_cur);
}

int main(void)
{
	CHECK(in_child(use, (void *)64), 0);
	CHECK(in_child(use, (void *)12), 0);
	return success();
}
