"""The asynchronous exit: what it stores, what the host sees, and that nothing is lost.

One enclave serves most tests: it loads a state in which every register and every byte of vector state is
recognisable, stops at an instruction, and stores what it finds when it goes on. Exceptions that cannot be raised here:
#BR (BOUND is no 64-bit instruction, MPX is gone), #CP (CET is off), #NM, #MC.

Bit 0 of a #PF's code, where the VMA denies: the tests touch a page first, or map it afresh. In between the host may
have mapped a page together with its neighbours, and then says "present" where SGX's driver, which maps page by page,
would not.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from swsgx.cpu.encls.edbgwr import edbgwr
from swsgx.inprocess import EnclaveFault, Sgx
from swsgx.inprocess.process import process
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.flags import Attributes
from swsgx.isa.layout import Buffer
from swsgx.isa.leaves import Enclu
from swsgx.isa.ssa import Exitinfo, Gprsgx
from swsgx.isa.vectors import Vector
from swsgx.native.abi import EpcmState
from tests.make.native_enclave import GPRS, NEEDS_GCC, Block, Loaded, R, Source, State, Thread
from tests.make.probe import Landed, Probe, pattern_state
from tests.make.refused import FAR, changed, epcm, mended, protect, unmap

pytestmark = NEEDS_GCC

#: Loads, stops, and stores what it finds when it goes on; leaves the host's MXCSR and x87 state as they are.
STOPPER = """
entry:
	mov	%rcx, data(%rip)
	mov	%rsp, data+8(%rip)
	mov	%rbp, data+16(%rip)
	load	want
{before}
stop:	{instruction}
go_on:	dump	dumped
	mov	data+8(%rip), %rsp
	mov	data+16(%rip), %rbp
	eexit	data(%rip)
