"""ECREATE, check by check in the manual's order."""

from __future__ import annotations

import pytest

from swsgx.cpu.encls.ecreate import ecreate
from swsgx.cpu.faults import GeneralProtection, PageFault
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import Attributes, Miscselect, PageType, secinfo_flags
from swsgx.isa.structs import Secs
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import BASE, SIZE, a_secs

DEBUG64 = Attributes.MODE64BIT | Attributes.DEBUG


def test_a_good_secs_becomes_a_valid_secs_page(bench: Bench) -> None:
    page = bench.ecreate(a_secs(isvprodid=7, isvsvn=8, mrenclave=b"m" * 32, mrsigner=b"s" * 32))
    frame = bench.cpu.epc.frame(page)
    entry = bench.cpu.epcm[frame]
    assert (entry.pt, entry.perm, entry.state, entry.enclaveaddress) == (PageType.SECS, 0, EpcmState.VALID, 0)
    secs = bench.cpu.secs(frame)
    assert (secs.baseaddr, secs.size, secs.attributes) == (BASE, SIZE, DEBUG64)
    assert (secs.isvprodid, secs.isvsvn) == (0, 0)
    assert secs.mrenclave == secs.mrsigner == bytes(32)
    assert bench.cpu.enclaves[frame].measurement.blocks == 1


def test_each_enclave_has_its_own_eid(bench: Bench) -> None:
    first, second = (bench.cpu.epc.frame(bench.ecreate()) for _ in range(2))
    assert bench.cpu.enclaves[first].eid != bench.cpu.enclaves[second].eid


def test_the_head_of_the_table_says_what_eenter_must_know(bench: Bench) -> None:
    frame = bench.cpu.epc.frame(bench.ecreate(a_secs(ssaframesize=2, xfrm=7)))
    head = bench.cpu.enclaves[frame].store.head
    assert (head.baseaddr, head.size, head.ssaframesize, head.xfrm, head.xsize) == (BASE, SIZE, 2, 7, 832)
    assert (head.secs_frame, head.attributes) == (frame, DEBUG64)


def test_rbx_is_32_byte_aligned(bench: Bench) -> None:
    with bench.refuses(GeneralProtection, "RBX is a multiple of 32"):
        ecreate(bench.cpu, bench.memory, Linaddr(bench.pageinfo() + 8), bench.page())


def test_rcx_is_page_aligned(bench: Bench) -> None:
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        ecreate(bench.cpu, bench.memory, bench.pageinfo(), EpcAddr(bench.page() + 8))


def test_rcx_is_in_the_epc(bench: Bench) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        ecreate(bench.cpu, bench.memory, bench.pageinfo(), bench.outside)


def test_pageinfo_is_readable(bench: Bench) -> None:
    with bench.refuses(PageFault, "PAGEINFO is readable"):
        ecreate(bench.cpu, bench.memory, bench.unmapped, bench.page())


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("srcpge", 0x8, "PAGEINFO.SRCPGE is a multiple of 4096"),
        ("secinfo", 0x20, "PAGEINFO.SECINFO is a multiple of 64"),
        ("linaddr", BASE, "PAGEINFO.LINADDR is 0"),
        ("secs", 0x1000, "PAGEINFO.SECS is 0"),
    ],
)
def test_fields_of_pageinfo(bench: Bench, field: str, value: int, rule: str) -> None:
    with bench.refuses(GeneralProtection, rule):
        bench.ecreate(**{field: value})


def test_secinfo_is_readable(bench: Bench) -> None:
    with bench.refuses(PageFault, "PAGEINFO.SECINFO is readable"):
        bench.ecreate(secinfo=bench.unmapped)


@pytest.mark.parametrize("bit", [3, 4, 5, 6, 7, 16, 63])
def test_secinfo_reserved_bits_are_zero(bench: Bench, bit: int) -> None:
    with bench.refuses(GeneralProtection, "SECINFO.FLAGS reserved bits are zero"):
        bench.ecreate(secinfo=bench.secinfo(1 << bit))


def test_secinfo_reserved_bytes_are_zero(bench: Bench) -> None:
    with bench.refuses(GeneralProtection, "SECINFO reserved bytes are zero"):
        bench.ecreate(secinfo=bench.secinfo(0, reserved_8=bytes(55) + b"\1"))


