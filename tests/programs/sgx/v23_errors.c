/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of 2019 (series v23): errnos that have changed since. */
#include "sgx.h"

struct add_pages_v23 {
	uint64_t src, offset, length, secinfo;
	uint32_t flags, reserved;
};

static int add(int fd, uint64_t offset, uint64_t length, uint64_t flags)
{
	struct secinfo secinfo = { .flags = flags };
	struct add_pages_v23 a = { (uintptr_t)enclave_image, offset, length, (uintptr_t)&secinfo, 1, 0 };

	return ioctl(fd, _IOWR(0xa4, 1, struct add_pages_v23), &a);
}

int main(void)
{
	struct enclave e = { (int)WORKS(open("/dev/sgx/enclave", O_RDWR)), reserve(ENCLAVE_SIZE) };
	struct secs secs = a_secs(e.base, ENCLAVE_SIZE), bad = secs;
	int other = (int)WORKS(open("/dev/sgx/enclave", O_RDWR));
	struct sgx_enclave_add_pages later = { 0 };

	/* No count; holes only as PROT_NONE; MAP_SHARED_VALIDATE has MAP_PRIVATE's bit. */
	FAILS(ENOTTY, ioctl(e.fd, SGX_IOC_ENCLAVE_ADD_PAGES, &later));
	FAILS(EINVAL, mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE, e.fd, 0));
	FAILS(EINVAL, mmap(NULL, PAGE, PROT_NONE, MAP_SHARED_VALIDATE, e.fd, 0));
	/* SECS is validated in software. */
	bad.base += PAGE;
	FAILS(EINVAL, sgx_create(e.fd, &bad));
	bad = secs;
	bad.ssaframesize = 0;
	FAILS(EINVAL, sgx_create(e.fd, &bad));
	bad = secs;
	bad.attributes |= 8;
	FAILS(EINVAL, sgx_create(e.fd, &bad));
	bad = secs;
	bad.rest[99] = 1;
	FAILS(EINVAL, sgx_create(e.fd, &bad));
	WORKS(sgx_create(e.fd, &secs));
	FAILS(EFAULT, sgx_create(e.fd, (void *)8));
	FAILS(EINVAL, sgx_create(e.fd, &secs));
	FAILS(EACCES, map_at(&e, AT_DATA, PAGE, PROT_READ));
	CHECK(map_at(&e, AT_DATA, PAGE, PROT_NONE), in(&e, AT_DATA));
	FAILS(EACCES, mprotect((void *)in(&e, AT_DATA), PAGE, PROT_READ));
	FAILS(EINVAL, add(other, 0, PAGE, SECINFO_REG | SECINFO_R));
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];
		struct secinfo secinfo = { .flags = p->flags };
		struct add_pages_v23 a = { (uintptr_t)enclave_image + p->offset, p->offset, p->length, (uintptr_t)&secinfo, 1, 0 };

		WORKS(ioctl(e.fd, _IOWR(0xa4, 1, struct add_pages_v23), &a));
	}
	FAILS(EEXIST, add(e.fd, 0, PAGE, SECINFO_REG | SECINFO_R));
	FAILS(EINVAL, add(e.fd, 0, 1, SECINFO_REG | SECINFO_R));
	WORKS(mprotect((void *)in(&e, AT_DATA), PAGE, PROT_READ));
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	FAILS(EFAULT, add(e.fd, ENCLAVE_SIZE - PAGE, PAGE, SECINFO_REG | SECINFO_R));
	FAILS(EFAULT, sgx_init(e.fd, enclave_sigstruct));
	return success();
}
