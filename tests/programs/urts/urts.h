/* SPDX-License-Identifier: Apache-2.0 */
/* A small runtime for the untrusted side, as SDKs bring one: loads an enclave, enters it, handles exceptions. */
#ifndef URTS_H
#define URTS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "protocol.h"

#define PAGE 4096ul
#define THREADS 4
#define LEAF_EENTER 2
#define LEAF_ERESUME 3
#define LEAF_EEXIT 4

#define fail(...)                                                                      \
	do {                                                                           \
		fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                        \
		fprintf(stderr, __VA_ARGS__);                                          \
		fputc('\n', stderr);                                                   \
		abort();                                                               \
	} while (0)

/* What Python wrote, followed by the SIGSTRUCT and the runs. */
struct enclave_file {
	uint64_t magic, size, ssaframesize, miscselect, attributes, xfrm, runs;
	uint64_t data, constant, closed; /* offsets that the test is about */
	uint8_t sigstruct[1808];
};
#define FILE_MAGIC 0x5354525549574148ul

/* Followed by "pages" pages. */
struct enclave_run {
	uint64_t offset, pages, secinfo_flags;
};

struct enclave {
	uint64_t base, size, data, constant, closed;
	uint64_t tcs[THREADS];
	bool debug;
};

/* What is in the registers behind an EEXIT. */
struct left {
	uint64_t rdi, rsi, rdx;
};

struct call {
	uint64_t op, a, b, result;
};
_Static_assert(offsetof(struct call, op) == CALL_OP && offsetof(struct call, a) == CALL_A &&
	       offsetof(struct call, b) == CALL_B && offsetof(struct call, result) == CALL_RESULT, "protocol.h");

/* An exception inside, as it was told. By the vDSO there is no signal. */
struct exception {
	int signo, code;
	uint64_t vector, error_code, address;
};

/* A thread that is bound to a TCS. */
struct bound {
	uint64_t tcs;
	uint64_t (*ocall)(struct bound *self, uint64_t function, uint64_t argument);
	void (*exception)(struct bound *self, const struct exception *exception);
};

/* expected.c */
uint64_t mixed(uint64_t x); /* what OCALL_MIX does */
uint64_t next(uint64_t *state); /* a random number */
uint64_t expected(uint64_t *count, uint64_t op, uint64_t a, uint64_t b);

/* load.c */
void enclave_load(struct enclave *enclave, const char *path);
void enclave_unload(struct enclave *enclave);
bool enclave_opt_in(const struct enclave *enclave);
void *find_vdso_function(const char *name);

/* runtime.c */
struct runtime_choice {
	bool vdso; /* else an ENCLU of our own */
	bool onstack;
};
void runtime_start(const struct runtime_choice *choice);
/* Its own handler in front of a signal, if it has one. */
void (*runtime_handler(int signo))(int, siginfo_t *, void *);
void runtime_bind(struct bound *self);
struct bound *runtime_bound(void);
/* 0; or -1: the enclave cannot be entered (any more). */
int runtime_call(struct bound *self, uint64_t command, void *argument);
/* At whatever CSSA the thread is now; returns that. */
uint64_t runtime_probe(struct bound *self);
bool runtime_at_aep(const greg_t *regs);
uint64_t runtime_aep(void); /* 0: not known yet */

/* enter.S */
int enter_by_enclu(uint64_t tcs, uint64_t command, uint64_t argument, struct left *left, const void *site);
int enter_by_vdso(void *function, uint64_t command, uint64_t argument, void *run);
extern const char enclu_enter[], enclu_left[], enclu_aep[], enclu_refused[];
void host_divide(void);
void host_illegal(void);
void host_read(void);
void host_protection(void);
void host_break(void);
void host_bus(void *page);
extern const char host_fault_end[];

#endif
