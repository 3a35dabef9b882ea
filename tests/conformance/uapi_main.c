// SPDX-License-Identifier: Apache-2.0
/*
 * Prints ioctl numbers and structures as the kernel's own headers have them, one "NAME VALUE" (hexadecimal) a line.
 * Compiled against the selftest's defines.h, which includes asm/sgx.h and uapi/asm/sgx.h of the same tree.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <sys/types.h>
#include "defines.h"

#define VALUE(name) printf(#name " %lx\n", (unsigned long)(name))
#define SIZE(type) printf("sizeof(" #type ") %zx\n", sizeof(struct type))
#define AT(type, member) printf(#type "." #member " %zx\n", offsetof(struct type, member))

int main(void)
{
	VALUE(SGX_IOC_ENCLAVE_CREATE);
	VALUE(SGX_IOC_ENCLAVE_ADD_PAGES);
	VALUE(SGX_IOC_ENCLAVE_INIT);
	VALUE(SGX_IOC_ENCLAVE_PROVISION);
	VALUE(SGX_IOC_VEPC_REMOVE_ALL);
	VALUE(SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS);
	VALUE(SGX_IOC_ENCLAVE_MODIFY_TYPES);
	VALUE(SGX_IOC_ENCLAVE_REMOVE_PAGES);
	VALUE(SGX_PAGE_MEASURE);

	SIZE(sgx_enclave_create);
	AT(sgx_enclave_create, src);
	SIZE(sgx_enclave_add_pages);
	AT(sgx_enclave_add_pages, src);
	AT(sgx_enclave_add_pages, offset);
	AT(sgx_enclave_add_pages, length);
	AT(sgx_enclave_add_pages, secinfo);
	AT(sgx_enclave_add_pages, flags);
	AT(sgx_enclave_add_pages, count);
	SIZE(sgx_enclave_init);
	AT(sgx_enclave_init, sigstruct);
	SIZE(sgx_enclave_provision);
	AT(sgx_enclave_provision, fd);

	SIZE(sgx_enclave_restrict_permissions);
	AT(sgx_enclave_restrict_permissions, offset);
	AT(sgx_enclave_restrict_permissions, length);
	AT(sgx_enclave_restrict_permissions, permissions);
	AT(sgx_enclave_restrict_permissions, result);
	AT(sgx_enclave_restrict_permissions, count);
	SIZE(sgx_enclave_modify_types);
	AT(sgx_enclave_modify_types, offset);
	AT(sgx_enclave_modify_types, length);
	AT(sgx_enclave_modify_types, page_type);
	AT(sgx_enclave_modify_types, result);
	AT(sgx_enclave_modify_types, count);
	SIZE(sgx_enclave_remove_pages);
	AT(sgx_enclave_remove_pages, offset);
	AT(sgx_enclave_remove_pages, length);
	AT(sgx_enclave_remove_pages, count);

	SIZE(sgx_secs);
	AT(sgx_secs, size);
	AT(sgx_secs, base);
	AT(sgx_secs, ssa_frame_size);
	AT(sgx_secs, miscselect);
	AT(sgx_secs, attributes);
	AT(sgx_secs, xfrm);
	AT(sgx_secs, mrenclave);
	AT(sgx_secs, mrsigner);
	AT(sgx_secs, config_id);
	AT(sgx_secs, isv_prod_id);
	AT(sgx_secs, isv_svn);
	AT(sgx_secs, config_svn);
	SIZE(sgx_tcs);
	AT(sgx_tcs, state);
	AT(sgx_tcs, flags);
	AT(sgx_tcs, ssa_offset);
	AT(sgx_tcs, ssa_index);
	AT(sgx_tcs, nr_ssa_frames);
	AT(sgx_tcs, entry_offset);
	AT(sgx_tcs, exit_addr);
	AT(sgx_tcs, fs_offset);
	AT(sgx_tcs, gs_offset);
	AT(sgx_tcs, fs_limit);
	AT(sgx_tcs, gs_limit);
	SIZE(sgx_pageinfo);
	AT(sgx_pageinfo, addr);
	AT(sgx_pageinfo, contents);
	AT(sgx_pageinfo, metadata);
	AT(sgx_pageinfo, secs);
	SIZE(sgx_secinfo);
	AT(sgx_secinfo, flags);
	SIZE(sgx_sigstruct);
	AT(sgx_sigstruct, header.vendor);
	AT(sgx_sigstruct, header.date);
	AT(sgx_sigstruct, header.swdefined);
	AT(sgx_sigstruct, modulus);
	AT(sgx_sigstruct, exponent);
	AT(sgx_sigstruct, signature);
	AT(sgx_sigstruct, body.miscselect);
	AT(sgx_sigstruct, body.misc_mask);
	AT(sgx_sigstruct, body.attributes);
	AT(sgx_sigstruct, body.xfrm);
	AT(sgx_sigstruct, body.attributes_mask);
	AT(sgx_sigstruct, body.xfrm_mask);
	AT(sgx_sigstruct, body.mrenclave);
	AT(sgx_sigstruct, body.isvprodid);
	AT(sgx_sigstruct, body.isvsvn);
	AT(sgx_sigstruct, q1);
	AT(sgx_sigstruct, q2);
	return 0;
}
