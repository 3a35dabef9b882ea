/* SPDX-License-Identifier: Apache-2.0 */
/* A producer and a consumer, by the interface of the 2019 series; EXIT-SUCCESS as there. */
#define OLD 1
#include "message_consumer.c"
