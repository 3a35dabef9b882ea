"""The Linux selftest's convention: file offsets, TCS pages first, a heap that is not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swsgx.image.enclave import plan_of
from swsgx.image.errors import ImageError
from swsgx.image.plan import LoadPlan
from tests.make.elf import RW, RX, Elf, Seg
from tests.make.enclave import CODE, DATA, selftest_elf


def planned(elf: Elf, heap_size: int | None = None) -> LoadPlan:
    return plan_of("t.elf", memoryview(elf.build()), heap_size=heap_size)


def test_the_first_segment_is_tcs_pages_and_a_heap_of_one_page_follows() -> None:
    plan = planned(selftest_elf())
    assert [(r.offset, r.count, r.secinfo_flags, r.measured, r.name) for r in plan.entries] == [
        (0, 2, 0x100, True, "tcs"),
        (0x2000, 2, 0x205, True, "segment 1"),
        (0x4000, 1, 0x203, True, "segment 2"),
        (0x5000, 1, 0x203, False, "heap"),
    ]
    assert plan.tcs == (0, 0x1000)
    assert (plan.kind, plan.size, plan.ssaframesize) == ("selftest", 0x8000, 1)
    assert (plan.attributes, plan.xfrm, plan.miscselect) == (4, 3, 0)


def test_the_heap_has_the_size_that_is_asked_for() -> None:
    plan = planned(selftest_elf(), 1 << 30)
    assert plan.entries[-1].count == 1 << 18
    assert plan.size == 1 << 31


def test_a_heap_of_nothing_is_no_run() -> None:
    assert planned(selftest_elf(), 0).entries[-1].name == "segment 2"


@pytest.mark.parametrize("size", [1, 4095, 6000])
def test_a_heap_that_is_not_whole_pages_is_refused(size: int) -> None:
    with pytest.raises(ImageError) as caught:
        planned(selftest_elf(), size)
    assert "heap is whole pages" in caught.value.reason.rule


def test_offsets_are_file_offsets_whatever_the_addresses_say() -> None:
    elf = selftest_elf()
    moved = replace(elf, segments=[replace(seg, vaddr=seg.vaddr + 0x400000) for seg in elf.segments])
    assert planned(moved).measure().digest() == planned(elf).measure().digest()


def test_the_tail_of_a_segment_is_what_the_file_holds_there() -> None:
    elf = selftest_elf()
    data = bytearray(elf.build())
    data[elf.offset_of(1) + 5000] = 0x77
    plan = plan_of("t.elf", memoryview(bytes(data)))
    content = plan.entries[1].content
    assert content is not None
    assert (content[5000], len(content)) == (0x77, 0x2000)


def test_the_page_behind_the_files_end_reads_as_zero() -> None:
    elf = selftest_elf()
    content = planned(elf).entries[2].content
    assert len(elf.build()) % 4096 != 0
    assert bytes(content or b"") == DATA.ljust(4096, b"\0")


def test_a_segment_inside_a_page_is_rounded_down_and_its_length_is_not_extended() -> None:
    # encl_load rounds p_offset down and p_filesz up, apart.
    elf = selftest_elf()
    inside = replace(elf, segments=[*elf.segments[:1], Seg(0, CODE[:0x1000], RX, offset=0x3800)])
    plan = planned(inside)
    assert (plan.entries[1].offset, plan.entries[1].count) == (0x2000, 1)


BAD = {
    "overlap in the file": (
        replace(selftest_elf(), segments=[*selftest_elf().segments[:2], Seg(0, b"x", RW, offset=0x3000)]),
        "follows the segment before it",
    ),
    "before the first": (
        replace(
            selftest_elf(), segments=[Seg(0, bytes(4096), RW, offset=0x5000), Seg(0, b"x", RX, offset=0x2000)]
        ),
        "follows the segment before it",
    ),
    "unknown flags": (selftest_elf().plus(Seg(0x9000, b"x", 1 << 21)), "known flags"),
    "relocatable": (replace(selftest_elf(), type=1), "the file is linked"),
    "W without R": (selftest_elf().plus(Seg(0x9000, b"x", 2)), "not writable without being readable"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_rule_is_refused_by_name(name: str) -> None:
    elf, words = BAD[name]
    with pytest.raises(ImageError) as caught:
        planned(elf)
    assert words in caught.value.reason.rule
