"""Page faults in the enclave mappings of programs: whose they are, and whether the same access is tried again."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from swsgx.isa.flags import PageFaultCode
from swsgx.linux.fault import FaultAction, resolve
from swsgx.linux.vma import PROT_EXEC
from swsgx.native.abi import Request
from swsgx.supervisor.process import TargetProcess
from swsgx.trace import Reason

__all__ = ["Fault", "served"]


class Fault(IntEnum):
    """What becomes of a fault in an enclave mapping; supervised.h has the same."""

    OWN = 0
    AGAIN = 1
    BUS = 2


def served(
    process: TargetProcess,
    request: Request,
    *,
    hides: bool,
    paging: bool,
    explain: Callable[[str, Reason], None] | None,
) -> Fault:
    """A page of an enclave mapping is not there, touched inside (a check is given) or outside.

    Args:
        process: whose mapping it is.
        request: the question: address, error code, check.
        hides: enclaves are out of reach while no thread is inside.
        paging: pages have left the EPC, or will.
        explain: told what was refused; None: nobody wants to know.
    """
    address, code, inside = request.arg0, PageFaultCode(request.arg1 & 0xFFFF), bool(request.arg2)
    with process.mm.lock:
        late = process.engine.pending
        if process.stale and not late and not process.busy:
            process.done()
        vma = process.mm.vma_at(address)
        # Where no code may be run, resolve() sees nothing wrong in a fetch: the real page table would.
        allowed = vma is not None and (not code & PageFaultCode.I or vma.prot & PROT_EXEC)
        # A page could have been missing a moment ago that isolation will take care of when it is there.
        comes = (
            vma is not None
            and allowed
            and (not vma.encl.has_page(address) or (paging and not vma.encl.debug))
        )
    # The host has its own page-table entries, which say nothing of the model's.
    found = resolve(process.mm, address, code if inside else code & ~PageFaultCode.P)
    if found.action is FaultAction.SIGBUS:
        if explain is not None and found.reason is not None:
            explain(f"page fault at {address:#x} in process {process.pid}", found.reason)
        return Fault.BUS
    if not found.resolved and found.action is not FaultAction.OOM:
        return Fault.OWN
    # Outside, a page that exists is out of reach for reasons of ours, unless isolation takes care of it.
    appeared = comes and hides
    return Fault.AGAIN if inside or late or appeared else Fault.OWN
