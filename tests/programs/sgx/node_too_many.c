/* SPDX-License-Identifier: Apache-2.0 */
/* No descriptor is free: EMFILE, as for any file; one is closed, and it works. Compared with a device. */
#include "sgx.h"
#include <sys/resource.h>

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : SGX_ENCLAVE;
	struct rlimit limit = { 10, 10 };
	int fd, last = -1;

	fd = (int)WORKS(open(path, O_RDWR));
	WORKS(setrlimit(RLIMIT_NOFILE, &limit));
	while ((fd = open(path, O_RDWR)) >= 0)
		last = fd;
	printf("%d %s\n", last, strerror(errno));
	SAY(open("/dev/null", O_RDONLY));
	SAY(open("/dev/nothing", O_RDONLY));
	SAY(open(path, O_RDWR | O_DIRECTORY));
	SAY(dup(last));
	WORKS(close(last));
	printf("%d\n", open(path, O_RDWR));
	SAY(open(path, O_RDWR));
	return success();
}
