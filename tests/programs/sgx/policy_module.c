/* SPDX-License-Identifier: Apache-2.0 */
/* A29: one hook point refuses, whatever a module does there; before it, all is well. */
#include "policy.h"

int main(int argc, char **argv)
{
	struct enclave e;

	(void)argc;
	begin(argv);
	e = created(0);
	REFUSED(add_image(e.fd, file_mapped(CODE, PROT_READ, MAP_PRIVATE)));
	return success();
}
