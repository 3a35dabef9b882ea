"""EDBGWR: write a word of a debug enclave. Source: SDM, "EDBGWR"."""

from __future__ import annotations

from swsgx.cpu.encls.debug import WORD_SIZE, check_debuggable, check_page
from swsgx.cpu.faults import SUCCESS, LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.flags import PageType
from swsgx.isa.leaves import Encls
from swsgx.isa.structs import Tcs

__all__ = ["edbgwr"]

OP = Operation(Encls.EDBGWR)


@encls_leaf(OP)
def edbgwr(cpu: Cpu, address: EpcAddr, value: int) -> LeafResult:
    """Write 8 bytes of a debug enclave, whatever the page's permissions; of a TCS only FLAGS.

    Args:
        address: an EPC address, 8-byte aligned (RCX).
        value: 64 bits (RBX).

    Returns:
        Success, or PAGE_NOT_DEBUGGABLE if the page is PENDING or MODIFIED.

    Raises:
        GeneralProtection: misaligned, page in use, no debug enclave, another field of a TCS than FLAGS.
        PageFault: not in the EPC, not valid, or neither REG nor TCS.
    """
    checked = check_page(OP, cpu, address, (PageType.REG, PageType.TCS))
    if isinstance(checked, LeafResult):
        return checked
    frame, entry = checked
    at = address % PAGE_SIZE
    if entry.pt == PageType.TCS and at & 0xFF8 != Tcs.flags.offset:
        raise OP.gp("RCX in a TCS is FLAGS", f"offset {Tcs.flags.offset}", at)
    check_debuggable(OP, cpu, entry)

    # Commit.
    cpu.page(frame)[at : at + WORD_SIZE] = value.to_bytes(WORD_SIZE, "little")
    cpu.owner(frame).store.changed()
    return SUCCESS
