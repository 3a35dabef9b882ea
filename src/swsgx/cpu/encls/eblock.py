"""EBLOCK: let no new translation of a page come to be. Source: SDM, "EBLOCK"."""

from __future__ import annotations

import numpy as np

from swsgx.cpu.encls.evicted import is_enclave_page
from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import SUCCESS, LeafResult, invariant
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType
from swsgx.isa.leaves import Encls
from swsgx.native.abi import EpcmState

__all__ = ["eblock", "run"]

OP = Operation(Encls.EBLOCK)


@encls_leaf(OP)
def eblock(cpu: Cpu, page: EpcAddr) -> LeafResult:
    """Mark an enclave page as blocked, in the enclave's present epoch.

    Args:
        page: 4 KiB aligned (RCX).

    Returns:
        Success; EPC_PAGE_CONFLICT page in use; PG_INVLD no valid page; PG_IS_SECS, NOTBLOCKABLE (a VA page),
        BLKSTATE (blocked already), all three with CF.

    Raises:
        GeneralProtection: misaligned.
        PageFault: not in the EPC.
    """
    OP.aligned("RCX", page, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", page)
    if cpu.is_locked(frame):
        return OP.code(
            SgxError.EPC_PAGE_CONFLICT,
            "RCX is not in use by another leaf",
            "a page that no logical processor works on",
            f"EPC page {page:#x} is locked",
            remedy="try again",
        )
    if not cpu.epcm.valid(frame):
        return OP.code(SgxError.PG_INVLD, "EPCM(RCX).VALID is 1", "a valid page", "a free page")
    entry = cpu.epcm[frame]
    if entry.pt == PageType.SECS:
        return OP.code(SgxError.PG_IS_SECS, "the page is no SECS", "REG, TCS or TRIM", "PT_SECS")
    if entry.pt == PageType.VA:
        return OP.code(SgxError.NOTBLOCKABLE, "the page belongs to an enclave", "REG, TCS or TRIM", "PT_VA")
    if entry.state & EpcmState.BLOCKED:
        return OP.code(SgxError.BLKSTATE, "the page is not blocked", "BLOCKED = 0", "BLOCKED = 1")

    # Commit.
    state = cpu.owner(frame)
    entry.epoch = state.epoch
    entry.state |= EpcmState.BLOCKED
    state.store.changed()
    return SUCCESS


@encls_leaf(OP)
def run(cpu: Cpu, secs: EpcAddr, frames: Frames) -> None:
    """EBLOCK pages of one enclave that are valid and not blocked; in any order.

    Args:
        secs: the enclave's SECS.
        frames: the pages.

    Raises:
        InternalError: a page is another enclave's, or one that EBLOCK would not block.
    """
    secs_frame = cpu.epc.frame(secs)
    state = cpu.enclaves[secs_frame]
    columns = cpu.epcm.columns
    found = columns["state"][frames]
    good = (columns["secs"][frames] == secs_frame) & is_enclave_page(columns["pt"][frames])
    good &= (found & (EpcmState.VALID | EpcmState.BLOCKED)) == EpcmState.VALID
    invariant(bool(good.all()), "EBLOCK: only pages of the enclave that are not blocked", secs=secs_frame)
    columns["epoch"][frames] = state.epoch
    columns["state"][frames] = found | np.uint8(EpcmState.BLOCKED)
    state.store.changed()
