"""EADD, check by check in the manual's order."""

from __future__ import annotations

import hashlib

import pytest

from swsgx.cpu.encls.eadd import eadd
from swsgx.cpu.epcm import HOME_ENCLAVE, HOME_EPC
from swsgx.cpu.faults import GeneralProtection, PageFault
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import PageType, TcsFlags, secinfo_flags
from swsgx.isa.structs import Tcs
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import BASE, REG_RW, REG_RX, SIZE, TCS, a_secs, a_tcs


def digest(bench: Bench, secs: EpcAddr) -> bytes:
    return bench.cpu.enclaves[bench.cpu.epc.frame(secs)].measurement.digest()


@pytest.mark.parametrize("perm", [0, 1, 3, 4, 5, 7])
def test_a_reg_page_gets_the_permissions_of_secinfo(bench: Bench, perm: int) -> None:
    secs = bench.ecreate()
    data = bytes(range(256)) * 16
    frame = bench.cpu.epc.frame(bench.eadd(secs, 0x2000, secinfo_flags(PageType.REG, perm), data))
    entry = bench.cpu.epcm[frame]
    assert (entry.pt, entry.perm, entry.state) == (PageType.REG, perm, EpcmState.VALID)
    assert (entry.enclaveaddress, entry.secs, entry.home) == (
        BASE + 0x2000,
        bench.cpu.epc.frame(secs),
        HOME_ENCLAVE,
    )
    assert bytes(bench.cpu.page(frame)) == data
    store = bench.cpu.owner(frame).store
    assert store.frame_map[2] == frame + 1
    assert bytes(store.contents.view[0x2000:0x3000]) == data


def test_a_tcs_is_stored_inactive_and_without_permissions(bench: Bench) -> None:
    secs = bench.ecreate()
    source = a_tcs(state=1, flags=TcsFlags.DBGOPTIN | TcsFlags.AEXNOTIFY, cssa=2, aep=0x1234, oentry=0x10)
    frame = bench.cpu.epc.frame(bench.eadd(secs, 0, TCS, bytes(source)))
    stored = Tcs(bytes(bench.cpu.page(frame)))
    assert (stored.state, stored.flags, stored.cssa, stored.aep) == (0, TcsFlags.AEXNOTIFY, 0, 0)
    assert (stored.oentry, stored.ossa, stored.nssa) == (0x10, 0x1000, 1)
    assert (bench.cpu.epcm[frame].pt, bench.cpu.epcm[frame].perm) == (PageType.TCS, 0)


def test_a_tcs_is_measured_without_permissions_whatever_secinfo_says(bench: Bench) -> None:
    plain, asking = bench.ecreate(), bench.ecreate()
    bench.eadd(plain, 0, TCS, bytes(a_tcs()))
    bench.eadd(asking, 0, TCS | 7, bytes(a_tcs()))
    assert digest(bench, plain) == digest(bench, asking)


def test_the_measurement_is_one_block_more(bench: Bench) -> None:
    secs = bench.ecreate()
    bench.eadd(secs, 0x1000, REG_RX)
    ecreate_block = b"ECREATE\0" + (1).to_bytes(4, "little") + SIZE.to_bytes(8, "little") + bytes(44)
    eadd_block = b"EADD\0\0\0\0" + (0x1000).to_bytes(8, "little") + REG_RX.to_bytes(8, "little") + bytes(40)
    assert digest(bench, secs) == hashlib.sha256(ecreate_block + eadd_block).digest()


def test_a_second_page_at_one_address_is_not_refused(bench: Bench) -> None:
    secs = bench.ecreate()
    first = bench.cpu.epc.frame(bench.eadd(secs, 0, REG_RW, b"1" * PAGE_SIZE))
    second = bench.cpu.epc.frame(bench.eadd(secs, 0, REG_RW, b"2" * PAGE_SIZE))
    assert bytes(bench.cpu.page(first)) == b"1" * PAGE_SIZE
    assert bytes(bench.cpu.page(second)) == b"2" * PAGE_SIZE
    assert bench.cpu.epcm[second].home == HOME_EPC
    assert bench.cpu.owner(first).store.frame_map[0] == first + 1


def test_every_change_raises_the_generation(bench: Bench) -> None:
    secs = bench.ecreate()
    head = bench.cpu.enclaves[bench.cpu.epc.frame(secs)].store.head
    before = head.generation
    bench.eadd(secs)
    assert head.generation > before


def test_rbx_is_32_byte_aligned(bench: Bench) -> None:
    with bench.refuses(GeneralProtection, "RBX is a multiple of 32"):
        eadd(bench.cpu, bench.memory, Linaddr(bench.pageinfo() + 16), bench.page())


