"""Any enclave file, by what is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from swsgx.image.errors import Format, ImageError

if TYPE_CHECKING:
    from swsgx.image.plan import LoadPlan

__all__ = ["is_elf", "load_plan", "plan_of", "read_file"]

#: Files larger than this are not read; the largest enclave file known is far below.
MAX_FILE = 1 << 36
_PIECE = 1 << 20


def read_file(path: str | Path, limit: int = MAX_FILE) -> memoryview:
    """All bytes of a file.

    Args:
        path: a regular file, or anything that can be read to an end.
        limit: most bytes that make sense.

    Raises:
        ImageError: larger than ``limit``.
        OSError: it cannot be read.
    """
    parts: list[bytes] = []
    size = 0
    with Path(path).open("rb") as file:
        # One read takes a regular file whole; a pipe comes in pieces.
        while part := file.read(min(limit + 1 - size, max(_PIECE, os.fstat(file.fileno()).st_size + 1))):
            parts.append(part)
            size += len(part)
    if size > limit:
        raise Format(str(path), "file", "swsgx").refuse(
            "the file has a sensible size", expected=f"at most {limit} bytes", found="more"
        )
    return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))


def is_elf(data: memoryview) -> bool:
    """Whether the bytes start with the ELF magic."""
    return bytes(data[:4]) == b"\x7fELF"


def load_plan(path: str | Path, *, heap_size: int | None = None) -> LoadPlan:
    """The plan of the enclave in a file; see :func:`plan_of`.

    Raises:
        ImageError: not an enclave file, or a bad one.
        OSError: it cannot be read.
    """
    return plan_of(str(path), read_file(path), heap_size=heap_size)


def plan_of(file: str, data: memoryview, *, heap_size: int | None = None) -> LoadPlan:
    """The plan of the enclave in ``data``: an ELF file (ours or the selftest's), or a ``.sgxs`` stream.

    Args:
        file: the file's name, for messages.
        data: all its bytes; the plan keeps them.
        heap_size: bytes of heap for a selftest ELF file (4096 if None); nothing else takes it.

    Raises:
        ImageError: none of these, or a bad one.
    """
    from swsgx.image.sgxs import is_sgxs, scan

    form = Format(file, "enclave file", "docs/enclave-convention.md")
    if not data:
        raise form.refuse("the file is not empty", expected="an ELF file or a .sgxs stream", found="0 bytes")
    if is_elf(data):
        return _elf_plan(file, data, form, heap_size)
    if heap_size is not None:
        raise _no_heap(form, ".sgxs stream")
    if is_sgxs(data):
        return scan(file, data).plan()
    raise form.refuse(
        "the file starts like an enclave",
        expected="an ELF magic or a .sgxs tag",
        found=bytes(data[:8]).hex(" "),
    )


def _elf_plan(file: str, data: memoryview, form: Format, heap_size: int | None) -> LoadPlan:
    from swsgx.image.convention import convention_note, convention_plan
    from swsgx.image.elf import ElfImage
    from swsgx.image.selftest import DEFAULT_HEAP, is_selftest, selftest_plan

    elf = ElfImage(file, data)
    note = convention_note(elf)
    if note is not None:
        if heap_size is not None:
            raise _no_heap(form, "file with a swsgx note")
        return convention_plan(elf, note)
    if is_selftest(elf):
        return selftest_plan(elf, DEFAULT_HEAP if heap_size is None else heap_size)
    raise form.refuse(
        "the ELF file is an enclave",
        expected="a note 'swsgx' (docs/enclave-convention.md), or TCS pages in a first segment that is RW",
        found="neither",
    )


def _no_heap(form: Format, what: str) -> ImageError:
    return form.refuse(
        "only a selftest ELF file takes a heap size", expected="no heap size", found=f"one, for a {what}"
    )
