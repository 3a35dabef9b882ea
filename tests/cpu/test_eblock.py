"""EBLOCK, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from swsgx.cpu.encls import eblock as leaf
from swsgx.cpu.encls.eblock import eblock
from swsgx.cpu.faults import GeneralProtection, InternalError, PageFault
from swsgx.isa.address import EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench


def test_rcx_is_page_aligned(bench: Bench) -> None:
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        eblock(bench.cpu, EpcAddr(bench.page() + 64))


def test_rcx_is_in_the_epc(bench: Bench) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        eblock(bench.cpu, bench.outside)


def test_a_page_in_use_is_a_conflict(bench: Bench) -> None:
    _, page, _ = bench.enclave()
    with bench.cpu.lock(page):
        result = eblock(bench.cpu, page)
    bench.returns(result, SgxError.EPC_PAGE_CONFLICT, "RCX is not in use")


def test_a_free_page_is_invalid(bench: Bench) -> None:
    bench.returns(eblock(bench.cpu, bench.page()), SgxError.PG_INVLD, "EPCM(RCX).VALID is 1")


def test_a_secs_is_told_apart(bench: Bench) -> None:
    secs = bench.ecreate()
    bench.returns(eblock(bench.cpu, secs), SgxError.PG_IS_SECS, "no SECS", informs=True)


def test_a_va_page_is_not_blockable(bench: Bench) -> None:
    result = eblock(bench.cpu, bench.va_page())
    bench.returns(result, SgxError.NOTBLOCKABLE, "belongs to an enclave", informs=True)


def test_a_blocked_page_informs(bench: Bench) -> None:
    _, page, _ = bench.enclave()
    assert eblock(bench.cpu, page).ok
    before = bench.snapshot()
    bench.returns(eblock(bench.cpu, page), SgxError.BLKSTATE, "not blocked", informs=True)
    assert bench.snapshot() == before


def test_a_refused_page_stays_as_it_was(bench: Bench) -> None:
    secs, va, free = bench.ecreate(), bench.va_page(), bench.page()
    before = bench.snapshot()
    for page in (secs, va, free):
        assert not eblock(bench.cpu, page).ok
    assert bench.snapshot() == before


@pytest.mark.parametrize("which", [1, 2])
def test_a_page_is_blocked_in_the_present_epoch(bench: Bench, which: int) -> None:
    pages = bench.enclave(initialised=True)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(pages[0])]
    state.epoch = 7
    generation = state.store.head.generation
    assert eblock(bench.cpu, pages[which]).ok
    entry = bench.cpu.epcm[bench.cpu.epc.frame(pages[which])]
    assert (entry.state, entry.epoch) == (EpcmState.VALID | EpcmState.BLOCKED, 7)
    assert state.store.head.generation > generation, "checks that were cached are void"


def test_other_state_bits_stay(bench: Bench) -> None:
    _, page, _ = bench.enclave()
    bench.change(page, state=EpcmState.PENDING | EpcmState.PR)
    assert eblock(bench.cpu, page).ok
    state = bench.cpu.epcm[bench.cpu.epc.frame(page)].state
    assert state == EpcmState.VALID | EpcmState.BLOCKED | EpcmState.PENDING | EpcmState.PR


def test_a_run_does_what_single_leaves_do(bench: Bench) -> None:
    secs, *pages = bench.enclave()
    frames = np.array([bench.cpu.epc.frame(page) for page in pages], np.uint32)
    before = bytes(bench.cpu.epcm.region.view)
    leaf.run(bench.cpu, secs, frames)
    together = bytes(bench.cpu.epcm.region.view)
    bench.cpu.epcm.region.view[:] = before
    for page in pages:
        assert eblock(bench.cpu, page).ok
    assert bytes(bench.cpu.epcm.region.view) == together


def test_a_run_is_of_one_enclave_s_pages_that_are_not_blocked(bench: Bench) -> None:
    secs, page, tcs = bench.enclave()
    for foreign in (secs, bench.va_page(), bench.enclave()[1]):
        frames = np.array([bench.cpu.epc.frame(at) for at in (page, foreign)], np.uint32)
        with pytest.raises(InternalError, match="only pages of the enclave"):
            leaf.run(bench.cpu, secs, frames)
    assert eblock(bench.cpu, tcs).ok
    with pytest.raises(InternalError, match="not blocked"):
        leaf.run(bench.cpu, secs, np.array([bench.cpu.epc.frame(tcs)], np.uint32))
