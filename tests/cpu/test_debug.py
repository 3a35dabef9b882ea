"""EDBGRD and EDBGWR, check by check."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swsgx.cpu.encls.edbgrd import edbgrd
from swsgx.cpu.encls.edbgwr import edbgwr
from swsgx.cpu.encls.epa import epa
from swsgx.cpu.faults import GeneralProtection, LeafResult, PageFault
from swsgx.cpu.machine import Cpu
from swsgx.isa.address import EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import Attributes, PageType, secinfo_flags
from swsgx.isa.structs import Tcs
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import TCS, a_secs, a_tcs

Leaf = Callable[[Cpu, EpcAddr], int | LeafResult]


def write(cpu: Cpu, address: EpcAddr) -> LeafResult:
    return edbgwr(cpu, address, 0x1122_3344_5566_7788)


BOTH = pytest.mark.parametrize("leaf", [edbgrd, write])


@pytest.mark.parametrize("perm", [0, 1, 3, 5])
def test_whatever_the_permissions_a_word_is_read_and_written(bench: Bench, perm: int) -> None:
    secs = bench.ecreate()
    page = bench.eadd(secs, 0, secinfo_flags(PageType.REG, perm), b"abcdefgh" * 512)
    word = EpcAddr(page + 4088)
    assert edbgrd(bench.cpu, word) == int.from_bytes(b"abcdefgh", "little")
    before = bench.cpu.owner(bench.cpu.epc.frame(page)).store.head.generation
    assert write(bench.cpu, word).ok
    assert edbgrd(bench.cpu, word) == 0x1122_3344_5566_7788
    assert edbgrd(bench.cpu, page) == int.from_bytes(b"abcdefgh", "little")
    assert bench.cpu.owner(bench.cpu.epc.frame(page)).store.head.generation > before


def test_it_works_before_and_after_einit(bench: Bench) -> None:
    _, page, _ = bench.enclave(initialised=True)
    assert edbgrd(bench.cpu, page) == int.from_bytes(bytes(range(8)), "little")


@BOTH
def test_rcx_is_8_byte_aligned(bench: Bench, leaf: Leaf) -> None:
    _, page, _ = bench.enclave()
    with bench.refuses(GeneralProtection, "RCX is a multiple of 8"):
        leaf(bench.cpu, EpcAddr(page + 4))


@BOTH
def test_rcx_is_in_the_epc(bench: Bench, leaf: Leaf) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        leaf(bench.cpu, bench.outside)


@BOTH
def test_a_page_in_use_is_a_gp(bench: Bench, leaf: Leaf) -> None:
    _, page, _ = bench.enclave()
    with bench.cpu.lock(page), bench.refuses(GeneralProtection, "RCX is not in use"):
        leaf(bench.cpu, page)


@BOTH
def test_a_free_page_is_a_pf(bench: Bench, leaf: Leaf) -> None:
    free = bench.page()
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 1", free):
        leaf(bench.cpu, free)


@BOTH
def test_a_secs_is_a_pf(bench: Bench, leaf: Leaf) -> None:
    secs = bench.ecreate()
    with bench.refuses(PageFault, "EPCM(RCX).PT is one of", secs):
        leaf(bench.cpu, secs)


@BOTH
def test_a_trimmed_page_is_a_pf(bench: Bench, leaf: Leaf) -> None:
    _, page, _ = bench.enclave()
    bench.change(page, pt=PageType.TRIM)
    with bench.refuses(PageFault, "EPCM(RCX).PT is one of", page):
        leaf(bench.cpu, page)


@BOTH
@pytest.mark.parametrize("state", [EpcmState.PENDING, EpcmState.MODIFIED])
def test_a_pending_or_modified_page_is_not_debuggable(bench: Bench, leaf: Leaf, state: EpcmState) -> None:
    _, page, _ = bench.enclave()
    bench.change(page, state=state)
    before = bench.snapshot()
    bench.returns(leaf(bench.cpu, page), SgxError.PAGE_NOT_DEBUGGABLE, "neither PENDING nor MODIFIED")
    assert bench.snapshot() == before


@BOTH
def test_an_enclave_without_debug_is_a_gp(bench: Bench, leaf: Leaf) -> None:
    _, page, tcs = bench.enclave(a_secs(attributes=Attributes.MODE64BIT))
    for target in (page, EpcAddr(tcs + Tcs.flags.offset)):
        with bench.refuses(GeneralProtection, "the enclave has ATTRIBUTES.DEBUG"):
            leaf(bench.cpu, target)


def test_the_fields_of_a_tcs_are_read_and_no_more(bench: Bench) -> None:
    tcs = bench.eadd(bench.ecreate(), 0, TCS, bytes(a_tcs(oentry=0x1234)))
    assert edbgrd(bench.cpu, EpcAddr(tcs + Tcs.oentry.offset)) == 0x1234
    assert edbgrd(bench.cpu, EpcAddr(tcs + 64)) == 0xFFF_0000_0FFF
    for offset in (72, 80, 4088):
        with bench.refuses(GeneralProtection, "RCX is inside the fields of the TCS"):
            edbgrd(bench.cpu, EpcAddr(tcs + offset))


def test_only_flags_of_a_tcs_are_written(bench: Bench) -> None:
    _, _, tcs = bench.enclave()
    assert edbgwr(bench.cpu, EpcAddr(tcs + Tcs.flags.offset), 1).ok
    assert Tcs(bytes(bench.cpu.page(bench.cpu.epc.frame(tcs)))).flags == 1
    for offset in (0, 16, 24, 32, 40, 64, 72, 4088):
        with bench.refuses(GeneralProtection, "RCX in a TCS is FLAGS"):
            edbgwr(bench.cpu, EpcAddr(tcs + offset), 1)


def test_the_tcs_field_is_checked_before_debug(bench: Bench) -> None:
    _, _, tcs = bench.enclave(a_secs(attributes=Attributes.MODE64BIT))
    with bench.refuses(GeneralProtection, "RCX is inside the fields"):
        edbgrd(bench.cpu, EpcAddr(tcs + 72))
    with bench.refuses(GeneralProtection, "RCX in a TCS is FLAGS"):
        edbgwr(bench.cpu, EpcAddr(tcs + 16), 1)


def test_of_a_va_page_one_learns_only_which_slots_are_empty(bench: Bench) -> None:
    page = bench.page()
    epa(bench.cpu, PageType.VA, page)
    contents = bench.cpu.epc.page(bench.cpu.epc.frame(page))
    contents[8:16] = (7).to_bytes(8, "little")
    contents[16:24] = (8).to_bytes(8, "little")
    assert [edbgrd(bench.cpu, EpcAddr(page + at)) for at in (0, 8, 16)] == [0, 0, (1 << 64) - 1]
    with bench.refuses(PageFault, "EPCM(RCX).PT is one of", page):
        edbgwr(bench.cpu, page, 1)
