"""EACCEPT, check by check."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swsgx.cpu.encls.eremove import eremove
from swsgx.cpu.encls.etrack import etrack
from swsgx.cpu.enclu.eaccept import eaccept
from swsgx.cpu.faults import GeneralProtection, LeafResult, PageFault
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.structs import Tcs
from swsgx.native.abi import EpcmState
from tests.make.inside import READ, Room, check_page_operand, check_secinfo_operand, no_sgx2
from tests.make.leaves import Bench
from tests.make.world import a_secs, a_tcs

#: Usual requests: a new page, a restricted one, a TCS, a trimmed page.
NEW, RESTRICTED, TO_TCS, TO_TRIM = 0x20B, 0x220, 0x110, 0x410


def accept(room: Room, flags: int, at: Linaddr) -> LeafResult:
    return eaccept(room.cpu, room.thread, room.secinfo(flags), at)


def a_new_tcs(room: Room, contents: bytes | None = None) -> None:
    """The page at ``at`` becomes a TCS, tracked."""
    room.cpu.page(room.cpu.epc.frame(room.page))[:] = bytes(a_tcs()) if contents is None else contents
    assert room.bench.emodt(room.page, PageType.TCS).ok
    assert etrack(room.cpu, room.secs).ok


def test_a_new_page_is_usable_without_tracking(room: Room) -> None:
    room.enter()
    generation = room.state.store.head.generation
    assert accept(room, NEW, room.new_at).ok
    assert room.bench.entry(room.new) == (PageType.REG, 3, EpcmState.VALID)
    assert room.state.store.head.generation > generation


@pytest.mark.parametrize("perm", [0, 1, 3])
def test_a_restriction_is_acknowledged(room: Room, perm: int) -> None:
    assert room.bench.emodpr(room.page, perm).ok
    assert etrack(room.cpu, room.secs).ok
    assert accept(room, RESTRICTED | perm, room.at).ok
    assert room.bench.entry(room.page) == (PageType.REG, perm, EpcmState.VALID)


def test_pr_is_not_compared(room: Room) -> None:
    assert accept(room, RESTRICTED | 3, room.at).ok
    assert accept(room, NEW | RESTRICTED, room.new_at).ok


def test_a_new_tcs_is_one_that_threads_are_counted_by(room: Room) -> None:
    a_new_tcs(room)
    assert room.cpu.epc.frame(room.page) not in room.state.tcs
    assert accept(room, TO_TCS, room.at).ok
    assert room.bench.entry(room.page) == (PageType.TCS, 0, EpcmState.VALID)
    room.cpu.page(room.cpu.epc.frame(room.page))[0] = 1
    assert room.cpu.threads_inside(room.frame) == 1


def test_a_trimmed_page_can_be_removed_while_a_thread_is_inside(room: Room) -> None:
    assert room.bench.emodt(room.page, PageType.TRIM).ok
    assert etrack(room.cpu, room.secs).ok
    room.enter()
    assert accept(room, TO_TRIM, room.at).ok
    assert room.bench.entry(room.page) == (PageType.TRIM, 0, EpcmState.VALID)
    assert eremove(room.cpu, room.page).ok


def test_without_sgx2_the_leaf_is_unknown() -> None:
    no_sgx2(lambda room, rbx: eaccept(room.cpu, room.thread, rbx, room.at))


def test_secinfo_is_in_a_readable_page_of_the_enclave(room: Room) -> None:
    check_secinfo_operand(room, NEW, lambda thread, rbx: eaccept(room.cpu, thread, rbx, room.new_at))


def test_the_page_is_mapped_inside_the_enclave(room: Room) -> None:
    secinfo = room.secinfo(NEW)
    check_page_operand(room, "RCX", room.new_at, lambda thread, rcx: eaccept(room.cpu, thread, secinfo, rcx))


@pytest.mark.parametrize(
    "flags",
    [0x203, 0x21B, 0x230, 0x210, 0x100, 0x118, 0x130, 0x400, 0x418, 0x430, 0x010, 0x310, 0x510, 0x708],
)
def test_only_what_a_driver_does_can_be_accepted(room: Room, flags: int) -> None:
    secinfo = room.secinfo(flags)
    with room.bench.refuses(GeneralProtection, "SECINFO asks for what EACCEPT can accept"):
        eaccept(room.cpu, room.thread, secinfo, room.new_at)


def test_the_page_is_one_that_could_be_accepted(room: Room) -> None:
    secinfo, bench = room.secinfo(NEW), room.bench

    def refuses(rule: str, page: EpcAddr) -> None:
        with bench.refuses(PageFault, f"EPCM(RCX).{rule}", room.new_at, READ):
            eaccept(room.cpu, room.redirect({room.new_at: page}), secinfo, room.new_at)

    refuses("VALID is 1", bench.page())
    refuses("ENCLAVESECS is the enclave's", bench.enclave(initialised=True)[1])
    refuses("PT is PT_REG, PT_TCS or PT_TRIM", room.secs)
    bench.change(room.new, state=EpcmState.PENDING | EpcmState.BLOCKED)
    refuses("BLOCKED is 0", room.new)


def test_a_page_in_use_is_a_gp(room: Room) -> None:
    secinfo = room.secinfo(NEW)
    for lock in (room.cpu.lock, room.cpu.lock_sgx2):
        with lock(room.new), room.bench.refuses(GeneralProtection, "RCX is not"):
            eaccept(room.cpu, room.thread, secinfo, room.new_at)


@pytest.mark.parametrize(
    ("flags", "state", "page_type", "rule"),
    [
        (NEW, EpcmState(0), PageType.REG, "PENDING"),
        (RESTRICTED | 3, EpcmState.PENDING, PageType.REG, "PENDING"),
        (RESTRICTED | 3, EpcmState.MODIFIED, PageType.REG, "MODIFIED"),
        (TO_TRIM | 3, EpcmState(0), PageType.TRIM, "MODIFIED"),
        (NEW & ~1, EpcmState.PENDING, PageType.REG, "R, W and X"),
        (NEW & ~2, EpcmState.PENDING, PageType.REG, "R, W and X"),
        (NEW | 4, EpcmState.PENDING, PageType.REG, "R, W and X"),
        (TO_TRIM | 3, EpcmState.MODIFIED, PageType.TCS, "PT"),
        (TO_TCS | 3, EpcmState.MODIFIED, PageType.TRIM, "PT"),
        (NEW, EpcmState.PENDING, PageType.TRIM, "PT"),
    ],
)
def test_what_is_not_as_asked_is_a_mismatch(
    room: Room, flags: int, state: EpcmState, page_type: PageType, rule: str
) -> None:
    secinfo = room.secinfo(flags)
    room.bench.change(room.new, pt=page_type, state=state)
    before = room.bench.snapshot()
    result = eaccept(room.cpu, room.thread, secinfo, room.new_at)
    room.bench.returns(result, SgxError.PAGE_ATTRIBUTES_MISMATCH, f"EPCM(RCX).{rule} is as asked")
    assert room.bench.snapshot() == before


def test_another_page_of_the_enclave_is_a_mismatch_not_a_fault(room: Room) -> None:
    thread = room.redirect({room.at: room.new})
    result = eaccept(room.cpu, thread, room.secinfo(NEW), room.at)
    room.bench.returns(result, SgxError.PAGE_ATTRIBUTES_MISMATCH, "ENCLAVEADDRESS is as asked")


Change = Callable[[Bench, EpcAddr], LeafResult]


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        (lambda bench, page: bench.emodpr(page, 1), RESTRICTED | 1),
        (lambda bench, page: bench.emodt(page, PageType.TRIM), TO_TRIM),
        (lambda bench, page: bench.emodt(page, PageType.TCS), TO_TCS),
    ],
)
def test_a_change_waits_for_etrack_and_for_all_who_were_inside(
    room: Room, change: Change, flags: int
) -> None:
    room.enter()
    room.cpu.page(room.cpu.epc.frame(room.page))[:] = bytes(a_tcs())
    assert change(room.bench, room.page).ok
    secinfo = room.secinfo(flags)

    def refuses() -> None:
        before = room.bench.snapshot()
        result = eaccept(room.cpu, room.thread, secinfo, room.at)
        room.bench.returns(result, SgxError.NOT_TRACKED, "all threads that could have seen")
        assert room.bench.snapshot() == before

    refuses()
    assert etrack(room.cpu, room.secs).ok
    refuses()
    room.cpu.tracker.interrupt(room.state)
    assert eaccept(room.cpu, room.thread, secinfo, room.at).ok


def test_a_mismatch_is_seen_before_tracking(room: Room) -> None:
    assert room.bench.emodt(room.page, PageType.TRIM).ok
    result = accept(room, TO_TCS, room.at)
    room.bench.returns(result, SgxError.PAGE_ATTRIBUTES_MISMATCH, "PT is as asked")


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"flags": 1}, "TCS.FLAGS.DBGOPTIN is 0"),
        ({"nssa": 0}, "TCS.CSSA is below TCS.NSSA"),
        ({"cssa": 1}, "TCS.CSSA is below TCS.NSSA"),
        ({"aep": 8}, "TCS.AEP is 0"),
        ({"state": 1}, "TCS.STATE is inactive"),
    ],
)
def test_a_new_tcs_is_as_eadd_would_make_it(room: Room, values: dict[str, int], rule: str) -> None:
    a_new_tcs(room, bytes(a_tcs(**values)))
    secinfo = room.secinfo(TO_TCS)
    with room.bench.refuses(GeneralProtection, rule):
        eaccept(room.cpu, room.thread, secinfo, room.at)


@pytest.mark.parametrize("at", [Tcs.ocetssa.offset, Tcs.reserved_88.offset, PAGE_SIZE - 1])
def test_reserved_bytes_of_a_new_tcs_are_zero(room: Room, at: int) -> None:
    contents = bytearray(bytes(a_tcs()))
    contents[at] = 1
    a_new_tcs(room, bytes(contents))
    secinfo = room.secinfo(TO_TCS)
    with room.bench.refuses(GeneralProtection, "TCS reserved bytes are zero"):
        eaccept(room.cpu, room.thread, secinfo, room.at)


@pytest.mark.parametrize("field", ["fslimit", "gslimit"])
def test_segment_limits_of_a_32_bit_enclave_end_a_page(bench: Bench, field: str) -> None:
    secs = bench.ecreate(a_secs(attributes=Attributes.DEBUG, baseaddr=0x1000_0000))
    low = 0x1000_0000
    bench.eadd(secs, 0, linaddr=low)
    tcs = bench.eadd(secs, 0x1000, 0x203, bytes(a_tcs(**{field: 0xFFE})), linaddr=low + 0x1000)
    assert bench.einit(secs).ok
    assert bench.emodt(tcs, PageType.TCS).ok
    assert etrack(bench.cpu, secs).ok
    bench.cpu.enclaves[bench.cpu.epc.frame(secs)].store.page(0)[:8] = TO_TCS.to_bytes(8, "little")
    with bench.refuses(GeneralProtection, f"TCS.{field.upper()} of a 32-bit enclave"):
        eaccept(bench.cpu, bench.inside(secs), Linaddr(low), Linaddr(low + 0x1000))
