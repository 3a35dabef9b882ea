/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A22: while pages are added, another thread makes private changes of the source and takes them back. What gets in as code
 * of the file is what the file holds: the enclave reads its own pages, and none of those that were let in is another.
 */
#include "policy.h"

#define ROUNDS 60ul
#define FLAGS (SECINFO_REG | SECINFO_R | SECINFO_X)

static volatile int ended;
static unsigned char *source;

static void *writer(void *data)
{
	while (!ended) {
		((volatile unsigned char *)source)[8] ^= 0xff;
		((volatile unsigned char *)source)[8] ^= 0xff;
		madvise(source, PAGE, MADV_DONTNEED);
	}
	return data;
}

int main(int argc, char **argv)
{
	struct enclave e = created(ATTRIBUTE_DEBUG);
	unsigned char *file = file_mapped("pages.bin", PROT_READ, MAP_SHARED), page[PAGE];
	int memory = (int)WORKS(open("/proc/self/mem", O_RDONLY)), added = 0, refusals = 0;
	pthread_t thread;

	(void)argc;
	begin(argv);
	source = file_mapped("pages.bin", RW, MAP_PRIVATE);
	CHECK(pthread_create(&thread, NULL, writer, NULL), 0);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		uint64_t at = AT_LOOSE + i * PAGE;

		if (add_unmeasured(e.fd, source, at, PAGE, FLAGS)) {
			CHECK(errno, EACCES);
			refusals++;
			continue;
		}
		added++;
		WORKS(map(&e, at, PAGE, PROT_READ));
		CHECK(pread(memory, page, PAGE, (off_t)in(&e, at)), PAGE);
		if (policed)
			CHECK(memcmp(page, file, PAGE), 0);
	}
	ended = 1;
	CHECK(pthread_join(thread, NULL), 0);
	CHECK(added + refusals, ROUNDS);
	if (!policed)
		CHECK(refusals, 0);
	printf("added %d, refused %d\n", added, refusals);
	return success();
}