"""
BLOCKS = (
    *(Block("data"), Block("scratch"), Block("want"), Block("dumped"), Block("target")),
    *(Block("readonly", perm=R), Block("last")),
)
RF, TF, DF, AC, ID = 0x10000, 0x100, 0x400, 0x40000, 0x200000
ARITHMETIC = 0x8D5


def stopper(
    instruction: str = "ud2",
    before: str = "",
    *,
    xfrm: int = 3,
    miscselect: int = 1,
    nssa: int = 3,
    debug: bool = False,
) -> Source:
    return Source(
        STOPPER.format(instruction=instruction, before=before),
        threads=(Thread(nssa=nssa),),
        blocks=BLOCKS,
        xfrm=xfrm,
        miscselect=miscselect,
        attributes=Attributes.MODE64BIT | (Attributes.DEBUG if debug else 0),
    )


def wanted(loaded: Loaded, **registers: int) -> State:
    """What the thread is to hold when it stops."""
    want = loaded.state("want")
    want.buffer[:] = pattern_state(loaded.built.source.xfrm, 0x30).buffer
    for name, value in registers.items():
        setattr(want, name, value)
    return want


def stop(loaded: Loaded, **registers: int) -> EnclaveFault:
    """Enter, and be told of the exception inside."""
    wanted(loaded, **registers)
    fault = loaded.enclave.enter().exception
    assert fault is not None, "nothing stopped the thread"
    assert fault.inside
    return fault


Place = Callable[[Loaded], int]


def at(symbol: str, offset: int = 0) -> Place:
    return lambda loaded: loaded.address(symbol, offset)


def fixed(value: int) -> Place:
    return lambda loaded: value


_ZERO = fixed(0)


def _nothing(loaded: Loaded) -> None:
    """No poke."""


@dataclass(frozen=True)
class Case:
    """An exception, and how to raise it.

    Attributes:
        instruction: stops the thread.
        before: what has to be done between loading the state and that.
        rcx: an operand.
        poke: done to the loaded enclave first.
        address: of a #PF.
        valid: whether EXITINFO tells of it, with EXINFO.
        rip: where it stops; None: at the instruction.
        signal: what a program with its own AEP gets, and si_code.
    """

    vector: Vector
    instruction: str
    before: str = ""
    rcx: Place = _ZERO
    poke: Callable[[Loaded], None] = _nothing
    code: int = 0
    address: Place | None = None
    valid: bool = True
    rip: Place | None = None
    signal: signal.Signals = signal.SIGSEGV
    si_code: int = 0x80
    words: str = "the instruction completes"


def pf(
    instruction: str,
    where: Place,
    code: int,
    words: str,
    poke: Callable[[Loaded], None] = _nothing,
    si_code: int = 2,
    signo: signal.Signals = signal.SIGSEGV,
    before: str = "",
) -> Case:
    return Case(
        Vector.PF,
        instruction,
        before,
        rcx=where,
        poke=poke,
        code=code,
        address=where,
        rip=where if instruction == JUMP else None,
        signal=signo,
        si_code=si_code,
        words=words,
    )


def in_epcm(symbol: str, **fields: int) -> Callable[[Loaded], None]:
    """What an SGX2 leaf would do to a page; the driver is told."""

    def poke(loaded: Loaded) -> None:
        entry = epcm(loaded, symbol)
        for name, value in fields.items():
            setattr(entry, name, value)
        encl = loaded.enclave.file.encl
        encl.pages_changed(loaded.built.symbols[symbol] // PAGE_SIZE, 1)
        changed(loaded)

    return poke


def map_the_hole(loaded: Loaded) -> None:
    """Map it, and have no page appear by the touch: as without SGX2, or before INIT."""
    outcome = loaded.enclave.file.encl.mappings[0].mm.mmap(
        loaded.address("last", PAGE_SIZE), PAGE_SIZE, 3, 0x11, loaded.enclave.file
    )
    assert outcome.ok, outcome.reason
    loaded.enclave.file.encl.initialised = False


READ, WRITE, JUMP = "mov (%rcx), %al", "mov %al, (%rcx)", "jmp *%rcx"
PENDING = {"state": EpcmState.VALID | EpcmState.PENDING}

CASES: dict[str, Case] = {
    "DE": Case(Vector.DE, "div %rcx", signal=signal.SIGFPE, si_code=1),
    "UD": Case(Vector.UD, "ud2", signal=signal.SIGILL, si_code=2),
    "GP, an address that is not canonical": Case(Vector.GP, READ, rcx=fixed(FAR)),
    "GP, a privileged instruction": Case(Vector.GP, "hlt"),
    "GP, a jump out of ELRANGE": Case(
        Vector.GP, JUMP, rcx=fixed(0x10), rip=fixed(0x10), words="code inside an enclave stays in ELRANGE"
    ),
    "GP, a jump to what is not canonical": Case(Vector.GP, JUMP, rcx=fixed(FAR), words=""),
    "SS": Case(
        Vector.SS,
        "mov (%rsp,%rcx), %al",
        "mov $0x40, %cl\n shl $57, %rcx",
        valid=False,
        signal=signal.SIGBUS,
        si_code=0x80,
    ),
    "PF, read of a page that is not mapped": pf(
        READ, at("last", 0x123), 0x4, "the process maps the page", unmap("last"), 1
    ),
    "PF, write to a page that is not mapped": pf(
        WRITE, at("last", 0xFFF), 0x6, "the process maps the page", unmap("last"), 1
    ),
    "PF, write to a page of its own that is read-only": pf(
        WRITE, at("readonly", 8), 0x7, "the process's mapping allows", before="mov (%rcx), %bl"
    ),
    "PF, write to a page that was made read-only and not touched since": pf(
        WRITE, at("last", 8), 0x6, "the process's mapping allows", protect("last", 1)
    ),
    "PF, read of a page without access": pf(
        READ, at("last"), 0x4, "the process's mapping allows", protect("last", 0)
    ),
    "PF, jump to data": pf(JUMP, at("last"), 0x15, "the process's mapping allows", before="mov (%rcx), %bl"),
    "PF, read where the enclave has no page": pf(
        READ, at("last", 0x1008), 0x4, "the enclave has a page there", map_the_hole, 2, signal.SIGBUS
    ),
    "PF, write where the enclave has no page": pf(
        WRITE, at("last", 0x1008), 0x6, "the enclave has a page there", map_the_hole, 2, signal.SIGBUS
    ),
    "PF, write that the EPCM denies": pf(
        WRITE, at("last", 4), 0x8007, "the EPCM allows the access", in_epcm("last", perm=1)
    ),
    "PF, read of a page that is pending": pf(
        READ, at("last"), 0x8005, "the EPCM allows the access", in_epcm("last", **PENDING)
    ),
    "PF, write to a page that is pending": pf(
        WRITE, at("last"), 0x8007, "the EPCM allows the access", in_epcm("last", **PENDING)
    ),
    "PF, read of its own TCS": pf(READ, at("tcs0", 8), 0x8005, "the EPCM allows the access"),
    "PF, write to its own TCS": pf(WRITE, at("tcs0", 8), 0x8007, "the EPCM allows the access"),
    "PF, NULL": pf(READ, fixed(0), 0x4, "memory outside ELRANGE is mapped", si_code=1),
    "PF, a write beside NULL": pf(WRITE, fixed(0x18), 0x6, "memory outside ELRANGE is mapped", si_code=1),
    "MF": Case(
        Vector.MF, "fwait", "fninit\n fldcw fcw(%rip)\n fld1\n fldz\n fdivrp", signal=signal.SIGFPE, si_code=3
    ),
    "XM": Case(
        Vector.XM,
        "divss %xmm1, %xmm0",
        "pxor %xmm1, %xmm1\n ldmxcsr mxcsr(%rip)",
        signal=signal.SIGFPE,
        si_code=3,
    ),
    "AC": Case(Vector.AC, "mov 1(%rcx), %eax", rcx=at("last"), signal=signal.SIGBUS, si_code=1),
}
#: Flags that a case needs.
NEEDS = {"AC": 0x202 | AC}
CONSTANTS = "\n\t.balign 4\nfcw:	.short 0x037b\n\t.balign 4\nmxcsr:	.long 0x1d80\n"


def source_of(case: Case, miscselect: int = 1) -> Source:
    made = stopper(case.instruction, case.before, miscselect=miscselect)
    return Source(
        made.code + CONSTANTS,
        made.threads,
        made.blocks,
        made.ssaframesize,
        made.xfrm,
        made.miscselect,
        made.attributes,
    )


@pytest.fixture
def raised(request: pytest.FixtureRequest, each_sgx: Sgx) -> Iterator[tuple[Loaded, Case]]:
    """An enclave that is about to raise it, on each machine."""
    with about_to_raise(each_sgx, request.param) as made:
        yield made


@pytest.fixture
def simply_raised(request: pytest.FixtureRequest, sgx: Sgx) -> Iterator[tuple[Loaded, Case]]:
    """The same, on one machine."""
    with about_to_raise(sgx, request.param) as made:
        yield made


@contextlib.contextmanager
def about_to_raise(sgx: Sgx, name: str) -> Iterator[tuple[Loaded, Case]]:
    case = CASES[name]
    loaded = source_of(case).build().load(sgx)
    with mended(loaded):
        case.poke(loaded)
        wanted(loaded, rcx=case.rcx(loaded), rflags=NEEDS.get(name, 0x202))
        yield loaded, case


ALL = pytest.mark.parametrize("raised", CASES, indirect=True)
EACH = pytest.mark.parametrize("simply_raised", CASES, indirect=True)


def stops_at(loaded: Loaded, case: Case) -> list[int]:
    """Where the thread may be said to be: where a branch to a non-canonical address faults, CPUs disagree."""
    if case.instruction == JUMP and case.rcx(loaded) == FAR:
        return [loaded.address("stop"), FAR]
    return [case.rip(loaded) if case.rip else loaded.address("stop")]


# What the host is told.


@ALL
def test_the_host_is_told_vector_code_and_page(raised: tuple[Loaded, Case]) -> None:
    loaded, case = raised
    for _ in range(2):
        fault = loaded.enclave.enter().exception
        assert fault is not None
        page = case.address(loaded) & ~0xFFF if case.address else 0
        assert (fault.vector, fault.error_code, fault.address) == (case.vector, case.code, page)
        assert fault.inside
        assert case.words in fault.reason.rule
        assert fault.offset is not None
        assert fault.offset + loaded.enclave.base in stops_at(loaded, case)


@ALL
def test_a_program_with_its_own_aep_gets_the_kernels_signal(
    raised: tuple[Loaded, Case], probe: Probe
) -> None:
    loaded, case = raised
    every = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
    with probe.catching(*every):
        probe.prepare(rsp=0x7000_1234, rbp=0x5678)
        assert probe.raw(loaded) == Landed.AEP
        caught = probe.caught
    assert (caught.count, caught.signal, caught.code) == (1, case.signal, case.si_code)
    told = caught.registers
    assert (told["trap"], told["error"]) == (case.vector, case.code)
    page = case.address(loaded) & ~0xFFF if case.address else None
    if page is not None:
        assert (caught.address, told["cr2"]) == (page, page)
    elif case.vector in (Vector.UD, Vector.DE, Vector.MF, Vector.XM):
        assert caught.address == probe.address("probe_aep")
    else:
        assert caught.address == 0
    # The handler saw the synthetic state, and nothing of the enclave.
    expected = dict.fromkeys(GPRS, 0) | {
        "rax": Enclu.ERESUME,
        "rbx": loaded.enclave.tcs[0],
        "rcx": probe.address("probe_aep"),
        "rsp": 0x7000_1234,
        "rbp": 0x5678,
    }
    assert {name: told[name] for name in GPRS} == expected
    assert told["rip"] == probe.address("probe_aep")
    assert probe.out.gprs() == expected


# What the enclave is told.


@EACH
def test_gprsgx_is_right_to_the_byte(simply_raised: tuple[Loaded, Case]) -> None:
    loaded, case = simply_raised
    loaded.frame()[:] = b"\xa5" * PAGE_SIZE
    loaded.enclave.enter()
    found, want = loaded.gpr(), loaded.state("want")
    expected = Gprsgx(bytearray(b"\xa5" * Gprsgx.size_of))
    for name in GPRS:
        setattr(expected, name, getattr(want, name))
    if case.before and case.vector == Vector.SS:
        expected.rcx = 0x8000_0000_0000_0000
    if "%bl" in case.before:
        expected.rbx = want.rbx & ~0xFF
    expected.rflags = found.rflags
    expected.rip = found.rip
    assert found.rip in stops_at(loaded, case)
    expected.ursp, expected.urbp = found.ursp, found.urbp
    expected.exitinfo = int(Exitinfo(case.vector, 3, valid=True)) if case.valid else 0
    expected.fsbase = expected.gsbase = loaded.address("tls0")
    assert bytes(found.buffer) == bytes(expected.buffer)
    assert found.rflags & ~(ARITHMETIC | RF) == want.rflags
    assert found.rflags & RF, "RF is as a fault pushes it"


@EACH
def test_exinfo_is_for_page_faults_and_gp_only(simply_raised: tuple[Loaded, Case]) -> None:
    loaded, case = simply_raised
    loaded.frame()[:] = b"\xa5" * PAGE_SIZE
    loaded.enclave.enter()
    info = loaded.exinfo()
    if case.vector == Vector.PF:
        assert case.address is not None
        assert (info.maddr, info.errcd, info.reserved_12) == (case.address(loaded), case.code, bytes(4))
    elif case.vector == Vector.GP:
        assert (info.maddr, info.errcd, info.reserved_12) == (0, 0, bytes(4))
    else:
        assert bytes(info.buffer) == b"\xa5" * 16


@pytest.mark.parametrize("name", CASES)
def test_without_exinfo_page_faults_and_gp_are_not_told(sgx: Sgx, name: str) -> None:
    case = CASES[name]
    loaded = source_of(case, miscselect=0).build().load(sgx)
    with mended(loaded):
        case.poke(loaded)
        loaded.frame()[:] = b"\xa5" * PAGE_SIZE
        stop(loaded, rcx=case.rcx(loaded), rflags=NEEDS.get(name, 0x202))
        told = case.valid and case.vector not in (Vector.PF, Vector.GP)
        assert loaded.gpr().exitinfo == (int(Exitinfo(case.vector, 3, valid=True)) if told else 0)
        assert bytes(loaded.exinfo().buffer) == b"\xa5" * 16


# Extended state.

XCR0 = process().xcr0
MASKS = [mask for mask in (0x3, 0x7, 0xE7) if not mask & ~XCR0]


def components(mask: int) -> dict[str, slice]:
    """Where the state under the mask lies: what programs can see of it."""
    parts = {"x87 control": slice(0, 5), "MXCSR": slice(24, 28)}
    parts |= {f"ST{n}": slice(32 + 16 * n, 42 + 16 * n) for n in range(8)}
    parts["XMM"] = slice(160, 416)
    for bit, (offset, size) in process().components.items():
        if mask >> bit & 1:
            parts[f"component {bit}"] = slice(offset, offset + size)
    return parts


def same(mask: int, found: Buffer, expected: Buffer) -> None:
    for name, part in components(mask).items():
        assert bytes(found[part]) == bytes(expected[part]), name


@pytest.mark.parametrize("mask", MASKS)
def test_all_vector_state_is_stored_and_comes_back(each_sgx: Sgx, mask: int) -> None:
    loaded = stopper(xfrm=mask).build().load(each_sgx)
    for _ in range(3):
        loaded.frame()[:] = b"\xa5" * PAGE_SIZE
        stop(loaded)
        want = loaded.state("want").xsave
        frame = bytes(loaded.frame())
        same(mask, frame, want)
        loaded.gpr().rip = loaded.address("go_on")
        loaded.enclave.resume().check()
        same(mask, loaded.state("dumped").xsave, want)


@pytest.mark.parametrize("mask", MASKS)
def test_the_xsave_header_and_what_is_not_written(each_sgx: Sgx, mask: int) -> None:
    loaded = stopper(xfrm=mask).build().load(each_sgx)
    loaded.frame()[:] = b"\xff" * PAGE_SIZE
    stop(loaded)
    frame = bytes(loaded.frame())
    assert frame[512:520] == mask.to_bytes(8, "little"), "bits outside of XFRM are cleared"
    assert frame[520:536] == bytes(16)
    assert frame[536:576] == b"\xff" * 40
    assert frame[464:512] == b"\xff" * 48
    end = max([576, *(part.stop for part in components(mask).values())])
    assert frame[end : PAGE_SIZE - Gprsgx.size_of] == b"\xff" * (PAGE_SIZE - Gprsgx.size_of - end)


@pytest.mark.parametrize("mask", MASKS)
def test_state_in_its_initial_configuration_stays_so(each_sgx: Sgx, mask: int) -> None:
    loaded = stopper(
        xfrm=mask, before="mov %rdx, %r8\n mov $xfrm, %eax\n xor %edx, %edx\n xrstor64 target(%rip)"
    ).build()
    inside = loaded.load(each_sgx)
    inside.memory("target", 4, 24)[:] = (0x1F80).to_bytes(4, "little")
    stop(inside)
    initial = bytearray(4096)
    initial[0:2], initial[24:28] = (0x37F).to_bytes(2, "little"), (0x1F80).to_bytes(4, "little")
    same(mask, inside.frame(), initial)
    inside.gpr().rip = inside.address("go_on")
    inside.enclave.resume().check()
    same(mask, inside.state("dumped").xsave, initial)


def test_random_vector_state_survives(sgx: Sgx) -> None:
    """All that this CPU has, random bytes, many times."""
    mask = MASKS[-1]
    loaded = stopper(xfrm=mask).build().load(sgx)
    random = np.random.default_rng(1)
    for _ in range(200):
        want = wanted(loaded)
        area = bytearray(want.xsave)
        for name, part in components(mask).items():
            if name.startswith(("XMM", "component")):
                area[part] = random.bytes(part.stop - part.start)
        want.xsave = bytes(area)
        assert loaded.enclave.enter().exception is not None
        loaded.gpr().rip = loaded.address("go_on")
        loaded.enclave.resume().check()
        same(mask, loaded.state("dumped").xsave, area)


# The synthetic state.

HOST_MASK = 0xE7 & XCR0


@pytest.mark.parametrize("mask", MASKS)
def test_synthetic_state_hides_all_of_xfrm_and_leaves_the_rest(
    each_sgx: Sgx, probe: Probe, mask: int
) -> None:
    loaded = stopper(xfrm=mask).build().load(each_sgx)
    wanted(loaded)
    with probe.catching(signal.SIGILL):
        probe.prepare(HOST_MASK)
        probe.into.gsbase = 0x5000
        assert probe.raw(loaded) == Landed.AEP
        assert int.from_bytes(probe.caught.fxsave[24:28], "little") == 0x1FB0
        assert probe.caught.fxsave[32:416] == bytes(384)
    found, given = probe.out.xsave, probe.into.xsave
    assert found[0:2] == (0x037F).to_bytes(2, "little")
    assert found[2:24] == bytes(22)
    assert found[24:28] == (0x1FB0).to_bytes(4, "little")
    assert found[32:416] == bytes(384)
    for bit, (offset, size) in process().components.items():
        if not HOST_MASK >> bit & 1:
            continue
        expected = bytes(size) if mask >> bit & 1 else given[offset : offset + size]
        assert found[offset : offset + size] == expected, f"component {bit}"
    assert probe.out.gsbase == 0x5000


@pytest.mark.parametrize(
    ("name", "fcw", "fsw", "mxcsr"),
    [("MF", 0x037E, 0x8081, 0x1FB0), ("XM", 0x037F, 0, 0x1F01), ("UD", 0x037F, 0, 0x1FB0)],
)
def test_synthetic_control_registers_tell_of_numeric_exceptions(
    each_sgx: Sgx, probe: Probe, name: str, fcw: int, fsw: int, mxcsr: int
) -> None:
    loaded = source_of(CASES[name]).build().load(each_sgx)
    wanted(loaded)
    with probe.catching(signal.SIGFPE, signal.SIGILL):
        probe.prepare()
        assert probe.raw(loaded) == Landed.AEP
    found = probe.out.xsave
    assert (found[0:2], found[2:4]) == (fcw.to_bytes(2, "little"), fsw.to_bytes(2, "little"))
    assert found[24:28] == mxcsr.to_bytes(4, "little")


@pytest.mark.parametrize("name", ["MF", "XM", "AC", "DE"])
def test_python_goes_on_computing_after_a_numeric_exception(each_sgx: Sgx, name: str) -> None:
    case = CASES[name]
    loaded = source_of(case).build().load(each_sgx)
    for _ in range(2):
        stop(loaded, rcx=case.rcx(loaded), rflags=NEEDS.get(name, 0x202))
        assert float("1.5e300") * 2.0 == 3e300
        assert np.longdouble(1) / np.longdouble(3) != 0
        assert np.divide(np.ones(3), 3.0).sum() == 1.0
        with np.errstate(divide="ignore"):
            assert np.isinf(np.float32(1) / np.float32(0))


def test_flags_of_the_synthetic_state(each_sgx: Sgx, probe: Probe) -> None:
    loaded = stopper().build().load(each_sgx)
    for inside in (0x202, 0x202 | ARITHMETIC, 0x202 | DF | AC | ID, 0x202 | ARITHMETIC | DF | AC | ID):
        wanted(loaded, rflags=inside)
        loaded.tcs().cssa = 0
        with probe.catching(signal.SIGILL):
            probe.prepare()
            assert probe.raw(loaded) == Landed.AEP
        assert probe.out.rflags == inside & ~ARITHMETIC


def test_the_vdso_function_returns_with_the_synthetic_state(each_sgx: Sgx, probe: Probe) -> None:
    loaded = stopper().build().load(each_sgx)
    wanted(loaded)
    probe.prepare()
    assert probe.vdso(loaded) == Landed.RETURN
    run, out = probe.run, probe.out
    assert (run.function, run.exception_vector) == (Enclu.ERESUME, Vector.UD)
    assert (run.exception_error_code, run.exception_addr) == (0, 0)
    assert (out.rdi, out.rsi, out.rdx) == (Vector.UD, 0, 0)
    assert all(getattr(out, f"r{n}") == 0 for n in range(8, 16))
    assert out.rax & 0xFFFF_FFFF == 0
    assert out.xsave[24:28] == (0x1FB0).to_bytes(4, "little")
    assert out.xsave[32:416] == bytes(384)


# State of the machine.


def test_cssa_goes_up_and_the_tcs_is_free(each_sgx: Sgx) -> None:
    loaded = stopper(nssa=3).build().load(each_sgx)
    for cssa in (1, 2, 3):
        stop(loaded)
        assert (loaded.tcs().cssa, loaded.tcs().state) == (cssa, 0)
    assert loaded.enclave.counters["aex"] == 3


def test_nested_frames_up_to_nssa_and_back(each_sgx: Sgx) -> None:
    """Each frame keeps its own registers; the last one can only be resumed."""
    depth = 4
    loaded = stopper(nssa=depth).build().load(each_sgx)
    for level in range(depth):
        wanted(loaded, r8=1000 + level, rsp=loaded.address("scratch", 256 * (level + 1)))
        fault = loaded.enclave.enter().exception
        assert fault is not None
        assert fault.inside
        # What only the exit needs, and each level overwrites.
        loaded.frame(level)[:8] = loaded.frame(level)[:8]
        saved = [loaded.word("data", at) for at in (0, 8, 16)]
        loaded.set_word("target", saved[0], 24 * level)
        loaded.set_word("target", saved[1], 24 * level + 8)
        loaded.set_word("target", saved[2], 24 * level + 16)
    refused = loaded.enclave.enter().exception
    assert refused is not None
    assert not refused.inside
    assert "an SSA frame is free" in refused.reason.rule
    for level in reversed(range(depth)):
        assert loaded.gpr(level).r8 == 1000 + level
        for word in range(3):
            loaded.set_word("data", loaded.word("target", 24 * level + 8 * word), 8 * word)
        loaded.gpr(level).rip = loaded.address("go_on")
        loaded.enclave.resume().check()
        assert loaded.state("dumped").r8 == 1000 + level
        assert loaded.tcs().cssa == level
    assert loaded.enclave.resume().exception is not None


# Resuming.


def test_after_the_cause_is_gone_the_instruction_runs_again(each_sgx: Sgx) -> None:
    loaded = stopper(WRITE).build().load(each_sgx)
    protect("last", 1)(loaded)
    fault = stop(loaded, rcx=loaded.address("last", 5), rax=0x77)
    assert fault.vector == Vector.PF
    protect("last", 3)(loaded)
    loaded.enclave.resume().check()
    assert loaded.memory("last")[5] == 0x77


def test_with_nothing_changed_it_stops_again_just_the_same(each_sgx: Sgx) -> None:
    loaded = stopper("div %rcx").build().load(each_sgx)
    first = stop(loaded, rcx=0)
    before = bytes(loaded.gpr().buffer)
    for _ in range(5):
        again = loaded.enclave.resume().exception
        assert again is not None
        assert (again.vector, again.inside, again.offset) == (first.vector, True, first.offset)
        assert bytes(loaded.gpr().buffer) == before
        assert loaded.tcs().cssa == 1


def test_a_mapping_wider_than_a_pages_ceiling_faults_at_any_touch(sgx: Sgx, probe: Probe) -> None:
    """The mapping is made before the page is there; the driver has no page for it then (VM_FAULT_SIGBUS)."""
    for instruction, code in ((READ, 0x4), (WRITE, 0x6)):
        built = stopper(instruction).build()
        file = sgx.driver.open_enclave()
        loader = sgx.loader(file)
        base = sgx.mm.engine.reserve(built.size, built.size)
        loader.create(built.secs(base))
        wide = built.symbols["readonly"]
        assert sgx.mm.mmap(base + wide, PAGE_SIZE, 3, 0x11, file).ok
        for run in built.plan.entries:
            loader.add(run)
            if run.offset != wide:
                loader.map(base, run)
        loader.init(built.sigstruct)
        loaded = Loaded(sgx.adopt(file, [base + built.symbols["tcs0"]]), built)
        wanted(loaded, rcx=base + wide + 0x10)
        with probe.catching(signal.SIGBUS):
            probe.prepare()
            assert probe.raw(loaded) == Landed.AEP
            told = probe.caught
        assert (told.signal, told.code, told.address) == (signal.SIGBUS, 2, base + wide)
        assert (told.registers["trap"], told.registers["error"]) == (Vector.PF, code)
        fault = loaded.enclave.enter().exception
        assert fault is not None
        assert (fault.vector, fault.error_code) == (Vector.PF, code)
        assert "no more than the page's ceiling" in fault.reason.rule


def test_after_the_frame_was_edited_the_thread_goes_on_there(each_sgx: Sgx) -> None:
    loaded = stopper("div %rcx").build().load(each_sgx)
    stop(loaded, rcx=0, rax=100, rdx=0)
    loaded.gpr().rcx = 7
    loaded.enclave.resume().check()
    assert (loaded.state("dumped").rax, loaded.state("dumped").rdx) == (14, 2)


# Interrupts.

SPINNER = """
entry:
	mov	%rcx, data(%rip)
	mov	%rsp, data+8(%rip)
	mov	%rbp, data+16(%rip)
	load	want
