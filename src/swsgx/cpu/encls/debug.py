"""What EDBGRD and EDBGWR have in common. Source: SDM, "EDBGRD" and "EDBGWR"."""

from __future__ import annotations

from swsgx.cpu.faults import LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation
from swsgx.isa.address import EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.structs import Tcs
from swsgx.native.abi import EpcmEntry, EpcmState

__all__ = ["TCS_LIMIT", "WORD_SIZE", "check_debuggable", "check_page"]

#: Bytes that one leaf moves in 64-bit mode.
WORD_SIZE = 8
#: Bytes of a TCS that a debugger may see, without CET.
TCS_LIMIT = Tcs.ocetssa.offset


def check_page(
    operation: Operation, cpu: Cpu, address: EpcAddr, page_types: tuple[PageType, ...]
) -> tuple[int, EpcmEntry] | LeafResult:
    """Operand and page checks up to PENDING and MODIFIED: the frame and its entry, or PAGE_NOT_DEBUGGABLE."""
    operation.aligned("RCX", address, WORD_SIZE)
    frame = operation.in_epc(cpu, "RCX", address)
    operation.unlocked(cpu, "RCX", frame)
    if not cpu.epcm.valid(frame):
        raise operation.pf(address, "EPCM(RCX).VALID is 1", "a valid page", "a free page")
    entry = cpu.epcm[frame]
    if entry.pt not in page_types:
        wanted = ", ".join(f"PT_{t.name}" for t in page_types)
        raise operation.pf(
            address, f"EPCM(RCX).PT is one of {wanted}", wanted, f"PT_{PageType(entry.pt).name}"
        )
    changing = entry.state & (EpcmState.PENDING | EpcmState.MODIFIED)
    if changing:
        return operation.code(
            SgxError.PAGE_NOT_DEBUGGABLE,
            "the page is neither PENDING nor MODIFIED",
            "neither",
            EpcmState(changing).name,
        )
    return frame, entry


def check_debuggable(operation: Operation, cpu: Cpu, entry: EpcmEntry) -> None:
    """Insist that the page's enclave has ATTRIBUTES.DEBUG; else #GP(0)."""
    attributes = cpu.secs(entry.secs).attributes
    if not attributes & Attributes.DEBUG:
        raise operation.gp(
            "the enclave has ATTRIBUTES.DEBUG",
            "DEBUG = 1",
            attributes,
            remedy="create the enclave with DEBUG set (the SIGSTRUCT must allow it)",
        )
