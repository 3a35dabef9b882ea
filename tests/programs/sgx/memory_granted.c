/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A heap that grows page after page may do so by grants (native/supervised/grant.c). Nobody can tell: not by what is
 * behind the last page, another SECINFO, a page twice, an ioctl, a fork, other threads, or memory mapped over it.
 */
#include "sgx.h"

#define AT(n) (AT_HOLES + (n) * PAGE)
#define PENDING (SECINFO_RW | SECINFO_PENDING)
#define EACH 150ul

static struct enclave e;
static uint64_t used; /* pages of the heap so far */

static void grow(int thread, uint64_t first, uint64_t pages)
{
	uint64_t refused = 1;

	CLEAN(&e, thread, OP_GROW, in(&e, AT(first)), pages, &refused);
	CHECK(refused, 0);
}

/* A run long enough for grants, which ends inside of one; the index behind it. */
static uint64_t more(void)
{
	grow(0, used, 37);
	used += 37;
	poke(&e, AT(used - 1) + 16, used);
	CHECK(peek(&e, AT(used - 1) + 16), used);
	return used;
}

static void behind_the_last(void)
{
	const uint64_t next = more();
	uint64_t value;

	EXCEPTION(&e, 0, OP_READ, in(&e, AT(next + 1)) + 16, &value, 0, 14, 0x8005, in(&e, AT(next + 1)));
	CHECK(ACCEPT(&e, 1, AT(next + 1), PENDING), 0);
	RESUMES(&e, 0);
	CHECK(value, 0);
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT(next)) + 16, 7, 0, 14, 0x8007, in(&e, AT(next)));
	CHECK(ACCEPT(&e, 1, AT(next), PENDING), 0);
	RESUMES(&e, 0);
	CHECK(peek(&e, AT(next) + 16), 7);
	CHECK(ACCEPT(&e, 0, AT(next + 1), PENDING), ATTRIBUTES_MISMATCH);
	used += 2;
}

static void another_secinfo(void)
{
	const uint64_t next = more();
	struct leaf leaf = { .flags = SECINFO_RW, .page = in(&e, AT(next)) };

	CHECK(ACCEPT(&e, 0, AT(next - 1), PENDING), ATTRIBUTES_MISMATCH);
	EXCEPTION(&e, 0, OP_LEAF, &leaf, EACCEPT, 0, 13, 0, 0);
	CLEAN(&e, 0, OP_FRAME_ADD, FRAME_RIP, 3, 0);
	RESUMES(&e, 0);
	grow(0, next, 20);
	CHECK(ACCEPT(&e, 0, AT(next + 20), PENDING | SECINFO_X), ATTRIBUTES_MISMATCH);
	CHECK(ACCEPT(&e, 0, AT(next + 20), PENDING), 0);
	used += 21;
}

static void ioctls(void)
{
	struct sgx_enclave_restrict_permissions restricted;
	struct sgx_enclave_modify_types modified;
	struct sgx_enclave_remove_pages removed;
	const uint64_t next = more();

	/* As far as there are pages. */
	FAILS(EFAULT, sgx_restrict(&e, AT(next - 2), 4 * PAGE, PROT_READ, &restricted));
	CHECK(restricted.count, 2 * PAGE);
	CHECK(ACCEPT(&e, 0, AT(next - 2), SECINFO_REG | SECINFO_R | SECINFO_PR), 0);
	CHECK(ACCEPT(&e, 0, AT(next - 1), SECINFO_REG | SECINFO_R | SECINFO_PR), 0);
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT(next - 1)), 1, 0, 14, 0x8007, in(&e, AT(next - 1)));
	EXTEND(&e, 1, AT(next - 1), SECINFO_RW);
	RESUMES(&e, 0);
	grow(0, next, 9);
	used += 9;
	/* Trimmed and removed, the holes are holes again. */
	WORKS(sgx_modify(&e, AT(next), 9 * PAGE, SECINFO_TRIM, &modified));
	for (uint64_t i = 0; i < 9; i++)
		CHECK(ACCEPT(&e, 0, AT(next + i), SECINFO_TRIM | SECINFO_MODIFIED), 0);
	WORKS(sgx_remove(&e, AT(next), 9 * PAGE, &removed));
	CHECK(removed.count, 9 * PAGE);
	FAILS(EFAULT, sgx_modify(&e, AT(next), PAGE, SECINFO_TRIM, &modified));
	grow(0, next, 9);
	CHECK(peek(&e, AT(next + 8)), 0);
}

static void in_the_child(void *data)
{
	const uint64_t next = *(const uint64_t *)data;

	CHECK(peek(&e, AT(next - 1) + 16), next);
	grow(0, next, 30);
	poke(&e, AT(next + 29), 5);
}

static void forks(void)
{
	uint64_t next = more();

	CHECK(in_child(in_the_child, &next), 0);
	CHECK(peek(&e, AT(next + 29)), 5);
	used += 30;
	more();
}

static void mapped_over(void)
{
	const uint64_t next = more();
	volatile uint64_t *memory = mmap((void *)in(&e, AT(next)), 40 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
					 -1, 0);

	CHECK((uintptr_t)memory, in(&e, AT(next)));
	CHECK(*memory, 0);
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT(next)), 1, 0, 14, 0x6, in(&e, AT(next)));
	CHECK(*memory, 0);
	WORKS(munmap((void *)in(&e, AT(next)), 40 * PAGE));
	CHECK(map_at(&e, AT(next), 40 * PAGE, PROT_READ | PROT_WRITE), in(&e, AT(next)));
	RESUME(&e, 0);
	grow(1, next + 1, 39);
	CHECK(ACCEPT(&e, 2, AT(next), PENDING), 0);
	RESUMES(&e, 0);
	CHECK(peek(&e, AT(next)), 1);
	used += 40;
}

static void *grower(void *data)
{
	const uint64_t number = (uintptr_t)data, first = used + number * EACH;

	for (uint64_t done = 0; done < EACH; done += 25)
		grow((int)number, first + done, 25);
	return NULL;
}

/* Threads that grow in places of their own, and one that touches what is not there yet. */
static void threads(void)
{
	pthread_t started[3];

	for (uintptr_t i = 0; i < 3; i++)
		CHECK(pthread_create(started + i, NULL, grower, (void *)i), 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(started[i], NULL), 0);
	for (uint64_t i = 0; i < 3 * EACH; i++)
		poke(&e, AT(used + i) + 8, i);
	for (uint64_t i = 0; i < 3 * EACH; i++)
		CHECK(peek(&e, AT(used + i) + 8), i);
	used += 3 * EACH;
}

int main(void)
{
	e = loaded();
	CHECK(map_at(&e, AT_HOLES, 1024 * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	behind_the_last();
	another_secinfo();
	ioctls();
	forks();
	mapped_over();
	threads();
	more();
	return success();
}
