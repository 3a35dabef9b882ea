"""EAUG: add a zero page to an initialised enclave. Source: SDM, "EAUG"; :func:`run` does it to many at once."""

from __future__ import annotations

import numpy as np

from swsgx.cpu.epc import Frames
from swsgx.cpu.epcm import HOME_ENCLAVE, HOME_EPC
from swsgx.cpu.faults import invariant
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import PageType, SecinfoFlags
from swsgx.isa.leaves import Encls
from swsgx.isa.structs import Pageinfo
from swsgx.native.abi import EpcmState

__all__ = ["eaug", "run"]

OP = Operation(Encls.EAUG)

_STATE = EpcmState.VALID | EpcmState.PENDING
_PERM = int(SecinfoFlags.R | SecinfoFlags.W)


@encls_leaf(OP)
def eaug(cpu: Cpu, memory: LinearMemory, pageinfo: Linaddr, page: EpcAddr) -> None:
    """Add a zero page, REG with R and W, that nobody can use before the enclave has accepted it. It is not measured.

    EAUG has no error code: it succeeds or faults. A second page at one LINADDR is not refused.

    Args:
        memory: where PAGEINFO is.
        pageinfo: linear address of a PAGEINFO, 32-byte aligned (RBX). SECINFO and SRCPGE are 0.
        page: an EPC page that is not yet valid, 4 KiB aligned (RCX).

    Raises:
        GeneralProtection: misaligned operand, a SECINFO (shadow stacks only, and this processor has no CET) or a
            SRCPGE, LINADDR outside ELRANGE, enclave not initialised.
        PageFault: operand not readable, page already valid, or SECS not a valid SECS page.
    """
    # Operands.
    OP.aligned("RBX", pageinfo, 32)
    OP.aligned("RCX", page, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", page)
    info = Pageinfo(OP.read(memory, "PAGEINFO", pageinfo, Pageinfo.size_of))
    OP.aligned("PAGEINFO.SECINFO", info.secinfo, 64)
    if info.secinfo:
        raise OP.gp("PAGEINFO.SECINFO is 0 on a processor without CET", 0, info.secinfo)
    OP.aligned("PAGEINFO.SECS", info.secs, PAGE_SIZE)
    OP.aligned("PAGEINFO.LINADDR", info.linaddr, PAGE_SIZE)
    if info.srcpge:
        raise OP.gp("PAGEINFO.SRCPGE is 0", 0, info.srcpge)
    secs = EpcAddr(info.secs)
    secs_frame = OP.in_epc(cpu, "PAGEINFO.SECS", secs)

    # The pages.
    OP.unlocked(cpu, "RCX", frame)
    if cpu.epcm.valid(frame):
        raise OP.pf(page, "EPCM(RCX).VALID is 0", "a free page", "a valid page")
    OP.unlocked(cpu, "PAGEINFO.SECS", secs_frame)
    if not cpu.is_secs(secs_frame):
        raise OP.pf(secs, "PAGEINFO.SECS is a valid SECS page", "VALID=1, PT_SECS", "another page, or none")
    if not cpu.initialised(secs_frame):
        raise OP.gp(
            "the enclave is initialised",
            "ATTRIBUTES.INIT = 1",
            "ATTRIBUTES.INIT = 0",
            remedy="run EINIT first",
        )
    state = cpu.enclaves[secs_frame]
    base, size = state.store.head.baseaddr, state.store.head.size
    if not base <= info.linaddr < base + size:
        raise OP.gp(
            "PAGEINFO.LINADDR is inside ELRANGE",
            f"{base:#x}-{base + size:#x} (enclave {state.eid})",
            info.linaddr,
        )

    # Commit.
    offset = info.linaddr - base
    second = bool(state.store.frame_map[offset // PAGE_SIZE])
    if second:
        cpu.epc.page(frame)[:] = bytes(PAGE_SIZE)
    else:
        state.store.clear(offset, PAGE_SIZE)
    cpu.epcm.set(
        frame,
        address=info.linaddr,
        secs=secs_frame,
        pt=PageType.REG,
        perm=_PERM,
        state=_STATE,
        home=HOME_EPC if second else HOME_ENCLAVE,
    )
    if not second:
        state.store.frame_map[offset // PAGE_SIZE] = frame + 1
    state.children += 1
    state.store.changed()


@encls_leaf(OP)
def run(cpu: Cpu, secs: EpcAddr, frames: Frames, linaddr: Linaddr) -> None:
    """EAUG pages that follow each other, where no rule can fail: no step for a page in Python.

    Args:
        secs: an initialised enclave's SECS.
        frames: one free EPC frame for each page, in the order of the pages.
        linaddr: of the first page; there is no page at any of the addresses, which are all in ELRANGE.

    Raises:
        InternalError: a rule would have failed.
    """
    secs_frame = cpu.epc.frame(secs)
    invariant(cpu.is_secs(secs_frame) and cpu.initialised(secs_frame), "EAUG: of an initialised enclave")
    state = cpu.enclaves[secs_frame]
    head, count = state.store.head, len(frames)
    offset, length = linaddr - head.baseaddr, count * PAGE_SIZE
    invariant(
        not linaddr % PAGE_SIZE and 0 <= offset <= head.size - length,
        "EAUG: pages inside ELRANGE",
        address=hex(linaddr),
        count=count,
    )
    first = offset // PAGE_SIZE
    invariant(not state.store.frame_map[first : first + count].any(), "EAUG: where no page is", first=first)
    invariant(not cpu.epcm.any_valid(frames) and not cpu.any_locked(), "EAUG: of free pages", count=count)
    state.store.clear(offset, length)
    cpu.epcm.set_run(
        frames, first_address=linaddr, secs=secs_frame, pt=PageType.REG, perm=_PERM, state=_STATE
    )
    state.store.frame_map[first : first + count] = frames + np.uint32(1)
    state.children += count
    state.store.changed()
