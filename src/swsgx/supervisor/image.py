"""The freestanding image as the bytes that are put into a target, at one address in all of them.

One address, because the filter knows the monitor's own system calls by it, and a filter outlives exec. It is below
the first TiB, where neither stack, mmap area nor PIE programs go; outside the shadows of the address and thread
sanitizers; and above what a static program and its heap use (they would need 1.7 GB).

The image is the program's vDSO, so it lies in memory as it lies in the file, section headers and all, as the kernel's
does. Behind that are its data (``native/vdso/target.lds``).

Every `swsgx run` pays for the imports here, so they are few: not even ``swsgx.isa`` is among them.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import swsgx.native

__all__ = ["IMAGE_BASE", "Image", "load_image"]

_PATH = f"{swsgx.native.__path__[0]}/images/swsgx-target.so"
_PAGE_SIZE = 4096

#: Where the image lies in every target.
IMAGE_BASE = 0x6F000000

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
#: The image's data: no PT_LOAD, since glibc takes a vDSO with more than one for linked elsewhere.
_PT_DATA = 0x65534758


#: ``struct cpuid_table`` is the first of the data, and with the lists behind it has so many bytes.
_CPUID_TABLE = 496
_CPUID_BYTES = 0x8000
_SCRATCH_BYTES = 1024


class Image(NamedTuple):
    """The image, laid out in memory.

    Attributes:
        size: bytes it takes in a target, whole pages.
        writable: offset of the first writable byte, page aligned; from there to the end it is data, and zero.
        lists: offset of room for lists of patched CPUID sites, lists_size bytes (``native/supervised/cpuid.h``).
        scratch: offset of 1024 bytes that nobody uses while the process asks something.
        known: offset of ``struct known_files``.
        start: offset of the code that runs before the program's own (``native/supervised/start.S``).
        parts: (offset, contents) of what is not zero.
    """

    size: int
    writable: int
    lists: int
    lists_size: int
    scratch: int
    known: int
    start: int
    parts: tuple[tuple[int, bytes], ...]


def load_image() -> Image:
    """Read the image from the package.

    Raises:
        FileNotFoundError: it was not built.
        ValueError: it was not built by our Makefile.
    """
    with open(_PATH, "rb") as image:
        file = image.read()
    header = _EHDR.unpack_from(file)
    headers = [_PHDR.unpack_from(file, header[5] + i * header[9]) for i in range(header[10])]
    data = [(p[3], p[6]) for p in headers if p[0] == _PT_DATA]
    if len(data) != 1 or data[0][0] % _PAGE_SIZE or data[0][0] < len(file):
        raise ValueError(f"{_PATH}: its data do not follow the file, page aligned (native/vdso/target.lds)")
    writable, length = data[0]
    return Image(
        size=-(-(writable + length) // _PAGE_SIZE) * _PAGE_SIZE,
        writable=writable,
        lists=writable + _CPUID_TABLE,
        lists_size=_CPUID_BYTES - _CPUID_TABLE,
        scratch=writable + _CPUID_BYTES,
        known=writable + _CPUID_BYTES + _SCRATCH_BYTES,
        start=header[4],
        parts=((0, file),),
    )
