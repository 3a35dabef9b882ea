"""EDBGRD: read a word of a debug enclave. Source: SDM, "EDBGRD"."""

from __future__ import annotations

from swsgx.cpu.encls.debug import TCS_LIMIT, WORD_SIZE, check_debuggable, check_page
from swsgx.cpu.faults import LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.flags import PageType
from swsgx.isa.leaves import Encls

__all__ = ["edbgrd"]

OP = Operation(Encls.EDBGRD)


@encls_leaf(OP)
def edbgrd(cpu: Cpu, address: EpcAddr) -> int | LeafResult:
    """Read 8 bytes of a debug enclave, whatever the page's permissions; of a VA page, whether a slot is empty.

    Args:
        address: an EPC address, 8-byte aligned (RCX).

    Returns:
        What RBX gets; or PAGE_NOT_DEBUGGABLE if the page is PENDING or MODIFIED.

    Raises:
        GeneralProtection: misaligned, page in use, no debug enclave, beyond the fields of a TCS.
        PageFault: not in the EPC, not valid, or a SECS or TRIM page.
    """
    checked = check_page(OP, cpu, address, (PageType.REG, PageType.TCS, PageType.VA))
    if isinstance(checked, LeafResult):
        return checked
    frame, entry = checked
    at = address % PAGE_SIZE
    if entry.pt == PageType.TCS and at >= TCS_LIMIT:
        raise OP.gp("RCX is inside the fields of the TCS", f"offset below {TCS_LIMIT}", at)
    if entry.pt == PageType.VA:
        slot = int.from_bytes(cpu.page(frame)[at : at + WORD_SIZE], "little")
        return (1 << 64) - 1 if slot & ~7 else 0
    check_debuggable(OP, cpu, entry)
    return int.from_bytes(cpu.page(frame)[at : at + WORD_SIZE], "little")
