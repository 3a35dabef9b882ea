/* SPDX-License-Identifier: Apache-2.0 */
/* Every spelling of a node's path finds it, wherever in memory the path lies; what only looks like it does not. */
#include "sgx.h"

#include <limits.h>

static const char *found[] = {
	"/dev/sgx_enclave", "//dev///sgx_enclave", "/dev/./sgx_enclave", "/dev/../dev/sgx_provision",
	"/dev/sgx/enclave", "/dev/sgx//./provision", "/dev/sgx", "/dev/sgx/", "/dev/sgx/.", "/dev/sgx/..",
	"/dev/sgx/../sgx_enclave", "/dev/fd/../../../dev/sgx_enclave", "/sys/dev/char/10:125",
	"/sys/class/misc/sgx_enclave/dev", "/sys/devices/virtual/misc/sgx_provision",
};
static const char *missing[] = {
	"/dev/sgx_enclaves", "/dev/xsgx_enclave", "/dev/sgx_", "/dev/sgx/enclav", "/dev/sgx/provisions",
	"/dev/sgx/enclave_", "/sgx_enclave", "/proc/sgx", "/dev/sgx/./x",
};

static void find(const char *path, size_t where)
{
	struct stat is;

	if (stat(path, &is)) {
		printf("%s (%zu): expected success, found \"%s\"\n", path, where, strerror(errno));
		exit(1);
	}
}

int main(void)
{
	char *pages = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *last = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char name[PATH_MAX + 1];
	struct stat is;

	WORKS(munmap(last + 4096, 4096));
	for (size_t i = 0; i < sizeof(found) / sizeof(*found); i++) {
		const size_t size = strlen(found[i]) + 1;

		for (size_t before = 1; before <= size; before++)
			find(strcpy(pages + 4096 - before, found[i]), before);
		find(strcpy(last + 4096 - size, found[i]), 0);
	}
	for (size_t i = 0; i < sizeof(missing) / sizeof(*missing); i++)
		FAILS(ENOENT, stat(missing[i], &is));

	/* Behind many slashes, up to the longest path. */
	for (size_t size = 200; size < PATH_MAX; size += size < 600 ? 1 : 97) {
		memset(name, '/', size);
		memcpy(name + size - strlen(found[0]), found[0], strlen(found[0]) + 1);
		find(name, size);
	}
	memset(name, '/', PATH_MAX);
	name[PATH_MAX] = 0;
	FAILS(ENAMETOOLONG, stat(name, &is));
	return success();
}