def test_rcx_is_page_aligned(bench: Bench) -> None:
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        eadd(bench.cpu, bench.memory, bench.pageinfo(), EpcAddr(bench.page() + 256))


def test_rcx_is_in_the_epc(bench: Bench) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        eadd(bench.cpu, bench.memory, bench.pageinfo(), bench.outside)


def test_pageinfo_is_readable(bench: Bench) -> None:
    with bench.refuses(PageFault, "PAGEINFO is readable"):
        eadd(bench.cpu, bench.memory, bench.unmapped, bench.page())


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("srcpge", 0x800, "PAGEINFO.SRCPGE is a multiple of 4096"),
        ("secs", 0x7020_0800, "PAGEINFO.SECS is a multiple of 4096"),
        ("secinfo", 0x20, "PAGEINFO.SECINFO is a multiple of 64"),
        ("linaddr", BASE + 0x800, "PAGEINFO.LINADDR is a multiple of 4096"),
    ],
)
def test_fields_of_pageinfo_are_aligned(bench: Bench, field: str, value: int, rule: str) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, rule):
        bench.eadd(secs, **{field: value})


def test_the_secs_is_in_the_epc(bench: Bench) -> None:
    with bench.refuses(PageFault, "PAGEINFO.SECS is in the EPC", bench.outside):
        bench.eadd(bench.outside)


def test_secinfo_is_readable(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.refuses(PageFault, "PAGEINFO.SECINFO is readable"):
        bench.eadd(secs, secinfo=bench.unmapped)


@pytest.mark.parametrize("bit", [3, 4, 5, 6, 7, 16, 63])
def test_secinfo_reserved_bits_are_zero(bench: Bench, bit: int) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, "SECINFO.FLAGS reserved bits are zero"):
        bench.eadd(secs, 0, REG_RW | 1 << bit)


def test_secinfo_reserved_bytes_are_zero(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, "SECINFO reserved bytes are zero"):
        bench.eadd(secs, secinfo=bench.secinfo(REG_RW, reserved_8=b"\1" + bytes(55)))


@pytest.mark.parametrize("pt", [0, 3, 4, 5, 6, 7, 255])
def test_the_page_type_is_reg_or_tcs(bench: Bench, pt: int) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, "SECINFO.PAGE_TYPE is PT_REG or PT_TCS"):
        bench.eadd(secs, 0, pt << 8 | 3)


def test_a_page_in_use_is_a_gp(bench: Bench) -> None:
    secs, page = bench.ecreate(), bench.page()
    with bench.cpu.lock(page), bench.refuses(GeneralProtection, "RCX is not in use by another leaf"):
        bench.eadd(secs, 0, REG_RW, None, page)


def test_a_valid_page_is_a_pf(bench: Bench) -> None:
    secs = bench.ecreate()
    page = bench.eadd(secs)
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 0", page):
        bench.eadd(secs, 0x1000, REG_RW, None, page)


def test_a_secs_in_use_is_a_gp(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.cpu.lock(secs), bench.refuses(GeneralProtection, "PAGEINFO.SECS is not in use"):
        bench.eadd(secs)


def test_the_secs_is_valid(bench: Bench) -> None:
    free = bench.page()
    with bench.refuses(PageFault, "PAGEINFO.SECS is a valid SECS page", free):
        bench.eadd(free)


def test_the_secs_is_a_secs(bench: Bench) -> None:
    page = bench.eadd(bench.ecreate())
    with bench.refuses(PageFault, "PAGEINFO.SECS is a valid SECS page", page):
        bench.eadd(page)


def test_the_source_is_readable(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.refuses(PageFault, "PAGEINFO.SRCPGE is readable"):
        bench.eadd(secs, srcpge=bench.unmapped)


@pytest.mark.parametrize(
    "values",
    [{"ocetssa": b"\1" + bytes(7)}, {"prevssp": b"\1" + bytes(7)}, {"reserved_88": bytes(4007) + b"\1"}],
)
def test_tcs_reserved_bytes_are_zero(bench: Bench, values: dict[str, object]) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, "TCS reserved bytes are zero"):
        bench.eadd(secs, 0, TCS, bytes(a_tcs(**values)))


def test_reserved_tcs_flags_pass_eadd(bench: Bench) -> None:
    """EENTER refuses them; EADD's operation does not look."""
    page = bench.eadd(bench.ecreate(), 0, TCS, bytes(a_tcs(flags=1 << 63 | 1 << 2)))
    assert Tcs(bytes(bench.cpu.page(bench.cpu.epc.frame(page)))).flags == 1 << 63 | 1 << 2


@pytest.mark.parametrize("name", ["fslimit", "gslimit"])
def test_segment_limits_of_a_32_bit_enclave_end_a_page(bench: Bench, name: str) -> None:
    secs = bench.ecreate(a_secs(attributes=0, baseaddr=0x10000))
    for limit, good in ((0xFFE, False), (0x1FFF, True)):
        values = {"linaddr": 0x10000, "srcpge": bench.place(a_tcs(**{name: limit}).buffer)}
        if good:
            bench.eadd(secs, 0, TCS, **values)
        else:
            with bench.refuses(GeneralProtection, f"TCS.{name.upper()} of a 32-bit enclave"):
                bench.eadd(secs, 0, TCS, **values)


def test_segment_limits_of_a_64_bit_enclave_are_not_looked_at(bench: Bench) -> None:
    bench.eadd(bench.ecreate(), 0, TCS, bytes(a_tcs(fslimit=0, gslimit=0)))


@pytest.mark.parametrize("perm", [2, 6])
def test_w_of_a_reg_page_comes_with_r(bench: Bench, perm: int) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, "SECINFO.W of a REG page comes with SECINFO.R"):
        bench.eadd(secs, 0, secinfo_flags(PageType.REG, perm))


