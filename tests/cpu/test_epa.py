"""EPA, check by check."""

from __future__ import annotations

import pytest

from swsgx.cpu.encls.epa import epa
from swsgx.cpu.faults import GeneralProtection, PageFault
from swsgx.isa.address import EpcAddr
from swsgx.isa.flags import PageType
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench


def test_a_free_page_becomes_512_empty_slots(bench: Bench) -> None:
    page = bench.page()
    frame = bench.cpu.epc.frame(page)
    bench.cpu.epc.page(frame)[:] = b"x" * 4096
    epa(bench.cpu, PageType.VA, page)
    entry = bench.cpu.epcm[frame]
    assert (entry.pt, entry.perm, entry.state, entry.enclaveaddress) == (PageType.VA, 0, EpcmState.VALID, 0)
    assert bytes(bench.cpu.page(frame)) == bytes(4096)


@pytest.mark.parametrize("page_type", [0, 1, 2, 4, 1 << 32 | 3])
def test_rbx_is_pt_va(bench: Bench, page_type: int) -> None:
    with bench.refuses(GeneralProtection, "RBX is PT_VA"):
        epa(bench.cpu, page_type, EpcAddr(1))


def test_rcx_is_page_aligned(bench: Bench) -> None:
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        epa(bench.cpu, PageType.VA, EpcAddr(bench.outside + 8))


def test_rcx_is_in_the_epc(bench: Bench) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        epa(bench.cpu, PageType.VA, bench.outside)


def test_a_page_in_use_is_a_gp(bench: Bench) -> None:
    page = bench.ecreate()
    with bench.cpu.lock(page), bench.refuses(GeneralProtection, "RCX is not in use"):
        epa(bench.cpu, PageType.VA, page)


def test_a_valid_page_is_a_pf(bench: Bench) -> None:
    page = bench.ecreate()
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 0", page):
        epa(bench.cpu, PageType.VA, page)
