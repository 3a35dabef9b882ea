/* SPDX-License-Identifier: Apache-2.0 */
/* Which advice an enclave's mapping takes, and which it refuses. */
#include "sgx.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

int main(void)
{
	static const int refused[] = { MADV_DONTNEED, MADV_FREE,	   MADV_COLD,		MADV_PAGEOUT,
				       MADV_DOFORK,   MADV_DODUMP,	   MADV_WIPEONFORK,	MADV_POPULATE_READ,
				       MADV_POPULATE_WRITE, MADV_DONTNEED_LOCKED, 999 };
	struct enclave e = loaded();
	char *data = (char *)in(&e, AT_DATA);

	poke(&e, AT_DATA, 99);
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
		FAILS(EINVAL, madvise(data, PAGE, refused[i]));
	FAILS(ENODEV, madvise(data, PAGE, MADV_REMOVE));
	FAILS(EINVAL, madvise(data + 1, PAGE, MADV_DONTDUMP));
	WORKS(madvise(data, PAGE, MADV_DONTDUMP));
	WORKS(madvise(data, PAGE, MADV_DONTFORK));
	WORKS(madvise(data, PAGE, MADV_NORMAL));
	WORKS(madvise(data, PAGE, MADV_RANDOM));
	WORKS(madvise(data, 0, MADV_DONTDUMP));
	CHECK(peek(&e, AT_DATA), 99);
	/* Its neighbours take what they took before. */
	char *other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	other[0] = 1;
	WORKS(madvise(other, PAGE, MADV_DONTNEED));
	CHECK(other[0], 0);
	return success();
}
