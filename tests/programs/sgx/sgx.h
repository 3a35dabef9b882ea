/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the small programs share: checks, the driver's structures, an enclave, ways into it, what a signal handler saw.
 *
 * The enclave is built and signed by tests/make/sgx_program.py, which writes enclave.h and links it into each program.
 * Each program has one subject, and prints EXIT-SUCCESS when all its checks held.
 */
#ifndef SGX_H
#define SGX_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#if defined(__has_include) && __has_include(<asm/sgx.h>)
#include <asm/sgx.h>
#endif
#include "enclave.h"
#include "ops.h"

/* Where the machine's kernel headers are too old. */
#ifndef SGX_IOC_ENCLAVE_PROVISION
#define SGX_PAGE_MEASURE 1
struct sgx_enclave_create {
	uint64_t src;
};
struct sgx_enclave_add_pages {
	uint64_t src, offset, length, secinfo, flags, count;
};
struct sgx_enclave_init {
	uint64_t sigstruct;
};
struct sgx_enclave_provision {
	uint64_t fd;
};
struct sgx_enclave_run {
	uint64_t tcs;
	uint32_t function;
	uint16_t exception_vector, exception_error_code;
	uint64_t exception_addr, user_handler, user_data;
	uint8_t reserved[216];
};
#define SGX_IOC_ENCLAVE_CREATE _IOW(0xa4, 0, struct sgx_enclave_create)
#define SGX_IOC_ENCLAVE_ADD_PAGES _IOWR(0xa4, 1, struct sgx_enclave_add_pages)
#define SGX_IOC_ENCLAVE_INIT _IOW(0xa4, 2, struct sgx_enclave_init)
#define SGX_IOC_ENCLAVE_PROVISION _IOW(0xa4, 3, struct sgx_enclave_provision)
#endif
#ifndef SGX_IOC_VEPC_REMOVE_ALL
#define SGX_IOC_VEPC_REMOVE_ALL _IO(0xa4, 4)
#endif
#ifndef SGX_IOC_ENCLAVE_REMOVE_PAGES
struct sgx_enclave_restrict_permissions {
	uint64_t offset, length, permissions, result, count;
};
struct sgx_enclave_modify_types {
	uint64_t offset, length, page_type, result, count;
};
struct sgx_enclave_remove_pages {
	uint64_t offset, length, count;
};
#define SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS _IOWR(0xa4, 5, struct sgx_enclave_restrict_permissions)
#define SGX_IOC_ENCLAVE_MODIFY_TYPES _IOWR(0xa4, 6, struct sgx_enclave_modify_types)
#define SGX_IOC_ENCLAVE_REMOVE_PAGES _IOWR(0xa4, 7, struct sgx_enclave_remove_pages)
#endif

#define SGX_ENCLAVE "/dev/sgx_enclave"
#define SGX_PROVISION "/dev/sgx_provision"
#define PAGE 4096ul
#define EENTER 2
#define ERESUME 3
#define EEXIT 4
#define EACCEPT 5
#define EMODPE 6
#define EACCEPTCOPY 7

/* SECINFO.FLAGS: permissions, and page types. */
#define SECINFO_R 1ul
#define SECINFO_W 2ul
#define SECINFO_X 4ul
#define SECINFO_PENDING 8ul
#define SECINFO_MODIFIED 0x10ul
#define SECINFO_PR 0x20ul
#define SECINFO_TCS 0x100ul
#define SECINFO_REG 0x200ul
#define SECINFO_TRIM 0x400ul
#define SECINFO_RW (SECINFO_REG | SECINFO_R | SECINFO_W)

#define ATTRIBUTE_DEBUG 2ul
#define ATTRIBUTE_MODE64 4ul
#define ATTRIBUTE_PROVISION 0x10ul

struct secs {
	uint64_t size, base;
	uint32_t ssaframesize, miscselect;
	uint8_t reserved[24];
	uint64_t attributes, xfrm;
	uint8_t rest[4032];
};

