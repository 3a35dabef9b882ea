"""Enclaves as Python objects: what may be passed, what is left behind, what no longer works after closing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from swsgx.inprocess import DriverError, Exit, Isolation, Sgx, reenter
from swsgx.isa.vectors import Vector
from swsgx.native.mappings import mappings
from tests.make.native_enclave import NEEDS_GCC, Block, Loaded, Source, Thread

pytestmark = NEEDS_GCC

#: Moves each register on by one place, so that each is seen to go in and to come out.
SHIFTER = Source(
    """
entry:	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%r8, %rdx
	mov	%r9, %r8
	mov	%r10, %r9
	mov	%r11, %r10
	mov	%r12, %r11
	mov	%r13, %r12
	mov	%r14, %r13
	mov	%r15, %r14
	mov	%rax, %r15
	eexit
"""
)
#: Adds RDX to each of RSI bytes at RDI; the sum of what was there before comes back in RSI.
ADDER = Source(
    """
entry:	xor	%eax, %eax
	mov	%rsi, %r8
	xor	%esi, %esi
1:	test	%r8, %r8
	jz	2f
	movzbl	(%rdi), %eax
	add	%rax, %rsi
	add	%dl, (%rdi)
	inc	%rdi
	dec	%r8
	jmp	1b
2:	eexit
"""
)
#: Only reads: the sum of RSI bytes at RDI.
READER = Source(ADDER.code.replace("add	%dl, (%rdi)", "nop"))
#: RDI 1: #UD, repaired by the second entry. Counts entries with CSSA 0.
FAULTY = Source(
    """
entry:	test	%eax, %eax
	jnz	handler
	incq	data(%rip)
	cmp	$1, %rdi
	jne	1f
	ud2
1:	mov	$0x55, %esi
	eexit
handler:
	mov	$0x77, %esi
	addq	$2, ssa0 + 0x1000 - SIZEOF_GPRSGX + GPRSGX_RIP(%rip)
	eexit
