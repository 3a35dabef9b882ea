"""EREMOVE: take a page out of the EPC. Source: SDM, "EREMOVE"."""

from __future__ import annotations

import numpy as np

from swsgx.cpu.epc import Frames
from swsgx.cpu.epcm import HOME_ENCLAVE
from swsgx.cpu.faults import SUCCESS, LeafResult, invariant
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType
from swsgx.isa.leaves import Encls
from swsgx.native.abi import EpcmState

__all__ = ["eremove", "run", "run_trimmed"]

OP = Operation(Encls.EREMOVE)


@encls_leaf(OP)
def eremove(cpu: Cpu, page: EpcAddr) -> LeafResult:
    """Make an EPC page free again; its contents are gone.

    Args:
        page: 4 KiB aligned (RCX). A page that is free already is left alone, with success.

    Returns:
        Success; CHILD_PRESENT for a SECS whose enclave has pages in the EPC; ENCLAVE_ACT for a page of an
        enclave that a logical processor is inside.

    Raises:
        GeneralProtection: misaligned, or the page is in use by another leaf.
        PageFault: not in the EPC.
    """
    # Operand and page.
    OP.aligned("RCX", page, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", page)
    OP.unlocked(cpu, "RCX", frame)
    if not cpu.epcm.valid(frame):
        return SUCCESS
    entry = cpu.epcm[frame]
    if entry.pt == PageType.VA:
        cpu.epcm.clear(frame)
        return SUCCESS
    if entry.pt == PageType.SECS:
        return _remove_secs(cpu, frame)
    if entry.pt != PageType.TRIM or entry.state & EpcmState.MODIFIED:
        inside = cpu.threads_inside(entry.secs)
        if inside:
            return OP.code(
                SgxError.ENCLAVE_ACT,
                "no logical processor is inside the enclave",
                "none",
                f"{inside} active TCS",
            )

    # Commit.
    state = cpu.owner(frame)
    offset = cpu.offset_of(frame)
    home = entry.home
    cpu.epcm.clear(frame)
    if home == HOME_ENCLAVE:
        state.store.forget(offset, PAGE_SIZE)
    state.tcs.discard(frame)
    state.children -= 1
    state.store.changed()
    return SUCCESS


def _remove_secs(cpu: Cpu, frame: int) -> LeafResult:
    state = cpu.enclaves[frame]
    if state.children:
        return OP.code(
            SgxError.CHILD_PRESENT,
            "no page of the enclave is in the EPC",
            "no child",
            f"{state.children} children",
        )
    cpu.epcm.clear(frame)
    del cpu.enclaves[frame]
    state.store.close()
    return SUCCESS


@encls_leaf(OP)
def run(cpu: Cpu, secs: EpcAddr, frames: Frames) -> None:
    """EREMOVE all pages of an enclave that nobody is inside: what a driver does when the enclave dies.

    Args:
        secs: the enclave's SECS; it stays.
        frames: all frames that belong to it, in any order.

    Raises:
        InternalError: not all, or not only, the enclave's pages; or a thread is inside.
    """
    secs_frame = cpu.epc.frame(secs)
    state = cpu.enclaves[secs_frame]
    columns = cpu.epcm.columns
    invariant(
        len(frames) == state.children,
        "EREMOVE: all pages of the enclave",
        given=len(frames),
        has=state.children,
    )
    owned = (columns["secs"][frames] == secs_frame) & (columns["state"][frames] & EpcmState.VALID != 0)
    owned &= columns["pt"][frames] != int(PageType.SECS)
    invariant(bool(owned.all()), "EREMOVE: only pages of the enclave", secs=secs_frame)
    invariant(not cpu.threads_inside(secs_frame), "EREMOVE: nobody is inside", secs=secs_frame)
    cpu.epcm.clear(frames)
    state.store.frame_map[:] = np.uint32(0)
    state.store.contents.punch(0, state.store.contents.size)
    state.tcs.clear()
    state.children = 0
    state.store.changed()


@encls_leaf(OP)
def run_trimmed(cpu: Cpu, secs: EpcAddr, frames: Frames) -> None:
    """EREMOVE trimmed and accepted pages that follow each other in their enclave, whoever is inside.

    Args:
        secs: the enclave's SECS; it stays.
        frames: the pages, in the order of their addresses; contents are in the enclave's store.

    Raises:
        InternalError: a page is not like that.
    """
    secs_frame = cpu.epc.frame(secs)
    state = cpu.enclaves[secs_frame]
    columns, count = cpu.epcm.columns, len(frames)
    first = int(columns["enclaveaddress"][frames[0]])
    good = (columns["pt"][frames] == int(PageType.TRIM)) & (columns["secs"][frames] == secs_frame)
    good &= columns["state"][frames] & (EpcmState.VALID | EpcmState.MODIFIED) == EpcmState.VALID
    good &= columns["enclaveaddress"][frames] == np.arange(
        first, first + count * PAGE_SIZE, PAGE_SIZE, dtype=np.uint64
    )
    good &= columns["home"][frames] == HOME_ENCLAVE
    invariant(
        bool(good.all()) and not cpu.any_locked(), "EREMOVE: trimmed and accepted pages", secs=secs_frame
    )
    cpu.epcm.clear(frames)
    state.store.forget(first - state.store.head.baseaddr, count * PAGE_SIZE)
    state.tcs.difference_update(frames.tolist() if state.tcs else ())
    state.children -= count
    state.store.changed()
