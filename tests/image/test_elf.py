"""The ELF header, program headers and notes: each thing that can be wrong with them is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swsgx.image.elf import ElfImage, permissions
from swsgx.image.enclave import load_plan, plan_of
from swsgx.image.errors import ImageError
from tests.make.elf import EHDR, PHDR, RW, RX, Elf, R, Seg
from tests.make.enclave import CODE, convention_elf

GOOD = convention_elf()


@pytest.mark.parametrize(
    ("elf", "words", "offset"),
    [
        (replace(GOOD, ident=b"\x7fELF\x01\x01\x01"), "64-bit little-endian", 4),
        (replace(GOOD, ident=b"\x7fELF\x02\x02\x01"), "64-bit little-endian", 4),
        (replace(GOOD, ident=b"\x7fELF\x02\x01\x02"), "64-bit little-endian", 4),
        (replace(GOOD, machine=3), "for x86-64", 18),
        (replace(GOOD, phentsize=32), "has 56 bytes", 54),
        (replace(GOOD, phnum=0), "has program headers", 56),
        (replace(GOOD, phnum=0xFFFF), "has program headers", 56),
        (replace(GOOD, phnum=0xFFFE), "lie inside the file", 32),
        (
            GOOD.with_segment(1, Seg(0x1000, CODE, RX, filesz=1 << 40, memsz=1 << 40)),
            "segment 1 lies inside",
            EHDR + PHDR + 8,
        ),
        (
            GOOD.with_segment(1, Seg(0x1000, b"", RX, memsz=16, filesz=16, offset=(1 << 64) - 16)),
            "segment 1 lies inside",
            EHDR + PHDR + 8,
        ),
        (GOOD.with_segment(1, Seg(0x1000, CODE, RX, memsz=100)), "room for its bytes", EHDR + PHDR + 32),
        (
            GOOD.with_segment(1, Seg((1 << 64) - 4096, CODE, RX)),
            "ends in the address space",
            EHDR + PHDR + 16,
        ),
        (
            GOOD.with_segment(2, Seg(0x3000, b"", R, memsz=1 << 60)),
            "ends in the address space",
            EHDR + 2 * PHDR + 16,
        ),
    ],
)
def test_a_bad_header_is_refused_with_its_offset(elf: Elf, words: str, offset: int) -> None:
    with pytest.raises(ImageError) as caught:
        plan_of("x.elf", memoryview(elf.build()))
    assert words in caught.value.reason.rule
    assert caught.value.offset == offset
    assert f"at file offset {offset:#x}" in str(caught.value)


@pytest.mark.parametrize("phoff", [0, 63, 1 << 20, (1 << 64) - 8])
def test_program_headers_outside_the_file_are_refused(phoff: int) -> None:
    data = bytearray(GOOD.build())
    data[32:40] = phoff.to_bytes(8, "little")
    with pytest.raises(ImageError) as caught:
        plan_of("x.elf", memoryview(data))
    assert "lie inside the file" in caught.value.reason.rule


def test_every_cut_of_a_file_is_refused_or_leaves_what_is_needed() -> None:
    whole = GOOD.build()
    for cut in [*range(300), *range(300, len(whole), 97)]:
        with pytest.raises(ImageError):
            plan_of("x.elf", memoryview(whole[:cut]))


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(ImageError) as caught:
        plan_of("x.elf", memoryview(b""))
    assert "not empty" in caught.value.reason.rule


def test_a_file_that_is_something_else_is_refused() -> None:
    with pytest.raises(ImageError) as caught:
        plan_of("x", memoryview(b"#!/bin/sh\n"))
    assert "starts like an enclave" in caught.value.reason.rule


def test_a_file_that_is_not_there_is_an_os_error_with_its_name() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_plan("/proc/nonexistent/x.elf")
    assert caught.value.filename == "/proc/nonexistent/x.elf"


def test_permissions_change_places() -> None:
    assert [permissions(flags) for flags in range(8)] == [0, 4, 2, 6, 1, 5, 3, 7]


def test_an_address_is_found_only_if_one_segment_holds_all_of_it() -> None:
    elf = ElfImage("x.elf", memoryview(GOOD.build()))
    assert elf.file_offset(0x1010, 16) == GOOD.offset_of(1) + 16
    assert elf.file_offset(0x1000, len(CODE)) == GOOD.offset_of(1)
    assert elf.file_offset(0x1000, len(CODE) + 1) is None
    assert elf.file_offset(0x3FFF, 1) is None


def test_a_segment_without_bytes_may_have_any_file_offset() -> None:
    bss = Seg(0x9000, b"", RW, memsz=0x1000, offset=1 << 40)
    elf = replace(GOOD, segments=[*GOOD.segments[:3], bss, *GOOD.segments[3:]])
    assert plan_of("x.elf", memoryview(elf.build())).entries[5].offset == 0x9000
