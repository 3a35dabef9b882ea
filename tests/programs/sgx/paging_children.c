/* SPDX-License-Identifier: Apache-2.0 */
/* Children of a fork have pages that are out, as their parent has; both at once, and children of children. */
#include "paging.h"

#include <spawn.h>

static struct enclave e;

static void look(void *data)
{
	int generation = (int)(intptr_t)data;

	for (int round = 0; round < 3; round++)
		for (uint64_t i = 0; i < PAGES; i++) {
			uint64_t value = 0;

			CLEAN(&e, generation, OP_READ, in(&e, AT_PAGE(i)), &value, 0);
			CHECK(value, 1000 + i);
		}
	if (generation < 3)
		CHECK(in_child(look, (void *)(intptr_t)(generation + 1)), 0);
}

int main(void)
{
	pid_t children[3], spawned;
	char *words[] = { "true", NULL }, *none[] = { NULL };
	int status;

	e = pressed(0);
	look((void *)0);
	press(&e);
	for (int i = 0; i < 3; i++) {
		fflush(stdout);
		children[i] = (pid_t)WORKS(fork());
		if (!children[i]) {
			look((void *)3);
			_exit(0);
		}
		press(&e);
		CHECK(posix_spawn(&spawned, "/bin/true", NULL, NULL, words, none), 0);
		CHECK(waitpid(spawned, &status, 0), spawned);
		/* They have one TCS between them. */
		CHECK(waitpid(children[i], &status, 0), children[i]);
		CHECK(status, 0);
	}
	children[0] = (pid_t)WORKS(fork());
	if (!children[0])
		for (;;)
			CLEAN(&e, 1, OP_READ, in(&e, AT_PAGE(rand() % PAGES)), &(uint64_t){ 0 }, 0);
	for (int round = 0; round < 5; round++)
		press(&e);
	/* Killed, perhaps as it waits for a page. */
	WORKS(kill(children[0], SIGKILL));
	CHECK(waitpid(children[0], &status, 0), children[0]);
	CHECK(status, SIGKILL);
	all_as_they_were(&e);
	return success();
}
