/* Example enclave: SHA-256 of a host buffer, a long computation, a counter, and a walk over the heap.
 *
 * RDI selects the operation; results come back in RDI (status) and RSI (value). Two threads may call at once.
 */
#include "kernel.h"
#include "sha256.h"
#include "swsgx_enclave.h"

SWSGX_ENCLAVE(.attributes = 4, .xfrm = 3, .ssaframesize = 1, .nssa = 2, .threads = 2, .stack_pages = 16,
	      .heap_pages = 16);

enum {
	OP_NOTHING = 0, /* value = RSI + RDX: what a call costs */
	OP_SHA256 = 1,	/* RSI, RDX: the host's bytes and their number; R8: 32 bytes for the digest */
	OP_COMPUTE = 2, /* RSI rounds, RDX seed; value = checksum */
	OP_COUNT = 3,	/* adds RSI to a counter that lives in the enclave; value = its sum */
	OP_HEAP = 4,	/* writes every word of the heap from seed RSI and reads it back; value = bytes that were right */
	OP_THREAD = 5,	/* value = number of the thread that runs */
};

static uint64_t counter;

static struct enclave_result hash_host_bytes(uint64_t source, uint64_t size, uint64_t digest)
{
	struct sha256 hash;
	uint8_t copy[4096], result[32];

	if (!enclave_outside(source, size) || !enclave_outside(digest, sizeof(result)))
		return (struct enclave_result){ ENCLAVE_BAD_POINTER, 0 };
	sha256_begin(&hash);
	for (uint64_t done = 0; done < size;) {
		uint64_t part = size - done < sizeof(copy) ? size - done : sizeof(copy);

		/* Taken in once, then looked at: the host may write meanwhile. */
		for (uint64_t i = 0; i < part; i++)
			copy[i] = ((const volatile uint8_t *)source)[done + i];
		sha256_update(&hash, copy, part);
		done += part;
	}
	sha256_end(&hash, result);
	for (uint64_t i = 0; i < sizeof(result); i++)
		((volatile uint8_t *)digest)[i] = result[i];
	return (struct enclave_result){ ENCLAVE_OK, size };
}

static struct enclave_result walk_heap(uint64_t seed)
{
	const struct swsgx_thread *thread = enclave_thread();
	volatile uint64_t *heap = (volatile uint64_t *)(enclave_base + thread->heap);
	uint64_t words = thread->heap_size / 8, good = 0;

	for (uint64_t i = 0; i < words; i++)
		heap[i] = seed + i * 0x9e3779b97f4a7c15u;
	for (uint64_t i = 0; i < words; i++)
		good += 8 * (heap[i] == seed + i * 0x9e3779b97f4a7c15u);
	return (struct enclave_result){ ENCLAVE_OK, good };
}

struct enclave_result enclave_call(uint64_t operation, uint64_t rsi, uint64_t rdx, uint64_t r8, uint64_t r9)
{
	(void)r9;
	switch (operation) {
	case OP_NOTHING:
		return (struct enclave_result){ ENCLAVE_OK, rsi + rdx };
	case OP_SHA256:
		return hash_host_bytes(rsi, rdx, r8);
	case OP_COMPUTE:
		return (struct enclave_result){ ENCLAVE_OK, compute_kernel(rsi, rdx) };
	case OP_COUNT:
		return (struct enclave_result){ ENCLAVE_OK, __atomic_add_fetch(&counter, rsi, __ATOMIC_SEQ_CST) };
	case OP_HEAP:
		return walk_heap(rsi);
	case OP_THREAD:
		return (struct enclave_result){ ENCLAVE_OK, enclave_thread()->index };
	default:
		return (struct enclave_result){ ENCLAVE_NO_SUCH_OPERATION, operation };
	}
}

struct enclave_result enclave_exception(struct swsgx_gpr *gpr, const struct swsgx_exinfo *exinfo)
{
	(void)exinfo;
	if (!(gpr->exitinfo & EXITINFO_VALID)) /* an interrupt: just go on */
		return (struct enclave_result){ ENCLAVE_OK, 0 };
	return (struct enclave_result){ ENCLAVE_NOT_REPAIRED, gpr->exitinfo & EXITINFO_VECTOR };
}
