/* SPDX-License-Identifier: Apache-2.0 */
/* F_SETFL and F_SETFD on an open device: what can be changed, who shares it. Compared with a device. */
#include "sgx.h"

int main(int argc, char **argv)
{
	int fd = (int)WORKS(open(argc > 1 ? argv[1] : SGX_ENCLAVE, O_RDWR | O_CLOEXEC)), copy = (int)WORKS(dup(fd));

	printf("%#x %d %d\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), fcntl(copy, F_GETFD));
	SAY(fcntl(fd, F_SETFL, O_NONBLOCK));
	printf("%#x %#x\n", fcntl(fd, F_GETFL), fcntl(copy, F_GETFL));
	SAY(fcntl(copy, F_SETFL, O_APPEND | O_WRONLY));
	printf("%#x %#x\n", fcntl(fd, F_GETFL), fcntl(copy, F_GETFL));
	SAY(fcntl(fd, F_SETFL, O_DIRECT));
	SAY(fcntl(fd, F_SETFL, O_NOATIME));
	printf("%#x\n", fcntl(fd, F_GETFL));
	SAY(fcntl(fd, F_SETFL, 0));
	SAY(fcntl(fd, F_SETFD, 0));
	SAY(fcntl(copy, F_SETFD, FD_CLOEXEC));
	printf("%#x %d %d\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), fcntl(copy, F_GETFD));
	SAY(ioctl(fd, FIOCLEX));
	SAY(ioctl(copy, FIONCLEX));
	printf("%d %d\n", fcntl(fd, F_GETFD), fcntl(copy, F_GETFD));
	SAY(ioctl(fd, FIONBIO, &(int){ 1 }));
	printf("%#x\n", fcntl(copy, F_GETFL));
	return success();
}