spin:	cmpq	$0, data+24(%rip)
	je	spin
	dump	dumped
	mov	data+8(%rip), %rsp
	mov	data+16(%rip), %rbp
	eexit	data(%rip)
"""


def test_an_interrupt_tells_the_enclave_nothing(each_sgx: Sgx, probe: Probe) -> None:
    loaded = Source(SPINNER, blocks=BLOCKS, miscselect=1, xfrm=MASKS[-1]).build().load(each_sgx)
    want = wanted(loaded)
    loaded.frame()[:] = b"\xa5" * PAGE_SIZE
    with probe.catching(signal.SIGALRM):
        probe.prepare()
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert probe.raw(loaded) == Landed.AEP
        assert probe.caught.signal == signal.SIGALRM
        assert probe.caught.registers["rip"] == probe.address("probe_aep")
        assert probe.caught.registers["rax"] == Enclu.ERESUME
    gpr = loaded.gpr()
    assert gpr.exitinfo == 0
    assert bytes(loaded.exinfo().buffer) == b"\xa5" * 16
    assert {name: getattr(gpr, name) for name in GPRS} == want.gprs()
    assert gpr.rflags & (RF | TF) == 0
    assert loaded.address("spin") <= gpr.rip < loaded.address("spin") + 10
    same(MASKS[-1], loaded.frame(), want.xsave)
    loaded.set_word("data", 1, 24)
    assert loaded.enclave.resume().check().rcx
    assert loaded.state("dumped").gprs() == want.gprs()


# Debug.


def test_int3_is_ud_for_an_opt_out_entry(each_sgx: Sgx) -> None:
    loaded = stopper("int3").build().load(each_sgx)
    fault = stop(loaded)
    assert (fault.vector, fault.error_code) == (Vector.UD, 0)
    assert loaded.gpr().exitinfo == int(Exitinfo(Vector.UD, 3, valid=True))
    assert loaded.gpr().rip == loaded.address("stop")
    assert loaded.gpr().rflags & RF, "a fault, not a trap"


def opt_in(loaded: Loaded, sgx: Sgx) -> None:
    """EDBGWR of TCS.FLAGS.DBGOPTIN, as a debugger does."""
    encl = loaded.enclave.file.encl
    frame = int(encl.store.frame_map[loaded.built.symbols["tcs0"] // PAGE_SIZE]) - 1
    assert edbgwr(sgx.cpu, EpcAddr(sgx.cpu.epc.address(frame) + 8), 1).ok
    changed(loaded)


class Seen(Exception):
    """The program's handler ran."""


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """A Python handler for SIGTRAP, which ends the call."""
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        seen.append(number)
        raise Seen

    before = signal.signal(signal.SIGTRAP, handler)
    yield seen
    signal.signal(signal.SIGTRAP, before)