""",
    threads=(Thread(nssa=2), Thread(nssa=1)),
)
PASSED = ("rdi", "rsi", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")


def load(source: Source, sgx: Sgx) -> Loaded:
    return source.build().load(sgx)


def test_registers_go_in_and_come_out_by_name(each_sgx: Sgx) -> None:
    enclave = load(SHIFTER, each_sgx).enclave
    given = {name: 0x1111_1111_1111_1111 * (n + 1) for n, name in enumerate(PASSED)}
    exited = enclave.enter(**given).check()
    for name, source in zip(PASSED, (*PASSED[1:], PASSED[0]), strict=True):
        assert getattr(exited, name) == given[source], name
        assert exited.registers[name] == given[source]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (-1, (1 << 64) - 1),
        (1 << 63, 1 << 63),
        (True, 1),
        (np.uint64(1 << 63), 1 << 63),
        (np.int8(-2), (1 << 64) - 2),
    ],
)
def test_integers_of_every_kind_are_values(sgx: Sgx, value: Any, found: int) -> None:
    assert load(SHIFTER, sgx).enclave.enter(rsi=value).rdi == found


@pytest.mark.parametrize("name", ["rax", "rbx", "rcx", "rsp", "rbp", "rip", "xmm0", "RDI"])
def test_a_register_that_cannot_be_passed_is_named(sgx: Sgx, name: str) -> None:
    loaded = load(FAULTY, sgx)
    with pytest.raises(TypeError, match=name):
        loaded.enclave.enter(**{name: 1})
    assert loaded.word("data") == 0
    # And nothing is left half done.
    assert loaded.enclave.enter().check().rsi == 0x55


@pytest.mark.parametrize("value", ["text", 1.5, None, [1, 2], object()])
def test_what_is_neither_a_number_nor_a_buffer_is_a_type_error(sgx: Sgx, value: object) -> None:
    loaded = load(FAULTY, sgx)
    with pytest.raises(TypeError):
        loaded.enclave.enter(rdi=value)
    assert loaded.word("data") == 0


# Buffers.

BUFFERS: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(range(100)),
    "memoryview": lambda: memoryview(bytearray(range(100))),
    "part of a memoryview": lambda: memoryview(bytearray(300))[17:117],
    "array of bytes": lambda: np.arange(100, dtype=np.uint8),
    "array of words": lambda: np.arange(25, dtype=np.uint32),
    "array of several dimensions": lambda: np.arange(96, dtype=np.int16).reshape(4, 4, 6),
    "array of floats": lambda: np.linspace(0, 1, 13),
}


def octets(buffer: Any) -> bytes:
    return buffer.tobytes() if isinstance(buffer, np.ndarray) else bytes(buffer)


@pytest.mark.parametrize("kind", BUFFERS)
def test_a_buffer_is_read_and_written_where_it_is(each_sgx: Sgx, kind: str) -> None:
    enclave = load(ADDER, each_sgx).enclave
    buffer = BUFFERS[kind]()
    before = octets(buffer)
    exited = enclave.enter(rdi=buffer, rsi=len(before), rdx=3).check()
    assert exited.rsi == sum(before)
    assert octets(buffer) == bytes(octet + 3 & 0xFF for octet in before)


@pytest.mark.parametrize("buffer", [bytes(range(200)), memoryview(bytes(range(200)))])
def test_a_buffer_that_python_may_not_change_is_passed_all_the_same(sgx: Sgx, buffer: Any) -> None:
    assert load(READER, sgx).enclave.enter(rdi=buffer, rsi=200).check().rsi == sum(range(200))


def test_a_read_only_array_is_passed_all_the_same(sgx: Sgx) -> None:
    array = np.arange(10, dtype=np.uint8)
    array.flags.writeable = False
    assert load(READER, sgx).enclave.enter(rdi=array, rsi=10).check().rsi == 45


@pytest.mark.parametrize("empty", [b"", bytearray(), np.empty(0)])
def test_an_empty_buffer_has_some_address(sgx: Sgx, empty: Any) -> None:
    assert load(READER, sgx).enclave.enter(rdi=empty, rsi=0).check().rsi == 0


def test_several_buffers_in_one_call(sgx: Sgx) -> None:
    code = "entry: mov (%rsi), %rax\n mov %rax, (%rdi)\n mov (%r15), %rax\n mov %rax, 8(%rdi)\n eexit"
    target = np.zeros(2, np.uint64)
    load(Source(code), sgx).enclave.enter(rdi=target, rsi=b"8 octets", r15=np.array([7], np.uint64)).check()
    assert target.tolist() == [int.from_bytes(b"8 octets", "little"), 7]


def test_a_buffer_is_alive_while_the_enclave_works(sgx: Sgx) -> None:
    # Nobody else holds it: were it freed at once, the enclave would read something else.
    enclave = load(READER, sgx).enclave
    for size in (100_000, 3_000_000):
        assert enclave.enter(rdi=np.full(size, 3, np.uint8), rsi=size).check().rsi == 3 * size


def test_one_enclave_can_be_entered_while_another_waits_for_its_answer(sgx: Sgx) -> None:
    outer, inner = load(FAULTY, sgx).enclave, load(SHIFTER, sgx).enclave
    answers = []

    def on_exit(exited: Exit) -> Any:
        answers.append(inner.enter(rsi=exited.rsi).check().rdi)
        return None if len(answers) == 2 else reenter()

    outer.enter_with(on_exit)
    assert answers == [0x55, 0x55]


def test_a_prepared_call_that_does_not_exit_is_an_error(sgx: Sgx) -> None:
    loaded = load(FAULTY, sgx)
    with loaded.enclave.prepared(rdi=1) as call, pytest.raises(RuntimeError, match="did not exit"):
        call.repeat(100)
    assert loaded.word("data") == 1
    assert loaded.tcs().cssa == 1


def test_a_prepared_call_that_did_not_exit_can_be_resumed(each_sgx: Sgx) -> None:
    loaded = load(FAULTY, each_sgx)
    for _ in range(3):
        with loaded.enclave.prepared(rdi=1) as call, pytest.raises(RuntimeError, match="did not exit"):
            call.repeat(100)
        assert loaded.enclave.enter().check().rsi == 0x77
        assert loaded.enclave.resume().check().rsi == 0x55


def test_a_prepared_call_that_a_signal_interrupted_can_be_resumed(each_sgx: Sgx) -> None:
    loaded = load(Source("entry: cmpq $0, data(%rip)\n je entry\n mov $0x55, %esi\n eexit"), each_sgx)
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with loaded.enclave.prepared() as call, pytest.raises(RuntimeError, match="interrupted"):
            call.repeat(100)
    finally:
        signal.signal(signal.SIGALRM, before)
    loaded.set_word("data", 1)
    assert loaded.enclave.resume().check().rsi == 0x55


def test_a_prepared_call_may_be_made_no_times(sgx: Sgx) -> None:
    loaded = load(FAULTY, sgx)
    with loaded.enclave.prepared() as call:
        call.repeat(0)
        call.repeat(3)
    assert loaded.word("data") == 3


def test_a_tcs_with_more_frames_than_there_is_memory(sgx: Sgx) -> None:
    source = Source(FAULTY.code, threads=(Thread(fields={"nssa": 0xFFFF_FFFF}),))
    enclave = load(source, sgx).enclave
    assert enclave.enter().check().rsi == 0x55
    assert enclave.enter(rdi=1).exception is not None


def test_an_enclave_that_is_closed_cannot_be_entered(sgx: Sgx) -> None:
    with load(FAULTY, sgx).enclave as enclave:
        enclave.enter().check()
    for use in (
        enclave.enter,
        enclave.resume,
        lambda: enclave.mrenclave,
        lambda: enclave.counters,
        lambda: enclave.enter_with(lambda exited: None),
        lambda: enclave.prepared().__enter__(),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_closing_the_machine_closes_its_enclaves() -> None:
    with Sgx() as sgx:
        enclaves = [load(source, sgx).enclave for source in (FAULTY, SHIFTER)]
    for enclave in enclaves:
        with pytest.raises(ValueError, match="closed"):
            enclave.enter()
    with pytest.raises(ValueError, match="closed"):
        load(FAULTY, sgx)


def test_an_error_inside_a_session_closes_it() -> None:
    with pytest.raises(LookupError), Sgx() as sgx, load(FAULTY, sgx).enclave as enclave:
        raise LookupError
    with pytest.raises(ValueError, match="closed"):
        enclave.enter()


def test_several_machines_in_one_process(each_sgx: Sgx) -> None:
    first = load(FAULTY, each_sgx)
    with Sgx() as other:
        second = load(FAULTY, other)
        for _ in range(3):
            first.enclave.enter().check()
            second.enclave.enter().check()
    # The one that is left still has its signals.
    first.enclave.enter().check()
    assert first.enclave.enter(rdi=1).exception is not None
    assert (first.word("data"), second.enclave.base != first.enclave.base) == (5, True)


def test_building_and_closing_leaves_nothing_behind(each_sgx: Sgx) -> None:
    def once() -> None:
        with load(FAULTY, each_sgx).enclave as enclave:
            enclave.enter().check()
            enclave.enter(rdi=1)

    for _ in range(3):
        once()
    files, maps = len(os.listdir("/proc/self/fd")), len(list(mappings(os.getpid())))
    for _ in range(20):
        once()
    assert len(os.listdir("/proc/self/fd")) == files
    # The allocator's own mappings come and go.
    assert len(list(mappings(os.getpid()))) <= maps + 3


def test_a_load_that_fails_leaves_nothing_behind(sgx: Sgx) -> None:
    good, other = FAULTY.build(), SHIFTER.build()

    def once() -> None:
        with pytest.raises(DriverError):
            sgx.load(good.plan, other.sigstruct)

    once()
    files, maps = len(os.listdir("/proc/self/fd")), len(list(mappings(os.getpid())))
    for _ in range(10):
        once()
    assert len(os.listdir("/proc/self/fd")) == files
    assert len(list(mappings(os.getpid()))) <= maps + 3


@pytest.mark.parametrize("mode", ["", "on", "keys!", "OFF"])
def test_an_isolation_that_does_not_exist_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="Isolation"):
        Sgx(isolation=mode)


def test_an_isolation_may_be_given_by_its_name_or_as_itself() -> None:
    for mode in (Isolation.OFF, "off", Isolation.AUTO, "hidden"):
        with Sgx(isolation=mode) as sgx:
            load(FAULTY, sgx).enclave.enter().check()


def test_an_enclave_built_through_ioctls_can_be_adopted(each_sgx: Sgx) -> None:
    built = Source(
        FAULTY.code, FAULTY.threads, blocks=(Block("data"), Block("scratch"), Block("more"))
    ).build()
    file = each_sgx.driver.open_enclave()
    loader = each_sgx.loader(file)
    base = each_sgx.mm.engine.reserve(built.size, built.size)
    loader.create(built.secs(base))
    for run in built.plan.entries:
        loader.add(run)
    loader.init(built.sigstruct)
    for run in built.plan.entries:
        loader.map(base, run)
    with each_sgx.adopt(file, [base + built.symbols["tcs1"]]) as enclave:
        assert enclave.enter().check().rsi == 0x55
        assert (enclave.base, enclave.size) == (base, built.size)
        assert enclave.enter(rdi=1).exception is not None
        resumed = enclave.resume().exception
        assert resumed is not None
        assert resumed.vector == Vector.UD
