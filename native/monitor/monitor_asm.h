/* SPDX-License-Identifier: Apache-2.0 */
/* What assembly and C of the monitor share beyond the generated tables. */
#ifndef SWSGX_MONITOR_ASM_H
#define SWSGX_MONITOR_ASM_H

#include "abi.h"

/* struct monitor_state starts with the two caches; monitor.h asserts these. */
#define LP_CACHE_ENTRIES 1024
#define RECORD_CACHE_ENTRIES 256
#define RECORD_CACHE_OFFSET (LP_CACHE_ENTRIES * 16)
/* Bytes below RSP that belong to the program (psABI), kept free by an entry. */
#define ENTER_RED_ZONE 128
/* An AEP of ours is "jmp rel32". */
#define AEP_BYTES 5

#endif