def test_int3_is_bp_for_an_opt_in_entry_and_a_signal_for_the_host(each_sgx: Sgx, handled: list[int]) -> None:
    loaded = stopper("int3", debug=True).build().load(each_sgx)
    opt_in(loaded, each_sgx)
    wanted(loaded)
    with pytest.raises(Seen):
        loaded.enclave.enter()
    assert handled == [signal.SIGTRAP]
    gpr = loaded.gpr()
    assert gpr.exitinfo == int(Exitinfo(Vector.BP, 6, valid=True))
    assert gpr.rip == loaded.address("stop")
    assert loaded.tcs().cssa == 1
    gpr.rip = loaded.address("go_on")
    loaded.enclave.resume().check()
    assert loaded.state("dumped").gprs() == loaded.state("want").gprs()


def test_int1_is_db_and_a_signal_for_the_host(each_sgx: Sgx, handled: list[int]) -> None:
    loaded = stopper(".byte 0xf1", debug=True).build().load(each_sgx)
    opt_in(loaded, each_sgx)
    wanted(loaded)
    with pytest.raises(Seen):
        loaded.enclave.enter()
    assert loaded.gpr().exitinfo == int(Exitinfo(Vector.DB, 3, valid=True))
    # A trap: RIP is behind the instruction. Some hypervisors leave it there, for every program.
    assert loaded.gpr().rip in (loaded.address("stop"), loaded.address("go_on"))
    loaded.gpr().rip = loaded.address("go_on")
    loaded.enclave.resume().check()
    assert loaded.state("dumped").gprs() == loaded.state("want").gprs()
