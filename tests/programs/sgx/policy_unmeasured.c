/* SPDX-License-Identifier: Apache-2.0 */
/* A20, A21: an executable page, and a TCS, that MRENCLAVE does not vouch for. The last argument: "add" or "init" refuses. */
#include "policy.h"

int main(int argc, char **argv)
{
	int sooner = !strcmp(argv[argc - 1], "add"), entry = has(argv, "entry");
	const struct piece *last = NULL;
	struct enclave e = created(0);
	unsigned char *image = file_mapped(CODE, PROT_READ, MAP_PRIVATE);

	begin(argv);
	for (uint64_t i = 0; i < enclave_piece_count; i++)
		if (entry && enclave_pieces[i].flags & SECINFO_TCS)
			last = &enclave_pieces[i];
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];

		if (p != last) {
			WORKS(sgx_add(e.fd, image + p->offset, p->offset, p->length, p->flags));
			continue;
		}
		if (sooner && policed) {
			FAILS(EACCES, add_unmeasured(e.fd, image + p->offset, p->offset, p->length, p->flags));
			return success();
		}
		WORKS(add_unmeasured(e.fd, image + p->offset, p->offset, p->length, p->flags));
	}
	if (!entry) {
		int added = add_unmeasured(e.fd, file_mapped("zeros.bin", PROT_READ, MAP_PRIVATE), AT_LOOSE, LOOSE_LENGTH,
					   SECINFO_REG | SECINFO_R | SECINFO_X);

		if (sooner && policed) {
			FAILS(EACCES, added);
			return success();
		}
		WORKS(added);
	}
	REFUSED(sgx_init(e.fd, file_mapped(entry ? "entry.sig" : "unmeasured.sig", PROT_READ, MAP_PRIVATE)));
	return success();
}
