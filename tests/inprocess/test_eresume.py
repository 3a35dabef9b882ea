"""ERESUME: each check of the manual, the order of the checks, and what comes back.

Checks 2 to 12 are EENTER's (tests/inprocess/test_eenter.py says which are out of reach). Then: CSSA, the pages of the
frame, RIP, FS and GS, busy, and what XRSTOR would refuse.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator

import pytest

from swsgx.inprocess import Sgx
from swsgx.isa.leaves import Enclu
from swsgx.isa.vectors import Vector
from tests.make.native_enclave import GPRS, NEEDS_GCC, Block, Loaded, Source, Thread
from tests.make.probe import Landed, Probe, pattern_state
from tests.make.refused import ERESUME, SHARED, VICTIM, assert_refused, attempt, mended, raw_refusal

pytestmark = NEEDS_GCC

RULES = SHARED | ERESUME


@pytest.fixture(scope="module")
def lasting() -> Iterator[Loaded]:
    """One enclave, with one thread that stopped at an exception."""
    with Sgx(isolation="off", epc_size=1 << 20) as sgx:
        loaded = VICTIM.build().load(sgx)
        fault = loaded.enclave.enter(rdi=1).exception
        assert fault is not None
        assert fault.inside
        # Behind the UD2, so that a resumption that is granted ends with EEXIT.
        loaded.gpr().rip += 2
        yield loaded


@pytest.fixture
def victim(lasting: Loaded) -> Iterator[Loaded]:
    with mended(lasting):
        yield lasting


@pytest.mark.parametrize("name", RULES)
def test_each_rule_that_does_not_hold_is_the_one_that_is_named(victim: Loaded, name: str) -> None:
    assert_refused(victim, attempt(victim, Enclu.ERESUME, RULES[name]), RULES[name])


@pytest.mark.parametrize("name", RULES)
def test_a_resumption_that_is_refused_changes_nothing_and_works_when_the_cause_is_gone(
    victim: Loaded, name: str
) -> None:
    with mended(victim):
        RULES[name].poke(victim)
        before = bytes(victim.contents)
        attempt(victim, Enclu.ERESUME, RULES[name])
        assert bytes(victim.contents) == before
    victim.enclave.resume().check()
    assert victim.tcs().cssa == 0
    assert victim.word("data") == 1


#: Shared checks, then ERESUME's own; the ways to break one and the same check are not compared with each other.
GROUPS = [
    *(
        "2 alignment",
        "3 hole",
        "4 AEP",
        "6 blocked",
        "7 OSSA",
        "8 flags",
        "9 initialised",
        "10 mode",
        "11 XFRM",
    ),
    *("CSSA", "xsave: blocked", "gpr: not W", "RIP", "FS", "GS", "busy", "MXCSR"),
]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(GROUPS, 2)))
def test_of_two_violations_the_first_in_the_manuals_order_is_reported(
    victim: Loaded, first: str, second: str
) -> None:
    assert_refused(victim, attempt(victim, Enclu.ERESUME, RULES[second], RULES[first]), RULES[first])


def test_the_xsave_area_is_looked_at_only_with_the_tcs_locked_and_it_is_unlocked_again(
    victim: Loaded,
) -> None:
    attempt(victim, Enclu.ERESUME, RULES["XSTATE_BV"])
    assert victim.tcs().state == 0


def test_a_tcs_that_nobody_left_has_nothing_to_resume(sgx: Sgx) -> None:
    loaded = VICTIM.build().load(sgx)
    fault = loaded.enclave.resume().exception
    assert fault is not None
    assert_refused(loaded, fault, ERESUME["CSSA"])


def test_a_tcs_with_all_frames_in_use_can_be_resumed(victim: Loaded) -> None:
    victim.tcs().nssa = 1
    refused = victim.enclave.enter().exception
    assert refused is not None
    assert "an SSA frame is free" in refused.reason.rule
    victim.enclave.resume().check()


def test_pages_between_the_xsave_area_and_gprsgx_are_not_looked_at(victim: Loaded) -> None:
    # VICTIM has no memory there.
    victim.enclave.resume().check()


def test_the_frame_that_is_loaded_is_the_one_below_cssa(victim: Loaded) -> None:
    again = victim.enclave.enter(rdi=1).exception
    assert again is not None
    assert victim.tcs().cssa == 2
    victim.gpr(1).rip += 2
    victim.frame(0)[:] = bytes(len(victim.frame(0)))
    victim.enclave.resume().check()
    assert victim.tcs().cssa == 1


@pytest.mark.parametrize("field", ["rip", "fsbase", "gsbase"])
@pytest.mark.parametrize("value", [0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63])
def test_what_is_loaded_must_be_canonical(victim: Loaded, field: str, value: int) -> None:
    setattr(victim.gpr(), field, value)
    fault = victim.enclave.resume().exception
    assert fault is not None
    assert (fault.vector, fault.error_code, fault.inside) == (Vector.GP, 0, False)
    assert "canonical" in fault.reason.rule


@pytest.mark.parametrize("bit", range(8))
def test_xstate_bv_may_have_any_bits_of_xfrm_and_no_others(victim: Loaded, bit: int) -> None:
    victim.frame()[512] = 1 << bit
    fault = victim.enclave.resume().exception
    if bit < 2:
        assert fault is None
    else:
        assert fault is not None
        assert_refused(victim, fault, ERESUME["XSTATE_BV"])


@pytest.mark.parametrize("offset", range(520, 536))
def test_header_bytes_8_to_23_must_be_zero(victim: Loaded, offset: int) -> None:
    victim.frame()[offset] = 0x40
    fault = victim.enclave.resume().exception
    assert fault is not None
    assert_refused(victim, fault, ERESUME["compacted"])


def test_header_bytes_24_to_63_are_not_looked_at(victim: Loaded) -> None:
    # XRSTOR's standard form checks bytes 8 to 23 (SDM volume 1, "Standard Form of XRSTOR").
    victim.frame()[536:576] = b"\xff" * 40
    victim.enclave.resume().check()


@pytest.mark.parametrize("bit", range(32))
def test_reserved_bits_of_mxcsr_are_gp_and_the_others_are_loaded(victim: Loaded, bit: int) -> None:
    # XSAVE stores MXCSR_MASK, the bits that this CPU has, behind MXCSR.
    mask = int.from_bytes(victim.frame()[28:32], "little")
    assert mask & 0xFFFF == 0xFFFF
    victim.frame()[24:28] = (0x1F80 | 1 << bit).to_bytes(4, "little")
    fault = victim.enclave.resume().exception
    if mask >> bit & 1:
        assert fault is None
    else:
        assert fault is not None
        assert_refused(victim, fault, ERESUME["MXCSR"])


@pytest.mark.parametrize("leaf", [Enclu.EENTER, Enclu.ERESUME])
def test_an_enclu_of_the_programs_own_is_refused_in_the_same_words(victim: Loaded, leaf: Enclu) -> None:
    rule = RULES["8 flags"]
    rule.poke(victim)
    assert_refused(victim, raw_refusal(victim, leaf), rule)


# What comes back.

#: Loads what it is told, stops, and stores what it finds when it goes on.
STOPPER = Source(
    """
