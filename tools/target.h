/* What the programs that measure have in common: the example's loader without its words, and a clock. */
#ifndef TARGET_H
#define TARGET_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../examples/host/host.h"

extern vdso_sgx_enter_enclave_t vdso_enter; /* examples/host/enter.S */

void say(const char *what, const char *format, ...)
{
	(void)what, (void)format;
}

void die(const char *what, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "%s: ", what);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	exit(1);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

#endif
