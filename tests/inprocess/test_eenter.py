"""EENTER: each check of the manual, the order of the checks, and what an entry changes.

The numbers are those of the manual's order: 2 alignment of RBX, 3 RBX in the EPC, 4 AEP, 6 EPCM of the TCS, 7 offsets
in the TCS, 8 TCS.FLAGS, 9 INIT, 10 mode, 11 XFRM, 13 CSSA, 14 XSAVE pages of the SSA, 15 the page of GPRSGX, 16 entry
point, 17 FS and GS, 18 busy.

Out of reach here: 1 (segments: there are none to check in 64-bit mode), 5 (the TCS in use by another leaf: leaves that
use a TCS exclusively run one at a time, in the driver, and are done when EENTER looks), 12 (AEX-Notify: CPUID says it
is absent; then TCS.FLAGS.AEXNOTIFY is a reserved bit, check 8). A 32-bit enclave (10) cannot be entered by the 64-bit
code that is here; the test makes one out of a 64-bit one.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator

import pytest

from swsgx.inprocess import Sgx
from swsgx.inprocess.process import process
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.leaves import Enclu
from swsgx.isa.ssa import INTEL_COMPONENTS
from swsgx.isa.vectors import Vector
from tests.make.native_enclave import NEEDS_GCC, Block, Loaded, Source, State, Thread
from tests.make.probe import Landed, Probe, pattern_state
from tests.make.refused import (
    EENTER,
    FAR,
    SHARED,
    VICTIM,
    assert_refused,
    attempt,
    mended,
    protect,
    raw_refusal,
    set_tcs,
)

pytestmark = NEEDS_GCC

RULES = SHARED | EENTER
NUMBER = {name: int(name.split()[0]) for name in RULES}


@pytest.fixture(scope="module")
def lasting() -> Iterator[Loaded]:
    """One enclave for the tests that leave it as it was."""
    with Sgx(isolation="off", epc_size=1 << 20) as sgx:
        yield VICTIM.build().load(sgx)


@pytest.fixture
def victim(lasting: Loaded) -> Iterator[Loaded]:
    """An enclave whose tables a test may poke, and that was never entered as far as the fast path knows."""
    with mended(lasting):
        yield lasting


# Each check.


@pytest.mark.parametrize("name", RULES)
def test_each_rule_that_does_not_hold_is_the_one_that_is_named(victim: Loaded, name: str) -> None:
    fault = attempt(victim, Enclu.EENTER, RULES[name])
    assert_refused(victim, fault, RULES[name])
    assert fault.reason.operation == "EENTER"


@pytest.mark.parametrize("name", RULES)
def test_each_check_is_made_again_after_an_entry_that_was_granted(victim: Loaded, name: str) -> None:
    for _ in range(3):
        victim.enclave.enter().check()
    assert_refused(victim, attempt(victim, Enclu.EENTER, RULES[name]), RULES[name])


@pytest.mark.parametrize("name", RULES)
def test_an_entry_that_is_refused_changes_nothing(victim: Loaded, name: str) -> None:
    victim.enclave.enter().check()
    RULES[name].poke(victim)
    before = bytes(victim.contents)
    attempt(victim, Enclu.EENTER, RULES[name])
    assert bytes(victim.contents) == before


#: One way to break each check; each pair of them in both orders of breaking.
ONE_EACH = {NUMBER[name]: name for name in reversed(RULES)}


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(sorted(ONE_EACH), 2)))
def test_of_two_violations_the_first_in_the_manuals_order_is_reported(
    victim: Loaded, first: int, second: int
) -> None:
    # Breaking the second first: what it pokes must still be where it is looked for.
    fault = attempt(victim, Enclu.EENTER, RULES[ONE_EACH[second]], RULES[ONE_EACH[first]])
    assert_refused(victim, fault, RULES[ONE_EACH[first]])


def test_the_pages_of_the_xsave_area_come_before_the_page_of_gprsgx(victim: Loaded) -> None:
    fault = attempt(victim, Enclu.EENTER, RULES["15 gpr: blocked"], RULES["14 xsave: not W"])
    assert_refused(victim, fault, RULES["14 xsave: not W"])


# What the table cannot say.


def test_an_enclave_before_einit_cannot_be_entered(sgx: Sgx) -> None:
    built = VICTIM.build()
    file = sgx.driver.open_enclave()
    loader = sgx.loader(file)
    base = sgx.mm.engine.reserve(built.size, built.size)
    loader.create(built.secs(base))
    for run in built.plan.entries:
        loader.add(run)
        loader.map(base, run)
    enclave = sgx.adopt(file, [base + built.symbols["tcs0"]])
    fault = enclave.enter().exception
    assert fault is not None
    assert (fault.vector, fault.error_code) == (Vector.GP, 0)
    assert "initialised" in fault.reason.rule
    loader.init(built.sigstruct)
    enclave.enter().check()


def test_xfrm_that_ecreate_takes_and_xcr0_has_not_is_found_at_the_entry() -> None:
    # MPX: no CPU that is built today has it.
    model = CpuModel.with_sgx2(epc_size=1 << 20, xfrm_mask=0x1F, components=INTEL_COMPONENTS)
    if process().xcr0 & 0x18:
        pytest.skip("this CPU has MPX; run on one made after 2019")
    with Sgx(model=model, isolation="off") as sgx:
        loaded = Source("entry: eexit", xfrm=0x1F).build().load(sgx)
        fault = loaded.enclave.enter().exception
        assert fault is not None
        assert_refused(loaded, fault, RULES["11 XFRM"])


def test_what_eadd_clears_in_a_tcs_does_not_come_back(sgx: Sgx) -> None:
    fields = {"flags": 1, "state": 1, "cssa": 1, "aep": FAR}
    clear = Source("entry: eexit").build()
    given = Source("entry: eexit", threads=(Thread(fields=fields),)).build()
    loaded = Loaded(sgx.load(given.plan, clear.sigstruct), given)
    loaded.enclave.enter().check()
    tcs = loaded.tcs()
    assert (tcs.flags, tcs.state, tcs.cssa) == (0, 0, 0)


def test_reserved_tcs_flags_are_found_at_the_entry_and_not_by_eadd(sgx: Sgx) -> None:
    loaded = Source("entry: eexit", threads=(Thread(fields={"flags": 4}),)).build().load(sgx)
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert "TCS.FLAGS" in fault.reason.rule


def test_a_tcs_with_no_frame_at_all_is_refused(sgx: Sgx) -> None:
    loaded = Source("entry: eexit", threads=(Thread(fields={"nssa": 0}),)).build().load(sgx)
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert "an SSA frame is free" in fault.reason.rule


@pytest.mark.parametrize("field", ["oentry", "ofsbase", "ogsbase"])
def test_the_last_address_below_the_canonical_hole_is_canonical(sgx: Sgx, field: str) -> None:
    loaded = VICTIM.build().load(sgx)
    last = (1 << 47) - 0x1000 - loaded.enclave.base
    set_tcs(field, last + 0x1000)(loaded)
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert "canonical" in fault.reason.rule
    if field != "oentry":
        set_tcs(field, last)(loaded)
        loaded.enclave.enter().check()


def test_a_first_entry_that_was_refused_does_not_spoil_the_next(sgx: Sgx) -> None:
    # The record of the TCS exists then, without the results of the checks.
    loaded = VICTIM.build().load(sgx)
    protect("ssa0", 1)(loaded)
    assert loaded.enclave.enter().exception is not None
    protect("ssa0", 3)(loaded)
    loaded.enclave.enter().check()
    loaded.enclave.enter().check()


def test_pages_between_the_xsave_area_and_gprsgx_are_not_looked_at(victim: Loaded) -> None:
    # VICTIM has no memory there.
    victim.enclave.enter().check()
    fault = victim.enclave.enter(rdi=1).exception
    assert fault is not None
    assert fault.inside
    assert victim.gpr().rip == victim.address("trap")


def test_only_pages_of_the_frame_in_use_are_looked_at(victim: Loaded) -> None:
    RULES["14 xsave: not W"].poke(victim)
    victim.tcs().cssa = 1
    victim.enclave.file.encl.store.changed()
    assert victim.enclave.enter().check().rdi == 0


def test_a_tcs_that_is_busy_is_refused_and_not_disturbed(victim: Loaded) -> None:
    assert_refused(victim, attempt(victim, Enclu.EENTER, RULES["18 busy"]), RULES["18 busy"])
    assert victim.tcs().state == 1
    victim.tcs().state = 0
    victim.enclave.enter().check()
    assert victim.tcs().state == 0


#: What the kernel tells a program whose own ENCLU faults: no mapping, a mapping that forbids it, a page that the driver
#: does not have.
MAPERR, ACCERR, ADRERR = (signal.SIGSEGV, 1), (signal.SIGSEGV, 2), (signal.SIGBUS, 2)
TOLD = {
    "3 no enclave": MAPERR,
    "3 hole": MAPERR,
    "3 not mapped": MAPERR,
    "3 no access": ACCERR,
    "3 evicted": ADRERR,
    "6 not valid": ACCERR,
    "6 blocked": ACCERR,
    "6 type": ACCERR,
    "14 outside ELRANGE": MAPERR,
    "14 xsave: not mapped": MAPERR,
    "14 xsave: mapped without W": ACCERR,
    "14 xsave: not in the EPC": ADRERR,
    "14 xsave: pending": ACCERR,
    "15 gpr: not mapped": MAPERR,
    "15 gpr: mapped without access": ACCERR,
    "15 gpr: not in the EPC": ADRERR,
    "15 gpr: not W": ACCERR,
    "7 OSSA": (signal.SIGSEGV, 0x80),
    "18 busy": (signal.SIGSEGV, 0x80),
}


@pytest.mark.parametrize("name", TOLD)
def test_an_enclu_of_the_programs_own_gets_the_kernels_signal(
    victim: Loaded, probe: Probe, name: str
) -> None:
    rule = RULES[name]
    rule.poke(victim)
    probe.prepare()
    with probe.catching(signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, skip_to="probe_exit"):
        assert probe.raw(victim) == Landed.EXIT
        told = probe.caught
    address = victim.address(*rule.where) if rule.where else 0
    assert (told.count, told.signal, told.code, told.address) == (1, *TOLD[name], address)
    assert (told.registers["trap"], told.registers["error"]) == (rule.vector, rule.code)
    assert told.registers["rip"] == probe.address("probe_enclu")
    if rule.where:
        assert told.registers["cr2"] == address
    # The instruction changed nothing.
    for register, value in probe.into.gprs().items():
        assert told.registers[register] == value


# The preamble of ENCLU, outside.


@pytest.mark.parametrize("leaf", [0, 1, 4, 5, 6, 7])
def test_a_leaf_for_inside_is_gp_outside(victim: Loaded, leaf: int) -> None:
    fault = raw_refusal(victim, leaf)
    assert (fault.vector, fault.error_code) == (Vector.GP, 0)
    assert "for outside" in fault.reason.rule


@pytest.mark.parametrize("leaf", [8, 9, 10, 0xFF, 0xFFFF_FFFF])
def test_an_unknown_leaf_is_gp(victim: Loaded, leaf: int) -> None:
    fault = raw_refusal(victim, leaf)
    assert (fault.vector, fault.error_code) == (Vector.GP, 0)
    assert "the leaf exists" in fault.reason.rule


def test_the_upper_half_of_rax_is_ignored(victim: Loaded, probe: Probe) -> None:
    probe.prepare(rdi=0)
    assert probe.raw(victim, 0xDEADBEEF_00000000 | Enclu.EENTER) == Landed.EXIT
    assert victim.word("data") == 1


def test_prefixes_that_enclu_ignores_are_ignored(victim: Loaded, probe: Probe) -> None:
    probe.prepare(rdi=0, rax=Enclu.EENTER, rbx=victim.enclave.tcs[0], rcx=probe.address("probe_aep"))
    victim.enclave.enter().check()
    assert probe.go("probe_prefixed") == Landed.EXIT
    # The enclave left to RCX: the address behind the whole instruction.
    assert probe.out.rbx == probe.address("probe_prefixed_after")
    assert victim.word("data") == 2


# What an entry changes.

#: Stores what it finds, then loads what it is told and leaves to where that says.
OBSERVER = Source(
    """
