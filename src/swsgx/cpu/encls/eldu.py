"""ELDU: load an evicted page. Source: SDM, "ELDB/ELDU/ELDBC/ELDUC"."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swsgx.cpu.encls import eld
from swsgx.cpu.encls.evicted import Slots
from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import EpcAddr, Linaddr
from swsgx.isa.leaves import Encls

__all__ = ["eldu", "run"]

OP = Operation(Encls.ELDU)


@encls_leaf(OP)
def eldu(cpu: Cpu, memory: LinearMemory, pageinfo: Linaddr, page: EpcAddr, slot: EpcAddr) -> LeafResult:
    """Decrypt an evicted page into a free EPC page if its MAC is right, and empty its version slot.

    Args:
        memory: where PAGEINFO, PCMD and the encrypted page are.
        pageinfo: linear address of a PAGEINFO, 32-byte aligned (RBX): LINADDR, SRCPGE, PCMD, and the owner's SECS.
        page: an EPC page that is not valid, 4 KiB aligned (RCX).
        slot: the version slot that EWB filled, 8-byte aligned (RDX).

    Returns:
        Success; MAC_COMPARE_FAIL: page, PCMD, address, owner or version is not what EWB had.

    Raises:
        GeneralProtection: misaligned, RDX inside RCX's page, page in use, a page type that EWB does not write,
            or a SECS given for a page that has none.
        PageFault: an operand not in the EPC, RCX valid already, RDX no VA page, PAGEINFO.SECS no SECS, or
            ordinary memory that cannot be read.
    """
    return eld.load(OP, cpu, memory, pageinfo, page, slot, blocked=False)


@encls_leaf(OP)
def run(
    cpu: Cpu,
    secs: EpcAddr,
    frames: Frames,
    slots: Slots,
    linaddrs: npt.NDArray[np.uint64],
    sealed: npt.NDArray[np.uint8],
    pcmds: npt.NDArray[np.uint8],
) -> tuple[int, LeafResult]:
    """ELDU of many pages of one enclave: :func:`swsgx.cpu.encls.eld.load_run`."""
    return eld.load_run(OP, cpu, secs, frames, slots, linaddrs, sealed, pcmds, blocked=False)
