/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave's descriptor sent to another process (SCM_RIGHTS), and fetched from one (pidfd_getfd), is the same enclave. */
#include "message.h"

static int pair[2];
static struct secs secs;

int main(void)
{
	pid_t child;
	int fd, status;

	secs = a_secs(reserve(0x10000), 0x10000);
	WORKS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	child = (pid_t)WORKS(fork());
	if (!child) {
		/* It has never opened the device itself. */
		fd = receive_fd(pair[1]);
		FAILS(EINVAL, sgx_create(fd, &secs));
		WORKS(sgx_add(fd, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
		CHECK(dup2(fd, 70), 70);
		CHECK(write(pair[1], "x", 1), 1);
		pause();
	}
	fd = sgx_open();
	WORKS(sgx_create(fd, &secs));
	send_fd(pair[0], fd);
	CHECK(read(pair[0], &(char){ 0 }, 1), 1);
	FAILS(EBUSY, sgx_add(fd, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
	WORKS(close(fd));
	fd = (int)WORKS(syscall(SYS_pidfd_getfd, (int)WORKS(syscall(SYS_pidfd_open, child, 0)), 70, 0));
	FAILS(EBUSY, sgx_add(fd, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
	WORKS(kill(child, SIGKILL));
	CHECK(waitpid(child, &status, 0), child);
	FAILS(EINVAL, sgx_create(fd, &secs));
	return success();
}
