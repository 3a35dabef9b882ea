/* SPDX-License-Identifier: Apache-2.0 */
/* Grants are not seen by a fork's child, by what is mapped over pages, or by other threads. */
#include "granted.h"

#define EACH 150ul

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
	begin();
	forks();
	mapped_over();
	threads();
	more();
	return success();
}
