"""EACCEPTCOPY, check by check."""

from __future__ import annotations

import pytest

from swsgx.cpu.enclu.eacceptcopy import eacceptcopy
from swsgx.cpu.faults import GeneralProtection, PageFault
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageFaultCode, PageType, secinfo_flags
from swsgx.native.abi import EpcmState
from tests.make.inside import READ, Room, check_page_operand, check_secinfo_operand, no_sgx2
from tests.make.world import REG_RW, REG_RX


@pytest.mark.parametrize("perm", [0, 1, 3, 4, 5, 7])
def test_the_new_page_gets_contents_and_permissions(room: Room, perm: int) -> None:
    generation = room.state.store.head.generation
    secinfo = room.secinfo(secinfo_flags(PageType.REG, perm))
    assert eacceptcopy(room.cpu, room.thread, secinfo, room.new_at, room.at).ok
    assert room.bench.entry(room.new) == (PageType.REG, perm, EpcmState.VALID)
    assert bytes(room.cpu.page(room.cpu.epc.frame(room.new))) == b"p" * PAGE_SIZE
    assert bytes(room.cpu.page(room.cpu.epc.frame(room.page))) == b"p" * PAGE_SIZE
    assert room.state.store.head.generation > generation


def test_no_tracking_is_needed(room: Room) -> None:
    room.enter()
    room.state.epoch, room.state.previous = 2, 1
    assert eacceptcopy(room.cpu, room.thread, room.secinfo(REG_RX), room.new_at, room.at).ok


def test_without_sgx2_the_leaf_is_unknown() -> None:
    no_sgx2(lambda room, rbx: eacceptcopy(room.cpu, room.thread, rbx, room.at, room.other_at))


def test_secinfo_is_in_a_readable_page_of_the_enclave(room: Room) -> None:
    check_secinfo_operand(
        room, REG_RW, lambda thread, rbx: eacceptcopy(room.cpu, thread, rbx, room.new_at, room.at)
    )


def test_the_new_page_is_mapped_writable_inside_the_enclave(room: Room) -> None:
    secinfo = room.secinfo(REG_RW)
    check_page_operand(
        room,
        "RCX",
        room.new_at,
        lambda thread, rcx: eacceptcopy(room.cpu, thread, secinfo, rcx, room.at),
        write=True,
    )


def test_the_source_is_mapped_inside_the_enclave(room: Room) -> None:
    secinfo = room.secinfo(REG_RW)
    check_page_operand(
        room, "RDX", room.at, lambda thread, rdx: eacceptcopy(room.cpu, thread, secinfo, room.new_at, rdx)
    )


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (secinfo_flags(PageType.REG, 2), "SECINFO.W comes with SECINFO.R"),
        (secinfo_flags(PageType.REG, 6), "SECINFO.W comes with SECINFO.R"),
        (secinfo_flags(PageType.TCS, 0), "SECINFO.PAGE_TYPE is PT_REG"),
        (secinfo_flags(PageType.TRIM, 1), "SECINFO.PAGE_TYPE is PT_REG"),
    ],
)
def test_secinfo_is_that_of_a_regular_page(room: Room, flags: int, rule: str) -> None:
    secinfo = room.secinfo(flags)
    with room.bench.refuses(GeneralProtection, rule):
        eacceptcopy(room.cpu, room.thread, secinfo, room.new_at, room.at)


@pytest.mark.parametrize(
    ("state", "page_type", "rule"),
    [
        (EpcmState.PENDING, PageType.REG, ".PENDING is 0"),
        (EpcmState.MODIFIED, PageType.REG, ".MODIFIED is 0"),
        (EpcmState.BLOCKED, PageType.REG, ".BLOCKED is 0"),
        (EpcmState(0), PageType.TRIM, ".PT is PT_REG"),
    ],
)
def test_the_source_is_a_regular_page_in_use(
    room: Room, state: EpcmState, page_type: PageType, rule: str
) -> None:
    secinfo = room.secinfo(REG_RW)
    room.bench.change(room.page, pt=page_type, state=state)
    with room.bench.refuses(PageFault, f"EPCM(RDX){rule}", room.at, READ):
        eacceptcopy(room.cpu, room.thread, secinfo, room.new_at, room.at)


