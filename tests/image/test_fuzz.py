"""Whatever a file holds: a plan, or an ImageError that names it. Nothing else, and not for ever."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from swsgx.image.enclave import plan_of
from swsgx.image.errors import ImageError
from swsgx.image.plan import LoadPlan
from swsgx.image.sgxs import is_sgxs, scan
from tests.make.elf import PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, PT_TLS, Elf, Seg
from tests.make.enclave import chunk, convention_elf, eadd, ecreate, page, selftest_elf, stream

SEEDS = [
    convention_elf().build(),
    convention_elf(heap_pages=0, threads=1).build(),
    selftest_elf().build(),
    stream(page(0, 0x205), page(0x1000, 0x100), eadd(0x2000), eadd(0x3000) + chunk(0x3100)),
    ecreate(0x100, tag=b"UNSIZED\0") + page(0),
]

#: Numbers that are near some edge.
EDGES = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.builds(lambda bit, by: ((1 << bit) + by) % (1 << 64), st.integers(0, 64), st.integers(-2, 2)),
    st.sampled_from([0x1000, 0x2000, 0xFFF, 0x1001]),
)


def tried(data: bytes) -> LoadPlan | None:
    """The plan, or None if it was refused as it should be."""
    try:
        plan = plan_of("fuzz", memoryview(data))
    except ImageError as error:
        refused = error
    else:
        return checked(plan)
    assert str(refused).startswith("fuzz: ")
    assert refused.offset is None or 0 <= refused.offset <= max(len(data), 64)
    assert refused.reason.rule
    assert refused.reason.expected
    return None


def checked(plan: LoadPlan) -> LoadPlan:
    plan.validate()
    assert plan.size >= max((run.end for run in plan.entries), default=0)
    if plan.pages < 4096:
        assert len(plan.measure().digest()) == 32
    return plan


@given(st.binary(max_size=600))
@example(b"\x7fELF")
@example(b"ECREATE\0")
def test_random_bytes(data: bytes) -> None:
    tried(data)
    tried(b"\x7fELF\x02\x01\x01" + data)
    tried(ecreate() + data)


@given(st.sampled_from(SEEDS), st.integers(0, 1 << 16))
def test_truncated_files(seed: bytes, cut: int) -> None:
    tried(seed[: cut % len(seed)])


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1))
def test_flipped_bytes(seed: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(seed)
    for where, value in changes:
        # Mostly in the headers, where the meaning is.
        data[where % (len(data) if where & 1 else min(len(data), 0x1060))] = value
    tried(bytes(data))


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 63), EDGES), min_size=1, max_size=4))
def test_numbers_at_the_edges_in_the_headers(seed: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(seed)
    for word, value in changes:
        at = word * 8
        data[at : at + 8] = value.to_bytes(8, "little")
    tried(bytes(data))


@given(st.sampled_from(SEEDS), EDGES, st.integers(0, 15))
def test_numbers_at_the_edges_in_the_note_or_payload(seed: bytes, value: int, word: int) -> None:
    data = bytearray(seed)
    at = 0x1000 + 20 + 4 * word
    data[at : at + 8] = value.to_bytes(8, "little")
    tried(bytes(data))


SEGMENTS = st.builds(
    Seg,
    vaddr=EDGES,
    data=st.binary(max_size=64),
    flags=st.integers(0, 8),
    memsz=st.none() | EDGES,
    type=st.sampled_from([PT_LOAD, PT_LOAD, PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_TLS, 0x6474E551]),
    offset=st.none() | st.integers(0, 0x4000),
    filesz=st.none() | EDGES,
    align=st.sampled_from([0, 1, 4, 8, 4096]),
)


@given(st.lists(SEGMENTS, max_size=6), EDGES, st.integers(0, 5))
def test_segments_that_overlap_and_point_anywhere(segments: list[Seg], entry: int, kind: int) -> None:
    tried(Elf(segments, entry=entry, type=kind).build())
    note = convention_elf().segments
    tried(Elf([*note, *segments], entry=0x1010).build())
    # A note at the front keeps the file one of ours, whatever else is in it.
    tried(Elf([note[0], *segments, note[3]], entry=0x1010).build())


@given(
    st.lists(st.sampled_from([eadd(0), eadd(0x1000), chunk(0), chunk(0x1100, measured=False), page(0x1000)]))
)
def test_records_in_any_order(records: list[bytes]) -> None:
    data = ecreate() + b"".join(records)
    tried(data)
    assert is_sgxs(memoryview(data))
    try:
        read = scan("fuzz", memoryview(data))
    except ImageError:
        return
    assert len(read.digest()) == 32
