/* SPDX-License-Identifier: Apache-2.0 */
/* ioctls that the driver does not know: ENOTTY on both nodes, in each state; the kernel's own work. */
#include "sgx.h"
#include <termios.h>

static void unknown(int fd)
{
	struct termios settings;

	FAILS(ENOTTY, ioctl(fd, _IO(0xa4, 99), 0));
	FAILS(ENOTTY, ioctl(fd, _IOW(0xa4, 0, uint32_t), 0));
	FAILS(ENOTTY, ioctl(fd, 0xa400, 0));
	FAILS(ENOTTY, ioctl(fd, SGX_IOC_VEPC_REMOVE_ALL, 0));
	FAILS(ENOTTY, ioctl(fd, 0, 0));
	FAILS(ENOTTY, ioctl(fd, 0xffffffff, 0));
	FAILS(ENOTTY, tcgetattr(fd, &settings));
	CHECK(isatty(fd), 0);
	WORKS(ioctl(fd, FIOCLEX));
	FAILS(EFAULT, ioctl(fd, FIONBIO, 8));
}

int main(void)
{
	int fd = sgx_open(), provision = (int)WORKS(open(SGX_PROVISION, O_RDWR));
	struct secs secs = a_secs(reserve(0x10000), 0x10000);

	unknown(fd);
	unknown(provision);
	FAILS(ENOTTY, sgx_create(provision, &secs));
	FAILS(ENOTTY, sgx_init(provision, enclave_sigstruct));
	FAILS(ENOTTY, sgx_provision(provision, (uint64_t)provision));
	WORKS(sgx_create(fd, &secs));
	unknown(fd);
	FAILS(ENOTTY, sgx_create((int)WORKS(open("/dev/null", O_RDWR)), &secs));
	/* Only 32 bits of the code count. */
	FAILS(EINVAL, syscall(SYS_ioctl, fd, SGX_IOC_ENCLAVE_CREATE | 1ul << 32, 8));
	return success();
}
