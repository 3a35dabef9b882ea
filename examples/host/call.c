/* Enters an enclave through the function that the kernel puts into each process. */
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#include "host.h"

extern void *vdso_enter; /* enter.S */
int enter_enclave(uint64_t rdi, uint64_t rsi, uint64_t rdx, unsigned int function, uint64_t r8, uint64_t r9,
		  struct sgx_enclave_run *run);

/* The vDSO is an ELF file in memory. Its addresses are offsets from where it lies. */
void find_vdso(void)
{
	const uint8_t *image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
	const Elf64_Sym *symbols = NULL;
	const Elf64_Dyn *dynamic = NULL;
	const Elf64_Word *hash = NULL;
	const char *names = NULL;

	if (!image)
		die("vdso", "there is none");
	for (int i = 0; i < header->e_phnum; i++) {
		const Elf64_Phdr *segment = (const Elf64_Phdr *)(image + header->e_phoff) + i;

		if (segment->p_type == PT_DYNAMIC)
			dynamic = (const Elf64_Dyn *)(image + segment->p_offset);
	}
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
		if (dynamic->d_tag == DT_SYMTAB)
			symbols = (const Elf64_Sym *)(image + dynamic->d_un.d_ptr);
		else if (dynamic->d_tag == DT_STRTAB)
			names = (const char *)image + dynamic->d_un.d_ptr;
		else if (dynamic->d_tag == DT_HASH)
			hash = (const Elf64_Word *)(image + dynamic->d_un.d_ptr);
	}
	/* The second word of the hash table is the number of symbols. */
	for (Elf64_Word i = 0; symbols && names && hash && i < hash[1]; i++)
		if (symbols[i].st_shndx != SHN_UNDEF &&
		    !strcmp(names + symbols[i].st_name, "__vdso_sgx_enter_enclave"))
			vdso_enter = (void *)(image + symbols[i].st_value);
	if (!vdso_enter)
		die("vdso", "no __vdso_sgx_enter_enclave: a kernel without SGX, or older than 5.11");
	say("vdso", "__vdso_sgx_enter_enclave is at %p", vdso_enter);
}

/* Called by the vDSO's function after each exit; what it returns is done next, or is the function's result. */
static int left(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct sgx_enclave_run *run)
{
	struct call *call = (struct call *)run->user_data;

	(void)rdx, (void)rsp, (void)r8, (void)r9;
	if (run->function != EEXIT)
		return call->exception ? call->exception(call, run) : 0;
	call->status = (uint64_t)rdi;
	call->value = (uint64_t)rsi;
	return 0;
}

struct sgx_enclave_run enter(uint64_t tcs, unsigned int function, struct call *call, uint64_t rdi, uint64_t rsi,
			     uint64_t rdx, uint64_t r8)
{
	struct sgx_enclave_run run = { .tcs = tcs, .user_handler = (uintptr_t)left, .user_data = (uintptr_t)call };
	int result = enter_enclave(rdi, rsi, rdx, function, r8, 0, &run);

	if (result)
		die("enter", "%s", strerror(-result));
	return run;
}

struct sgx_enclave_run call(const struct enclave *enclave, struct call *call, uint64_t operation, uint64_t rsi,
			    uint64_t rdx, uint64_t r8)
{
	return enter(enclave->tcs, EENTER, call, operation, rsi, rdx, r8);
}
