"""LoadPlan: measurement, and what a plan must keep to. Vectors: spec sgx-isa.md 4.1 (origin told there)."""

from __future__ import annotations

import hashlib

import pytest

from swsgx.image.errors import ImageError
from swsgx.image.plan import LoadPlan, PageRun, zero_pages
from swsgx.isa.address import PAGE_SIZE, Offset

C = bytes(i & 0xFF for i in range(PAGE_SIZE))
D = b"".join(i.to_bytes(8, "little") for i in range(512))
_T0 = bytearray(PAGE_SIZE)
_T0[28] = 1
_T0[64:72] = bytes.fromhex("ff0f0000ff0f0000")
T0 = bytes(_T0)
_T6 = bytearray(PAGE_SIZE)
_T6[16:24] = (0x2000).to_bytes(8, "little")
_T6[28] = 2
_T6[32] = 0x10
_T6[48:56] = _T6[56:64] = (0x4000).to_bytes(8, "little")
_T6[64:72] = bytes.fromhex("ff0f0000ff0f0000")
T6 = bytes(_T6)


def run(
    offset: int,
    flags: int,
    content: bytes | None,
    *,
    measured: bool = True,
    count: int = 1,
    chunks: tuple[int, ...] | None = None,
) -> PageRun:
    view = None if content is None else memoryview(content)
    return PageRun(Offset(offset), count, flags, measured, view, chunks)


def plan(*runs: PageRun, size: int = 0x2000, ssaframesize: int = 1) -> LoadPlan:
    return LoadPlan("f", "test", size, ssaframesize, runs, ())


V1 = (run(0, 0x203, None), run(0x1000, 0x100, T0))
V6 = (
    run(0, 0x205, C),
    run(0x1000, 0x100, T6),
    run(0x2000, 0x203, None, measured=False, count=2),
    run(0x4000, 0x203, D, measured=False, chunks=(0, 15)),
)
VECTORS = {
    "V0": (plan(), "9e197c8837c6d65632dbdd59cd7df4f1a25b68d8e4e5eb6ca3b20b05311fecb8", 1),
    "V1": (plan(*V1), "48a1b2813a6cfbd953710569dd4aa5c748309b0cafadbf6ca323d26b0c14beb1", 163),
    "V2": (
        plan(run(0, 0x203, None, measured=False), V1[1]),
        "cbd8acdad96c7ebc5d02c4271f907de34e5fc2cbeb1d98a4d24da4ab58ffc12b",
        83,
    ),
    "V3": (
        plan(*V1, ssaframesize=2),
        "bb6b0347405e6b7ecebbfe1f16a18c9fa574c3448ce53580a1878269abc14716",
        163,
    ),
    "V4": (plan(*V1[::-1]), "3c88024328a27deffa7506e9f0b32780ce98c8ba0c0f78698ae9b3a16156f54e", 163),
    "V5": (plan(*V1, size=0x4000), "83d5af5275a3d9b9eb6dd46bb37f81d70c7d40a72468732b59771564467ad972", 163),
    "V6": (plan(*V6, size=0x10000), "3b82abd51f4a537d504fcaa9ccf6fcbccce6dec5ffc509dedc94d3de5b1137b1", 176),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_plan_measures_to_the_published_vector(name: str) -> None:
    made, digest, blocks = VECTORS[name]
    made.validate()
    measurement = made.measure()
    assert (measurement.digest().hex(), measurement.blocks) == (digest, blocks)


def test_a_run_measures_like_its_pages_one_by_one() -> None:
    content = hashlib.shake_256(b"pages").digest(300 * PAGE_SIZE)
    whole = plan(run(0, 0x205, content, count=300), size=1 << 21)
    single = [run(i * PAGE_SIZE, 0x205, content[i * PAGE_SIZE : (i + 1) * PAGE_SIZE]) for i in range(300)]
    assert whole.measure().digest() == plan(*single, size=1 << 21).measure().digest()


def test_zeros_measure_like_pages_of_zeros() -> None:
    without = plan(run(0, 0x203, None, count=300), size=1 << 21)
    spelled = plan(run(0, 0x203, bytes(300 * PAGE_SIZE), count=300), size=1 << 21)
    assert without.measure().digest() == spelled.measure().digest()


def test_progress_adds_up_to_the_pages() -> None:
    done: list[int] = []
    made, _, _ = VECTORS["V6"]
    made.measure(done.append)
    assert sum(done) == made.pages == 5
    assert made.measured_pages == 3


def test_zero_pages_come_in_bounded_pieces() -> None:
    pieces = list(zero_pages(1000))
    assert sum(count for count, _ in pieces) == 1000
    assert all(len(content) == count * PAGE_SIZE <= 1 << 20 for count, content in pieces)


def test_a_partly_measured_run_is_not_loadable_and_tells_its_mask() -> None:
    part = V6[3]
    assert not part.loadable
    assert part.chunk_mask == 0x8001
    assert [r.chunk_mask for r in V6[:3]] == [0xFFFF, 0xFFFF, 0]
    VECTORS["V1"][0].require_loadable()
    with pytest.raises(ImageError, match="page 0x4000 is measured whole"):
        VECTORS["V6"][0].require_loadable()


BAD = {
    "size not a power of two": (plan(size=0x3000), "the enclave's size is a power of two"),
    "size of one page": (plan(size=0x1000), "the enclave's size is a power of two"),
    "size 0": (plan(size=0), "the enclave's size is a power of two"),
    "size beyond the address space": (plan(size=1 << 47), "the enclave's size is a power of two"),
    "no SSA frame": (plan(ssaframesize=0), "an SSA frame has at least one page"),
    "misaligned": (plan(run(0x10, 0x203, None)), "is a run of whole pages"),
    "empty run": (plan(run(0, 0x203, None, count=0)), "is a run of whole pages"),
    "outside": (plan(run(0x2000, 0x203, None)), "lies inside the enclave"),
    "end outside": (plan(run(0x1000, 0x203, None, count=2)), "lies inside the enclave"),
    "twice": (plan(run(0, 0x203, None, count=2), run(0x1000, 0x203, None)), "no page is added twice"),
    "content too short": (plan(run(0, 0x203, b"x")), "has content for each page"),
    "SECS page": (plan(run(0, 0x003, None)), "has a SECINFO that EADD takes"),
    "VA page": (plan(run(0, 0x300, None)), "has a SECINFO that EADD takes"),
    "pending": (plan(run(0, 0x20B, None)), "has a SECINFO that EADD takes"),
    "TCS with permissions": (plan(run(0, 0x103, None)), "is a TCS without permissions"),
    "W without R": (plan(run(0, 0x202, None)), "is not writable without being readable"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_plan_that_hardware_would_refuse_is_refused_with_its_rule(name: str) -> None:
    made, rule = BAD[name]
    with pytest.raises(ImageError) as caught:
        made.validate()
    assert rule in caught.value.reason.rule
    assert caught.value.file == "f"