@pytest.mark.parametrize("offset", [-PAGE_SIZE, SIZE, 1 << 40])
def test_linaddr_is_inside_elrange(bench: Bench, offset: int) -> None:
    secs = bench.ecreate()
    with bench.refuses(GeneralProtection, "PAGEINFO.LINADDR is inside ELRANGE"):
        bench.eadd(secs, offset)


def test_a_measurement_in_use_is_a_gp(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.cpu.lock_measurement(secs), bench.refuses(GeneralProtection, "no other leaf extends"):
        bench.eadd(secs)


def test_an_initialised_enclave_is_a_gp(bench: Bench) -> None:
    secs, _, _ = bench.enclave(initialised=True)
    with bench.refuses(GeneralProtection, "the enclave is not initialised"):
        bench.eadd(secs, 0x2000)


def test_the_order_is_the_manuals(bench: Bench) -> None:
    """Of several broken rules, the first in the manual's order is the one that is seen."""
    secs, _, _ = bench.enclave(initialised=True)
    busy, free = bench.eadd(bench.ecreate()), bench.page()
    bad_tcs = bench.place(a_tcs(prevssp=b"\1" * 8).buffer)
    w_only = secinfo_flags(PageType.REG, 2)
    steps: list[tuple[EpcAddr, int, dict[str, object], str]] = [
        (busy, 0x800 << 8, {"srcpge": 1, "secs": 1, "secinfo": 1, "linaddr": 1}, "SRCPGE is a multiple"),
        (busy, 0x800 << 8, {"secs": 1, "secinfo": 1, "linaddr": 1}, "SECS is a multiple"),
        (busy, 0x800 << 8, {"secs": bench.outside, "secinfo": 1, "linaddr": 1}, "SECINFO is a multiple"),
        (busy, 1 << 7, {"secs": bench.outside, "linaddr": 1}, "LINADDR is a multiple"),
        (busy, 1 << 7, {"secs": bench.outside}, "SECS is in the EPC"),
        (busy, 1 << 7, {"secs": free}, "SECINFO.FLAGS reserved"),
        (busy, REG_RW, {"secs": free}, "EPCM(RCX).VALID is 0"),
        (free, REG_RW, {"secs": free, "srcpge": bench.unmapped}, "a valid SECS page"),
        (free, w_only, {"srcpge": bench.unmapped, "linaddr": 0}, "SRCPGE is readable"),
        (free, TCS, {"srcpge": bad_tcs, "linaddr": 0}, "TCS reserved bytes"),
        (free, w_only, {"linaddr": 0}, "SECINFO.W"),
        (free, REG_RW, {"linaddr": 0}, "LINADDR is inside ELRANGE"),
    ]
    for page, flags, values, rule in steps:
        kind = PageFault if "VALID" in rule or "valid" in rule or "in the EPC" in rule else GeneralProtection
        kind = PageFault if "readable" in rule else kind
        with bench.refuses(kind, rule):
            bench.eadd(secs, 0, flags, None, page, **values)
    with bench.cpu.lock_measurement(secs), bench.refuses(GeneralProtection, "no other leaf extends"):
        bench.eadd(secs, 0, REG_RW, None, free)
