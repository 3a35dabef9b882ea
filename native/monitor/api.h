/* SPDX-License-Identifier: Apache-2.0 */
/* What the image exports; Python's swsgx.native.images.Monitor declares the same functions. */
#ifndef SWSGX_API_H
#define SWSGX_API_H

#include <stdint.h>

#include "abi.h"

#define EXPORT __attribute__((visibility("default")))

/* Once a process. The tables that config points to must outlive all use. */
EXPORT int swsgx_start(const struct swsgx_monitor_config *config);

/* The calling thread's LogicalProcessor, made if need be; NULL when there is none left. Idempotent. */
EXPORT struct swsgx_logical_processor *swsgx_attach(void);
/* Give it back, before the thread ends. -1: the thread is inside an enclave. */
EXPORT int swsgx_detach(void);

/* Forget what the caches know of an enclave that is about to go; no thread may be inside. */
EXPORT void swsgx_forget(uint64_t base, uint64_t size);

/* The enclave's range is in place between these, also where it hides: for whoever changes its mappings. */
EXPORT void swsgx_pin(struct swsgx_enclave_slot *slot);
EXPORT void swsgx_unpin(struct swsgx_enclave_slot *slot);

/* Take over the signals of a mask (bit n-1: signal n); 0, or the negated number of one that refused. */
EXPORT int swsgx_hook(uint64_t mask);
EXPORT void swsgx_unhook(void);
/* 1: the monitor handles the signal now. */
EXPORT int swsgx_hooked(int signal);

/* Position independent code to copy near each enclave; its last 16 bytes are: exit table, swsgx_exit_common(). */
EXPORT const void *swsgx_exit_stub(uint64_t *size);
EXPORT uint64_t swsgx_exit_common(void);

/* out: EAX, EBX, ECX, EDX. */
EXPORT void swsgx_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *out);
EXPORT uint64_t swsgx_xcr0(void);

/* The contract of __vdso_sgx_enter_enclave (vdso/enter_enclave.S). */
EXPORT int swsgx_enter_enclave(uint64_t rdi, uint64_t rsi, uint64_t rdx, uint32_t function, uint64_t r8, uint64_t r9,
			       struct swsgx_enclave_run *run);
/* Calls into an enclave from our own process. Returns what the vDSO function returns; -4: a signal wants the caller. */
EXPORT int swsgx_call(struct swsgx_enclave_call *call);
/* The vDSO function, call->count times as long as it returns 0; the enclave must keep to the C calling convention. */
EXPORT int swsgx_round_trips(struct swsgx_enclave_call *call);
/* Raw ENCLU with the ENCLU itself as AEP, call->count times; the enclave must leave all registers but RAX RBX RCX. */
EXPORT void swsgx_raw_round_trips(struct swsgx_enclave_call *call);
/* count null system calls, for comparison. */
EXPORT void swsgx_null_calls(uint64_t count);

#endif
