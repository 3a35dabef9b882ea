"""EMODT, check by check."""

from __future__ import annotations

import numpy as np
import pytest

from swsgx.cpu.encls import emodt as leaf
from swsgx.cpu.encls.emodt import emodt
from swsgx.cpu.faults import GeneralProtection, InternalError, PageFault
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import REG_RW, TCS, a_tcs

MODIFIED = EpcmState.VALID | EpcmState.MODIFIED


@pytest.mark.parametrize("page_type", [PageType.TCS, PageType.TRIM])
def test_a_regular_page_becomes_a_tcs_or_is_trimmed(bench: Bench, page_type: PageType) -> None:
    secs, page, _ = bench.enclave(initialised=True)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    contents, generation = bytes(state.store.page(0)), state.store.head.generation
    state.epoch = 5
    assert bench.emodt(page, page_type).ok
    assert bench.entry(page) == (page_type, 0, MODIFIED)
    assert bench.cpu.epcm[bench.cpu.epc.frame(page)].epoch == 5
    assert bytes(state.store.page(0)) == contents
    assert state.store.head.generation > generation


def test_a_tcs_is_trimmed(bench: Bench) -> None:
    _, _, tcs = bench.enclave(initialised=True)
    assert bench.emodt(tcs, PageType.TRIM).ok
    assert bench.entry(tcs) == (PageType.TRIM, 0, MODIFIED)


def test_a_thread_inside_with_a_trimmed_tcs_is_still_inside(bench: Bench) -> None:
    secs, _, tcs = bench.enclave(initialised=True)
    bench.cpu.page(bench.cpu.epc.frame(tcs))[0] = 1
    assert bench.emodt(tcs, PageType.TRIM).ok
    assert bench.cpu.threads_inside(bench.cpu.epc.frame(secs)) == 1


def test_what_a_regular_page_holds_is_no_thread_inside(bench: Bench) -> None:
    secs, page, _ = bench.enclave(initialised=True)
    assert bench.emodt(page, PageType.TCS).ok
    assert any(bench.cpu.page(bench.cpu.epc.frame(page))[:8])
    assert bench.cpu.threads_inside(bench.cpu.epc.frame(secs)) == 0


def test_a_restriction_under_way_ends(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    assert bench.emodpr(page, 1).ok
    assert bench.emodt(page, PageType.TRIM).ok
    assert bench.entry(page) == (PageType.TRIM, 0, MODIFIED)


def test_without_sgx2_the_leaf_is_unknown() -> None:
    bench = Bench(CpuModel.with_sgx1(epc_size=16 * PAGE_SIZE))
    _, page, _ = bench.enclave(initialised=True)
    with bench.refuses(GeneralProtection, "the processor has SGX2"):
        bench.emodt(page, PageType.TRIM)
    bench.cpu.close()


def test_operands_are_aligned_and_where_they_belong(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    secinfo = bench.secinfo(0x400)
    with bench.refuses(GeneralProtection, "RBX is a multiple of 64"):
        emodt(bench.cpu, bench.memory, Linaddr(secinfo + 8), page)
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        emodt(bench.cpu, bench.memory, secinfo, EpcAddr(page + 8))
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        emodt(bench.cpu, bench.memory, secinfo, bench.outside)
    with bench.refuses(PageFault, "RBX is readable"):
        emodt(bench.cpu, bench.memory, bench.unmapped, page)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (0x440, "SECINFO.FLAGS reserved bits"),
        (0x400 | 1 << 16, "SECINFO.FLAGS reserved bits"),
        (REG_RW, "SECINFO.PAGE_TYPE is PT_TCS or PT_TRIM"),
        (0, "SECINFO.PAGE_TYPE is PT_TCS or PT_TRIM"),
        (0x500, "SECINFO.PAGE_TYPE is PT_TCS or PT_TRIM"),
    ],
)
def test_secinfo_has_no_reserved_bit_and_one_of_two_types(bench: Bench, flags: int, rule: str) -> None:
    _, page, _ = bench.enclave(initialised=True)
    secinfo = bench.secinfo(flags)
    with bench.refuses(GeneralProtection, rule):
        emodt(bench.cpu, bench.memory, secinfo, page)


def test_a_page_in_use_is_a_conflict(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    before = bench.snapshot()
    for lock in (bench.cpu.lock, bench.cpu.lock_sgx2):
        with lock(page):
            result = bench.emodt(page, PageType.TRIM)
        bench.returns(result, SgxError.EPC_PAGE_CONFLICT, "RCX is not in use by another leaf")
    assert bench.snapshot() == before


def test_a_free_page_is_a_pf(bench: Bench) -> None:
    free = bench.page()
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 1", free):
        bench.emodt(free, PageType.TRIM)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (PageType.TCS, PageType.TCS),
        (PageType.TRIM, PageType.TCS),
        (PageType.TRIM, PageType.TRIM),
    ],
)
def test_other_changes_of_type_are_a_pf_before_the_state_is_looked_at(
    bench: Bench, old: PageType, new: PageType
) -> None:
    _, page, _ = bench.enclave(initialised=True)
    bench.change(page, pt=old, state=EpcmState.MODIFIED)
    with bench.refuses(PageFault, f"EPCM(RCX).PT is one that can become PT_{new.name}", page):
        bench.emodt(page, new)


@pytest.mark.parametrize("state", [EpcmState.PENDING, EpcmState.MODIFIED])
def test_a_page_that_waits_is_not_modifiable(bench: Bench, state: EpcmState) -> None:
    _, page, _ = bench.enclave(initialised=True)
    bench.change(page, state=state)
    before = bench.snapshot()
    result = bench.emodt(page, PageType.TRIM)
    bench.returns(result, SgxError.PAGE_NOT_MODIFIABLE, "neither PENDING nor MODIFIED")
    assert bench.snapshot() == before


def test_the_enclave_is_initialised(bench: Bench) -> None:
    _, page, _ = bench.enclave()
    with bench.refuses(GeneralProtection, "the enclave is initialised"):
        bench.emodt(page, PageType.TRIM)


def test_the_bulk_way_is_the_same_as_one_by_one(bench: Bench) -> None:
    secs = bench.ecreate()
    pages = [bench.eadd(secs, 0), bench.eadd(secs, PAGE_SIZE, TCS, bytes(a_tcs())), bench.eadd(secs, 0x2000)]
    assert bench.einit(secs).ok
    assert bench.emodpr(pages[2], 1).ok
    bench.change(pages[0], state=EpcmState.BLOCKED)
    frames = np.array([bench.cpu.epc.frame(page) for page in pages], np.uint32)
    before = bytes(bench.cpu.epcm.region.view)
    leaf.run(bench.cpu, secs, frames, PageType.TRIM)
    bulk = bytes(bench.cpu.epcm.region.view)
    bench.cpu.epcm.region.view[:] = before
    for page in pages:
        assert bench.emodt(page, PageType.TRIM).ok
    assert bytes(bench.cpu.epcm.region.view) == bulk
    with pytest.raises(InternalError, match="nothing refuses"):
        leaf.run(bench.cpu, secs, frames, PageType.TRIM)
