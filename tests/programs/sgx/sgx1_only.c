/* SPDX-License-Identifier: Apache-2.0 */
/* A processor without SGX2: CPUID says so, the ioctls are ENODEV in each state, holes stay holes, leaves are #GP. */
#include "sgx.h"
#include <cpuid.h>

static struct enclave e;

static void refused(int fd)
{
	FAILS(ENODEV, ioctl(fd, SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, 8));
	FAILS(ENODEV, ioctl(fd, SGX_IOC_ENCLAVE_MODIFY_TYPES, 8));
	FAILS(ENODEV, ioctl(fd, SGX_IOC_ENCLAVE_REMOVE_PAGES, 8));
}

static void leave(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	abandon(context);
}

int main(void)
{
	struct leaf leaf = { .flags = SECINFO_RW | SECINFO_PENDING };
	struct enclave building;
	unsigned int a = 0, b = 0, c = 0, d = 0;

	CHECK(__get_cpuid_count(0x12, 0, &a, &b, &c, &d), 1);
	CHECK(a & 3, 1);
	refused(sgx_open());
	building = created(0);
	refused(building.fd);
	e = loaded();
	refused(e.fd);
	CHECK(map_at(&e, AT_HOLES, PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT_HOLES), 1, 0, 14, 0x6, in(&e, AT_HOLES));
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_error_code, 0x6);
	leaf.page = in(&e, AT_HOLES);
	for (unsigned int function = EACCEPT; function <= EACCEPTCOPY; function++) {
		EXCEPTION(&e, 1, OP_LEAF, &leaf, function, 0, 13, 0, 0);
		CLEAN(&e, 1, OP_FRAME_ADD, FRAME_RIP, 3, 0);
		RESUMES(&e, 1);
	}
	handle(SIGBUS, leave, 0);
	CHECK(RAW(&e, 2, OP_READ, in(&e, AT_HOLES), &leaf, 0), 0);
	CHECK(seen.count, 1);
	CHECK(seen.code, BUS_ADRERR);
	CHECK(seen.address, in(&e, AT_HOLES));
	CHECK(seen.error, 0x4);
	return success();
}
