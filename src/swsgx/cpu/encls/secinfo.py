"""SECINFO as the building leaves take it."""

from __future__ import annotations

from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation
from swsgx.isa.address import Linaddr
from swsgx.isa.flags import PageType, page_type_of
from swsgx.isa.structs import Secinfo

__all__ = ["BUILD_RESERVED", "check_secinfo", "read_secinfo"]

#: SECINFO.FLAGS bits that ECREATE and EADD want to be zero: 7:3 and 63:16. The manual leaves 5:3 open.
BUILD_RESERVED = 0xFFFF_FFFF_FFFF_00F8


def read_secinfo(operation: Operation, memory: LinearMemory, address: Linaddr) -> Secinfo:
    """Copy the SECINFO at ``address`` (64-byte aligned; the caller checked) out of memory."""
    return Secinfo(operation.read(memory, "PAGEINFO.SECINFO", address, Secinfo.size_of))


def check_secinfo(operation: Operation, secinfo: Secinfo, page_types: tuple[PageType, ...]) -> None:
    """Insist on zero reserved bits and on one of the page types; else #GP(0)."""
    if secinfo.flags & BUILD_RESERVED:
        raise operation.gp(
            "SECINFO.FLAGS reserved bits are zero", f"no bit of {BUILD_RESERVED:#x}", secinfo.flags
        )
    reserved = secinfo.first_nonzero_reserved()
    if reserved is not None:
        raise operation.gp("SECINFO reserved bytes are zero", "zero", f"byte {reserved[1]} is not")
    found = page_type_of(secinfo.flags)
    if found not in page_types:
        wanted = " or ".join(f"PT_{t.name}" for t in page_types)
        raise operation.gp(f"SECINFO.PAGE_TYPE is {wanted}", wanted, found)