@pytest.mark.parametrize("pt", [PageType.TCS, PageType.REG, PageType.VA, PageType.TRIM])
def test_secinfo_has_pt_secs(bench: Bench, pt: PageType) -> None:
    with bench.refuses(GeneralProtection, "SECINFO.PAGE_TYPE is PT_SECS"):
        bench.ecreate(secinfo=bench.secinfo(secinfo_flags(pt)))


def test_a_page_in_use_by_another_leaf_is_a_gp(bench: Bench) -> None:
    info = bench.pageinfo(srcpge=bench.place(a_secs().buffer), secinfo=bench.secinfo(0))
    page = bench.page()
    with bench.cpu.lock(page), bench.refuses(GeneralProtection, "RCX is not in use by another leaf"):
        ecreate(bench.cpu, bench.memory, info, page)


def test_a_valid_page_is_a_pf(bench: Bench) -> None:
    page = bench.ecreate()
    info = bench.pageinfo(srcpge=bench.place(a_secs().buffer), secinfo=bench.secinfo(0))
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 0", page):
        ecreate(bench.cpu, bench.memory, info, page)


def test_the_source_is_readable(bench: Bench) -> None:
    with bench.refuses(PageFault, "PAGEINFO.SRCPGE is readable"):
        bench.ecreate(srcpge=bench.unmapped)


@pytest.mark.parametrize(
    ("secs", "rule"),
    [
        (a_secs(xfrm=0), "SECS.XFRM: bits 1:0"),
        (a_secs(xfrm=3 | 1 << 63), "SECS.XFRM: bit 63"),
        (a_secs(xfrm=3 | 1 << 3 | 1 << 4), "SECS.XFRM: is a subset"),
        (a_secs(xfrm=3 | 4 | 1 << 5), "SECS.XFRM: bits 0xe0 are set together"),
        (a_secs(xfrm=3 | 7 << 5), "SECS.XFRM: AVX-512"),
        (a_secs(cet_leg_bitmap_offset=b"\1" + bytes(7)), "SECS CET fields are zero"),
        (a_secs(cet_attributes=b"\1"), "SECS CET fields are zero"),
        (a_secs(miscselect=Miscselect.CPINFO), "SECS.MISCSELECT is a subset"),
        (a_secs(ssaframesize=0), "an SSA frame holds"),
        (a_secs(baseaddr=1 << 47), "SECS.BASEADDR is canonical"),
        (a_secs(size=1 << 56, baseaddr=0), "SECS.SIZE is below CPUID.12H.0:EDX"),
        (a_secs(size=0x3000), "SECS.SIZE is a power of two"),
        (a_secs(size=0x1000), "SECS.SIZE is at least two pages"),
        (a_secs(size=0), "SECS.SIZE is at least two pages"),
        (a_secs(baseaddr=BASE + 0x1000), "SECS.BASEADDR is a multiple of SECS.SIZE"),
        (a_secs(attributes=DEBUG64 | Attributes.INIT), "SECS.ATTRIBUTES is a subset"),
        (a_secs(attributes=DEBUG64 | 1 << 3), "SECS.ATTRIBUTES is a subset"),
        (a_secs(attributes=DEBUG64 | Attributes.CET), "SECS.ATTRIBUTES is a subset"),
        (a_secs(attributes=DEBUG64 | Attributes.AEXNOTIFY), "SECS.ATTRIBUTES is a subset"),
        (a_secs(reserved_33=bytes(14) + b"\1"), "SECS reserved bytes are zero (reserved_33)"),
        (a_secs(reserved_96=b"\1" + bytes(31)), "SECS reserved bytes are zero (reserved_96)"),
        (a_secs(reserved_160=b"\1" + bytes(31)), "SECS reserved bytes are zero (reserved_160)"),
        (a_secs(reserved_262=bytes(3833) + b"\1"), "SECS reserved bytes are zero (reserved_262)"),
        (a_secs(configid=b"\1" + bytes(63)), "SECS.CONFIGID is zero without KSS"),
        (a_secs(configsvn=1), "SECS.CONFIGSVN is zero without KSS"),
        (a_secs(attributes=0, baseaddr=1 << 32), "below 4 GiB"),
        (a_secs(attributes=0, baseaddr=0, size=1 << 31), "SECS.SIZE is below CPUID.12H.0:EDX"),
    ],
)
def test_rules_for_the_source_secs(bench: Bench, secs: Secs, rule: str) -> None:
    with bench.refuses(GeneralProtection, rule):
        bench.ecreate(secs)


