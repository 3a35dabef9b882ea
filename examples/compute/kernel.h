/* A long computation that touches no memory but its own stack, to be timed inside and outside an enclave. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdint.h>

/* Mixes `rounds` rounds of integer, table and floating-point work into 64 bits. Same result everywhere. */
__attribute__((visibility("default"))) uint64_t compute_kernel(uint64_t rounds, uint64_t seed);

#endif
