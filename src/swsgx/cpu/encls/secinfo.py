"""SECINFO as the leaves take it: those that build an enclave, and those that change its pages."""

from __future__ import annotations

from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation
from swsgx.isa.address import Linaddr
from swsgx.isa.flags import SECINFO_RESERVED, PageType, page_type_of
from swsgx.isa.structs import Secinfo

__all__ = ["BUILD_RESERVED", "check_reserved", "check_secinfo", "read_secinfo"]

#: SECINFO.FLAGS bits that ECREATE and EADD want to be zero: 7:3 and 63:16. The manual leaves 5:3 open.
BUILD_RESERVED = 0xFFFF_FFFF_FFFF_00F8


def read_secinfo(
    operation: Operation, memory: LinearMemory, address: Linaddr, operand: str = "PAGEINFO.SECINFO"
) -> Secinfo:
    """Copy the SECINFO at ``address`` (64-byte aligned; the caller checked) out of memory."""
    return Secinfo(operation.read(memory, operand, address, Secinfo.size_of))


def check_reserved(operation: Operation, secinfo: Secinfo, mask: int = SECINFO_RESERVED) -> None:
    """Insist that flags in ``mask``, and all bytes behind FLAGS, are zero; else #GP(0)."""
    if secinfo.flags & mask:
        raise operation.gp("SECINFO.FLAGS reserved bits are zero", f"no bit of {mask:#x}", secinfo.flags)
    reserved = secinfo.first_nonzero_reserved()
    if reserved is not None:
        raise operation.gp("SECINFO reserved bytes are zero", "zero", f"byte {reserved[1]} is not")


def check_secinfo(operation: Operation, secinfo: Secinfo, page_types: tuple[PageType, ...]) -> None:
    """Insist on zero reserved bits, of the building leaves, and on one of the page types; else #GP(0)."""
    check_reserved(operation, secinfo, BUILD_RESERVED)
    found = page_type_of(secinfo.flags)
    if found not in page_types:
        wanted = " or ".join(f"PT_{t.name}" for t in page_types)
        raise operation.gp(f"SECINFO.PAGE_TYPE is {wanted}", wanted, found)
