"""ETRACK, row by row, and the epochs."""

from __future__ import annotations

from swsgx.cpu.encls.eblock import eblock
from swsgx.cpu.encls.etrack import etrack
from swsgx.cpu.faults import GeneralProtection, PageFault
from swsgx.cpu.tracking import is_tracked
from swsgx.isa.address import EpcAddr
from swsgx.isa.errors import SgxError
from tests.make.leaves import Bench


def test_rcx_is_page_aligned(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        etrack(bench.cpu, EpcAddr(secs + 64))


def test_rcx_is_in_the_epc(bench: Bench) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        etrack(bench.cpu, bench.outside)


def test_a_secs_in_use_is_a_gp(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.cpu.lock(secs), bench.refuses(GeneralProtection, "RCX is not in use"):
        etrack(bench.cpu, secs)


def test_rcx_is_a_secs(bench: Bench) -> None:
    _, page, tcs = bench.enclave()
    for other in (page, tcs, bench.va_page(), bench.page()):
        with bench.refuses(PageFault, "RCX is a valid SECS page", other):
            etrack(bench.cpu, other)


def test_a_cycle_that_is_not_over_is_told(bench: Bench) -> None:
    secs, _, tcs = bench.enclave(initialised=True)
    bench.activate(tcs)
    assert etrack(bench.cpu, secs).ok
    bench.returns(etrack(bench.cpu, secs), SgxError.PREV_TRK_INCMPL, "have left")
    bench.activate(tcs, inside=False)
    assert etrack(bench.cpu, secs).ok


def test_without_threads_cycle_follows_cycle(bench: Bench) -> None:
    secs, *_ = bench.enclave(initialised=True)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    for epoch in range(1, 6):
        assert state.epoch == epoch
        assert etrack(bench.cpu, secs).ok


def test_a_page_is_tracked_when_all_have_left_who_were_inside(bench: Bench) -> None:
    secs, page, tcs = bench.enclave(initialised=True)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    bench.activate(tcs)
    assert eblock(bench.cpu, page).ok
    epoch = bench.cpu.epcm[bench.cpu.epc.frame(page)].epoch
    tracker = bench.cpu.tracker
    assert not is_tracked(tracker, state, epoch), "no ETRACK yet"
    assert etrack(bench.cpu, secs).ok
    assert not is_tracked(tracker, state, epoch), "somebody is inside"
    bench.activate(tcs, inside=False)
    assert is_tracked(tracker, state, epoch)
    bench.activate(tcs)
    assert is_tracked(tracker, state, epoch), "who enters again does not count"


def test_an_interrupt_makes_everybody_leave_once(bench: Bench) -> None:
    secs, page, tcs = bench.enclave(initialised=True)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    bench.activate(tcs)
    assert eblock(bench.cpu, page).ok
    assert etrack(bench.cpu, secs).ok
    bench.cpu.tracker.interrupt(state)
    assert is_tracked(bench.cpu.tracker, state, state.epoch - 1)
