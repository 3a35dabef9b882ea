/* SPDX-License-Identifier: Apache-2.0 */
/* A node is no link; its descriptor in /proc is one, to the node's path, by each way to say it. */
#include "sgx.h"

static void leads(const char *link, const char *to)
{
	char found[100] = "";

	CHECK(readlink(link, found, sizeof(found)), strlen(to));
	CHECK(strcmp(found, to), 0);
	memset(found, 0, sizeof(found));
	CHECK(readlinkat(AT_FDCWD, link, found, 5), 5);
	CHECK(strcmp(found, "/dev/"), 0);
	FAILS(EINVAL, readlink(link, found, 0));
	FAILS(EFAULT, syscall(SYS_readlink, link, 8, 100));
}

int main(void)
{
	static const char *const nodes[] = { SGX_ENCLAVE, SGX_PROVISION };
	char link[100], found[100];

	for (int i = 0; i < 2; i++) {
		int fd = (int)WORKS(open(nodes[i], O_RDWR)), only = (int)WORKS(open(nodes[i], O_PATH));
		int folder = (int)WORKS(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));

		FAILS(EINVAL, readlink(nodes[i], found, sizeof(found)));
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		leads(link, nodes[i]);
		snprintf(link, sizeof(link), "/proc/%d/fd/%d", getpid(), fd);
		leads(link, nodes[i]);
		snprintf(link, sizeof(link), "/proc/thread-self/fd/%d", fd);
		leads(link, nodes[i]);
		snprintf(link, sizeof(link), "/dev/fd/%d", fd);
		leads(link, nodes[i]);
		snprintf(link, sizeof(link), "/proc/self/fd/%d", only);
		leads(link, nodes[i]);
		snprintf(link, sizeof(link), "%d", fd);
		CHECK(readlinkat(folder, link, found, sizeof(found)), strlen(nodes[i]));
		WORKS(close(fd));
		FAILS(ENOENT, readlinkat(folder, link, found, sizeof(found)));
	}
	return success();
}
