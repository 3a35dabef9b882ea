"""ELF files made in the test: any segments, notes and dynamic table, sound or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

PAGE = 4096
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_TLS = 1, 2, 3, 4, 7
R, RX, RW, RWX = 4, 5, 6, 7
EHDR, PHDR = 64, 56


@dataclass(frozen=True)
class Seg:
    """One program header and its bytes, which are put at ``offset``, or behind those before it."""

    vaddr: int
    data: bytes = b""
    flags: int = R
    memsz: int | None = None
    type: int = PT_LOAD
    offset: int | None = None
    filesz: int | None = None
    align: int = PAGE


@dataclass(frozen=True)
class Elf:
    """A file: its header's fields and its segments."""

    segments: Sequence[Seg] = ()
    entry: int = 0
    type: int = 3
    machine: int = 62
    phentsize: int = PHDR
    phnum: int | None = None
    phoff: int = EHDR
    ident: bytes = b"\x7fELF\x02\x01\x01"
    tail: bytes = field(default=b"")

    def header_offset(self, index: int) -> int:
        """Where program header ``index`` lies in the file."""
        return self.phoff + index * PHDR

    def offset_of(self, index: int) -> int:
        """Where the bytes of segment ``index`` lie in the file."""
        at = -(-(self.phoff + len(self.segments) * PHDR) // PAGE) * PAGE
        for number, seg in enumerate(self.segments):
            start = at if seg.offset is None else seg.offset
            if number == index:
                return start
            if seg.offset is None:
                at = -(-(start + len(seg.data)) // PAGE) * PAGE
        raise IndexError(index)

    def build(self) -> bytes:
        """The file's bytes."""
        out = bytearray()
        for number, seg in enumerate(self.segments):
            start = self.offset_of(number)
            if seg.data:
                out.extend(bytes(max(0, start + len(seg.data) - len(out))))
                out[start : start + len(seg.data)] = seg.data
        headers = b"".join(
            struct.pack(
                "<IIQQQQQQ",
                seg.type,
                seg.flags,
                self.offset_of(number),
                seg.vaddr,
                seg.vaddr,
                len(seg.data) if seg.filesz is None else seg.filesz,
                len(seg.data) if seg.memsz is None else seg.memsz,
                seg.align,
            )
            for number, seg in enumerate(self.segments)
        )
        phnum = len(self.segments) if self.phnum is None else self.phnum
        head = self.ident.ljust(16, b"\0") + struct.pack(
            "<HHIQQQIHHHHHH",
            self.type,
            self.machine,
            1,
            self.entry,
            self.phoff,
            0,
            0,
            EHDR,
            self.phentsize,
            phnum,
            0,
            0,
            0,
        )
        need = max(EHDR, self.phoff + len(headers))
        out.extend(bytes(max(0, need - len(out))))
        out[:EHDR] = head
        out[self.phoff : self.phoff + len(headers)] = headers
        return bytes(out) + self.tail

    def with_segment(self, index: int, seg: Seg) -> Elf:
        """The same file with another segment ``index``."""
        return replace(self, segments=[seg if i == index else s for i, s in enumerate(self.segments)])

    def plus(self, *segs: Seg) -> Elf:
        """The same file with more segments."""
        return replace(self, segments=[*self.segments, *segs])


def note(desc: bytes, name: bytes = b"swsgx\0", kind: int = 1) -> bytes:
    """One entry of a note segment."""
    pad = -len(name) % 4
    return struct.pack("<III", len(name), len(desc), kind) + name + bytes(pad) + desc + bytes(-len(desc) % 4)


def dynamic(*entries: tuple[int, int]) -> bytes:
    """A dynamic table, with its end."""
    return b"".join(struct.pack("<QQ", tag, value) for tag, value in (*entries, (0, 0)))
