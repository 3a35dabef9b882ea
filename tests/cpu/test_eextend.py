"""EEXTEND, check by check in the manual's order; and the published measurements, leaf by leaf."""

from __future__ import annotations

import pytest

from swsgx.cpu.encls.eextend import CHUNK_SIZE, eextend
from swsgx.cpu.faults import GeneralProtection, PageFault
from swsgx.isa.address import EpcAddr
from swsgx.isa.flags import PageType
from tests.make.leaves import Bench
from tests.make.world import BASE, REG_RW, TCS, a_secs
from tests.vectors.mrenclave import VECTORS, Vector


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: str(v.name))
def test_leaf_by_leaf_the_published_measurement_comes_out(bench: Bench, vector: Vector) -> None:
    secs = bench.ecreate(a_secs(size=vector.size, ssaframesize=vector.ssaframesize))
    for page in vector.pages:
        at = bench.eadd(secs, page.offset, page.flags, page.content)
        for chunk in page.chunks:
            eextend(bench.cpu, secs, EpcAddr(at + chunk * CHUNK_SIZE))
    measurement = bench.cpu.enclaves[bench.cpu.epc.frame(secs)].measurement
    assert (measurement.blocks, measurement.digest().hex()) == (vector.blocks, vector.mrenclave)


def test_a_tcs_is_measured_as_it_is_stored(bench: Bench) -> None:
    active = bytearray(4096)
    active[0] = 1
    one, other = bench.ecreate(), bench.ecreate()
    for secs, source in ((one, bytes(active)), (other, bytes(4096))):
        eextend(bench.cpu, secs, bench.eadd(secs, 0, TCS, source))
    digests = [bench.cpu.enclaves[bench.cpu.epc.frame(s)].measurement.digest() for s in (one, other)]
    assert digests[0] == digests[1]


def test_a_second_page_at_one_address_is_measured_with_its_own_contents(bench: Bench) -> None:
    secs, plain = bench.ecreate(), bench.ecreate()
    bench.eadd(secs, 0, REG_RW, b"1" * 4096)
    eextend(bench.cpu, secs, bench.eadd(secs, 0, REG_RW, b"2" * 4096))
    bench.eadd(plain, 0, REG_RW)
    eextend(bench.cpu, plain, bench.eadd(plain, 0, REG_RW, b"2" * 4096))
    digests = [bench.cpu.enclaves[bench.cpu.epc.frame(s)].measurement.digest() for s in (secs, plain)]
    assert digests[0] == digests[1]


def test_rbx_is_page_aligned(bench: Bench) -> None:
    secs, page, _ = bench.enclave()
    with bench.refuses(GeneralProtection, "RBX is a multiple of 4096"):
        eextend(bench.cpu, EpcAddr(secs + 256), page)


def test_rbx_is_in_the_epc(bench: Bench) -> None:
    _, page, _ = bench.enclave()
    with bench.refuses(PageFault, "RBX is in the EPC", bench.outside):
        eextend(bench.cpu, bench.outside, page)


def test_rcx_is_256_byte_aligned(bench: Bench) -> None:
    secs, page, _ = bench.enclave()
    with bench.refuses(GeneralProtection, "RCX is a multiple of 256"):
        eextend(bench.cpu, secs, EpcAddr(page + 128))


def test_rcx_is_in_the_epc(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        eextend(bench.cpu, secs, bench.outside)


def test_a_page_in_use_is_a_gp(bench: Bench) -> None:
    secs, page, _ = bench.enclave()
    with bench.cpu.lock(page), bench.refuses(GeneralProtection, "RCX is not in use"):
        eextend(bench.cpu, secs, page)


def test_a_free_page_is_a_pf(bench: Bench) -> None:
    secs, free = bench.ecreate(), bench.page()
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 1", free):
        eextend(bench.cpu, secs, free)


@pytest.mark.parametrize("pt", [PageType.VA, PageType.TRIM])
def test_only_reg_and_tcs_pages_are_measured(bench: Bench, pt: PageType) -> None:
    secs, page, _ = bench.enclave()
    bench.change(page, pt=pt)
    with bench.refuses(PageFault, "EPCM(RCX).PT is PT_REG or PT_TCS", page):
        eextend(bench.cpu, secs, page)


def test_a_secs_is_not_measured(bench: Bench) -> None:
    secs = bench.ecreate()
    with bench.refuses(PageFault, "EPCM(RCX).PT is PT_REG or PT_TCS", secs):
        eextend(bench.cpu, secs, secs)


def test_rbx_is_the_secs_of_the_page(bench: Bench) -> None:
    secs = bench.ecreate()
    page = bench.eadd(secs)
    other = bench.ecreate(a_secs(baseaddr=BASE + 0x10000))
    for wrong in (other, page, bench.page()):
        with bench.refuses(GeneralProtection, "RBX is the SECS of RCX's page"):
            eextend(bench.cpu, wrong, page)


def test_a_measurement_in_use_is_a_gp(bench: Bench) -> None:
    secs, page, _ = bench.enclave()
    with bench.cpu.lock_measurement(secs), bench.refuses(GeneralProtection, "no other leaf extends"):
        eextend(bench.cpu, secs, page)


def test_an_initialised_enclave_is_a_gp(bench: Bench) -> None:
    secs, page, _ = bench.enclave(initialised=True)
    with bench.refuses(GeneralProtection, "the enclave is not initialised"):
        eextend(bench.cpu, secs, page)


def test_the_order_is_the_manuals(bench: Bench) -> None:
    secs, page, _ = bench.enclave(initialised=True)
    free = bench.page()
    steps: list[tuple[int, int, type[GeneralProtection | PageFault], str]] = [
        (bench.outside + 1, bench.outside + 1, GeneralProtection, "RBX is a multiple"),
        (bench.outside, bench.outside + 1, PageFault, "RBX is in the EPC"),
        (secs, bench.outside + 1, GeneralProtection, "RCX is a multiple"),
        (secs, bench.outside, PageFault, "RCX is in the EPC"),
        (page, free, PageFault, "VALID is 1"),
        (page, secs, PageFault, "PT is"),
        (page, page, GeneralProtection, "RBX is the SECS"),
    ]
    for rbx, rcx, kind, rule in steps:
        with bench.refuses(kind, rule):
            eextend(bench.cpu, EpcAddr(rbx), EpcAddr(rcx))
