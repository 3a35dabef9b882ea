/* SPDX-License-Identifier: Apache-2.0 */
/* What the host of paging_storm.c asks of its enclave, storm.S; for C and for assembly. */
#ifndef STORM_H
#define STORM_H

/* One page: its words must be those of a seed, then they become those of another. RDI is the first of RSI of these. */
#define ASK_PAGE 0   /* its address */
#define ASK_FLAGS 8  /* not 0: EACCEPT with these, and nothing else */
#define ASK_BEFORE 16 /* the seed; 0: all zero */
#define ASK_AFTER 24 /* the seed; 0: only look */
#define ASK_WRONG 32 /* filled in: words that were wrong; what EACCEPT says */
#define ASK_SIZE 40

/* A word is the one before it, times one and plus another; before the first is the seed. */
#define TIMES 6364136223846793005
#define PLUS 1442695040888963407

#endif
