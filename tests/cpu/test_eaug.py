"""EAUG, check by check."""

from __future__ import annotations

import numpy as np
import pytest

from swsgx.cpu.encls import eaug as leaf
from swsgx.cpu.encls.eaug import eaug
from swsgx.cpu.encls.eremove import eremove
from swsgx.cpu.faults import GeneralProtection, InternalError, PageFault
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import PageType
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import BASE, SIZE

WAITING = EpcmState.VALID | EpcmState.PENDING


@pytest.fixture
def secs(bench: Bench) -> EpcAddr:
    return bench.enclave(initialised=True)[0]


def test_the_page_is_zero_and_rw_and_waits(bench: Bench, secs: EpcAddr) -> None:
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    digest, generation = state.measurement.digest(), state.store.head.generation
    state.store.page(0x2000)[:] = b"x" * PAGE_SIZE
    page = bench.eaug(secs, 0x2000)
    frame = bench.cpu.epc.frame(page)
    assert bench.entry(page) == (PageType.REG, 3, WAITING)
    assert bench.cpu.epcm[frame].enclaveaddress == BASE + 0x2000
    assert bytes(bench.cpu.page(frame)) == bytes(PAGE_SIZE)
    assert state.store.frame_map[2] == frame + 1
    assert state.children == 3
    assert state.measurement.digest() == digest
    assert state.store.head.generation > generation


def test_a_second_page_at_an_address_is_not_refused(bench: Bench, secs: EpcAddr) -> None:
    first = bytes(bench.cpu.enclaves[bench.cpu.epc.frame(secs)].store.page(0))
    page = bench.eaug(secs, 0)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    assert bytes(state.store.page(0)) == first
    assert not any(bench.cpu.page(bench.cpu.epc.frame(page)))
    assert eremove(bench.cpu, page).ok
    assert bytes(state.store.page(0)) == first


def test_without_sgx2_the_leaf_is_unknown() -> None:
    bench = Bench(CpuModel.with_sgx1(epc_size=16 * PAGE_SIZE))
    secs = bench.enclave(initialised=True)[0]
    page = bench.page()
    with bench.refuses(GeneralProtection, "the processor has SGX2"):
        bench.eaug(secs, 0x2000, page)
    bench.cpu.close()


def test_rbx_is_32_byte_aligned(bench: Bench, secs: EpcAddr) -> None:
    at = Linaddr(bench.pageinfo(linaddr=BASE, secs=secs) + 16)
    page = bench.page()
    with bench.refuses(GeneralProtection, "RBX is a multiple of 32"):
        eaug(bench.cpu, bench.memory, at, page)


def test_rcx_is_page_aligned_and_in_the_epc(bench: Bench, secs: EpcAddr) -> None:
    page = EpcAddr(bench.page() + 64)
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        bench.eaug(secs, 0x2000, page)
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        bench.eaug(secs, 0x2000, bench.outside)


def test_pageinfo_is_readable(bench: Bench) -> None:
    page = bench.page()
    with bench.refuses(PageFault, "PAGEINFO is readable"):
        eaug(bench.cpu, bench.memory, bench.unmapped, page)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("secinfo", 8, "PAGEINFO.SECINFO is a multiple of 64"),
        ("secinfo", 64, "PAGEINFO.SECINFO is 0"),
        ("secs", 64, "PAGEINFO.SECS is a multiple of 4096"),
        ("linaddr", BASE + 8, "PAGEINFO.LINADDR is a multiple of 4096"),
        ("srcpge", 0x1000, "PAGEINFO.SRCPGE is 0"),
        ("linaddr", BASE - PAGE_SIZE, "PAGEINFO.LINADDR is inside ELRANGE"),
        ("linaddr", BASE + SIZE, "PAGEINFO.LINADDR is inside ELRANGE"),
    ],
)
def test_fields_of_pageinfo(bench: Bench, secs: EpcAddr, field: str, value: int, rule: str) -> None:
    page = bench.page()
    with bench.refuses(GeneralProtection, rule):
        bench.eaug(secs, 0x2000, page, **{field: value})


def test_pageinfo_secs_is_in_the_epc_and_a_secs(bench: Bench, secs: EpcAddr) -> None:
    page, free = bench.page(), bench.page()
    with bench.refuses(PageFault, "PAGEINFO.SECS is in the EPC", bench.outside):
        bench.eaug(secs, 0x2000, page, secs=bench.outside)
    with bench.refuses(PageFault, "PAGEINFO.SECS is a valid SECS page", free):
        bench.eaug(secs, 0x2000, page, secs=free)


def test_the_pages_are_not_in_use(bench: Bench, secs: EpcAddr) -> None:
    page = bench.page()
    with bench.cpu.lock(page), bench.refuses(GeneralProtection, "RCX is not in use"):
        bench.eaug(secs, 0x2000, page)
    with bench.cpu.lock(secs), bench.refuses(GeneralProtection, "PAGEINFO.SECS is not in use"):
        bench.eaug(secs, 0x2000, page)


def test_the_page_is_free(bench: Bench, secs: EpcAddr) -> None:
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 0", secs):
        bench.eaug(secs, 0x2000, secs)


def test_the_enclave_is_initialised_which_comes_before_its_range(bench: Bench) -> None:
    secs = bench.enclave()[0]
    page = bench.page()
    with bench.refuses(GeneralProtection, "the enclave is initialised"):
        bench.eaug(secs, SIZE, page)


def test_the_bulk_way_is_the_same_as_one_by_one(bench: Bench, secs: EpcAddr) -> None:
    frames = bench.cpu.epc.allocate_run(3)
    bench.cpu.enclaves[bench.cpu.epc.frame(secs)].store.page(0x3000)[:] = b"x" * PAGE_SIZE
    leaf.run(bench.cpu, secs, frames, Linaddr(BASE + 0x2000))
    bulk = bench.snapshot()
    for frame in frames:
        assert eremove(bench.cpu, bench.cpu.epc.address(int(frame))).ok
    for at, frame in enumerate(frames):
        bench.eaug(secs, 0x2000 + at * PAGE_SIZE, bench.cpu.epc.address(int(frame)))
    assert bench.snapshot() == bulk


def test_the_bulk_way_insists_on_what_nothing_refuses(bench: Bench, secs: EpcAddr) -> None:
    frames, other = bench.cpu.epc.allocate_run(2), bench.ecreate()
    cases = (
        ("of an initialised enclave", other, frames, BASE + 0x2000),
        ("inside ELRANGE", secs, frames, BASE + SIZE - PAGE_SIZE),
        ("where no page is", secs, frames, BASE + 0x1000),
        ("of free pages", secs, np.array([0, 1], np.uint32), BASE + 0x2000),
    )
    before = bench.snapshot()
    for message, owner, chosen, address in cases:
        with pytest.raises(InternalError, match=message):
            leaf.run(bench.cpu, owner, chosen, Linaddr(address))
    assert bench.snapshot() == before
