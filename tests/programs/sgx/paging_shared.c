/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave sent to another process, and neither's pages fit into the EPC: what one writes the other finds. */
#include "message.h"

#include "paging.h"

#define TURNS 4

static void other(int socket)
{
	uint64_t base;
	struct enclave e;
	char byte;

	CHECK(read(socket, &base, sizeof(base)), sizeof(base));
	e = (struct enclave){ receive_fd(socket), base };
	map_all(&e);
	CHECK(map_at(&e, AT_HOLES, PAGES * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	for (int turn = 0; turn < TURNS; turn++) {
		CHECK(read(socket, &byte, 1), 1);
		for (uint64_t i = 0; i < PAGES; i++) {
			uint64_t value = 0;

			CLEAN(&e, 1, OP_READ, in(&e, AT_PAGE(i)), &value, 0);
			CHECK(value, 1000 + i + 2 * turn);
			CLEAN(&e, 1, OP_WRITE, in(&e, AT_PAGE(i)), value + 1, 0);
		}
		CHECK(write(socket, "", 1), 1);
	}
	_exit(0);
}

int main(void)
{
	struct enclave e;
	int pair[2], status;
	pid_t child;
	char byte;

	WORKS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	child = (pid_t)WORKS(fork());
	if (!child)
		other(pair[1]);
	close(pair[1]);
	e = pressed(0);
	CHECK(write(pair[0], &e.base, sizeof(e.base)), sizeof(e.base));
	send_fd(pair[0], e.fd);
	for (int turn = 0; turn < TURNS; turn++) {
		press(&e);
		CHECK(write(pair[0], "", 1), 1);
		press(&e); /* meanwhile */
		CHECK(read(pair[0], &byte, 1), 1);
		for (uint64_t i = 0; i < PAGES; i++) {
			CHECK(peek(&e, AT_PAGE(i)), 1001 + i + 2 * (uint64_t)turn);
			poke(&e, AT_PAGE(i), 1002 + i + 2 * (uint64_t)turn);
		}
	}
	CHECK(waitpid(child, &status, 0), child);
	CHECK(status, 0);
	return success();
}
