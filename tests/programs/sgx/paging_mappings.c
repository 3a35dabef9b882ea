/* SPDX-License-Identifier: Apache-2.0 */
/* mmap, munmap, mprotect and the ioctls of SGX2 on pages that are out of the EPC. */
#include "paging.h"

static struct enclave e;

static void *page(uint64_t i)
{
	return (void *)in(&e, AT_PAGE(i));
}

/* A write is refused: by the mapping, whether or not a page is there. */
static void refused(uint64_t i)
{
	CHECK(ENTER(&e, 1, OP_WRITE, page(i), 5, 0), 0);
	CHECK(run.function == EEXIT, 0);
	CHECK(run.exception_vector, 14);
	CHECK(run.exception_error_code & ~1, 6);
	CHECK(run.exception_addr, in(&e, AT_PAGE(i)));
}

int main(void)
{
	struct sgx_enclave_restrict_permissions restricted;
	struct sgx_enclave_modify_types modified;
	struct sgx_enclave_remove_pages removed;

	e = pressed(0);
	/* Taken away and mapped again, in pieces. */
	WORKS(munmap(page(0), 16 * PAGE));
	CHECK(mmap(page(0), 8 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, e.fd, 0), page(0));
	CHECK(mmap(page(8), 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, e.fd, 0), page(8));
	CHECK(peek(&e, AT_PAGE(3)), 1003);
	CHECK(peek(&e, AT_PAGE(12)), 1012);
	press(&e);
	refused(4);
	WORKS(mprotect(page(0), 8 * PAGE, PROT_READ | PROT_WRITE));
	RESUMES(&e, 1);
	CHECK(peek(&e, AT_PAGE(4)), 5);
	poke(&e, AT_PAGE(4), 1004);
	/* Mapped over what is mapped. */
	press(&e);
	CHECK(mmap(page(0), 32 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, e.fd, 0), page(0));
	all_as_they_were(&e);
	press(&e);
	WORKS(mprotect(page(20), 4 * PAGE, PROT_NONE));
	press(&e);
	CHECK(ENTER(&e, 2, OP_READ, page(21), &(uint64_t){ 0 }, 0), 0);
	CHECK(run.exception_vector, 14);
	WORKS(mprotect(page(20), 4 * PAGE, PROT_READ | PROT_WRITE));
	RESUMES(&e, 2);
	all_as_they_were(&e);
	/* Fewer permissions, more again; another type; and gone. */
	press(&e);
	WORKS(sgx_restrict(&e, AT_PAGE(30), 4 * PAGE, SECINFO_R, &restricted));
	CHECK(restricted.count, 4 * PAGE);
	press(&e);
	for (uint64_t i = 30; i < 34; i++)
		CHECK(ACCEPT(&e, 0, AT_PAGE(i), SECINFO_REG | SECINFO_R | SECINFO_PR), 0);
	press(&e);
	CHECK(peek(&e, AT_PAGE(31)), 1031);
	EXTEND(&e, 0, AT_PAGE(31), SECINFO_RW);
	press(&e);
	poke(&e, AT_PAGE(31), 1031);
	all_as_they_were(&e);
	press(&e);
	WORKS(sgx_modify(&e, AT_PAGE(40), 8 * PAGE, SECINFO_TRIM, &modified));
	CHECK(modified.count, 8 * PAGE);
	press(&e);
	for (uint64_t i = 40; i < 48; i++)
		CHECK(ACCEPT(&e, 0, AT_PAGE(i), SECINFO_TRIM | SECINFO_MODIFIED), 0);
	press(&e);
	WORKS(sgx_remove(&e, AT_PAGE(40), 8 * PAGE, &removed));
	CHECK(removed.count, 8 * PAGE);
	press(&e);
	grow(&e, AT_PAGE(40), 8);
	press(&e);
	for (uint64_t i = 40; i < 48; i++) {
		CHECK(peek(&e, AT_PAGE(i)), 0);
		poke(&e, AT_PAGE(i), 1000 + i);
	}
	press(&e);
	all_as_they_were(&e);
	return success();
}
