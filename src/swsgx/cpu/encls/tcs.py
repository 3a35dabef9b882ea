"""What EADD and EACCEPT want of a TCS's bytes. Source: SDM, "EADD" and "EACCEPT"."""

from __future__ import annotations

from swsgx.cpu.operation import Operation
from swsgx.isa.flags import Attributes
from swsgx.isa.structs import Tcs

__all__ = ["check_limits", "check_reserved"]


def check_reserved(operation: Operation, tcs: Tcs) -> None:
    """Insist that reserved bytes are zero; else #GP(0)."""
    reserved = tcs.first_nonzero_reserved()
    if reserved is not None:
        raise operation.gp(
            "TCS reserved bytes are zero", "zero", f"byte {reserved[1]} ({reserved[0]}) is not"
        )


def check_limits(operation: Operation, tcs: Tcs, attributes: int) -> None:
    """Insist that segment limits of a 32-bit enclave end a page; else #GP(0)."""
    if attributes & Attributes.MODE64BIT:
        return
    for name, limit in (("FSLIMIT", tcs.fslimit), ("GSLIMIT", tcs.gslimit)):
        if limit & 0xFFF != 0xFFF:
            raise operation.gp(f"TCS.{name} of a 32-bit enclave ends a page", "low 12 bits 0xfff", limit)