def test_the_source_is_readable_valid_and_the_enclaves_own(room: Room) -> None:
    secinfo, bench = room.secinfo(REG_RW), room.bench

    def refuses(rule: str, page: EpcAddr) -> None:
        with bench.refuses(PageFault, f"EPCM(RDX){rule}", room.at, READ):
            eacceptcopy(room.cpu, room.redirect({room.at: page}), secinfo, room.new_at, room.at)

    refuses(".VALID is 1", bench.page())
    refuses(".ENCLAVESECS is the enclave's", bench.enclave(initialised=True)[1])
    refuses(".ENCLAVEADDRESS is RDX's page", room.other)
    room.cpu.epcm[room.cpu.epc.frame(room.page)].perm = 4
    refuses(".R is 1", room.page)


@pytest.mark.parametrize(
    ("state", "page_type", "perm", "rule"),
    [
        (EpcmState(0), PageType.REG, 3, ".PENDING is 1"),
        (EpcmState.PENDING | EpcmState.MODIFIED, PageType.REG, 3, ".MODIFIED is 0"),
        (EpcmState.PENDING | EpcmState.BLOCKED, PageType.REG, 3, ".BLOCKED is 0"),
        (EpcmState.PENDING, PageType.TCS, 3, ".PT is PT_REG"),
        (EpcmState.PENDING, PageType.REG, 7, ".R and W are 1, X is 0"),
        (EpcmState.PENDING, PageType.REG, 1, ".R and W are 1, X is 0"),
    ],
)
def test_a_page_that_is_not_new_is_a_mismatch(
    room: Room, state: EpcmState, page_type: PageType, perm: int, rule: str
) -> None:
    secinfo = room.secinfo(REG_RW)
    room.bench.change(room.new, pt=page_type, state=state)
    room.cpu.epcm[room.cpu.epc.frame(room.new)].perm = perm
    before = room.bench.snapshot()
    result = eacceptcopy(room.cpu, room.thread, secinfo, room.new_at, room.at)
    room.bench.returns(result, SgxError.PAGE_ATTRIBUTES_MISMATCH, f"EPCM(RCX){rule}")
    assert room.bench.snapshot() == before


def test_a_page_that_is_not_there_or_of_elsewhere_is_a_mismatch_too(room: Room) -> None:
    secinfo, bench = room.secinfo(REG_RW), room.bench
    stranger = bench.eaug(bench.enclave(initialised=True)[0], 0x4000)
    for page, rule in (
        (bench.page(), ".VALID is 1"),
        (stranger, ": the enclave's page of that address"),
        (bench.eaug(room.secs, 0x6000), ": the enclave's page of that address"),
    ):
        thread = room.redirect({room.new_at: page})
        result = eacceptcopy(room.cpu, thread, secinfo, room.new_at, room.at)
        bench.returns(result, SgxError.PAGE_ATTRIBUTES_MISMATCH, f"EPCM(RCX){rule}")


def test_pages_in_use_are_a_gp(room: Room) -> None:
    secinfo = room.secinfo(REG_RW)
    for operand, page in (("RDX", room.page), ("RCX", room.new)):
        for lock in (room.cpu.lock, room.cpu.lock_sgx2):
            with lock(page), room.bench.refuses(GeneralProtection, f"{operand} is not"):
                eacceptcopy(room.cpu, room.thread, secinfo, room.new_at, room.at)


def test_the_source_is_checked_before_the_new_page(room: Room) -> None:
    secinfo = room.secinfo(REG_RW)
    room.bench.change(room.page, state=EpcmState.BLOCKED)
    room.bench.change(room.new, state=EpcmState(0))
    with room.bench.refuses(PageFault, "EPCM(RDX).BLOCKED is 0"):
        eacceptcopy(room.cpu, room.thread, secinfo, room.new_at, room.at)
    with room.unmapped("RCX", room.hole, PageFaultCode.U | PageFaultCode.W):
        eacceptcopy(room.cpu, room.thread, secinfo, room.hole, room.at)
