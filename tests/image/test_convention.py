"""Our own enclave convention: what is laid out, and each rule of docs/enclave-convention.md, broken once."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from swsgx.image.convention import EnclaveNote, ThreadPage
from swsgx.image.enclave import plan_of
from swsgx.image.errors import ImageError
from swsgx.image.plan import LoadPlan, PageRun
from swsgx.isa.structs import Tcs
from tests.make.elf import (
    PT_DYNAMIC,
    PT_INTERP,
    PT_LOAD,
    PT_NOTE,
    PT_TLS,
    RW,
    RWX,
    RX,
    Elf,
    R,
    Seg,
    dynamic,
    note,
)
from tests.make.enclave import CODE, DATA, PAGE_OF_FIRST, convention_elf, enclave_note


def planned(elf: Elf) -> LoadPlan:
    return plan_of("x.elf", memoryview(elf.build()))


def at(plan: LoadPlan, offset: int) -> PageRun:
    return next(run for run in plan.entries if run.offset == offset)


def named(plan: LoadPlan, name: str) -> PageRun:
    return next(run for run in plan.entries if run.name == name)


def test_the_layout_is_image_heap_and_per_thread_stack_tcs_ssa_and_thread_page_with_holes() -> None:
    plan = planned(convention_elf())
    assert [(r.offset, r.count, r.secinfo_flags, r.measured, r.name) for r in plan.entries] == [
        (0x0, 1, 0x201, True, "segment 0"),
        (0x1000, 1, 0x205, True, "segment 1"),
        (0x2000, 1, 0x205, True, "segment 1"),
        (0x3000, 1, 0x203, True, "segment 2"),
        (0x4000, 2, 0x203, True, "segment 2"),
        (0x7000, 5, 0x203, False, "heap"),
        (0xD000, 3, 0x203, False, "stack 0"),
        (0x11000, 1, 0x100, True, "tcs 0"),
        (0x12000, 2, 0x203, False, "ssa 0"),
        (0x15000, 1, 0x203, True, "thread 0"),
        (0x17000, 3, 0x203, False, "stack 1"),
        (0x1B000, 1, 0x100, True, "tcs 1"),
        (0x1C000, 2, 0x203, False, "ssa 1"),
        (0x1F000, 1, 0x203, True, "thread 1"),
    ]
    assert plan.tcs == (0x11000, 0x1B000)
    assert (plan.size, plan.ssaframesize, plan.kind) == (0x20000, 1, "swsgx")
    assert (plan.attributes, plan.xfrm, plan.miscselect) == (4, 3, 0)


def test_segment_bytes_are_at_their_addresses_with_zeros_around() -> None:
    plan = planned(convention_elf())
    code = b"".join(bytes(at(plan, offset).content or b"") for offset in (0x1000, 0x2000))
    assert code == CODE.ljust(0x2000, b"\0")
    assert bytes(at(plan, 0x3000).content or b"") == DATA.ljust(0x1000, b"\0")
    assert at(plan, 0x4000).content is None


def test_a_segment_that_starts_inside_a_page_has_zeros_before_it() -> None:
    elf = convention_elf().with_segment(2, Seg(0x3ABC, DATA * 20, RW))
    plan = planned(elf)
    pages = [run for run in plan.entries if run.name == "segment 2"]
    content = b"".join(bytes(run.content or b"") for run in pages)
    assert pages[0].offset == 0x3000
    assert content == (bytes(0xABC) + DATA * 20).ljust(len(content), b"\0")
    assert len(content) == 0x3000


def test_a_tcs_points_to_its_own_ssa_and_thread_page() -> None:
    plan = planned(convention_elf())
    for number in (0, 1):
        tcs = Tcs(named(plan, f"tcs {number}").content)
        assert tcs.ossa == named(plan, f"ssa {number}").offset
        assert tcs.ofsbase == tcs.ogsbase == named(plan, f"thread {number}").offset
        assert (tcs.nssa, tcs.oentry, tcs.fslimit, tcs.gslimit) == (2, 0x1010, 0xFFF, 0xFFF)
        assert (tcs.state, tcs.flags, tcs.cssa, tcs.aep) == (0, 0, 0, 0)


def test_a_thread_page_tells_its_thread_where_everything_is() -> None:
    plan = planned(convention_elf(ssaframesize=2))
    for number in (0, 1):
        run = named(plan, f"thread {number}")
        thread = ThreadPage(run.content)
        stack = named(plan, f"stack {number}")
        assert (thread.self_offset, thread.index) == (run.offset, number)
        assert (thread.stack_bottom, thread.stack_top) == (stack.offset, stack.end)
        assert (thread.ssa, thread.ssa_frame) == (named(plan, f"ssa {number}").offset, 0x2000)
        assert (thread.heap, thread.heap_size) == (named(plan, "heap").offset, 0x5000)
        assert thread.enclave_size == plan.size
        assert not any(thread.own)


def test_a_heap_of_no_pages_leaves_no_trace() -> None:
    plan = planned(convention_elf(heap_pages=0))
    thread = ThreadPage(named(plan, "thread 0").content)
    assert (thread.heap, thread.heap_size) == (0, 0)
    assert all(run.name != "heap" for run in plan.entries)


def test_a_size_that_is_asked_for_is_taken() -> None:
    assert planned(convention_elf(size=1 << 30)).size == 1 << 30


def test_attributes_that_are_asked_for_are_passed_on() -> None:
    plan = planned(convention_elf(attributes=0x84, xfrm=0xE7, miscselect=1))
    assert (plan.attributes, plan.xfrm, plan.miscselect) == (0x84, 0xE7, 1)


def test_sections_do_not_matter() -> None:
    assert (
        planned(convention_elf()).measure().digest()
        == planned(replace(convention_elf(), tail=b"section headers would be here")).measure().digest()
    )


def test_relative_relocations_in_data_are_left_to_entry_code() -> None:
    planned(relocated(struct.pack("<QQq", 0x3008, 8, 0x1000)))


def relocated(rela: bytes, size: int | None = None) -> Elf:
    """An enclave whose data start with a RELA table, told of by a dynamic table behind it."""
    size = len(rela) if size is None else size
    table = dynamic((7, 0x3000), (8, size), (9, 24))
    elf = convention_elf().with_segment(2, Seg(0x3000, rela + table, RW, memsz=0x2800))
    where = elf.offset_of(2) + len(rela)
    return elf.plus(
        Seg(0x3000 + len(rela), b"", RW, type=PT_DYNAMIC, offset=where, filesz=len(table), align=8)
    )


def linked(*entries: tuple[int, int]) -> Elf:
    return convention_elf().plus(Seg(0x3000, dynamic(*entries), RW, type=PT_DYNAMIC, align=8))


def damaged_note(offset: int, value: bytes) -> Elf:
    desc = bytearray(enclave_note())
    desc[offset : offset + len(value)] = value
    return convention_elf(bytes(desc))


GOOD = convention_elf()
#: What is wrong, and words of the rule that must be named.
BAD: dict[str, tuple[Elf, str]] = {
    "type EXEC": (replace(GOOD, type=2), "position independent"),
    "entry in data": (replace(GOOD, entry=0x3000), "entry point lies in an executable segment"),
    "entry outside": (replace(GOOD, entry=1 << 60), "entry point lies in an executable segment"),
    "writable and executable": (
        GOOD.with_segment(1, Seg(0x1000, CODE, RWX)),
        "not writable and executable at once",
    ),
    "not readable": (GOOD.with_segment(1, Seg(0x1000, CODE, 1)), "not writable and executable at once"),
    "unknown flags": (
        GOOD.with_segment(1, Seg(0x1000, CODE, RX | 1 << 20)),
        "not writable and executable at once",
    ),
    "shared page": (GOOD.with_segment(2, Seg(0x2F00, DATA, RW)), "starts on a page behind"),
    "overlap": (GOOD.with_segment(2, Seg(0x1000, DATA, RW)), "starts on a page behind"),
    "descending": (GOOD.with_segment(1, Seg(0x9000, CODE, RX)), "starts on a page behind"),
    "interpreter": (GOOD.plus(Seg(0, b"/lib/ld.so\0", R, type=PT_INTERP)), "neither an interpreter nor"),
    "thread-local storage": (GOOD.plus(Seg(0, b"tls", R, type=PT_TLS)), "neither an interpreter nor"),
    "a library": (linked((1, 1)), "no dynamic linker"),
    "REL relocations": (linked((17, 0x3000)), "no dynamic linker"),
    "text relocations": (linked((22, 0)), "no dynamic linker"),
    "PLT relocations": (linked((23, 0x3000)), "no dynamic linker"),
    "packed relocations": (linked((36, 0x3000)), "no dynamic linker"),
    "relocation of another type": (
        relocated(struct.pack("<QQq", 0x3008, 6, 0)),
        "one that entry code can apply",
    ),
    "relocation in text": (relocated(struct.pack("<QQq", 0x1000, 8, 0)), "one that entry code can apply"),
    "relocation at a segment's end": (
        relocated(struct.pack("<QQq", 0x57FC, 8, 0)),
        "one that entry code can apply",
    ),
    "relocation table outside": (linked((7, 1 << 40), (8, 24)), "relocations lie inside a segment"),
    "relocation table cut": (relocated(bytes(24), 23), "relocations lie inside a segment"),
    "two dynamic tables": (
        linked().plus(Seg(0, dynamic(), R, type=PT_DYNAMIC)),
        "there is one dynamic table",
    ),
    "dynamic table without an end": (
        GOOD.plus(Seg(0x3000, struct.pack("<QQ", 5, 5), RW, type=PT_DYNAMIC)),
        "ends with DT_NULL",
    ),
    "note too short": (convention_elf(enclave_note()[:60]), "descriptor has its size"),
    "note too long": (convention_elf(enclave_note() + bytes(4)), "descriptor has its size"),
    "note of another version": (convention_elf(version=2), "version is in its bounds"),
    "no SSA frame": (convention_elf(ssaframesize=0), "ssaframesize is in its bounds"),
    "no SSA": (convention_elf(nssa=0), "nssa is in its bounds"),
    "no thread": (convention_elf(threads=0), "threads is in its bounds"),
    "too many threads": (convention_elf(threads=4097), "threads is in its bounds"),
    "no stack": (convention_elf(stack_pages=0), "stack_pages is in its bounds"),
    "a stack beyond all memory": (convention_elf(stack_pages=1 << 60), "stack_pages is in its bounds"),
    "a heap beyond all memory": (convention_elf(heap_pages=1 << 60), "heap_pages is in its bounds"),
    "more than the address space": (convention_elf(heap_pages=1 << 24), "fits in 64 GiB"),
    "stacks of many threads": (convention_elf(stack_pages=1 << 20, threads=64), "fits in 64 GiB"),
    "size beyond the limit": (convention_elf(size=1 << 37), "fits in 64 GiB"),
    "a segment beyond the limit": (
        convention_elf().with_segment(2, Seg(0x3000, DATA, RW, memsz=1 << 36)),
        "fits in 64 GiB",
    ),
    "32-bit": (convention_elf(attributes=0), "64-bit enclave"),
    "already initialised": (convention_elf(attributes=5), "64-bit enclave"),
    "no SSE state": (convention_elf(xfrm=1), "x87 and SSE"),
    "reserved byte": (damaged_note(61, b"\1"), "reserved bytes are zero"),
    "size too small": (convention_elf(size=0x10000), "size is a power of two"),
    "size not a power of two": (convention_elf(size=0x30000), "size is a power of two"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_rule_is_refused_by_name(name: str) -> None:
    elf, words = BAD[name]
    with pytest.raises(ImageError) as caught:
        planned(elf)
    assert words in caught.value.reason.rule
    assert caught.value.file == "x.elf"
    assert str(caught.value).startswith("x.elf: ")


def test_a_bad_note_field_is_shown_with_its_place_in_the_file() -> None:
    with pytest.raises(ImageError) as caught:
        planned(convention_elf(threads=0))
    assert caught.value.offset == PAGE_OF_FIRST + 20 + EnclaveNote.threads.offset


def test_another_note_before_ours_is_stepped_over() -> None:
    both = note(b"other", b"GNU\0", 3) + note(enclave_note())
    elf = convention_elf().with_segment(3, Seg(0, both, R, type=PT_NOTE, align=4))
    assert planned(elf).kind == "swsgx"


@pytest.mark.parametrize("cut", [1, 11, 12, 15, 40])
def test_a_note_that_runs_over_its_segment_is_refused(cut: int) -> None:
    elf = convention_elf()
    with pytest.raises(ImageError) as caught:
        planned(elf.with_segment(3, Seg(0, note(enclave_note())[:cut], R, type=PT_NOTE, align=4)))
    assert "lies inside it" in caught.value.reason.rule


def test_an_elf_file_without_a_note_and_without_tcs_pages_is_no_enclave() -> None:
    with pytest.raises(ImageError) as caught:
        planned(Elf([Seg(0, CODE, RX)], entry=0))
    assert caught.value.reason.rule == "the ELF file is an enclave"


def test_only_a_selftest_file_takes_a_heap_size() -> None:
    with pytest.raises(ImageError):
        plan_of("x.elf", memoryview(convention_elf().build()), heap_size=4096)


def test_no_segment_at_all_is_refused() -> None:
    elf = Elf([Seg(0, note(enclave_note()), R, type=PT_NOTE, align=4)])
    with pytest.raises(ImageError) as caught:
        planned(elf)
    assert "something to load" in caught.value.reason.rule
    assert PT_LOAD == 1
