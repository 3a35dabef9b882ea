/* What the parts of the host program share: an enclave's file, the enclave in memory, and a call. */
#ifndef HOST_H
#define HOST_H

#if __has_include(<asm/sgx.h>)
#include <asm/sgx.h>
#else
#error "no <asm/sgx.h>: install the headers of Linux 5.11 or newer (Debian and Ubuntu: apt-get install linux-libc-dev)"
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096ul
#define SIGSTRUCT_SIZE 1808

enum { EENTER = 2, ERESUME = 3, EEXIT = 4 };

/* SECINFO.FLAGS: the lowest bits are the permissions, read, write, execute, as in PROT_*. */
#define SECINFO_PERMISSIONS 7ul
#define SECINFO_TYPE 0xff00ul
#define SECINFO_TCS 0x100ul

struct page {
	uint64_t offset, flags; /* from the enclave's first byte; SECINFO.FLAGS */
	bool measured;
};

/* What a .sgxs file says. */
struct file {
	uint64_t size;
	uint32_t ssaframesize;
	uint8_t *bytes; /* as the enclave will be, "size" of them */
	struct page *pages;
	size_t count;
};

struct enclave {
	int fd;
	uint64_t base, size, tcs;
};

/* How a call ended, and what to do about exceptions. */
struct call {
	uint64_t status, value; /* RDI and RSI at EEXIT */
	/* Told of an exception: ERESUME to go on, 0 to give the call up. */
	int (*exception)(struct call *call, const struct sgx_enclave_run *run);
	uint64_t page; /* for it */
};

/* sgxs.c */
struct file read_sgxs(const char *path);
void read_whole(const char *path, void *buffer, size_t size);

/* load.c */
struct enclave load(const struct file *file, const uint8_t *sigstruct, bool debug);

/* call.c */
void find_vdso(void);
struct sgx_enclave_run call(const struct enclave *enclave, struct call *call, uint64_t operation, uint64_t rsi,
			    uint64_t rdx, uint64_t r8);
struct sgx_enclave_run enter(uint64_t tcs, unsigned int function, struct call *call, uint64_t rdi, uint64_t rsi,
			     uint64_t rdx, uint64_t r8);

/* host.c */
void say(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));
void die(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

#endif