struct secinfo {
	uint64_t flags;
	uint8_t reserved[56];
} __attribute__((aligned(64)));

/* ---- checks ---- */

static inline long long check(const char *file, int line, const char *what, long long found, long long expected)
{
	if (found != expected) {
		printf("%s:%d: %s: expected %lld (%#llx), found %lld (%#llx)\n", file, line, what, expected, expected, found,
		       found);
		exit(1);
	}
	return found;
}

static inline void check_fails(const char *file, int line, const char *what, long long found, int number)
{
	int error = errno;

	if (found != -1)
		printf("%s:%d: %s: expected -1 (%s), found %#llx\n", file, line, what, strerror(number), found);
	else if (error != number)
		printf("%s:%d: %s: expected \"%s\", found \"%s\"\n", file, line, what, strerror(number), strerror(error));
	if (found != -1 || error != number)
		exit(1);
}

static inline long long check_works(const char *file, int line, const char *what, long long found)
{
	if (found == -1) {
		printf("%s:%d: %s: expected success, found \"%s\"\n", file, line, what, strerror(errno));
		exit(1);
	}
	return found;
}

/* The value is that one; the call returns -1 with that errno; the call does not return -1. */
#define CHECK(found, expected) check(__FILE__, __LINE__, #found, (long long)(found), (long long)(expected))
#define FAILS(number, call) check_fails(__FILE__, __LINE__, #call, (long long)(call), number)
#define WORKS(call) check_works(__FILE__, __LINE__, #call, (long long)(call))

/* For programs that are compared with a device of the real kernel: prints success or the errno. */
#define SAY(call) say(#call, (long long)(call))

static inline void say(const char *what, long long result)
{
	printf("%s: %s\n", what, result == -1 ? strerror(errno) : "success");
}

static inline int success(void)
{
	puts("EXIT-SUCCESS");
	return 0;
}

/* What this machine has not got, so that nothing could be tried. */
static inline void skip(const char *why)
{
	printf("EXIT-SKIP %s\n", why);
	exit(0);
}

/* Runs in a child; its wait status. */
static inline int in_child(void (*run)(void *), void *data)
{
	int status = -1;
	pid_t child;

	fflush(stdout);
	child = (pid_t)WORKS(fork());
	if (!child) {
		run(data);
		fflush(stdout);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0), child);
	return status;
}

/* ---- an enclave, step by step or whole ---- */

struct enclave {
	int fd;
	uint64_t base;
};

static inline int sgx_open(void)
{
	return (int)WORKS(open(SGX_ENCLAVE, O_RDWR));
}

/* Addresses for an enclave, naturally aligned, with something inaccessible around them. */
static inline uint64_t reserve(uint64_t size)
{
	uint64_t start = (uint64_t)WORKS(
		mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));

	return (start + 2 * size - 1) & ~(size - 1);
}

static inline struct secs a_secs(uint64_t base, uint64_t size)
{
	struct secs secs;

	memset(&secs, 0, sizeof(secs));
	secs.size = size;
	secs.base = base;
	secs.ssaframesize = 1;
	secs.attributes = ATTRIBUTE_MODE64;
	secs.xfrm = 3;
	return secs;
}

static inline int sgx_create(int fd, const struct secs *secs)
{
	struct sgx_enclave_create create = { (uintptr_t)secs };

	return ioctl(fd, SGX_IOC_ENCLAVE_CREATE, &create);
}

/* All of a range, which may take more than one call. */
static inline int sgx_add(int fd, const void *src, uint64_t offset, uint64_t length, uint64_t flags)
{
	struct secinfo secinfo;
	struct sgx_enclave_add_pages add;

	memset(&secinfo, 0, sizeof(secinfo));
	secinfo.flags = flags;
	memset(&add, 0, sizeof(add));
	add.secinfo = (uintptr_t)&secinfo;
	add.flags = SGX_PAGE_MEASURE;
	for (uint64_t done = 0; done < length; done += add.count) {
		add.src = (uintptr_t)src + done;
		add.offset = offset + done;
		add.length = length - done;
		if (ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add))
			return -1;
	}
	return 0;
}