def test_the_size_of_an_ssa_frame_counts_exinfo_and_gprsgx() -> None:
    # 2696 bytes of XSAVE, 16 of EXINFO and 184 of GPRSGX fit a page; AMX does not.
    bench = Bench(CpuModel.with_sgx2(epc_size=64 * PAGE_SIZE, xfrm_mask=0x602E7))
    bench.ecreate(a_secs(xfrm=0x2E7, miscselect=Miscselect.EXINFO))
    with bench.refuses(GeneralProtection, "an SSA frame holds"):
        bench.ecreate(a_secs(xfrm=0x602E7, ssaframesize=2))
    bench.ecreate(a_secs(xfrm=0x602E7, ssaframesize=3))


def test_kss_allows_configid_and_configsvn(bench: Bench) -> None:
    page = bench.ecreate(a_secs(attributes=DEBUG64 | Attributes.KSS, configid=b"c" * 64, configsvn=9))
    secs = bench.cpu.secs(bench.cpu.epc.frame(page))
    assert (secs.configid, secs.configsvn) == (b"c" * 64, 9)


def test_a_machine_without_kss_refuses_it() -> None:
    bench = Bench(CpuModel.with_sgx1(epc_size=64 * PAGE_SIZE))
    with bench.refuses(GeneralProtection, "SECS.ATTRIBUTES is a subset"):
        bench.ecreate(a_secs(attributes=DEBUG64 | Attributes.KSS))


def test_a_machine_without_exinfo_refuses_it() -> None:
    bench = Bench(CpuModel.with_sgx1(epc_size=64 * PAGE_SIZE))
    with bench.refuses(GeneralProtection, "SECS.MISCSELECT is a subset"):
        bench.ecreate(a_secs(miscselect=Miscselect.EXINFO))


@pytest.mark.parametrize("secs", [a_secs(attributes=0, baseaddr=0x10000)])
def test_a_32_bit_enclave_may_be_created_below_4_gib(bench: Bench, secs: Secs) -> None:
    bench.ecreate(secs)


def test_the_order_is_operands_then_page_then_data(bench: Bench) -> None:
    """Of several broken rules, the first in the manual's order is the one that is seen."""
    page, busy = bench.page(), bench.ecreate()
    bad = bench.place(a_secs(xfrm=0).buffer)
    cases: list[tuple[int, EpcAddr, dict[str, int], str]] = [
        (3, EpcAddr(page + 1), {"linaddr": 1}, "RBX is a multiple of 32"),
        (0, EpcAddr(bench.outside + 1), {"linaddr": 1}, "RCX is a multiple of 4096"),
        (0, bench.outside, {"srcpge": 1, "linaddr": 1}, "RCX is in the EPC"),
        (0, busy, {"srcpge": 1, "secinfo": 1, "linaddr": 1, "secs": 1}, "PAGEINFO.SRCPGE"),
        (0, busy, {"secinfo": 1, "linaddr": 1, "secs": 1}, "PAGEINFO.SECINFO is a multiple"),
        (0, busy, {"linaddr": 1, "secs": 1, "secinfo": bench.secinfo(1 << 7)}, "PAGEINFO.LINADDR is 0"),
        (0, busy, {"secs": 1, "secinfo": bench.secinfo(1 << 7)}, "PAGEINFO.SECS is 0"),
        (0, busy, {"secinfo": bench.secinfo(0x200 | 1 << 7)}, "SECINFO.FLAGS reserved"),
        (0, busy, {"secinfo": bench.secinfo(0x200)}, "PAGE_TYPE"),
        (0, busy, {}, "EPCM(RCX).VALID is 0"),
        (0, page, {}, "SECS.XFRM"),
    ]
    for shift, rcx, fields, rule in cases:
        info: dict[str, int] = {"srcpge": bad, "secinfo": bench.secinfo(0)} | fields
        kind = PageFault if "EPC" in rule and "PAGEINFO" not in rule else GeneralProtection
        with bench.refuses(kind, rule):
            ecreate(bench.cpu, bench.memory, Linaddr(bench.pageinfo(**info) + shift), rcx)
