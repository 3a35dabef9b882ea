"""Enclaves made in the test: small files in each of the conventions, and streams."""

from __future__ import annotations

import struct

from swsgx.image.convention import EnclaveNote
from tests.make.elf import PT_NOTE, RW, RX, Elf, R, Seg, note

CODE = bytes(range(256)) * 20
DATA = b"data" * 100


def enclave_note(**fields: int) -> bytes:
    """The descriptor of a sound note, with some fields changed."""
    values = {"version": 1, "ssaframesize": 1, "nssa": 2, "threads": 2, "stack_pages": 3, "heap_pages": 5}
    return bytes(EnclaveNote.of(**(values | {"attributes": 4, "xfrm": 3} | fields)))


def convention_elf(desc: bytes | None = None, **fields: int) -> Elf:
    """A sound enclave of our own convention: note and constants, code of two pages, data with a bss."""
    first = note(enclave_note(**fields) if desc is None else desc)
    return Elf(
        [
            Seg(0, first, R),
            Seg(0x1000, CODE, RX),
            Seg(0x3000, DATA, RW, memsz=0x2800),
            Seg(0, first, R, type=PT_NOTE, offset=PAGE_OF_FIRST, align=4),
        ],
        entry=0x1010,
    )


#: With up to 72 program headers, the first segment's bytes start here.
PAGE_OF_FIRST = 0x1000


def selftest_elf() -> Elf:
    """What the kernel's selftest builds: two TCS pages, code, data; offsets in the file count."""
    tcs = struct.pack("<QQQIIQ", 0, 0, 0x4000, 0, 1, 0x2000).ljust(64, b"\0") + b"\xff" * 8
    page = tcs.ljust(4096, b"\0")
    return Elf([Seg(0, page + page, RW), Seg(0x2000, CODE[:5000], RX), Seg(0x4000, DATA, RW)], entry=0x2000)


def ecreate(size: int = 0x10000, ssaframesize: int = 1, tag: bytes = b"ECREATE\0") -> bytes:
    """The first record of a stream."""
    return (tag + struct.pack("<IQ", ssaframesize, size)).ljust(64, b"\0")


def eadd(offset: int, flags: int = 0x203) -> bytes:
    """A page's record."""
    return (b"EADD\0\0\0\0" + struct.pack("<QQ", offset, flags)).ljust(64, b"\0")


def chunk(offset: int, data: bytes = bytes(256), *, measured: bool = True) -> bytes:
    """A chunk's record."""
    return ((b"EEXTEND\0" if measured else b"UNMEASRD") + struct.pack("<Q", offset)).ljust(64, b"\0") + data


def page(offset: int, flags: int = 0x203, data: bytes = bytes(4096)) -> bytes:
    """A page that is measured whole."""
    return eadd(offset, flags) + b"".join(chunk(offset + i, data[i : i + 256]) for i in range(0, 4096, 256))


def stream(*records: bytes) -> bytes:
    """ECREATE and what follows."""
    return ecreate() + b"".join(records)
