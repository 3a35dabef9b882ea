/* SPDX-License-Identifier: Apache-2.0 */
/* A signal in the middle of ADD_PAGES: success with a short count; while it is blocked, all is added first. */
#include "sgx.h"

#define LENGTH (24ul << 20)

static volatile int signals;
static int fd, shorter;
static char *memory;

static void alarmed(int number)
{
	(void)number;
	signals++;
}

/* Everything, in as many calls as it takes. */
static void add(uint64_t offset)
{
	struct secinfo secinfo = { .flags = SECINFO_REG | SECINFO_R };
	struct itimerval often = { { 0, 20000 }, { 0, 20000 } }, never = { { 0, 0 }, { 0, 0 } };

	WORKS(setitimer(ITIMER_REAL, &often, NULL));
	shorter = 0;
	for (uint64_t done = 0; done < LENGTH;) {
		struct sgx_enclave_add_pages add = { (uintptr_t)memory + done, offset + done, LENGTH - done,
						     (uintptr_t)&secinfo, 1, 0 };

		WORKS(ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add));
		CHECK(add.count % PAGE, 0);
		CHECK(add.count > 0, 1);
		shorter += add.count < add.length;
		done += add.count;
	}
	WORKS(setitimer(ITIMER_REAL, &never, NULL));
}

int main(void)
{
	struct secs secs = a_secs(1ul << 32, 64ul << 20);
	struct sigaction action = { .sa_handler = alarmed, .sa_flags = SA_RESTART };
	sigset_t set;

	memory = (char *)WORKS(mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	fd = sgx_open();
	WORKS(sgx_create(fd, &secs));
	WORKS(sigaction(SIGALRM, &action, NULL));
	add(0);
	CHECK(shorter > 0, 1);
	CHECK(signals > 0, 1);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	WORKS(sigprocmask(SIG_BLOCK, &set, NULL));
	signals = 0;
	add(LENGTH);
	CHECK(shorter, 0);
	CHECK(signals, 0);
	WORKS(sigprocmask(SIG_UNBLOCK, &set, NULL));
	CHECK(signals, 1);
	FAILS(EBUSY, sgx_add(fd, memory, 2 * LENGTH - PAGE, PAGE, SECINFO_REG | SECINFO_R));
	return success();
}
