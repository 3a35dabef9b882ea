"""``__vdso_sgx_enter_enclave``, as the kernel's uapi header and its vsgx.S have it.

The function is one and the same in our own process and, later, in other people's vDSO.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swsgx.inprocess import Sgx
from swsgx.isa.leaves import Enclu
from swsgx.isa.vectors import Vector
from swsgx.native.abi import EnclaveRun
from tests.make.native_enclave import NEEDS_GCC, Loaded, Source, Thread
from tests.make.probe import Landed, Probe, the_probe

pytestmark = NEEDS_GCC

EINVAL = (1 << 32) - 22
#: RDI says what to do: 0 nothing; 1 an exception, which the next entry at CSSA 1 repairs; 2 leave DF set; 3 leave with
#: another RSP. Counts entries, and gives recognisable registers back.
CALLEE = Source(
    """
entry:	incq	data(%rip)
	test	%eax, %eax
	jnz	repair
	cmp	$1, %rdi
	je	1f
	cmp	$2, %rdi
	je	2f
	cmp	$3, %rdi
	je	3f
	jmp	out
1:	ud2
	jmp	out
2:	std
	jmp	out
3:	lea	-16(%rsp), %rsp
	movq	(%rsp), %rax
	movq	16(%rsp), %rax
	movq	%rax, (%rsp)
out:	mov	$0x51, %esi
	mov	$0x52, %edx
	mov	$0x58, %r8d
	mov	$0x59, %r9d
	eexit
repair:	addq	$2, ssa0 + 0x1000 - SIZEOF_GPRSGX + GPRSGX_RIP(%rip)
	xor	%edi, %edi
	jmp	out
