"""RFLAGS.TF: to a program that steps through itself, an opt-out enclave is one instruction."""

from __future__ import annotations

import signal

import pytest

from swsgx.inprocess import Sgx
from swsgx.isa.leaves import Enclu
from swsgx.isa.vectors import Vector
from tests.make.native_enclave import NEEDS_GCC, Block, Loaded, Source
from tests.make.probe import Landed, Probe, pattern_state

pytestmark = NEEDS_GCC

TF = 0x100
OBSERVER = Source(
    """
entry:
	dump	dumped
	load	leave
	eexit_to_rbx
""",
    blocks=(Block("data"), Block("scratch"), Block("dumped"), Block("leave")),
)


def step(loaded: Loaded, probe: Probe, way: str) -> list[int]:
    """A round trip with TF set; where the program was told to be."""
    leave = loaded.state("leave")
    leave.buffer[:] = pattern_state(3, 0x40).buffer
    leave.rbx = probe.address("probe_exit")
    probe.prepare(rflags=0x202 | TF)
    with probe.catching(signal.SIGTRAP):
        landed = probe.raw(loaded) if way == "enclu" else probe.vdso(loaded)
        assert landed == Landed.EXIT
        told = probe.caught
        assert (told.registers["trap"], told.code) == (Vector.DB, 2)
        return probe.caught_at


@pytest.mark.parametrize("way", ["enclu", "vdso"])
def test_the_enclave_runs_without_tf_and_the_program_has_it_back(
    each_sgx: Sgx, probe: Probe, way: str
) -> None:
    loaded = OBSERVER.build().load(each_sgx)
    for _ in range(3):
        seen = step(loaded, probe, way)
        base, size = loaded.enclave.base, loaded.enclave.size
        assert not [rip for rip in seen if base <= rip < base + size]
        assert not loaded.state("dumped").rflags & TF
        assert probe.out.rflags & TF
        # Stepping went on: every instruction of the landing, until it put the caller's flags in place.
        landing = [rip for rip in seen if probe.address("probe_exit") <= rip]
        assert len(landing) > 20


def test_enclu_is_one_step(each_sgx: Sgx, probe: Probe) -> None:
    loaded = OBSERVER.build().load(each_sgx)
    for _ in range(3):
        seen = step(loaded, probe, "enclu")
        at = seen.index(probe.address("probe_enclu"))
        # EEXIT with TF: the trap is pending at its target (SDM, "EEXIT").
        assert seen[at + 1] == probe.address("probe_exit")


def test_tf_in_an_enclaves_frame_is_not_loaded_and_not_stored(each_sgx: Sgx, probe: Probe) -> None:
    code = "entry: ud2\n go_on: eexit_to_rbx"
    loaded = Source(code).build().load(each_sgx)
    with probe.catching(signal.SIGILL):
        probe.prepare()
        assert probe.raw(loaded) == Landed.AEP
    assert loaded.gpr().rflags & TF == 0
    loaded.gpr().rflags |= TF
    loaded.gpr().rip = loaded.address("go_on")
    loaded.gpr().rbx = probe.address("probe_exit")
    probe.prepare()
    assert probe.raw(loaded, Enclu.ERESUME) == Landed.EXIT
    assert probe.out.rflags & TF == 0


def test_an_enclave_that_sets_tf_is_not_stepped(each_sgx: Sgx, probe: Probe) -> None:
    # POPF inside an opt-out entry leaves TF as it is (SDM, "Interactions with Single Step").
    code = """
entry:	lea	scratch+4096(%rip), %rsp
	pushq	$0x302
	popfq
	nop
	pushfq
	popq	data(%rip)
	mov	%rdi, %rbx
	eexit_to_rbx
"""
    loaded = Source(code).build().load(each_sgx)
    with probe.catching(signal.SIGTRAP):
        for _ in range(3):
            probe.prepare(rdi=probe.address("probe_exit"))
            assert probe.raw(loaded) == Landed.EXIT
            assert probe.out.rflags & TF == 0
            assert loaded.word("data") & TF == 0
        assert probe.caught.count == 0


def test_an_exit_by_exception_gives_tf_back(each_sgx: Sgx, probe: Probe) -> None:
    loaded = Source("entry: ud2\n go_on: eexit_to_rbx").build().load(each_sgx)
    with probe.catching(signal.SIGILL, signal.SIGTRAP):
        for _ in range(2):
            loaded.tcs().cssa = 0
            probe.prepare(rflags=0x202 | TF)
            assert probe.raw(loaded) == Landed.AEP
            assert probe.out.rflags & TF
            assert loaded.gpr().rflags & TF == 0


@pytest.mark.parametrize("stepping", [True, False])
def test_tf_at_the_exit_is_that_of_the_last_entry(each_sgx: Sgx, probe: Probe, stepping: bool) -> None:
    loaded = Source("entry: ud2\n go_on: eexit_to_rbx").build().load(each_sgx)
    with probe.catching(signal.SIGILL, signal.SIGTRAP):
        for _ in range(3):
            probe.prepare(rflags=0x202 | (0 if stepping else TF))
            assert probe.raw(loaded) == Landed.AEP
            loaded.gpr().rip = loaded.address("go_on")
            loaded.gpr().rbx = probe.address("probe_exit")
            probe.prepare(rflags=0x202 | (TF if stepping else 0))
            assert probe.raw(loaded, Enclu.ERESUME) == Landed.EXIT
            assert bool(probe.out.rflags & TF) is stepping
