/* SPDX-License-Identifier: Apache-2.0 */
/* open(2) of a device with each flag: success or which errno, and what F_GETFL says. Compared with another device. */
#include "sgx.h"

#define FLAG(name) { #name, name }
static const struct {
	const char *name;
	int value;
} flags[] = { { "none", 0 }, FLAG(O_CLOEXEC), FLAG(O_NONBLOCK), FLAG(O_NOCTTY), FLAG(O_NOFOLLOW), FLAG(O_SYNC),
	      FLAG(O_DSYNC), FLAG(O_APPEND), FLAG(O_TRUNC), FLAG(O_CREAT), FLAG(O_CREAT | O_EXCL), FLAG(O_EXCL),
	      FLAG(O_DIRECTORY), FLAG(O_TMPFILE), FLAG(O_PATH), FLAG(O_NOATIME), FLAG(O_DIRECT), FLAG(O_ASYNC),
	      FLAG(O_PATH | O_DIRECTORY), FLAG(O_CREAT | O_DIRECTORY) };

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : SGX_ENCLAVE;

	for (int mode = O_RDONLY; mode <= O_ACCMODE; mode++)
		for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
			int fd = open(path, mode | flags[i].value, 0600);

			printf("%d %s: ", mode, flags[i].name);
			if (fd < 0)
				printf("%s\n", strerror(errno));
			else
				printf("%#x %d\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
			close(fd);
		}
	return success();
}