static inline int sgx_init(int fd, const void *sigstruct)
{
	struct sgx_enclave_init init = { (uintptr_t)sigstruct };

	return ioctl(fd, SGX_IOC_ENCLAVE_INIT, &init);
}

static inline int sgx_provision(int fd, uint64_t provision_fd)
{
	struct sgx_enclave_provision provision = { provision_fd };

	return ioctl(fd, SGX_IOC_ENCLAVE_PROVISION, &provision);
}

/* CREATE with these attributes besides those that all have. */
static inline struct enclave created(uint64_t attributes)
{
	struct enclave e = { sgx_open(), reserve(ENCLAVE_SIZE) };
	struct secs secs = a_secs(e.base, ENCLAVE_SIZE);

	secs.attributes |= attributes;
	WORKS(sgx_create(e.fd, &secs));
	return e;
}

/* All that the SIGSTRUCT vouches for. */
static inline void add_all(int fd)
{
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];

		WORKS(sgx_add(fd, enclave_image + p->offset, p->offset, p->length, p->flags));
	}
}

static inline struct enclave built(uint64_t attributes)
{
	struct enclave e = created(attributes);

	add_all(e.fd);
	return e;
}

static inline struct enclave initialised(uint64_t attributes)
{
	struct enclave e = built(attributes);

	WORKS(sgx_init(e.fd, enclave_sigstruct));
	return e;
}

static inline void *map_at(const struct enclave *e, uint64_t offset, uint64_t length, int prot)
{
	return mmap((void *)(e->base + offset), length, prot, MAP_SHARED | MAP_FIXED, e->fd, 0);
}

static inline void map_all(const struct enclave *e)
{
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];
		int prot = p->flags & SECINFO_TCS ? PROT_READ | PROT_WRITE : (int)(p->flags & 7);

		CHECK(map_at(e, p->offset, p->length, prot), e->base + p->offset);
	}
}

/* An enclave that can be entered. */
static inline struct enclave loaded(void)
{
	struct enclave e = initialised(0);

	map_all(&e);
	return e;
}

/* The address of a part of it; the TCS of a thread. */
static inline uint64_t in(const struct enclave *e, uint64_t offset)
{
	return e->base + offset;
}

static inline uint64_t tcs_of(const struct enclave *e, int thread)
{
	return e->base + enclave_tcs[thread];
}

/* ---- entering ---- */

typedef int (*vdso_enter_t)(uint64_t rdi, uint64_t rsi, uint64_t rdx, unsigned int function, uint64_t r8, uint64_t r9,
			    struct sgx_enclave_run *run);

#ifdef __cplusplus
extern "C" {
#endif
extern vdso_enter_t vdso_enter;
int vdso_call(uint64_t rdi, uint64_t rsi, uint64_t rdx, unsigned int function, uint64_t r8, uint64_t r9,
	      struct sgx_enclave_run *run);
int raw_call(uint64_t rdi, uint64_t rsi, uint64_t rdx, unsigned int leaf, uint64_t r8, uint64_t r9, uint64_t tcs);
extern const char raw_enclu[], raw_abandon[];
#ifdef __cplusplus
}
#endif

