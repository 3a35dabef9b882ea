/* SPDX-License-Identifier: Apache-2.0 */
/* While one ioctl runs, any other of the same enclave is EBUSY, even an unknown one; other enclaves are not. */
#include "sgx.h"

#define LENGTH (16ul << 20)

static int fd;
static volatile int done;

static void *add(void *memory)
{
	int result;

	/* The main thread's may be in the way of ours. */
	do
		result = sgx_add(fd, memory, 0, LENGTH, SECINFO_REG | SECINFO_R);
	while (result && errno == EBUSY);
	WORKS(result);
	done = 1;
	return NULL;
}

int main(void)
{
	struct secs secs = a_secs(1ul << 32, 32ul << 20);
	void *memory = mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int other = sgx_open(), busy = 0;
	pthread_t thread;

	fd = sgx_open();
	WORKS(sgx_create(fd, &secs));
	CHECK(pthread_create(&thread, NULL, add, memory), 0);
	while (!done) {
		if (ioctl(fd, _IO(0xa4, 99), 0) == -1 && errno == EBUSY)
			busy++;
		else
			CHECK(errno, ENOTTY);
		FAILS(ENOTTY, ioctl(other, _IO(0xa4, 99), 0));
		milliseconds(1);
	}
	CHECK(pthread_join(thread, NULL), 0);
	CHECK(busy > 0, 1);
	FAILS(ENOTTY, ioctl(fd, _IO(0xa4, 99), 0));
	FAILS(EINVAL, sgx_create(fd, &secs));
	return success();
}
