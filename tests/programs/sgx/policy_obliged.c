/* SPDX-License-Identifier: Apache-2.0 */
/* A31, A28: code that is not vouched for yet may not be mapped executable; INIT is refused; then all is as it was. */
#include "policy.h"

int main(int argc, char **argv)
{
	struct enclave e = created(0);
	unsigned char *copy = anonymous(image_length());

	(void)argc;
	begin(argv);
	memcpy(copy, file_mapped(CODE, PROT_READ, MAP_PRIVATE), image_length());
	WORKS(add_image(e.fd, copy));
	REFUSED(map(&e, 0, PAGE, RX));
	REFUSED(map(&e, 0, PAGE, PROT_EXEC));
	WORKS(map(&e, 0, PAGE, PROT_READ));
	REFUSED(protect(&e, 0, PAGE, RX));
	REFUSED(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	if (policed) {
		FAILS(EACCES, sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
		FAILS(EACCES, protect(&e, 0, PAGE, RX));
		/* More can be added, and INIT is judged afresh: what was added is in the measurement now. */
		WORKS(sgx_add(e.fd, file_mapped("zeros.bin", PROT_READ, MAP_PRIVATE), AT_LOOSE, PAGE, SECINFO_RW));
		FAILS(EPERM, sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	}
	return success();
}
