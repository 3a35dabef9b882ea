"""EADD: add a page to an enclave under construction. Source: SDM, "EADD"; :func:`run` also "EEXTEND".

:func:`run` is EADD, with or without its sixteen EEXTEND, over many pages. It makes no step for a page in
Python: pages for which no rule can fail are copied, measured and mapped by the block, and the first page for
which one could is handed to the single leaf, which then says what is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from swsgx.cpu.encls.eextend import extend_page
from swsgx.cpu.encls.secinfo import check_secinfo, read_secinfo
from swsgx.cpu.encls.tcs import check_limits, check_reserved
from swsgx.cpu.epc import Frames
from swsgx.cpu.epcm import HOME_ENCLAVE, HOME_EPC, is_consecutive
from swsgx.cpu.faults import PageFault
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr, is_aligned
from swsgx.isa.flags import (
    PERM_MASK,
    Attributes,
    PageType,
    SecinfoFlags,
    TcsFlags,
    page_type_of,
    secinfo_flags,
)
from swsgx.isa.leaves import Encls
from swsgx.isa.structs import Pageinfo, Secinfo, Tcs
from swsgx.native.abi import EpcmState

__all__ = ["BLOCK_PAGES", "PageSource", "eadd", "run"]

OP = Operation(Encls.EADD)

#: Pages that :func:`run` copies and measures at a time: 512 KiB, about what a second-level cache holds.
BLOCK_PAGES = 128


class PageSource(Protocol):
    """The pages that :func:`run` adds, one after another; whoever has them knows how to move them fast."""

    def copy_to_file(self, fd: int, file_offset: int, position: int, size: int) -> int:
        """Write source bytes ``position`` to ``position + size`` into a file.

        Returns:
            How many bytes were written; less than ``size`` where the source cannot be read further.
        """
        ...

    def read(self, position: int, size: int) -> bytes:
        """The same bytes, as a copy.

        Raises:
            PageFault: the source cannot be read there.
        """
        ...


@encls_leaf(OP)
def eadd(cpu: Cpu, memory: LinearMemory, pageinfo: Linaddr, page: EpcAddr) -> None:
    """Copy one page into the EPC for an enclave under construction, and extend MRENCLAVE with its SECINFO.

    EADD has no error code: it succeeds or faults. A second page at one LINADDR is not refused.

    Args:
        memory: where PAGEINFO, SECINFO and the source page are.
        pageinfo: linear address of a PAGEINFO, 32-byte aligned (RBX).
        page: an EPC page that is not yet valid, 4 KiB aligned (RCX).

    Raises:
        GeneralProtection: misaligned operand, reserved bit set, LINADDR outside ELRANGE, enclave initialised.
        PageFault: operand not readable, page already valid, or SECS not a valid SECS page.
    """
    OP.aligned("RBX", pageinfo, 32)
    OP.aligned("RCX", page, PAGE_SIZE)
    OP.in_epc(cpu, "RCX", page)
    info = Pageinfo(OP.read(memory, "PAGEINFO", pageinfo, Pageinfo.size_of))
    OP.aligned("PAGEINFO.SRCPGE", info.srcpge, PAGE_SIZE)
    OP.aligned("PAGEINFO.SECS", info.secs, PAGE_SIZE)
    OP.aligned("PAGEINFO.SECINFO", info.secinfo, 64)
    OP.aligned("PAGEINFO.LINADDR", info.linaddr, PAGE_SIZE)
    OP.in_epc(cpu, "PAGEINFO.SECS", EpcAddr(info.secs))
    secinfo = read_secinfo(OP, memory, Linaddr(info.secinfo))
    _add(
        cpu,
        EpcAddr(info.secs),
        page,
        Linaddr(info.linaddr),
        secinfo,
        lambda: OP.read(memory, "PAGEINFO.SRCPGE", Linaddr(info.srcpge), PAGE_SIZE),
    )


def _add(
    cpu: Cpu, secs: EpcAddr, page: EpcAddr, linaddr: Linaddr, secinfo: Secinfo, source: Callable[[], bytes]
) -> None:
    """EADD from the check of SECINFO on; addresses are aligned and in the EPC."""
    check_secinfo(OP, secinfo, (PageType.REG, PageType.TCS))
    frame, secs_frame = cpu.epc.frame(page), cpu.epc.frame(secs)

    # The pages.
    OP.unlocked(cpu, "RCX", frame)
    if cpu.epcm.valid(frame):
        raise OP.pf(page, "EPCM(RCX).VALID is 0", "a free page", "a valid page")
    OP.unlocked(cpu, "PAGEINFO.SECS", secs_frame)
    if not cpu.is_secs(secs_frame):
        raise OP.pf(secs, "PAGEINFO.SECS is a valid SECS page", "VALID=1, PT_SECS", "another page, or none")

    # The data.
    data = source()
    page_type = PageType(page_type_of(secinfo.flags))
    perm = secinfo.flags & PERM_MASK
    attributes = cpu.secs(secs_frame).attributes
    if page_type is PageType.TCS:
        data = _tcs(data, Attributes(attributes))
        perm = 0
    elif perm & SecinfoFlags.W and not perm & SecinfoFlags.R:
        raise OP.gp("SECINFO.W of a REG page comes with SECINFO.R", "R, or no W", secinfo.flags)
    state = cpu.enclaves[secs_frame]
    head = state.store.head
    base, size = head.baseaddr, head.size
    if not base <= linaddr < base + size:
        raise OP.gp(
            "PAGEINFO.LINADDR is inside ELRANGE", f"{base:#x}-{base + size:#x} (enclave {state.eid})", linaddr
        )
    if cpu.is_measuring(secs_frame):
        raise OP.gp(
            "no other leaf extends the measurement",
            "MRENCLAVE not in use",
            "MRENCLAVE in use",
            remedy="try again",
        )
    if attributes & Attributes.INIT:
        raise OP.gp("the enclave is not initialised", "ATTRIBUTES.INIT = 0", "ATTRIBUTES.INIT = 1")

    # Commit.
    offset = linaddr - base
    index = offset // PAGE_SIZE
    second = bool(state.store.frame_map[index])
    if second:
        cpu.epc.page(frame)[:] = data
    else:
        state.store.page(offset)[:] = data
        state.store.frame_map[index] = frame + 1
    state.measurement.eadd(offset, secinfo_flags(page_type, perm))
    cpu.epcm.set(
        frame,
        address=linaddr,
        secs=secs_frame,
        pt=page_type,
        perm=perm,
        state=EpcmState.VALID,
        home=HOME_EPC if second else HOME_ENCLAVE,
    )
    state.children += 1
    if page_type is PageType.TCS:
        state.tcs.add(frame)
    state.store.changed()


def _tcs(data: bytes, attributes: Attributes) -> bytes:
    """Check a TCS source page; returns what goes into the EPC."""
    tcs = Tcs(bytearray(data))
    check_reserved(OP, tcs)
    check_limits(OP, tcs, attributes)
    tcs.flags &= ~int(TcsFlags.DBGOPTIN)
    tcs.cssa = 0
    tcs.aep = 0
    tcs.state = 0
    return bytes(tcs)


#: Asked by :func:`run` after a block is copied and before it is part of the enclave: position and bytes; how
#: many leading pages of it to go on with.
Admit = Callable[[int, memoryview], int]


@encls_leaf(OP)
def run(
    cpu: Cpu,
    secs: EpcAddr,
    frames: Frames,
    linaddr: Linaddr,
    secinfo: Secinfo,
    source: PageSource,
    measured: bool,
    admit: Admit | None = None,
) -> int:
    """EADD pages that follow each other, each with its sixteen EEXTEND if measured: the same checks and results.

    Args:
        secs: the enclave's SECS.
        frames: one free EPC frame for each page, in the order of the pages.
        linaddr: of the first page.
        secinfo: of every page.
        source: the pages; position 0 is the first byte of the first one.
        measured: whether each page is extended into MRENCLAVE.
        admit: asked before pages become part of the enclave.

    Returns:
        How many pages were added: fewer than frames if the source ends or ``admit`` stops.

    Raises:
        GeneralProtection, PageFault: as :func:`eadd`, from the first page that a rule refuses, after the pages
            before it were added. A page whose source cannot be read is no fault here but the end.
    """
    total = len(frames)
    done = 0
    while done < total:
        clean = _unquestioned(cpu, secs, frames[done:], Linaddr(linaddr + done * PAGE_SIZE), secinfo)
        if clean:
            added = _run_clean(
                cpu, secs, frames, linaddr, secinfo, source, measured, admit, done, done + clean
            )
            done += added
            if added < clean:
                return done
            continue
        position = done * PAGE_SIZE
        page = cpu.epc.address(int(frames[done]))
        at = Linaddr(linaddr + position)
        for operand, address in (("PAGEINFO.SECS", secs), ("PAGEINFO.LINADDR", at)):
            OP.aligned(operand, address, PAGE_SIZE)
        OP.in_epc(cpu, "PAGEINFO.SECS", secs)
        try:
            _add(cpu, secs, page, at, secinfo, functools.partial(_fetch, source, position, admit))
        except _Ended:
            return done
        done += 1
        if measured:
            extend_page(cpu, secs, page)
    return done


class _Ended(Exception):
    """The source cannot be read, or whoever admits pages says stop; no fault of the leaf."""


def _fetch(source: PageSource, position: int, admit: Admit | None) -> bytes:
    try:
        data = source.read(position, PAGE_SIZE)
    except PageFault as fault:
        raise _Ended from fault
    if admit is not None and not admit(position, memoryview(data)):
        raise _Ended
    return data


def _unquestioned(cpu: Cpu, secs: EpcAddr, frames: Frames, linaddr: Linaddr, secinfo: Secinfo) -> int:
    """For how many leading pages no rule of EADD or EEXTEND can fail, and contents need no change: REG pages only."""
    if not cpu.epc.contains(secs) or not is_aligned(secs, PAGE_SIZE) or not is_aligned(linaddr, PAGE_SIZE):
        return 0
    secs_frame = cpu.epc.frame(secs)
    flags = secinfo.flags
    perm = flags & PERM_MASK
    if flags != secinfo_flags(PageType.REG, perm) or secinfo.first_nonzero_reserved() is not None:
        return 0
    if perm & SecinfoFlags.W and not perm & SecinfoFlags.R:
        return 0
    if cpu.any_locked() or not cpu.is_secs(secs_frame):
        return 0
    if cpu.is_measuring(secs_frame) or cpu.initialised(secs_frame):
        return 0
    head = cpu.enclaves[secs_frame].store.head
    offset = linaddr - head.baseaddr
    if not 0 <= offset < head.size:
        return 0
    count = min(len(frames), (head.size - offset) // PAGE_SIZE)
    first = offset // PAGE_SIZE
    taken = cpu.enclaves[secs_frame].store.frame_map[first : first + count] != 0
    taken |= cpu.epcm.columns["state"][frames[:count]] & EpcmState.VALID != 0
    count = int(np.argmax(taken)) if taken.any() else count
    if is_consecutive(frames[:count]) or len(np.unique(frames[:count])) == count:
        return count
    return min(1, count)


def _run_clean(
    cpu: Cpu,
    secs: EpcAddr,
    frames: Frames,
    linaddr: Linaddr,
    secinfo: Secinfo,
    source: PageSource,
    measured: bool,
    admit: Admit | None,
    first: int,
    end: int,
) -> int:
    """Add pages ``first`` to ``end`` of a run, for which no rule can fail; how many until the source ended."""
    secs_frame = cpu.epc.frame(secs)
    state = cpu.enclaves[secs_frame]
    store, fd = state.store, state.store.contents.fd
    start = linaddr - store.head.baseaddr
    done = first
    while done < end:
        # Who admits pages is asked less often.
        count = min(BLOCK_PAGES if admit is None else 2 * BLOCK_PAGES, end - done)
        position = done * PAGE_SIZE
        offset = start + position
        copied = source.copy_to_file(fd, offset, position, count * PAGE_SIZE) // PAGE_SIZE
        contents = store.contents.view[offset : offset + copied * PAGE_SIZE]
        admitted = copied if admit is None or not copied else admit(position, contents)
        if admitted:
            measurable = contents[: admitted * PAGE_SIZE] if measured else None
            state.measurement.eadd_run(offset, secinfo.flags, measurable, admitted, measured)
            done += admitted
        if admitted < count:
            # What was copied beyond belongs to nobody: it must read as zero when a page is added there some day.
            store.contents.punch(offset + admitted * PAGE_SIZE, (count - admitted) * PAGE_SIZE)
            break
    added = frames[first:done]
    if len(added):
        address = linaddr + first * PAGE_SIZE
        perm = secinfo.flags & PERM_MASK
        index = (start + first * PAGE_SIZE) // PAGE_SIZE
        store.frame_map[index : index + len(added)] = added + np.uint32(1)
        cpu.epcm.set_run(added, first_address=address, secs=secs_frame, pt=PageType.REG, perm=perm)
        state.children += len(added)
        store.changed()
    return done - first
