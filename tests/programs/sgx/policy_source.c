/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A1, A2, A5, A7: pages whose source is not the approved file, but has its bytes. Arguments: the kind of memory; whether
 * ADD_PAGES is refused by the policy, or INIT, or nothing.
 */
#include "policy.h"

#include <sys/ipc.h>
#include <sys/shm.h>

static unsigned char *copied(unsigned char *to)
{
	CHECK(to == MAP_FAILED, 0);
	memcpy(to, file_mapped(CODE, PROT_READ, MAP_PRIVATE), image_length());
	return to;
}

static unsigned char *of_file(int fd, int flags)
{
	WORKS(ftruncate(fd, (off_t)image_length()));
	return copied(mmap(NULL, image_length(), RW, flags, fd, 0));
}

static unsigned char *source(const char *kind)
{
	int id;

	if (!strcmp(kind, "anonymous"))
		return copied(anonymous(image_length()));
	if (!strcmp(kind, "heap"))
		return copied((unsigned char *)(((uintptr_t)sbrk((intptr_t)(image_length() + PAGE)) + PAGE - 1) & -PAGE));
	if (!strcmp(kind, "shared"))
		return copied(mmap(NULL, image_length(), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (!strcmp(kind, "memfd"))
		return of_file((int)WORKS(memfd_create("code.bin", 0)), MAP_SHARED);
	if (!strcmp(kind, "memfd-private"))
		return of_file((int)WORKS(memfd_create("code.bin", 0)), MAP_PRIVATE);
	if (!strcmp(kind, "sysv")) {
		id = (int)WORKS(shmget(IPC_PRIVATE, image_length(), 0600));
		unsigned char *at = copied(shmat(id, NULL, 0));

		WORKS(shmctl(id, IPC_RMID, NULL));
		return at;
	}
	if (!strcmp(kind, "deleted")) {
		int fd = (int)WORKS(open("code.bin.gone", O_RDWR | O_CREAT | O_TRUNC, 0600));
		unsigned char *at = of_file(fd, MAP_SHARED);

		WORKS(unlink("code.bin.gone"));
		return at;
	}
	return file_mapped(kind, PROT_READ, MAP_PRIVATE);
}

int main(int argc, char **argv)
{
	struct enclave e = created(0);
	const unsigned char *image = source(argv[argc - 2]);
	const char *refusal = argv[argc - 1];
	int sooner = !strcmp(refusal, "add"), later = !strcmp(refusal, "init");

	begin(argv);
	if (policed && sooner) {
		FAILS(EACCES, add_image(e.fd, image));
		/* Nothing of it is there; what is approved can still be. */
		WORKS(add_image(e.fd, file_mapped(CODE, PROT_READ, MAP_PRIVATE)));
		WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	} else {
		WORKS(add_image(e.fd, image));
		if (policed && later) {
			FAILS(EACCES, sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
			return success();
		}
		WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	}
	map_all(&e);
	use(&e);
	return success();
}
