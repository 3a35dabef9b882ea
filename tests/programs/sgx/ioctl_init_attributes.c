/* SPDX-License-Identifier: Apache-2.0 */
/* INIT: attributes that are not allowed, and what no SIGSTRUCT may require; in their order. */
#include "sgx.h"

static int init(uint64_t attributes, size_t offset, uint64_t bits, size_t mask, uint64_t mask_bits)
{
	unsigned char bytes[1808];
	struct enclave e = created(attributes);
	uint64_t word;
	int result;

	memcpy(bytes, enclave_sigstruct, sizeof(bytes));
	memcpy(&word, bytes + offset, 8);
	word |= bits;
	memcpy(bytes + offset, &word, 8);
	memcpy(&word, bytes + mask, 8);
	word = (word | bits) & mask_bits;
	memcpy(bytes + mask, &word, 8);
	result = sgx_init(e.fd, bytes);
	word = (uint64_t)errno;
	close(e.fd);
	errno = (int)word;
	return result;
}

#define ATTRIBUTES 928
#define ATTRIBUTEMASK 944
#define XFRM 936
#define XFRMMASK 952
#define MISC 900

int main(void)
{
	static const int never[] = { 3, 6, 8, 9, 11, 31, 32, 63 };

	/* SECS.ATTRIBUTES: PROVISIONKEY without leave, EINITTOKEN_KEY. */
	FAILS(EACCES, init(0x10, ATTRIBUTES, 0, ATTRIBUTEMASK, ~0ul));
	FAILS(EACCES, init(0x20, ATTRIBUTES, 0, ATTRIBUTEMASK, ~0ul));
	/* It comes before what SIGSTRUCT says. */
	FAILS(EACCES, init(0x20, ATTRIBUTES, 8, ATTRIBUTEMASK, ~0ul));
	for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++) {
		FAILS(EINVAL, init(0, ATTRIBUTES, 1ul << never[i], ATTRIBUTEMASK, ~0ul));
		/* Where the mask leaves it out, the driver does not mind: EINIT does. */
		FAILS(EPERM, init(0, ATTRIBUTES, 1ul << never[i], ATTRIBUTEMASK, ~(1ul << never[i])));
	}
	FAILS(EINVAL, init(0, XFRM, 1ul << 62, XFRMMASK, ~0ul));
	FAILS(EPERM, init(0, XFRM, 1ul << 62, XFRMMASK, ~(1ul << 62)));
	FAILS(EINVAL, init(0, MISC, 1ul << 31, MISC, ~0ul));
	FAILS(EPERM, init(0, MISC, 1ul << 31, MISC, ~(0xfffffffful << 32)));
	return success();
}
