/* A program's user_handler for the vDSO function (vsgx.S): it remembers how it was called, and answers as it is told. */
#include <stdint.h>

#define CALLS 8

struct handled {
	uint64_t count, frame, df;
	struct {
		uint64_t rdi, rsi, rdx, rsp, r8, r9, run, function, vector;
	} calls[CALLS];
};

struct run {
	uint64_t tcs;
	uint32_t function;
	uint16_t vector, error_code;
	uint64_t address, user_handler, user_data;
	uint64_t reserved[27];
};

struct handled handled;
/* What it returns at each call, and which word of "reserved" it spoils at the first; 0: none. */
int64_t handler_answers[CALLS];
uint64_t handler_spoils, handler_tcs;

int user_handler(uint64_t rdi, uint64_t rsi, uint64_t rdx, uint64_t rsp, uint64_t r8, uint64_t r9, struct run *run)
{
	uint64_t flags, at = handled.count % CALLS;

	__asm__ volatile("pushfq\n\tpopq %0" : "=r"(flags));
	handled.df |= flags & 0x400;
	handled.frame |= (uint64_t)__builtin_frame_address(0) & 15;
	handled.calls[at].rdi = rdi;
	handled.calls[at].rsi = rsi;
	handled.calls[at].rdx = rdx;
	handled.calls[at].rsp = rsp;
	handled.calls[at].r8 = r8;
	handled.calls[at].r9 = r9;
	handled.calls[at].run = (uint64_t)run;
	handled.calls[at].function = run->function;
	handled.calls[at].vector = run->vector;
	handled.count++;
	if (handler_spoils)
		run->reserved[handler_spoils - 1] = 1;
	if (handler_tcs)
		run->tcs = handler_tcs;
	return (int)handler_answers[at];
}
