"""ETRACK, check by check, and what tracking means."""

from __future__ import annotations

import numpy as np
import pytest

from swsgx.cpu.encls import etrack as leaf
from swsgx.cpu.encls.etrack import etrack
from swsgx.cpu.faults import GeneralProtection, InternalError, PageFault
from swsgx.cpu.tracking import CountedThreads, is_tracked
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.errors import SgxError
from tests.make.leaves import Bench


def enter(bench: Bench, tcs: EpcAddr, active: int = 1) -> None:
    """A thread is inside, or has left: what EENTER and EEXIT write."""
    bench.cpu.page(bench.cpu.epc.frame(tcs))[0] = active


def test_rcx_is_page_aligned_and_in_the_epc(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        etrack(bench.cpu, EpcAddr(secs + 64))
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        etrack(bench.cpu, bench.outside)


def test_a_secs_in_use_is_a_gp(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.cpu.lock(secs), bench.refuses(GeneralProtection, "RCX is not in use"):
        etrack(bench.cpu, secs)


def test_rcx_is_a_valid_secs(bench: Bench) -> None:
    _, page, _ = bench.enclave()
    free = bench.page()
    for wrong in (page, free):
        with bench.refuses(PageFault, "RCX is a valid SECS page", wrong):
            etrack(bench.cpu, wrong)


def test_it_is_a_leaf_of_sgx1_and_needs_no_einit() -> None:
    bench = Bench(CpuModel.with_sgx1(epc_size=16 * PAGE_SIZE))
    assert etrack(bench.cpu, bench.ecreate()).ok
    bench.cpu.close()


def test_with_nobody_inside_epochs_follow_each_other(bench: Bench) -> None:
    secs = bench.enclave()[0]
    for _ in range(3):
        assert etrack(bench.cpu, secs).ok
    assert bench.cpu.enclaves[bench.cpu.epc.frame(secs)].epoch == 4


def test_a_second_epoch_waits_for_those_who_entered_before_the_first(bench: Bench) -> None:
    secs, _, tcs = bench.enclave(initialised=True)
    enter(bench, tcs)
    assert etrack(bench.cpu, secs).ok
    before = bench.snapshot()
    bench.returns(etrack(bench.cpu, secs), SgxError.PREV_TRK_INCMPL, "all who entered before")
    assert bench.snapshot() == before
    enter(bench, tcs, 0)
    assert etrack(bench.cpu, secs).ok


def test_a_thread_that_came_back_does_not_delay(bench: Bench) -> None:
    secs, _, tcs = bench.enclave(initialised=True)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    enter(bench, tcs)
    assert etrack(bench.cpu, secs).ok
    CountedThreads.left(state)  # by an AEX; it is inside again at once
    assert etrack(bench.cpu, secs).ok
    assert state.previous == 1


def test_an_interrupt_makes_everybody_leave_once(bench: Bench) -> None:
    secs, _, tcs = bench.enclave(initialised=True)
    enter(bench, tcs)
    assert etrack(bench.cpu, secs).ok
    bench.cpu.tracker.interrupt(bench.cpu.enclaves[bench.cpu.epc.frame(secs)])
    assert etrack(bench.cpu, secs).ok


def test_a_page_is_tracked_one_epoch_and_all_exits_later(bench: Bench) -> None:
    secs, _, tcs = bench.enclave(initialised=True)
    state, tracker = bench.cpu.enclaves[bench.cpu.epc.frame(secs)], bench.cpu.tracker
    changed_in = state.epoch
    enter(bench, tcs)
    assert not is_tracked(tracker, state, changed_in)
    assert etrack(bench.cpu, secs).ok
    assert not is_tracked(tracker, state, changed_in)
    enter(bench, tcs, 0)
    assert is_tracked(tracker, state, changed_in)
    enter(bench, tcs)
    assert etrack(bench.cpu, secs).ok
    assert is_tracked(tracker, state, changed_in)
    assert not is_tracked(tracker, state, changed_in + 1)


def test_another_tracker_can_know_better(bench: Bench) -> None:
    secs = bench.enclave(initialised=True)[0]

    class Three(CountedThreads):
        def stragglers(self, state: object) -> int:
            return 3

    bench.cpu.tracker = Three(bench.cpu.threads_inside)
    result = etrack(bench.cpu, secs)
    bench.returns(result, SgxError.PREV_TRK_INCMPL, "all who entered before")
    assert result.reason is not None
    assert result.reason.found.startswith("3 inside")


def test_the_bulk_way_is_one_epoch_for_each_page(bench: Bench) -> None:
    secs, page, tcs = bench.enclave(initialised=True)
    state, epcm = bench.cpu.enclaves[bench.cpu.epc.frame(secs)], bench.cpu.epcm
    frames = np.array([bench.cpu.epc.frame(page), bench.cpu.epc.frame(tcs)], np.uint32)
    enter(bench, tcs)
    leaf.run(bench.cpu, secs, frames)
    assert [epcm[int(frame)].epoch for frame in frames] == [1, 2]
    assert (state.epoch, state.previous) == (3, 1)
    assert [is_tracked(bench.cpu.tracker, state, epoch) for epoch in (1, 2)] == [True, False]
    with pytest.raises(InternalError, match="none is late"):
        leaf.run(bench.cpu, secs, frames)
