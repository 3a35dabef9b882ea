/* SPDX-License-Identifier: Apache-2.0 */
/* A29: one hook point refuses, whatever a module does there; before it, all is well. */
#include "policy.h"

int main(int argc, char **argv)
{
	const struct piece *p = &enclave_pieces[0];
	unsigned char *image = file_mapped(CODE, PROT_READ, MAP_PRIVATE);
	struct enclave e;

	(void)argc;
	begin(argv);
	e = created(0);
	REFUSED(sgx_add(e.fd, image + p->offset, p->offset, p->length, p->flags));
	/* What was only told of is done: nothing else can be put there. */
	if (!policed)
		FAILS(EBUSY, sgx_add(e.fd, image + p->offset, p->offset, p->length, p->flags));
	return success();
}
