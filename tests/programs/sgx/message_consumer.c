/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One program builds an enclave, another one that never opened the device gets its descriptor, maps and enters it. What
 * the producer gave to the pages is the most that either may map. v23_consumer.c is the same by the 2019 interface.
 */
#include "message.h"

#ifndef OLD
#define OLD 0
#endif

#define MAGIC 0x1122334455667788ul
#define SOCKET 3

static int pair[2];

struct add_v23 {
	uint64_t src, offset, length, secinfo, flags;
};

static struct enclave build_v23(void)
{
	struct enclave e = { (int)WORKS(open("/dev/sgx/enclave", O_RDWR)), reserve(ENCLAVE_SIZE) };
	struct secs secs = a_secs(e.base, ENCLAVE_SIZE);

	WORKS(sgx_create(e.fd, &secs));
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];
		struct secinfo secinfo = { .flags = p->flags };
		struct add_v23 add = { (uintptr_t)(enclave_image + p->offset), p->offset, p->length,
				       (uintptr_t)&secinfo, SGX_PAGE_MEASURE };

		while (add.length)
			WORKS(ioctl(e.fd, _IOWR(0xa4, 1, struct add_v23), &add));
	}
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	return e;
}

/* Neither more than the pages have, nor by a detour over less. */
static void check_ceilings(const struct enclave *e)
{
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];
		int most = p->flags & SECINFO_TCS ? 3 : (int)(p->flags & 7);

		for (int prot = 1; prot < 8; prot++) {
			if (!(prot & ~most))
				continue;
			FAILS(EACCES, (intptr_t)map_at(e, p->offset, p->length, prot));
			CHECK(map_at(e, p->offset, p->length, PROT_NONE), e->base + p->offset);
			FAILS(EACCES, mprotect((void *)(e->base + p->offset), p->length, prot));
		}
	}
}

static void do_op(const struct enclave *e, uint64_t op, uint64_t a, uint64_t b)
{
	if (OLD)
		CHECK(raw_call(op, a, b, EENTER, 0, 0, tcs_of(e, 0)), EEXIT);
	else
		check_clean(__FILE__, __LINE__, "enter", enter(e, 0, EENTER, op, a, b, 0));
}

static int consume(void)
{
	struct enclave e;

	e.fd = receive_fd(SOCKET);
	CHECK(read(SOCKET, &e.base, sizeof(e.base)), sizeof(e.base));
	check_ceilings(&e);
	map_all(&e);
	WORKS(close(e.fd));
	do_op(&e, OP_WRITE, in(&e, AT_DATA), MAGIC);
	CHECK(write(SOCKET, "x", 1), 1);
	CHECK(read(SOCKET, &(char){ 0 }, 1), 1);
	do_op(&e, OP_WRITE, in(&e, AT_DATA), MAGIC + 1);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t found = 0;
	struct enclave e;
	int status;
	pid_t child;

	if (argc > 1)
		return consume();
	WORKS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	child = (pid_t)WORKS(fork());
	if (!child) {
		WORKS(dup2(pair[1], SOCKET) == SOCKET ? fcntl(SOCKET, F_SETFD, 0) : -1);
		execl("/proc/self/exe", argv[0], "consume", NULL);
		_exit(127);
	}
	WORKS(dup2(pair[0], SOCKET));
	WORKS(pair[1] == SOCKET ? 0 : close(pair[1]));
	e = OLD ? build_v23() : initialised(0);
	check_ceilings(&e);
	send_fd(SOCKET, e.fd);
	CHECK(write(SOCKET, &e.base, sizeof(e.base)), sizeof(e.base));
	CHECK(read(SOCKET, &(char){ 0 }, 1), 1);
	map_all(&e);
	do_op(&e, OP_READ, in(&e, AT_DATA), (uintptr_t)&found);
	CHECK(found, MAGIC);
	CHECK(write(SOCKET, "y", 1), 1);
	CHECK(waitpid(child, &status, 0), child);
	CHECK(status, 0);
	do_op(&e, OP_READ, in(&e, AT_DATA), (uintptr_t)&found);
	CHECK(found, MAGIC + 1);
	return success();
}
