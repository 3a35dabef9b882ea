/* SPDX-License-Identifier: Apache-2.0 */
/* Our vDSO's side of a program's start. */
#ifndef SWSGX_VDSO_H
#define SWSGX_VDSO_H

#include <stdbool.h>
#include <stdint.h>

/* enter_enclave_v23.S: which form of __vdso_sgx_enter_enclave the program gets. */
extern bool enter_form_v23 __attribute__((visibility("hidden")));

/*
 * Before the program's first instruction: fill the slots that our vDSO's functions jump through, and show our vDSO to
 * the program. stack is RSP as exec left it: argc, argv, NULL, environment, NULL, auxv.
 */
void vdso_prepare(uint64_t *stack) __attribute__((visibility("hidden")));

#endif