""",
    threads=(Thread(), Thread()),
)


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    with Sgx(isolation="off") as sgx:
        yield CALLEE.build().load(sgx)


@pytest.fixture
def probe() -> Probe:
    return the_probe()


def run(**fields: int) -> bytes:
    return bytes(EnclaveRun.of(**fields).buffer)


def call(probe: Probe, loaded: Loaded, rdi: int = 0, leaf: int = Enclu.EENTER, **fields: int) -> int:
    """One call; what the function returns, as 32 bits."""
    probe.prepare(rdi=rdi)
    assert probe.vdso(loaded, leaf, run=run(**fields)) == Landed.RETURN
    return probe.out.rax & 0xFFFF_FFFF


# Arguments.


@pytest.mark.parametrize("leaf", [0, 1, 4, 5, 9, 0x7FFF_FFFF, 0x8000_0002, 0xFFFF_FFFF])
def test_only_eenter_and_eresume_are_functions(probe: Probe, loaded: Loaded, leaf: int) -> None:
    given = {
        "function": 0x77,
        "exception_vector": 0x11,
        "exception_addr": 0x22,
        "user_handler": probe.handler(5),
    }
    assert call(probe, loaded, leaf=leaf, **given) == EINVAL
    assert bytes(probe.run.buffer) == run(tcs=loaded.enclave.tcs[0], **given)
    assert (probe.handled.count, loaded.word("data")) == (0, 0)


def test_only_ecx_counts(probe: Probe, loaded: Loaded) -> None:
    # The upper half of RCX is no part of an int.
    assert call(probe, loaded, leaf=Enclu.EENTER) == 0


def test_every_reserved_byte_must_be_zero(probe: Probe, loaded: Loaded) -> None:
    for offset in range(EnclaveRun.reserved_40.offset, EnclaveRun.size_of):
        probe.prepare()
        spoilt = bytearray(EnclaveRun.size_of)
        spoilt[offset] = 1
        assert probe.vdso(loaded, run=bytes(spoilt)) == Landed.RETURN
        assert probe.out.rax & 0xFFFF_FFFF == EINVAL, offset
    assert loaded.word("data") == 0


def test_user_data_is_the_programs_own(probe: Probe, loaded: Loaded) -> None:
    assert call(probe, loaded, user_data=0x1234_5678_9ABC_DEF0) == 0
    assert probe.run.user_data == 0x1234_5678_9ABC_DEF0


# Without a handler.


def test_an_exit_is_function_4_and_touches_nothing_else(probe: Probe, loaded: Loaded) -> None:
    stale = {"exception_vector": 0x11, "exception_error_code": 0x33, "exception_addr": 0x22}
    for _ in range(3):
        assert call(probe, loaded, **stale) == 0
        expected = run(tcs=loaded.enclave.tcs[0], function=Enclu.EEXIT, **stale)
        assert bytes(probe.run.buffer) == expected
        out = probe.out
        assert (out.rdi, out.rsi, out.rdx, out.r8, out.r9) == (0, 0x51, 0x52, 0x58, 0x59)
        # What the enclave leaves alone goes through.
        for name in ("r10", "r11", "r12", "r13", "r14", "r15"):
            assert getattr(out, name) == getattr(probe.into, name)


def test_an_exception_inside_is_function_3_and_returns_0(probe: Probe, loaded: Loaded) -> None:
    assert call(probe, loaded, rdi=1) == 0
    found = probe.run
    assert (found.function, found.exception_vector) == (Enclu.ERESUME, Vector.UD)
    assert (found.exception_error_code, found.exception_addr) == (0, 0)


def test_a_refused_eenter_is_function_2(probe: Probe, loaded: Loaded) -> None:
    loaded.tcs().state = 1
    assert call(probe, loaded) == 0
    assert (probe.run.function, probe.run.exception_vector) == (Enclu.EENTER, Vector.GP)
    loaded.tcs().state = 0


def test_a_refused_eresume_is_function_3(probe: Probe, loaded: Loaded) -> None:
    assert call(probe, loaded, leaf=Enclu.ERESUME) == 0
    assert (probe.run.function, probe.run.exception_vector) == (Enclu.ERESUME, Vector.GP)


def test_rbx_and_rbp_are_preserved(probe: Probe, loaded: Loaded) -> None:
    kept = set()
    for rdi in (0, 1, 0):
        call(probe, loaded, rdi=rdi)
        kept.add((probe.out.rbp, probe.out.rsp))
    assert len(kept) == 1


# With a handler.


def test_the_handler_is_told_of_an_exit(probe: Probe, loaded: Loaded) -> None:
    assert call(probe, loaded, user_handler=probe.handler(0)) == 0
    handled = probe.handled
    assert (handled.count, handled.aligned, handled.df_clear) == (1, True, True)
    told = handled.calls[0]
    assert [told[name] for name in ("rdi", "rsi", "rdx", "r8", "r9")] == [0, 0x51, 0x52, 0x58, 0x59]
    assert told["run"] == probe.address("probe_run")
    assert told["function"] == Enclu.EEXIT
    assert told["rsp"] == loaded.gpr().ursp


def test_the_handler_is_told_of_an_exception(probe: Probe, loaded: Loaded) -> None:
    assert call(probe, loaded, rdi=1, user_handler=probe.handler(0)) == 0
    told = probe.handled.calls[0]
    assert [told[name] for name in ("rdi", "rsi", "rdx", "r8", "r9")] == [Vector.UD, 0, 0, 0, 0]
    assert (told["function"], told["vector"]) == (Enclu.ERESUME, Vector.UD)


def test_the_handler_runs_with_df_clear_and_an_aligned_stack(probe: Probe, loaded: Loaded) -> None:
    for rdi in (2, 3):
        assert call(probe, loaded, rdi=rdi, user_handler=probe.handler(0)) == 0
        handled = probe.handled
        assert (handled.count, handled.aligned, handled.df_clear) == (1, True, True)
    assert handled.calls[0]["rsp"] == loaded.gpr().ursp - 16


@pytest.mark.parametrize("answer", [0, -1, -5, -22, -(1 << 31)])
def test_an_answer_that_is_not_positive_is_the_result(probe: Probe, loaded: Loaded, answer: int) -> None:
    assert call(probe, loaded, user_handler=probe.handler(answer)) == answer & 0xFFFF_FFFF
    assert probe.handled.count == 1


def test_a_positive_answer_is_the_next_function(probe: Probe, loaded: Loaded) -> None:
    # An exception; the enclave's own handler; the interrupted code, to its end.
    handler = probe.handler(Enclu.EENTER, Enclu.ERESUME, -7)
    assert call(probe, loaded, rdi=1, user_handler=handler) == (1 << 32) - 7
    calls = probe.handled.calls
    assert [told["function"] for told in calls] == [Enclu.ERESUME, Enclu.EEXIT, Enclu.EEXIT]
    assert loaded.tcs().cssa == 0
    assert loaded.word("data") == 2


@pytest.mark.parametrize("answer", [1, 4, 5, 100])
def test_an_answer_that_is_no_function_is_einval(probe: Probe, loaded: Loaded, answer: int) -> None:
    assert call(probe, loaded, user_handler=probe.handler(answer)) == EINVAL
    assert (probe.handled.count, loaded.word("data")) == (1, 1)


@pytest.mark.parametrize("word", [1, 14, 27])
def test_reserved_words_are_looked_at_again_before_the_next_entry(
    probe: Probe, loaded: Loaded, word: int
) -> None:
    handler = probe.handler(Enclu.EENTER, spoils=word)
    assert call(probe, loaded, user_handler=handler) == EINVAL
    assert loaded.word("data") == 1


def test_the_handler_may_choose_another_tcs(probe: Probe, loaded: Loaded) -> None:
    handler = probe.handler(Enclu.EENTER, 0, tcs=loaded.enclave.tcs[1])
    assert call(probe, loaded, user_handler=handler) == 0
    assert loaded.tcs(1).aep == loaded.tcs(0).aep != 0


def test_the_handlers_registers_reach_the_next_entry_as_the_handler_left_them(
    probe: Probe, loaded: Loaded
) -> None:
    """Only the function and the run pointer are arguments of a re-entry; the enclave counts on nothing else."""
    handler = probe.handler(Enclu.EENTER, Enclu.EENTER, Enclu.EENTER, 0)
    assert call(probe, loaded, user_handler=handler) == 0
    assert probe.handled.count == 4
    assert loaded.word("data") == 4