/* As programs look it up that know no libc: DT_SYMTAB, DT_STRTAB, DT_HASH. */
static inline void *vdso_symbol(const char *name)
{
	const char *base = (const char *)getauxval(AT_SYSINFO_EHDR), *names = NULL;
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(base + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	const Elf64_Sym *symbols = NULL;
	const Elf64_Word *hash = NULL;

	for (int i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_DYNAMIC)
			dynamic = (const Elf64_Dyn *)(base + segment[i].p_offset);
	for (; dynamic && dynamic->d_tag; dynamic++) {
		const char *at = base + dynamic->d_un.d_ptr;

		if (dynamic->d_tag == DT_SYMTAB)
			symbols = (const Elf64_Sym *)at;
		else if (dynamic->d_tag == DT_STRTAB)
			names = at;
		else if (dynamic->d_tag == DT_HASH)
			hash = (const Elf64_Word *)at;
	}
	for (Elf64_Word i = 0; hash && symbols && names && i < hash[1]; i++)
		if (symbols[i].st_shndx && !strcmp(names + symbols[i].st_name, name))
			return (void *)(base + symbols[i].st_value);
	return NULL;
}

static inline void find_vdso(void)
{
	if (!vdso_enter)
		vdso_enter = (vdso_enter_t)(uintptr_t)vdso_symbol("__vdso_sgx_enter_enclave");
	if (!vdso_enter) {
		puts("no __vdso_sgx_enter_enclave");
		exit(1);
	}
}

/* What the last call of this thread left. */
static __thread struct sgx_enclave_run run __attribute__((unused));

/*
 * Never inlined: ERESUME goes on with the stack of the EENTER before, so it must come from the same depth. Whoever does both
 * does them in one function.
 */
static __attribute__((noinline, unused)) int enter(const struct enclave *e, int thread, unsigned int function, uint64_t op,
						   uint64_t a, uint64_t b, uint64_t c)
{
	find_vdso();
	run.tcs = tcs_of(e, thread);
	return vdso_call(op, a, b, function, c, 0, &run);
}

static inline void check_clean(const char *file, int line, const char *op, int result)
{
	check(file, line, op, result, 0);
	if (run.function != EEXIT)
		printf("vector %d, code %#x, address %#llx\n", run.exception_vector, run.exception_error_code,
		       (unsigned long long)run.exception_addr);
	check(file, line, op, run.function, EEXIT);
}

static inline void check_exception(const char *file, int line, const char *op, int result, int vector, int code,
				   uint64_t address)
{
	check(file, line, op, result, 0);
	check(file, line, "run.exception_vector", run.function == EEXIT ? -1 : run.exception_vector, vector);
	check(file, line, "run.exception_error_code", run.exception_error_code, code);
	check(file, line, "run.exception_addr", (long long)run.exception_addr, (long long)address);
}

#define ENTER(e, thread, op, a, b, c) enter(e, thread, EENTER, op, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c))
#define RESUME(e, thread) enter(e, thread, ERESUME, 0, 0, 0, 0)
/* Through the vDSO: in and out again; in, and an exception; the same for going on where an exception was. */
#define CLEAN(e, thread, op, a, b, c) check_clean(__FILE__, __LINE__, #op, ENTER(e, thread, op, a, b, c))
#define RESUMES(e, thread) check_clean(__FILE__, __LINE__, "ERESUME", RESUME(e, thread))
#define EXCEPTION(e, thread, op, a, b, c, vector, code, address) \
	check_exception(__FILE__, __LINE__, #op, ENTER(e, thread, op, a, b, c), vector, code, (uint64_t)(address))
/* By our own ENCLU: the signals that come are the program's. 4: it has left by EEXIT. */
#define RAW(e, thread, op, a, b, c) \
	raw_call(op, (uint64_t)(a), (uint64_t)(b), EENTER, (uint64_t)(c), 0, tcs_of(e, thread))

/* 8 bytes of the enclave's memory, by the enclave itself. */
static inline uint64_t peek(const struct enclave *e, uint64_t offset)
{
	uint64_t value = 0;

	CLEAN(e, 0, OP_READ, in(e, offset), &value, 0);
	return value;
}

static inline void poke(const struct enclave *e, uint64_t offset, uint64_t value)
{
	CLEAN(e, 0, OP_WRITE, in(e, offset), value, 0);
}

/* ---- leaves of SGX2 ---- */

/* For OP_LEAF: SECINFO.FLAGS; RCX; RDX; where SECINFO is, if not where the enclave has one; RAX and RFLAGS behind it. */
struct leaf {
	uint64_t flags, page, source, secinfo, rax, rflags;
};

/* SGX errors of the leaves. */
#define NOT_TRACKED 11
#define ATTRIBUTES_MISMATCH 19
#define NOT_MODIFIABLE 20
/* CF, PF, AF, ZF, SF and OF. */
#define STATUS_FLAGS 0x8d5ul
#define ZERO_FLAG 0x40ul

/* A leaf that ends, by a thread; what RAX is. RAX alone tells, with the flags that go with it. */
static __attribute__((unused)) uint64_t leaf_of(const struct enclave *e, int thread, unsigned int function, uint64_t offset,
						uint64_t flags, uint64_t source)
{
	struct leaf leaf = { flags, in(e, offset), source, 0, 0, 0 };

	CLEAN(e, thread, OP_LEAF, &leaf, function, 0);
	if (function == EMODPE)
		CHECK(leaf.rflags & STATUS_FLAGS, STATUS_FLAGS);
	else
		CHECK(leaf.rflags & STATUS_FLAGS, leaf.rax ? ZERO_FLAG : 0);
	return leaf.rax;
}

#define ACCEPT(e, thread, offset, flags) leaf_of(e, thread, EACCEPT, offset, flags, 0)
#define EXTEND(e, thread, offset, flags) CHECK(leaf_of(e, thread, EMODPE, offset, flags, 0), EMODPE)

/* The ioctls; what they gave is in the last argument. */
static inline int sgx_restrict(const struct enclave *e, uint64_t offset, uint64_t length, uint64_t permissions,
			       struct sgx_enclave_restrict_permissions *told)
{
	*told = (struct sgx_enclave_restrict_permissions){ offset, length, permissions, 0, 0 };
	return ioctl(e->fd, SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, told);
}

static inline int sgx_modify(const struct enclave *e, uint64_t offset, uint64_t length, uint64_t flags,
			     struct sgx_enclave_modify_types *told)
{
	*told = (struct sgx_enclave_modify_types){ offset, length, flags >> 8, 0, 0 };
	return ioctl(e->fd, SGX_IOC_ENCLAVE_MODIFY_TYPES, told);
}

static inline int sgx_remove(const struct enclave *e, uint64_t offset, uint64_t length,
			     struct sgx_enclave_remove_pages *told)
{
	*told = (struct sgx_enclave_remove_pages){ offset, length, 0 };
	return ioctl(e->fd, SGX_IOC_ENCLAVE_REMOVE_PAGES, told);
}

/* ---- signals ---- */

/* What a handler saw; note() writes it. */
static volatile struct {
	int count, number, code;
	uint64_t address, rip, rax, rbx, rcx, rsp, r8, r15, trapno, error, cr2;
} seen __attribute__((unused));

static inline void note(int number, siginfo_t *info, void *context)
{
	const greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;

	seen.count++;
	seen.number = number;
	seen.code = info->si_code;
	seen.address = (uintptr_t)info->si_addr;
	seen.rip = (uint64_t)r[REG_RIP];
	seen.rax = (uint64_t)r[REG_RAX];
	seen.rbx = (uint64_t)r[REG_RBX];
	seen.rcx = (uint64_t)r[REG_RCX];
	seen.rsp = (uint64_t)r[REG_RSP];
	seen.r8 = (uint64_t)r[REG_R8];
	seen.r15 = (uint64_t)r[REG_R15];
	seen.trapno = (uint64_t)r[REG_TRAPNO];
	seen.error = (uint64_t)r[REG_ERR];
	seen.cr2 = (uint64_t)r[REG_CR2];
}

static inline void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO | flags;
	WORKS(sigaction(number, &action, NULL));
}

/* In a handler: go on outside the enclave, where raw_call() returns 0. */
static inline void abandon(void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)raw_abandon;
}

static inline void milliseconds(long count)
{
	struct timespec rest = { count / 1000, count % 1000 * 1000000 };

	while (nanosleep(&rest, &rest))
		;
}

static inline void wait_for(volatile int *flag)
{
	while (!*flag)
		milliseconds(1);
}

#endif