entry:
	mov	%rcx, data(%rip)
	mov	%rsp, data+8(%rip)
	mov	%rbp, data+16(%rip)
	load	want
stop:	ud2
go_on:	dump	dumped
	mov	data+8(%rip), %rsp
	mov	data+16(%rip), %rbp
	eexit	data(%rip)
""",
    threads=(Thread(nssa=2),),
    blocks=(Block("data"), Block("scratch"), Block("want"), Block("dumped")),
)

ARITHMETIC = (1, 4, 0x10, 0x40, 0x80, 0x800)
DF, NT, AC, ID = 0x400, 0x4000, 0x40000, 0x200000


def stopped(loaded: Loaded, **registers: int) -> None:
    """The thread stops with these registers, the others holding patterns, and is made to go on behind the UD2."""
    want = loaded.state("want")
    want.buffer[:] = pattern_state(loaded.built.source.xfrm, 0x30).buffer
    for name, value in registers.items():
        setattr(want, name, value)
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert fault.vector == Vector.UD
    assert loaded.gpr().rip == loaded.address("stop")
    loaded.gpr().rip = loaded.address("go_on")


def test_all_general_registers_come_from_the_frame(each_sgx: Sgx) -> None:
    loaded = STOPPER.build().load(each_sgx)
    for seed in (1, 2, 3):
        stopped(loaded)
        for number, name in enumerate(GPRS):
            setattr(loaded.gpr(), name, seed << 56 | number << 8 | 0x55)
        loaded.enclave.resume().check()
        found = loaded.state("dumped").gprs()
        assert found == {name: seed << 56 | number << 8 | 0x55 for number, name in enumerate(GPRS)}


def test_registers_survive_when_nobody_changes_them(each_sgx: Sgx) -> None:
    loaded = STOPPER.build().load(each_sgx)
    for _ in range(3):
        stopped(loaded)
        loaded.enclave.resume().check()
        assert loaded.state("dumped").gprs() == loaded.state("want").gprs()


def test_flags_come_from_the_frame(each_sgx: Sgx) -> None:
    loaded = STOPPER.build().load(each_sgx)
    for flags in (0, *ARITHMETIC, DF, NT, AC, ID, sum(ARITHMETIC) | DF | NT | AC | ID):
        stopped(loaded)
        loaded.gpr().rflags = flags
        loaded.enclave.resume().check()
        assert loaded.state("dumped").rflags == 0x202 | flags


def test_system_flags_do_not_come_from_the_frame(each_sgx: Sgx) -> None:
    # TF, IF, IOPL, VM, VIF, VIP: as they are outside.
    loaded = STOPPER.build().load(each_sgx)
    stopped(loaded)
    loaded.gpr().rflags = 0xFFFF_FFFF_FFFF_FFFF
    loaded.enclave.resume().check()
    assert loaded.state("dumped").rflags == 0x202 | sum(ARITHMETIC) | DF | NT | AC | ID


def test_bases_come_from_the_frame(each_sgx: Sgx) -> None:
    loaded = STOPPER.build().load(each_sgx)
    stopped(loaded)
    base = loaded.enclave.base
    assert (loaded.gpr().fsbase, loaded.gpr().gsbase) == (loaded.address("tls0"), loaded.address("tls0"))
    loaded.gpr().fsbase, loaded.gpr().gsbase = base + 0x123, 0x456
    loaded.enclave.resume().check()
    found = loaded.state("dumped")
    assert (found.fsbase, found.gsbase) == (base + 0x123, 0x456)
    # The next entry has the TCS's again.
    stopped(loaded)
    assert (loaded.gpr().fsbase, loaded.gpr().gsbase) == (loaded.address("tls0"), loaded.address("tls0"))
    loaded.enclave.resume().check()


def test_vector_state_comes_from_the_frame(each_sgx: Sgx) -> None:
    loaded = STOPPER.build().load(each_sgx)
    stopped(loaded)
    other = pattern_state(3, 0x66).xsave[:464]
    loaded.frame()[:464] = other
    loaded.enclave.resume().check()
    found = loaded.state("dumped").xsave
    assert found[:28] == other[:28]
    assert found[32:416] == other[32:416]


def test_components_that_xstate_bv_lacks_are_initialised(each_sgx: Sgx) -> None:
    loaded = STOPPER.build().load(each_sgx)
    stopped(loaded)
    loaded.frame()[512] = 0
    loaded.enclave.resume().check()
    found = loaded.state("dumped").xsave
    assert found[:2] == (0x37F).to_bytes(2, "little")
    assert found[4] == 0
    assert found[160:416] == bytes(256)
    # MXCSR is loaded all the same (SDM volume 1, "Standard Form of XRSTOR").
    assert found[24:28] == loaded.frame()[24:28]


def test_the_return_to_the_host_is_that_of_the_entry(each_sgx: Sgx, probe: Probe) -> None:
    """URSP and URBP are written by EENTER only: an AEX after ERESUME gives back the RSP of the entry."""
    loaded = STOPPER.build().load(each_sgx)
    want = loaded.state("want")
    want.buffer[:] = pattern_state(3, 0x30).buffer
    with probe.catching(signal.SIGILL):
        probe.prepare(rsp=0x1111, rbp=0x2222)
        assert probe.raw(loaded) == Landed.AEP
        assert (probe.out.rsp, probe.out.rbp) == (0x1111, 0x2222)
        # Resumed from elsewhere, it stops again at once.
        probe.prepare(rsp=0x3333, rbp=0x4444)
        assert probe.raw(loaded, Enclu.ERESUME) == Landed.AEP
        assert (probe.out.rsp, probe.out.rbp) == (0x1111, 0x2222)
    assert (loaded.gpr().ursp, loaded.gpr().urbp) == (0x1111, 0x2222)


def test_aep_is_that_of_the_resumption(each_sgx: Sgx, probe: Probe) -> None:
    loaded = STOPPER.build().load(each_sgx)
    loaded.state("want").buffer[:] = pattern_state(3, 0x30).buffer
    with probe.catching(signal.SIGILL, skip_to="probe_aep"):
        probe.prepare()
        assert probe.raw(loaded, aep="probe_enclu") == Landed.AEP
        assert probe.out.rcx == probe.caught.registers["rip"] == probe.address("probe_enclu")
        probe.prepare()
        assert probe.raw(loaded, Enclu.ERESUME, aep="probe_exit") == Landed.AEP
        assert probe.out.rcx == probe.caught.registers["rip"] == probe.address("probe_exit")
    assert loaded.tcs().aep == probe.address("probe_exit")


def test_cssa_goes_down_and_the_tcs_is_active(sgx: Sgx) -> None:
    loaded = STOPPER.build().load(sgx)
    stopped(loaded)
    assert (loaded.tcs().cssa, loaded.tcs().state) == (1, 0)
    loaded.enclave.resume().check()
    assert (loaded.tcs().cssa, loaded.tcs().state) == (0, 0)


def test_rax_and_rcx_are_no_outputs(each_sgx: Sgx) -> None:
    loaded = STOPPER.build().load(each_sgx)
    stopped(loaded, rax=0xAAAA, rcx=0xCCCC)
    loaded.enclave.resume().check()
    found = loaded.state("dumped")
    assert (found.rax, found.rcx) == (0xAAAA, 0xCCCC)


def test_a_fast_entry_after_a_resumption_uses_the_tcs_again(sgx: Sgx) -> None:
    loaded = STOPPER.build().load(sgx)
    for _ in range(5):
        stopped(loaded)
        loaded.gpr().fsbase = loaded.address("data")
        loaded.enclave.resume().check()
        assert loaded.state("dumped").fsbase == loaded.address("data")
        assert loaded.word("data", 8) != 0
