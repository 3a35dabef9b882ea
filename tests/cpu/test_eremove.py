"""EREMOVE, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from swsgx.cpu.encls import eremove as leaf
from swsgx.cpu.encls.epa import epa
from swsgx.cpu.encls.eremove import eremove
from swsgx.cpu.faults import GeneralProtection, InternalError, PageFault
from swsgx.isa.address import EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import REG_RW


def activate(bench: Bench, tcs: EpcAddr) -> None:
    """A thread is inside: what EENTER writes."""
    bench.cpu.page(bench.cpu.epc.frame(tcs))[0] = 1


def test_rcx_is_page_aligned(bench: Bench) -> None:
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        eremove(bench.cpu, EpcAddr(bench.page() + 64))


def test_rcx_is_in_the_epc(bench: Bench) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        eremove(bench.cpu, bench.outside)


def test_a_page_in_use_is_a_gp(bench: Bench) -> None:
    _, page, _ = bench.enclave()
    with bench.cpu.lock(page), bench.refuses(GeneralProtection, "RCX is not in use"):
        eremove(bench.cpu, page)


def test_a_free_page_is_left_alone(bench: Bench) -> None:
    before = bench.snapshot()
    assert eremove(bench.cpu, bench.page()).ok
    assert bench.snapshot() == before


def test_a_va_page_goes(bench: Bench) -> None:
    page = bench.page()
    epa(bench.cpu, PageType.VA, page)
    assert eremove(bench.cpu, page).ok
    assert not bench.cpu.epcm.valid(bench.cpu.epc.frame(page))


@pytest.mark.parametrize("state", [EpcmState(0), EpcmState.BLOCKED, EpcmState.PENDING])
def test_a_page_goes_blocked_or_pending_or_not(bench: Bench, state: EpcmState) -> None:
    secs, page, _ = bench.enclave(initialised=True)
    bench.change(page, state=state)
    owner = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    before = (owner.children, owner.store.head.generation)
    assert eremove(bench.cpu, page).ok
    assert not bench.cpu.epcm.valid(bench.cpu.epc.frame(page))
    assert owner.children == before[0] - 1
    assert owner.store.head.generation > before[1]
    assert owner.store.frame_map[0] == 0
    assert not any(owner.store.page(0))


def test_no_page_of_an_enclave_that_a_thread_is_inside(bench: Bench) -> None:
    secs, page, tcs = bench.enclave(initialised=True)
    activate(bench, tcs)
    for target in (page, tcs):
        before = bench.snapshot()
        bench.returns(eremove(bench.cpu, target), SgxError.ENCLAVE_ACT, "no logical processor is inside")
        assert bench.snapshot() == before
    other, _, _ = bench.enclave(initialised=True)
    assert eremove(bench.cpu, bench.cpu.epc.address(bench.cpu.epc.frame(other) + 1)).ok
    assert secs != other


def test_a_trimmed_page_that_was_accepted_goes_while_threads_run(bench: Bench) -> None:
    _, page, tcs = bench.enclave(initialised=True)
    activate(bench, tcs)
    bench.change(page, pt=PageType.TRIM, state=EpcmState.MODIFIED)
    bench.returns(eremove(bench.cpu, page), SgxError.ENCLAVE_ACT, "no logical processor is inside")
    bench.change(page, pt=PageType.TRIM, state=EpcmState(0))
    children = bench.cpu.owner(bench.cpu.epc.frame(page)).children
    assert eremove(bench.cpu, page).ok
    assert bench.cpu.owner(bench.cpu.epc.frame(tcs)).children == children - 1


def test_a_secs_goes_last(bench: Bench) -> None:
    secs, page, tcs = bench.enclave()
    frame = bench.cpu.epc.frame(secs)
    before = bench.snapshot()
    bench.returns(eremove(bench.cpu, secs), SgxError.CHILD_PRESENT, "no page of the enclave is in the EPC")
    assert bench.snapshot() == before
    assert eremove(bench.cpu, page).ok
    bench.returns(eremove(bench.cpu, secs), SgxError.CHILD_PRESENT, "no page of the enclave is in the EPC")
    assert eremove(bench.cpu, tcs).ok
    assert eremove(bench.cpu, secs).ok
    assert frame not in bench.cpu.enclaves
    assert not bench.cpu.epcm.valid(frame)


def test_removing_one_of_two_pages_at_an_address_leaves_the_other(bench: Bench) -> None:
    secs = bench.ecreate()
    first = bench.eadd(secs, 0, REG_RW, b"1" * 4096)
    second = bench.eadd(secs, 0, REG_RW, b"2" * 4096)
    assert eremove(bench.cpu, second).ok
    assert bytes(bench.cpu.page(bench.cpu.epc.frame(first))) == b"1" * 4096
    third = bench.eadd(secs, 0, REG_RW, b"3" * 4096)
    assert eremove(bench.cpu, first).ok
    assert bytes(bench.cpu.page(bench.cpu.epc.frame(third))) == b"3" * 4096


def test_the_bulk_way_removes_all_children_at_once(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    frame = bench.cpu.epc.frame(secs)
    children = bench.cpu.epcm.children(frame)
    leaf.run(bench.cpu, secs, children)
    state = bench.cpu.enclaves[frame]
    assert (state.children, int(state.store.frame_map.sum())) == (0, 0)
    assert not bench.cpu.epcm.any_valid(children)
    assert eremove(bench.cpu, secs).ok


def test_the_bulk_way_insists_on_all_children_and_nobody_inside(bench: Bench) -> None:
    secs, _, tcs = bench.enclave()
    children = bench.cpu.epcm.children(bench.cpu.epc.frame(secs))
    with pytest.raises(InternalError, match="all pages"):
        leaf.run(bench.cpu, secs, children[:1])
    with pytest.raises(InternalError, match="only pages"):
        leaf.run(bench.cpu, secs, np.array([bench.cpu.epc.frame(secs), children[0]], np.uint32))
    activate(bench, tcs)
    with pytest.raises(InternalError, match="nobody is inside"):
        leaf.run(bench.cpu, secs, children)
