/* Example enclave: code that faults, and a handler in the enclave that repairs the interrupted registers.
 *
 * The host sees the exception, enters the same TCS again (CSSA is 1 now), gets ENCLAVE_OK in RDI, and resumes:
 * the call then ends as if nothing had happened. RDI selects the operation; results in RDI (status), RSI (value).
 */
#include "swsgx_enclave.h"

SWSGX_ENCLAVE(.attributes = 4, .xfrm = 3, .miscselect = 1, .ssaframesize = 1, .nssa = 3, .threads = 1,
	      .stack_pages = 4);

enum {
	OP_DIVIDE = 0,	  /* value = RSI / RDX; a divisor of 0 is repaired to R8 */
	OP_WRITE = 1,	  /* stores RSI in a read-only page; repaired to a writable one; value = what is there */
	OP_UNDEFINED = 2, /* runs UD2; repaired by stepping over it; value = RSI */
	OP_NULL = 3,	  /* reads address 0; the handler does not help */
	OP_COUNT = 4,	  /* value = exceptions handled so far */
};

enum { VECTOR_DE = 0, VECTOR_UD = 6, VECTOR_PF = 14 };

static const uint64_t read_only = 0;
static volatile uint64_t writable;
static volatile uint64_t spare_divisor;
static volatile uint64_t handled;

static uint64_t divide(uint64_t number, uint64_t divisor)
{
	uint64_t quotient = number, rest = 0;

	__asm__ volatile("divq %%rcx" : "+a"(quotient), "+d"(rest) : "c"(divisor) : "cc");
	return quotient;
}

static void write_word(const void *where, uint64_t value)
{
	__asm__ volatile("movq %%rax, (%%rcx)" : : "a"(value), "c"(where) : "memory");
}

struct enclave_result enclave_call(uint64_t operation, uint64_t rsi, uint64_t rdx, uint64_t r8, uint64_t r9)
{
	uint64_t value;

	(void)r9;
	switch (operation) {
	case OP_DIVIDE:
		spare_divisor = r8;
		return (struct enclave_result){ ENCLAVE_OK, divide(rsi, rdx) };
	case OP_WRITE:
		write_word(&read_only, rsi);
		return (struct enclave_result){ ENCLAVE_OK, writable };
	case OP_UNDEFINED:
		__asm__ volatile("ud2");
		return (struct enclave_result){ ENCLAVE_OK, rsi };
	case OP_NULL:
		__asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(0ul));
		return (struct enclave_result){ ENCLAVE_OK, value };
	case OP_COUNT:
		return (struct enclave_result){ ENCLAVE_OK, handled };
	default:
		return (struct enclave_result){ ENCLAVE_NO_SUCH_OPERATION, operation };
	}
}

struct enclave_result enclave_exception(struct swsgx_gpr *gpr, const struct swsgx_exinfo *exinfo)
{
	uint64_t vector = gpr->exitinfo & EXITINFO_VECTOR;

	/* An interrupt, not an exception: nothing to repair, and nothing in the way of going on. */
	if (!(gpr->exitinfo & EXITINFO_VALID))
		return (struct enclave_result){ ENCLAVE_OK, 0 };
	if (vector == VECTOR_DE && gpr->rcx == 0 && spare_divisor != 0) {
		gpr->rcx = spare_divisor;
	} else if (vector == VECTOR_PF && exinfo->maddr == (uint64_t)&read_only && gpr->rcx == exinfo->maddr) {
		gpr->rcx = (uint64_t)&writable;
	} else if (vector == VECTOR_UD && *(const uint16_t *)gpr->rip == 0x0b0f) {
		gpr->rip += 2;
	} else {
		return (struct enclave_result){ ENCLAVE_NOT_REPAIRED, vector };
	}
	handled++;
	return (struct enclave_result){ ENCLAVE_OK, vector };
}
