"""EMODPR, check by check."""

from __future__ import annotations

import numpy as np
import pytest

from swsgx.cpu.encls import emodpr as leaf
from swsgx.cpu.encls.changing import clean_pages
from swsgx.cpu.encls.emodpr import emodpr
from swsgx.cpu.faults import GeneralProtection, InternalError, PageFault
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType
from swsgx.isa.structs import Secinfo
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import REG_RWX

RESTRICTED = EpcmState.VALID | EpcmState.PR


@pytest.mark.parametrize("asked", [0, 1, 3, 4, 5, 7])
def test_permissions_are_reduced_at_once_and_never_grow(bench: Bench, asked: int) -> None:
    secs, page, _ = bench.enclave(initialised=True)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    generation = state.store.head.generation
    state.epoch = 5
    assert bench.emodpr(page, asked).ok
    assert bench.entry(page) == (PageType.REG, asked & 3, RESTRICTED)
    assert bench.cpu.epcm[bench.cpu.epc.frame(page)].epoch == 5
    assert state.store.head.generation > generation


def test_a_page_under_restriction_can_be_restricted_further(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    assert bench.emodpr(page, 3).ok
    assert bench.emodpr(page, 1).ok
    assert bench.entry(page) == (PageType.REG, 1, RESTRICTED)


def test_type_and_state_bits_of_secinfo_are_not_looked_at(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    assert bench.emodpr(page, 0x438 | 1).ok
    assert bench.entry(page)[1] == 1


def test_without_sgx2_the_leaf_is_unknown() -> None:
    bench = Bench(CpuModel.with_sgx1(epc_size=16 * PAGE_SIZE))
    _, page, _ = bench.enclave(initialised=True)
    with bench.refuses(GeneralProtection, "the processor has SGX2"):
        bench.emodpr(page, 1)
    bench.cpu.close()


def test_operands_are_aligned_and_where_they_belong(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    secinfo = bench.secinfo(1)
    with bench.refuses(GeneralProtection, "RBX is a multiple of 64"):
        emodpr(bench.cpu, bench.memory, Linaddr(secinfo + 8), page)
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        emodpr(bench.cpu, bench.memory, secinfo, EpcAddr(page + 8))
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        emodpr(bench.cpu, bench.memory, secinfo, bench.outside)
    with bench.refuses(PageFault, "RBX is readable"):
        emodpr(bench.cpu, bench.memory, bench.unmapped, page)


@pytest.mark.parametrize("bit", [6, 7, 16, 63])
def test_reserved_flags_are_zero(bench: Bench, bit: int) -> None:
    _, page, _ = bench.enclave(initialised=True)
    with bench.refuses(GeneralProtection, "SECINFO.FLAGS reserved bits"):
        bench.emodpr(page, 1 | 1 << bit)


def test_reserved_bytes_are_zero(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    data = Secinfo.of(flags=1)
    data.buffer[63] = 1
    secinfo = bench.place(data.buffer, 64)
    with bench.refuses(GeneralProtection, "SECINFO reserved bytes"):
        emodpr(bench.cpu, bench.memory, secinfo, page)


def test_w_comes_with_r(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    with bench.refuses(GeneralProtection, "SECINFO.W comes with SECINFO.R"):
        bench.emodpr(page, 2)


def test_a_page_in_use_is_a_gp_or_a_conflict(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    with bench.cpu.lock(page), bench.refuses(GeneralProtection, "RCX is not in use"):
        bench.emodpr(page, 1)
    before = bench.snapshot()
    with bench.cpu.lock_sgx2(page):
        bench.returns(bench.emodpr(page, 1), SgxError.EPC_PAGE_CONFLICT, "another SGX2 leaf")
    assert bench.snapshot() == before


def test_a_free_page_is_a_pf(bench: Bench) -> None:
    free = bench.page()
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 1", free):
        bench.emodpr(free, 1)


@pytest.mark.parametrize("state", [EpcmState.PENDING, EpcmState.MODIFIED])
def test_a_page_that_waits_is_not_modifiable_whatever_its_type(bench: Bench, state: EpcmState) -> None:
    _, page, _ = bench.enclave(initialised=True)
    bench.change(page, pt=PageType.TRIM, state=state)
    before = bench.snapshot()
    bench.returns(bench.emodpr(page, 7), SgxError.PAGE_NOT_MODIFIABLE, "neither PENDING nor MODIFIED")
    assert bench.snapshot() == before


@pytest.mark.parametrize("page_type", [PageType.TCS, PageType.TRIM])
def test_only_regular_pages_are_restricted(bench: Bench, page_type: PageType) -> None:
    _, page, _ = bench.enclave(initialised=True)
    bench.change(page, pt=page_type)
    with bench.refuses(PageFault, "EPCM(RCX).PT is PT_REG", page):
        bench.emodpr(page, 7)


def test_the_enclave_is_initialised(bench: Bench) -> None:
    _, page, _ = bench.enclave()
    with bench.refuses(GeneralProtection, "the enclave is initialised"):
        bench.emodpr(page, 1)


def test_the_bulk_way_is_the_same_as_one_by_one(bench: Bench) -> None:
    secs = bench.ecreate()
    pages = [bench.eadd(secs, at * PAGE_SIZE, REG_RWX) for at in range(3)]
    assert bench.einit(secs).ok
    frames = np.array([bench.cpu.epc.frame(page) for page in pages], np.uint32)
    before = bytes(bench.cpu.epcm.region.view)
    leaf.run(bench.cpu, secs, frames, 5)
    bulk = bytes(bench.cpu.epcm.region.view)
    bench.cpu.epcm.region.view[:] = before
    for page in pages:
        assert bench.emodpr(page, 5).ok
    assert bytes(bench.cpu.epcm.region.view) == bulk


def test_the_bulk_way_takes_pages_up_to_the_first_that_a_rule_refuses(bench: Bench) -> None:
    secs = bench.ecreate()
    pages = [bench.eadd(secs, at * PAGE_SIZE, REG_RWX) for at in range(3)]
    frames = np.array([bench.cpu.epc.frame(page) for page in pages], np.uint32)
    kinds = (PageType.REG,)
    assert clean_pages(bench.cpu, secs, frames, kinds) == 0  # not initialised
    assert bench.einit(secs).ok
    assert clean_pages(bench.cpu, secs, frames, kinds) == 3
    with bench.cpu.lock_sgx2(pages[0]):
        assert clean_pages(bench.cpu, secs, frames, kinds) == 0
    for change in (
        {"state": EpcmState.PENDING},
        {"state": EpcmState.MODIFIED},
        {"pt": PageType.TRIM, "state": EpcmState(0)},
    ):
        bench.change(pages[2], **change)
        assert clean_pages(bench.cpu, secs, frames, kinds) == 2
        before = bench.snapshot()
        with pytest.raises(InternalError, match="nothing refuses"):
            leaf.run(bench.cpu, secs, frames, 1)
        assert bench.snapshot() == before
