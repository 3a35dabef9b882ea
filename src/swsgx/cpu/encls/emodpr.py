"""EMODPR: take permissions from a page of a running enclave. Source: SDM, "EMODPR"."""

from __future__ import annotations

import numpy as np

from swsgx.cpu.encls.changing import check_changeable, check_initialised, clean_pages
from swsgx.cpu.encls.secinfo import check_reserved, read_secinfo
from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import SUCCESS, LeafResult, invariant
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PERM_MASK, PageType, SecinfoFlags
from swsgx.isa.leaves import Encls
from swsgx.native.abi import EpcmState

__all__ = ["emodpr", "run"]

OP = Operation(Encls.EMODPR)


@encls_leaf(OP)
def emodpr(cpu: Cpu, memory: LinearMemory, secinfo: Linaddr, page: EpcAddr) -> LeafResult:
    """Reduce a REG page's permissions to those it shares with SECINFO, at once; EACCEPT acknowledges it.

    Asking for permissions that the page does not have takes nothing away, and sets PR all the same. PAGE_TYPE and the
    state bits of SECINFO are not looked at.

    Args:
        memory: where SECINFO is.
        secinfo: linear address of a SECINFO, 64-byte aligned (RBX).
        page: 4 KiB aligned (RCX).

    Returns:
        Success; EPC_PAGE_CONFLICT while another SGX2 leaf changes the page; PAGE_NOT_MODIFIABLE for one that is PENDING
        or MODIFIED.

    Raises:
        GeneralProtection: misaligned operand, reserved bit set, W without R, page in use, enclave not initialised.
        PageFault: SECINFO not readable; RCX not in the EPC, not valid, or no REG page.
    """
    # Operands.
    OP.aligned("RBX", secinfo, 64)
    OP.aligned("RCX", page, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", page)
    info = read_secinfo(OP, memory, secinfo, "RBX")
    check_reserved(OP, info)
    perm = info.flags & PERM_MASK
    if perm & SecinfoFlags.W and not perm & SecinfoFlags.R:
        raise OP.gp("SECINFO.W comes with SECINFO.R", "R, or no W", info.flags)

    # The page.
    OP.unlocked(cpu, "RCX", frame)
    OP.valid(cpu, "RCX", page, frame)
    if cpu.is_changing(frame):
        return OP.code(
            SgxError.EPC_PAGE_CONFLICT,
            "RCX is not being changed by another SGX2 leaf",
            "a page that no logical processor works on",
            f"EPC page {page:#x} is being changed",
            remedy="try again",
        )
    entry = cpu.epcm[frame]
    refused = check_changeable(OP, entry)
    if refused is not None:
        return refused
    if entry.pt != PageType.REG:
        raise OP.pf(page, "EPCM(RCX).PT is PT_REG", "PT_REG", f"PT_{PageType(entry.pt).name}")
    check_initialised(OP, cpu, entry)

    # Commit.
    state = cpu.owner(frame)
    entry.state |= int(EpcmState.PR)
    entry.perm &= perm
    entry.epoch = state.epoch
    state.store.changed()
    return SUCCESS


@encls_leaf(OP)
def run(cpu: Cpu, secs: EpcAddr, frames: Frames, perm: int) -> None:
    """EMODPR pages of one enclave for which no rule can fail; see :func:`~swsgx.cpu.encls.changing.clean_pages`.

    Args:
        secs: the enclave's SECS.
        frames: the pages.
        perm: R 1, W 2, X 4.

    Raises:
        InternalError: a rule would have failed.
    """
    clean = clean_pages(cpu, secs, frames, (PageType.REG,))
    invariant(clean == len(frames), "EMODPR: a run of pages that nothing refuses", clean=clean)
    state, columns = cpu.enclaves[cpu.epc.frame(secs)], cpu.epcm.columns
    columns["state"][frames] |= np.uint8(EpcmState.PR)
    columns["perm"][frames] &= np.uint8(perm)
    columns["epoch"][frames] = state.epoch
    state.store.changed()
