/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that reach memory from outside, where ranges are an enclave's in part, or in several pieces. */
#include "sgx.h"
#include <sys/uio.h>

static struct enclave e;
static unsigned char *beside;
static char text[32], other[32];
/* A bad pointer, which the compiler must not know to be one. */
static void *volatile nowhere = (void *)8;

/* /proc/self/mem: what is beside the enclave and the enclave, as one. */
static void by_file(int memory)
{
	const off_t at = (off_t)e.base - 4;
	struct iovec two[] = { { text, 3 }, { other, 5 } }, bad = { nowhere, 8 };
	struct iovec *volatile many = two;

	CHECK(pread(memory, text, 8, at), 8);
	CHECK(memcmp(text, "side", 4), 0);
	CHECK(pwrite(memory, "SIDE\x90", 5, at), 5);
	CHECK(memcmp(beside + PAGE - 4, "SIDE", 4), 0);
	CHECK(preadv(memory, two, 2, at), 8);
	CHECK(memcmp(text, "SID", 3), 0);
	CHECK(memcmp(other, "E\x90", 2), 0);
	CHECK(lseek(memory, at, SEEK_SET), at);
	CHECK(preadv2(memory, two, 2, -1, 0), 8);
	CHECK(lseek(memory, 0, SEEK_CUR), at + 8);
	CHECK(readv(memory, two, 1), 3);
	CHECK(lseek(memory, 0, SEEK_CUR), at + 11);
	memcpy(text, "abc", 3);
	CHECK(pwritev(memory, two, 1, (off_t)in(&e, AT_DATA)), 3);
	CHECK(peek(&e, AT_DATA), 0x636261);
	CHECK(pread(memory, text, 0, at), 0);
	FAILS(EFAULT, pread(memory, nowhere, 8, at));
	FAILS(EFAULT, pwrite(memory, nowhere, 8, at));
	FAILS(EFAULT, preadv(memory, &bad, 1, at));
	FAILS(EFAULT, preadv(memory, (struct iovec *)nowhere, 1, at));
	FAILS(EINVAL, preadv(memory, many, 1025, at));
	/* To a hole, as far as there is something. */
	CHECK(pread(memory, text, 8, (off_t)in(&e, AT_CONSTANT + PAGE) - 4), 4);
	FAILS(EIO, pread(memory, text, 8, (off_t)in(&e, AT_CONSTANT + PAGE)));
}

/* process_vm_readv and process_vm_writev: nothing of the enclave, and what is before it. */
static void by_call(void)
{
	struct iovec here = { text, sizeof(text) };
	struct iovec pieces[] = { { beside + PAGE - 4, 4 }, { (void *)e.base, 4 }, { beside, 4 } };
	struct iovec across = { beside + PAGE - 4, 8 };

	memset(text, 0, sizeof(text));
	CHECK(process_vm_readv(getpid(), &here, 1, pieces, 3, 0), 4);
	CHECK(memcmp(text, "SIDE\0", 5), 0);
	CHECK(process_vm_readv(getpid(), &here, 1, &across, 1, 0), 4);
	FAILS(EFAULT, process_vm_readv(getpid(), &here, 1, pieces + 1, 2, 0));
	memcpy(text, "sidexxxx", 8);
	CHECK(process_vm_writev(getpid(), &here, 1, &across, 1, 0), 4);
	CHECK(memcmp(beside + PAGE - 4, "side", 4), 0);
	FAILS(EFAULT, process_vm_writev(getpid(), &here, 1, pieces + 1, 1, 0));
	pieces[1].iov_len = 0;
	CHECK(process_vm_readv(getpid(), &here, 1, pieces, 3, 0), 8);
	FAILS(EINVAL, process_vm_readv(getpid(), &here, 1, pieces, 1, 1));
	FAILS(EFAULT, process_vm_readv(getpid(), &here, 1, (struct iovec *)nowhere, 1, 0));
}

int main(void)
{
	unsigned char first;
	int memory;

	e = initialised(ATTRIBUTE_DEBUG);
	map_all(&e);
	CHECK(map_at(&e, AT_CONSTANT + PAGE, PAGE, PROT_READ), in(&e, AT_CONSTANT + PAGE));
	beside = mmap((void *)(e.base - PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(beside, e.base - PAGE);
	memcpy(beside + PAGE - 4, "side", 4);
	/* Relative to its folder, as some tools open it. */
	memory = openat((int)WORKS(open("/proc/self", O_PATH)), "mem", O_RDWR);
	CHECK(pread(memory, &first, 1, (off_t)e.base), 1);
	by_file(memory);
	CHECK(pwrite(memory, &first, 1, (off_t)e.base), 1);
	by_call();
	/* Another file that its owner reads and writes, and a pipe, are what they are. */
	CHECK(pwrite((int)WORKS(memfd_create("x", 0)), "abc", 3, 0), 3);
	return success();
}
