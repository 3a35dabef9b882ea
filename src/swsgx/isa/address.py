"""Addresses have types, so that one kind cannot be used as another by mistake. All are in bytes."""

from __future__ import annotations

from typing import NewType

__all__ = [
    "PAGE_SIZE",
    "EpcAddr",
    "Linaddr",
    "Offset",
    "TargetAddr",
    "is_aligned",
    "is_canonical",
    "page_base",
]

#: Bytes in a page; SGX knows no other size.
PAGE_SIZE = 4096

#: A linear address, as an instruction of the machine sees it.
Linaddr = NewType("Linaddr", int)
#: The address of a page, or of a byte, of the EPC, as ENCLS operands name it.
EpcAddr = NewType("EpcAddr", int)
#: An address in the process that uses the device: a pointer in an ioctl argument, say.
TargetAddr = NewType("TargetAddr", int)
#: Bytes from the start of ELRANGE.
Offset = NewType("Offset", int)


def is_aligned(address: int, alignment: int) -> bool:
    """Whether ``address`` is a multiple of ``alignment`` (a power of two)."""
    return address & (alignment - 1) == 0


def is_canonical(address: int) -> bool:
    """Whether bits 63..47 of a 64-bit linear address are equal (4-level paging)."""
    return address < 1 << 47 or (1 << 64) - (1 << 47) <= address < 1 << 64


def page_base(address: int) -> int:
    """The address of the page that holds ``address``."""
    return address & ~(PAGE_SIZE - 1)
