"""ETRACK: begin a new tracking epoch of an enclave. Source: SDM, "ETRACK"."""

from __future__ import annotations

import numpy as np

from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import SUCCESS, LeafResult, invariant
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.leaves import Encls

__all__ = ["etrack", "run"]

OP = Operation(Encls.ETRACK)


@encls_leaf(OP)
def etrack(cpu: Cpu, secs: EpcAddr) -> LeafResult:
    """Begin an epoch: pages changed before are tracked when all who are inside now have left once.

    Args:
        secs: the enclave's SECS, 4 KiB aligned (RCX).

    Returns:
        Success; PREV_TRK_INCMPL while somebody is inside who entered before the present epoch.

    Raises:
        GeneralProtection: misaligned, or the enclave's tracking is in use by another leaf.
        PageFault: not in the EPC, or no valid SECS page.
    """
    OP.aligned("RCX", secs, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", secs)
    OP.unlocked(cpu, "RCX", frame)
    if not cpu.is_secs(frame):
        raise OP.pf(secs, "RCX is a valid SECS page", "VALID=1, PT_SECS", "another page, or none")
    state = cpu.enclaves[frame]
    inside = cpu.tracker.stragglers(state)
    if inside:
        return OP.code(
            SgxError.PREV_TRK_INCMPL,
            "all who entered before the present epoch have left",
            "none of them inside",
            f"{inside} inside, epoch {state.epoch}",
            remedy="interrupt the processors that run the enclave",
        )

    # Commit.
    state.epoch += 1
    cpu.tracker.begin(state)
    return SUCCESS


@encls_leaf(OP)
def run(cpu: Cpu, secs: EpcAddr, frames: Frames) -> None:
    """As if an ETRACK, with an interrupt behind it, had followed each change of pages that were changed in one go.

    Args:
        secs: the enclave's SECS.
        frames: the pages, in the order in which they were changed; each has the present epoch.

    Raises:
        InternalError: somebody is inside who entered before the present epoch.
    """
    state = cpu.enclaves[cpu.epc.frame(secs)]
    invariant(not cpu.tracker.stragglers(state), "ETRACK: none is late", enclave=state.eid)
    cpu.epcm.columns["epoch"][frames] = np.arange(state.epoch, state.epoch + len(frames), dtype=np.uint64)
    state.epoch += len(frames)
    cpu.tracker.begin(state)
