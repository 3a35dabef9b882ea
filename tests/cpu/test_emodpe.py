"""EMODPE, check by check."""

from __future__ import annotations

import pytest

from swsgx.cpu.enclu.emodpe import emodpe
from swsgx.cpu.enclu.operands import Inside
from swsgx.cpu.faults import GeneralProtection, PageFault
from swsgx.isa.address import Linaddr
from swsgx.isa.flags import PageType
from swsgx.native.abi import EpcmState
from tests.make.inside import READ, Room, check_page_operand, check_secinfo_operand, no_sgx2
from tests.make.world import REG_RWX


def run(room: Room, thread: Inside, rbx: Linaddr, rcx: Linaddr) -> None:
    emodpe(room.cpu, thread, rbx, rcx)


@pytest.mark.parametrize(("old", "asked", "new"), [(1, 2, 3), (1, 4, 5), (3, 0, 3), (0, 5, 5), (0, 0, 0)])
def test_permissions_grow_at_once(room: Room, old: int, asked: int, new: int) -> None:
    entry = room.cpu.epcm[room.cpu.epc.frame(room.page)]
    entry.perm = old
    generation = room.state.store.head.generation
    emodpe(room.cpu, room.thread, room.secinfo(asked), room.at)
    assert room.bench.entry(room.page) == (PageType.REG, new, EpcmState.VALID)
    assert room.state.store.head.generation > generation


def test_it_undoes_a_restriction_that_is_under_way(room: Room) -> None:
    assert room.bench.emodpr(room.page, 1).ok
    emodpe(room.cpu, room.thread, room.secinfo(0x203), room.at)
    assert room.bench.entry(room.page) == (PageType.REG, 3, EpcmState.VALID | EpcmState.PR)


def test_without_sgx2_the_leaf_is_unknown() -> None:
    no_sgx2(lambda room, rbx: run(room, room.thread, rbx, room.at))


def test_secinfo_is_in_a_readable_page_of_the_enclave(room: Room) -> None:
    check_secinfo_operand(room, REG_RWX, lambda thread, rbx: run(room, thread, rbx, room.at))


def test_the_page_is_mapped_inside_the_enclave(room: Room) -> None:
    secinfo = room.secinfo(REG_RWX)
    check_page_operand(
        room,
        "RCX",
        room.at,
        lambda thread, rcx: run(room, thread, secinfo, rcx),
    )


@pytest.mark.parametrize(
    ("state", "page_type", "rule"),
    [
        (EpcmState.PENDING, PageType.REG, ".PENDING is 0"),
        (EpcmState.MODIFIED, PageType.REG, ".MODIFIED is 0"),
        (EpcmState.BLOCKED, PageType.REG, ".BLOCKED is 0"),
        (EpcmState(0), PageType.TRIM, ".PT is PT_REG"),
        (EpcmState(0), PageType.TCS, ".PT is PT_REG"),
    ],
)
def test_the_page_is_a_regular_one_in_use(
    room: Room, state: EpcmState, page_type: PageType, rule: str
) -> None:
    secinfo = room.secinfo(7)
    room.bench.change(room.page, pt=page_type, state=state)
    with room.bench.refuses(PageFault, f"EPCM(RCX){rule}", room.at, READ):
        emodpe(room.cpu, room.thread, secinfo, room.at)


def test_the_page_is_valid_and_the_enclaves_own(room: Room) -> None:
    secinfo, bench = room.secinfo(7), room.bench
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 1", room.at, READ):
        emodpe(room.cpu, room.redirect({room.at: bench.page()}), secinfo, room.at)
    stranger = bench.enclave(initialised=True)[1]
    with bench.refuses(PageFault, "EPCM(RCX).ENCLAVESECS is the enclave's", room.at, READ):
        emodpe(room.cpu, room.redirect({room.at: stranger}), secinfo, room.at)
    with bench.refuses(PageFault, "EPCM(RCX).ENCLAVEADDRESS is RCX's page", room.at, READ):
        emodpe(room.cpu, room.redirect({room.at: room.other}), secinfo, room.at)


def test_a_page_in_use_is_a_gp(room: Room) -> None:
    secinfo = room.secinfo(7)
    with room.cpu.lock(room.page), room.bench.refuses(GeneralProtection, "RCX is not in use"):
        emodpe(room.cpu, room.thread, secinfo, room.at)
    with room.cpu.lock_sgx2(room.page), room.bench.refuses(GeneralProtection, "RCX is not being changed"):
        emodpe(room.cpu, room.thread, secinfo, room.at)


def test_no_page_gets_w_without_r(room: Room) -> None:
    secinfo = room.secinfo(2)
    room.cpu.epcm[room.cpu.epc.frame(room.page)].perm = 4
    with room.bench.refuses(GeneralProtection, "the page gets no W without R"):
        emodpe(room.cpu, room.thread, secinfo, room.at)
    secinfo = room.secinfo(3)
    emodpe(room.cpu, room.thread, secinfo, room.at)
    assert room.bench.entry(room.page)[1] == 7
