"""EMODT: make a page of a running enclave a TCS, or trim it. Source: SDM, "EMODT"."""

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
from swsgx.isa.flags import PageType, page_type_of
from swsgx.isa.leaves import Encls
from swsgx.native.abi import EpcmState

__all__ = ["ALLOWED", "emodt", "run"]

OP = Operation(Encls.EMODT)

#: Page types that can become another one, by that other one.
ALLOWED = {PageType.TCS: (PageType.REG,), PageType.TRIM: (PageType.REG, PageType.TCS)}


@encls_leaf(OP)
def emodt(cpu: Cpu, memory: LinearMemory, secinfo: Linaddr, page: EpcAddr) -> LeafResult:
    """Change a page's type. Its permissions are gone at once, its contents stay; EACCEPT acknowledges it.

    Permissions and state bits of SECINFO are not looked at.

    Args:
        memory: where SECINFO is.
        secinfo: linear address of a SECINFO with PT_TCS or PT_TRIM, 64-byte aligned (RBX).
        page: 4 KiB aligned (RCX).

    Returns:
        Success; EPC_PAGE_CONFLICT while another leaf uses the page; PAGE_NOT_MODIFIABLE for one that is PENDING or
        MODIFIED.

    Raises:
        GeneralProtection: misaligned operand, reserved bit set, another page type, enclave not initialised.
        PageFault: SECINFO not readable; RCX not in the EPC, not valid, or of a type that cannot become the other.
    """
    # Operands.
    OP.aligned("RBX", secinfo, 64)
    OP.aligned("RCX", page, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", page)
    info = read_secinfo(OP, memory, secinfo, "RBX")
    check_reserved(OP, info)
    wanted = page_type_of(info.flags)
    if wanted not in (PageType.TCS, PageType.TRIM):
        raise OP.gp("SECINFO.PAGE_TYPE is PT_TCS or PT_TRIM", "PT_TCS or PT_TRIM", wanted)

    # The page.
    if cpu.is_locked(frame) or cpu.is_changing(frame):
        return OP.code(
            SgxError.EPC_PAGE_CONFLICT,
            "RCX is not in use by another leaf",
            "a page that no logical processor works on",
            f"EPC page {page:#x} is locked",
            remedy="try again",
        )
    OP.valid(cpu, "RCX", page, frame)
    entry = cpu.epcm[frame]
    sources = ALLOWED[PageType(wanted)]
    if entry.pt not in sources:
        expected = " or ".join(f"PT_{t.name}" for t in sources)
        rule = f"EPCM(RCX).PT is one that can become PT_{PageType(wanted).name}"
        raise OP.pf(page, rule, expected, f"PT_{PageType(entry.pt).name}")
    refused = check_changeable(OP, entry)
    if refused is not None:
        return refused
    check_initialised(OP, cpu, entry)

    # Commit. A REG page is no TCS that somebody could be inside with before it is accepted.
    state = cpu.owner(frame)
    entry.perm = 0
    entry.pt = wanted
    entry.state = EpcmState.VALID | EpcmState.MODIFIED | entry.state & EpcmState.BLOCKED
    entry.epoch = state.epoch
    state.store.changed()
    return SUCCESS


@encls_leaf(OP)
def run(cpu: Cpu, secs: EpcAddr, frames: Frames, page_type: PageType) -> None:
    """EMODT pages of one enclave for which no rule can fail; see :func:`~swsgx.cpu.encls.changing.clean_pages`.

    Args:
        secs: the enclave's SECS.
        frames: the pages, of types that :data:`ALLOWED` has.
        page_type: TCS or TRIM.

    Raises:
        InternalError: a rule would have failed.
    """
    clean = clean_pages(cpu, secs, frames, ALLOWED[page_type])
    invariant(clean == len(frames), "EMODT: a run of pages that nothing refuses", clean=clean)
    state, columns = cpu.enclaves[cpu.epc.frame(secs)], cpu.epcm.columns
    columns["perm"][frames] = 0
    columns["pt"][frames] = int(page_type)
    kept = columns["state"][frames] & np.uint8(EpcmState.BLOCKED)
    columns["state"][frames] = kept | np.uint8(EpcmState.VALID | EpcmState.MODIFIED)
    columns["epoch"][frames] = state.epoch
    state.store.changed()