entry:
	dump dumped
	load leave
	eexit_to_rbx
""",
    blocks=(Block("data"), Block("scratch"), Block("dumped"), Block("leave")),
)

CF, PF, AF, ZF, SF, DF, OF, AC, ID = (1 << bit for bit in (0, 2, 4, 6, 7, 10, 11, 18, 21))
ARITHMETIC = (CF, PF, AF, ZF, SF, OF)
FLAGS = [0, *ARITHMETIC, DF, AC, ID, sum(ARITHMETIC), sum(ARITHMETIC) | DF | AC | ID]


def ready(loaded: Loaded, probe: Probe) -> None:
    """The observer leaves to the probe with a pattern."""
    leave = loaded.state("leave")
    leave.buffer[:] = pattern_state(3, 0x40).buffer
    leave.rbx = probe.address("probe_exit")
    loaded.state("dumped").buffer[:] = bytes(State.size_of)


def aep_of_vdso(loaded: Loaded, probe: Probe) -> int:
    """Where the vDSO function enters: five bytes before where RCX says the enclave may leave to."""
    ready(loaded, probe)
    probe.prepare()
    assert probe.vdso(loaded) == Landed.EXIT
    return loaded.state("dumped").rcx - 5


def enter(loaded: Loaded, probe: Probe, way: str) -> int:
    """By one of three ways; returns the AEP that was used."""
    if way == "enclu":
        assert probe.raw(loaded) == Landed.EXIT
        return probe.address("probe_aep")
    if way == "site":
        given = bytes(probe.into.buffer)
        aep = aep_of_vdso(loaded, probe)
        ready(loaded, probe)
        probe.into.buffer[:] = given
        assert probe.site(loaded, aep) == Landed.EXIT
        return aep
    assert probe.vdso(loaded) == Landed.EXIT
    return loaded.state("dumped").rcx - 5


WAYS = ["enclu", "vdso", "site"]


@pytest.mark.parametrize("way", WAYS)
def test_registers_arrive_as_they_were(each_sgx: Sgx, probe: Probe, way: str) -> None:
    loaded = OBSERVER.build().load(each_sgx)
    for round_trip in range(3):
        ready(loaded, probe)
        probe.prepare(rsp=0x1234_5678_9ABC_DEF0)
        aep = enter(loaded, probe, way)
        seen, given = loaded.state("dumped").gprs(), probe.into.gprs()
        after = probe.address("probe_exit") if way == "enclu" else aep + 5
        expected = given | {"rax": 0, "rbx": loaded.enclave.tcs[0], "rcx": after}
        if way == "vdso":
            # The function's own frame.
            expected |= {"rsp": seen["rsp"], "rbp": seen["rbp"]}
            assert seen["rbp"] == seen["rsp"] + 8
        assert seen == expected, round_trip
        assert loaded.tcs().aep == aep
        assert loaded.tcs().state == 0
        assert (loaded.gpr().ursp, loaded.gpr().urbp) == (seen["rsp"], seen["rbp"])


@pytest.mark.parametrize("way", WAYS)
def test_flags_arrive_as_they_were(each_sgx: Sgx, probe: Probe, way: str) -> None:
    loaded = OBSERVER.build().load(each_sgx)
    for flags in FLAGS * 3:
        ready(loaded, probe)
        probe.prepare(rflags=0x202 | flags)
        enter(loaded, probe, way)
        # The vDSO function compares before it enters: its own arithmetic flags arrive.
        kept = DF | AC | ID if way == "vdso" else ~0
        assert loaded.state("dumped").rflags & kept == (0x202 | flags) & kept


@pytest.mark.parametrize("way", WAYS)
def test_vector_state_and_its_control_registers_arrive_as_they_were(
    each_sgx: Sgx, probe: Probe, way: str
) -> None:
    loaded = OBSERVER.build().load(each_sgx)
    for _ in range(3):
        ready(loaded, probe)
        probe.prepare()
        given = probe.into.xsave
        enter(loaded, probe, way)
        seen = loaded.state("dumped").xsave
        assert seen[:28] == given[:28]
        assert seen[32:416] == given[32:416]


@pytest.mark.parametrize("way", WAYS)
def test_fs_and_gs_are_the_threads_inside(each_sgx: Sgx, probe: Probe, way: str) -> None:
    fields = {"ofsbase": 0x3000, "ogsbase": 0x7000}
    loaded = (
        Source(OBSERVER.code, threads=(Thread(fields=fields),), blocks=OBSERVER.blocks).build().load(each_sgx)
    )
    for _ in range(3):
        ready(loaded, probe)
        probe.prepare()
        enter(loaded, probe, way)
        seen = loaded.state("dumped")
        base = loaded.enclave.base
        assert (seen.fsbase, seen.gsbase) == (base + 0x3000, base + 0x7000)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_else_in_the_ssa_is_written(each_sgx: Sgx, probe: Probe, way: str) -> None:
    loaded = OBSERVER.build().load(each_sgx)
    for _ in range(3):
        loaded.memory("ssa0", 2 * 4096)[:] = b"\xa5" * 8192
        ready(loaded, probe)
        probe.prepare()
        enter(loaded, probe, way)
        left = bytearray(loaded.memory("ssa0", 2 * 4096))
        at = 4096 - 184 + 144
        left[at : at + 16] = b"\xa5" * 16
        assert left == b"\xa5" * 8192
        assert loaded.tcs().cssa == 0


@pytest.mark.parametrize("way", WAYS)
def test_rax_is_the_number_of_the_frame(each_sgx: Sgx, probe: Probe, way: str) -> None:
    threads = (Thread(nssa=4),)
    loaded = Source(OBSERVER.code, threads=threads, blocks=OBSERVER.blocks).build().load(each_sgx)
    for cssa in (0, 1, 3, 3, 2, 0):
        loaded.tcs().cssa = cssa
        ready(loaded, probe)
        probe.prepare()
        enter(loaded, probe, way)
        assert loaded.state("dumped").rax == cssa
        assert loaded.tcs().cssa == cssa
        assert loaded.gpr(cssa).ursp == loaded.state("dumped").rsp


def test_the_tcs_is_active_while_a_thread_is_inside(sgx: Sgx) -> None:
    loaded = Source("entry: mov %rdi, data(%rip)\n ud2").build().load(sgx)
    loaded.enclave.enter()
    assert loaded.tcs().state == 0
    assert loaded.tcs().cssa == 1


def test_only_the_first_entry_runs_the_checks(sgx: Sgx) -> None:
    loaded = VICTIM.build().load(sgx)
    for _ in range(100):
        loaded.enclave.enter().check()
    assert loaded.enclave.counters["eenter_slow"] == 1
    loaded.enclave.file.encl.store.changed()
    for _ in range(100):
        loaded.enclave.enter().check()
    assert loaded.enclave.counters["eenter_slow"] == 2
