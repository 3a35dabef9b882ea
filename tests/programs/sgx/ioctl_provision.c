/* SPDX-License-Identifier: Apache-2.0 */
/* PROVISION: the attribute is EACCES at INIT without it and works with it; which descriptors it takes, and when. */
#include "sgx.h"

int main(void)
{
	struct enclave e = created(ATTRIBUTE_PROVISION), lost = { sgx_open(), reserve(ENCLAVE_SIZE) };
	struct secs secs = a_secs(lost.base, ENCLAVE_SIZE);
	int fd = (int)WORKS(open(SGX_PROVISION, O_RDONLY)), only = (int)WORKS(open(SGX_PROVISION, O_PATH));

	add_all(e.fd);
	FAILS(EACCES, sgx_init(e.fd, enclave_sigstruct_provision));
	FAILS(EFAULT, ioctl(e.fd, SGX_IOC_ENCLAVE_PROVISION, 8));
	FAILS(EINVAL, sgx_provision(e.fd, ~0ul));
	FAILS(EINVAL, sgx_provision(e.fd, 99));
	FAILS(EINVAL, sgx_provision(e.fd, (uint64_t)only));
	FAILS(EINVAL, sgx_provision(e.fd, (uint64_t)e.fd));
	FAILS(EINVAL, sgx_provision(e.fd, (uint64_t)lost.fd));
	FAILS(EINVAL, sgx_provision(e.fd, (uint64_t)open("/dev/null", O_RDWR)));
	FAILS(EACCES, sgx_init(e.fd, enclave_sigstruct_provision));
	/* Only 32 bits of it count. */
	WORKS(sgx_provision(e.fd, (uint64_t)fd | 1ul << 40));
	WORKS(sgx_provision(lost.fd, (uint64_t)dup(fd)));
	WORKS(close(fd));
	FAILS(EINVAL, sgx_provision(e.fd, (uint64_t)fd));
	FAILS(EPERM, sgx_init(e.fd, enclave_sigstruct));
	WORKS(sgx_init(e.fd, enclave_sigstruct_provision));
	/* Before CREATE it is accepted, and lost. */
	secs.attributes |= ATTRIBUTE_PROVISION;
	WORKS(sgx_create(lost.fd, &secs));
	add_all(lost.fd);
	FAILS(EACCES, sgx_init(lost.fd, enclave_sigstruct_provision));
	/* After INIT it has no effect, and does no harm. */
	WORKS(sgx_provision(e.fd, (uint64_t)open(SGX_PROVISION, O_WRONLY)));
	return success();
}
