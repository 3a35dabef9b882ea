/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of the host's vDSO that ours has too, in the order of their slots. */
#ifndef SWSGX_FORWARD_H
#define SWSGX_FORWARD_H

#define FORWARD_GETTIMEOFDAY 0
#define FORWARD_TIME 1
#define FORWARD_CLOCK_GETTIME 2
#define FORWARD_CLOCK_GETRES 3
#define FORWARD_GETCPU 4
#define FORWARD_GETRANDOM 5
#define FORWARD_COUNT 6

#endif
