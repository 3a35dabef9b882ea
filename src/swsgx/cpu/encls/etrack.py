"""ETRACK: begin a new epoch of an enclave. Source: SDM, "ETRACK". What epochs are: :mod:`swsgx.cpu.tracking`."""

from __future__ import annotations

from swsgx.cpu import tracking
from swsgx.cpu.faults import SUCCESS, LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.leaves import Encls

__all__ = ["etrack"]

OP = Operation(Encls.ETRACK)


@encls_leaf(OP)
def etrack(cpu: Cpu, secs: EpcAddr) -> LeafResult:
    """Wait, from now on, for everybody who is inside the enclave to leave once.

    Args:
        secs: the enclave's SECS, 4 KiB aligned (RCX).

    Returns:
        Success; PREV_TRK_INCMPL while somebody from before the present epoch is still inside.

    Raises:
        GeneralProtection: misaligned, or the SECS is in use.
        PageFault: not in the EPC, or no valid SECS.
    """
    OP.aligned("RCX", secs, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", secs)
    OP.unlocked(cpu, "RCX", frame)
    if not cpu.is_secs(frame):
        raise OP.pf(secs, "RCX is a valid SECS page", "VALID=1, PT_SECS", "another page, or none")
    state = cpu.enclaves[frame]
    inside = tracking.still_inside(cpu, state)
    if inside:
        return OP.code(
            SgxError.PREV_TRK_INCMPL,
            "everybody from before the present epoch has left",
            "none of them inside",
            f"{inside} inside",
        )
    tracking.begin(cpu, state)
    return SUCCESS
