/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A33: the enclave's code comes out of a file of FUSE (tests/make/fuse.py), which may give other bytes at each read. Those that
 * were copied decide: they are what the enclave has, and what MRENCLAVE is made of. The last argument is the file's name.
 */
#include "policy.h"

/* A page as the file has it for whoever opens it now. */
static void read_again(const char *path, unsigned char *page)
{
	int fd = (int)WORKS(open(path, O_RDONLY));

	CHECK(pread(fd, page, PAGE, 0), PAGE);
	WORKS(close(fd));
}

/* What the enclave has at its beginning, as a debugger sees it; it is kept for the test, too. */
static void read_back(const struct enclave *e, unsigned char *page)
{
	int memory = (int)WORKS(open("/proc/self/mem", O_RDONLY)), kept;

	WORKS(map(e, 0, PAGE, PROT_READ));
	CHECK(pread(memory, page, PAGE, (off_t)in(e, 0)), PAGE);
	WORKS(close(memory));
	kept = (int)WORKS(open("copied.bin", O_WRONLY | O_CREAT | O_TRUNC, 0600));
	CHECK(write(kept, page, PAGE), PAGE);
	WORKS(close(kept));
}

int main(int argc, char **argv)
{
	struct enclave e = created(ATTRIBUTE_DEBUG);
	const struct piece *code = &enclave_pieces[0];
	const unsigned char *image = file_mapped(CODE, PROT_READ, MAP_PRIVATE), *source;
	unsigned char inside[PAGE], now[PAGE];
	int steady = !strcmp(argv[argc - 1], "steady.bin");
	char path[40];

	begin(argv);
	snprintf(path, sizeof(path), "fuse/%s", argv[argc - 1]);
	source = file_mapped(path, PROT_READ, MAP_PRIVATE);
	CHECK(code->offset, 0);
	CHECK(code->length, PAGE);
	REFUSED(sgx_add(e.fd, source, 0, PAGE, code->flags));
	if (policed) {
		/* Nothing of it is there: the approved file's page can be. */
		WORKS(sgx_add(e.fd, image, 0, PAGE, code->flags));
		steady = 1;
	} else {
		read_back(&e, inside);
		/* Whoever opens the file makes the kernel forget its pages, so a mapping of this one can have other bytes by now. */
		if (strcmp(argv[argc - 1], "each.bin"))
			CHECK(memcmp(inside, source, PAGE), 0);
		read_again(path, now);
		CHECK(memcmp(inside, now, PAGE) == 0, steady);
	}
	for (const struct piece *p = code + 1; p < code + enclave_piece_count; p++)
		WORKS(sgx_add(e.fd, image + p->offset, p->offset, p->length, p->flags));
	if (!steady) {
		FAILS(EPERM, sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
		return success();
	}
	WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&e);
	use(&e);
	return success();
}
