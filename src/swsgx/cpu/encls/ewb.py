"""EWB: write a page out of the EPC, encrypted. Source: SDM, "EWB"."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swsgx.cpu.encls.evicted import (
    SECS_EID,
    Slots,
    check_slot_page,
    flags_of,
    in_va_pages,
    is_enclave_page,
    operands,
    pointers,
    read_versions,
    write_versions,
)
from swsgx.cpu.epc import Frames
from swsgx.cpu.epcm import HOME_ENCLAVE
from swsgx.cpu.faults import SUCCESS, LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.cpu.pager import MAC_SIZE, headers, rows
from swsgx.cpu.store import all_differ
from swsgx.cpu.tracking import is_tracked
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType
from swsgx.isa.leaves import Encls
from swsgx.isa.structs import Pageinfo, Pcmd
from swsgx.native.abi import EpcmState

__all__ = ["ewb", "run"]

OP = Operation(Encls.EWB)

_BLOCKED = int(EpcmState.VALID | EpcmState.BLOCKED)
Bytes = npt.NDArray[np.uint8]


@encls_leaf(OP)
def ewb(cpu: Cpu, memory: LinearMemory, pageinfo: Linaddr, page: EpcAddr, slot: EpcAddr) -> LeafResult:
    """Encrypt a page into ordinary memory, keep its version in a slot, and free it.

    Args:
        memory: where PAGEINFO, PCMD and the destination are; all three are written.
        pageinfo: linear address of a PAGEINFO, 32-byte aligned (RBX): SRCPGE and PCMD given, the rest zero.
        page: the page, 4 KiB aligned (RCX): blocked and tracked, or a SECS without children, or a VA page.
        slot: a version slot, 8-byte aligned (RDX).

    Returns:
        Success; VA_SLOT_OCCUPIED (with CF), and the page is written out all the same; PAGE_NOT_BLOCKED,
        NOT_TRACKED; CHILD_PRESENT for a SECS whose enclave has pages in the EPC.

    Raises:
        GeneralProtection: misaligned, an operand not zero that must be, RDX inside RCX's page, or page in use.
        PageFault: an operand not in the EPC, not valid, not a VA page, or ordinary memory that cannot be used.
    """
    frame = operands(OP, cpu, pageinfo, page, slot)
    info = Pageinfo(OP.read(memory, "PAGEINFO", pageinfo, Pageinfo.size_of))
    if info.linaddr:
        raise OP.gp("PAGEINFO.LINADDR is 0", 0, info.linaddr)
    if info.secs:
        raise OP.gp("PAGEINFO.SECS is 0", 0, info.secs)
    pointers(OP, cpu, info, page, slot)
    if not cpu.epcm.valid(frame):
        raise OP.pf(page, "EPCM(RCX).VALID is 1", "a valid page", "a free page")
    check_slot_page(OP, cpu, slot)
    refused = _refusal(cpu, frame)
    if refused is not None:
        return refused

    row, pcmd = rows(1), np.zeros((1, Pcmd.size_of), np.uint8)
    version = _seal(cpu, frame, row, pcmd)
    address = cpu.epcm[frame].enclaveaddress
    OP.write(memory, "PAGEINFO.SRCPGE", Linaddr(info.srcpge), row[0, :PAGE_SIZE].tobytes())
    OP.write(memory, "PAGEINFO.PCMD", Linaddr(info.secinfo), pcmd[0].tobytes())
    OP.write(memory, "PAGEINFO", pageinfo, address.to_bytes(8, "little"))
    return _commit(cpu, frame, slot, version)


def _refusal(cpu: Cpu, frame: int) -> LeafResult | None:
    """Why a valid page may not be written out now."""
    entry = cpu.epcm[frame]
    if entry.pt == PageType.VA:
        return None
    if entry.pt == PageType.SECS:
        children = cpu.enclaves[frame].children
        if not children:
            return None
        return OP.code(
            SgxError.CHILD_PRESENT,
            "no page of the enclave is in the EPC",
            "no child",
            f"{children} children",
        )
    if not entry.state & EpcmState.BLOCKED:
        return OP.code(
            SgxError.PAGE_NOT_BLOCKED, "the page is blocked", "BLOCKED = 1", "BLOCKED = 0", remedy="EBLOCK"
        )
    state = cpu.owner(frame)
    if not is_tracked(cpu.tracker, state, entry.epoch):
        return OP.code(
            SgxError.NOT_TRACKED,
            "an ETRACK came after EBLOCK, and whoever was inside has left",
            f"an epoch after {entry.epoch} with nobody inside from before",
            f"epoch {state.epoch}, {cpu.tracker.stragglers(state)} inside from before",
            remedy="ETRACK, and interrupt the processors that run the enclave",
        )
    return None


def _seal(cpu: Cpu, frame: int, row: Bytes, pcmd: Bytes) -> int:
    """Fill the row and the PCMD of any page; its version."""
    entry = cpu.epcm[frame]
    contents, eid, owner = cpu.page(frame), 0, 0
    if entry.pt == PageType.SECS:
        owner = cpu.enclaves[frame].eid
        private = bytearray(contents)
        private[SECS_EID] = owner.to_bytes(8, "little")
        contents = memoryview(private)
    elif entry.pt != PageType.VA:
        state = cpu.owner(frame)
        eid = owner = state.eid
        if entry.home == HOME_ENCLAVE:
            room = np.empty((1, PAGE_SIZE), np.uint8)
            contents = state.store.leaving(np.array([cpu.offset_of(frame)], np.uint64), room)[0]
    flags = flags_of(cpu.epcm.columns[frame : frame + 1])
    version = cpu.pager.next_versions(1)
    linaddr = np.array([entry.enclaveaddress], np.uint64)
    cpu.pager.seal(version, [contents], headers(flags, eid, linaddr), row)
    _fill(pcmd, flags, owner, row)
    return int(version[0])


def _fill(pcmds: Bytes, flags: npt.NDArray[np.uint64], owner: int, sealed: Bytes) -> None:
    pcmds[:] = 0
    words = pcmds.view(np.uint64)
    words[:, 0] = flags
    words[:, Pcmd.enclaveid.offset // 8] = owner
    pcmds[:, Pcmd.mac.offset :] = sealed[:, -MAC_SIZE:]


def _commit(cpu: Cpu, frame: int, slot: EpcAddr, version: int) -> LeafResult:
    """The page is in ordinary memory: keep its version and free it."""
    where = np.array([slot], np.uint64)
    old = int(read_versions(cpu, where)[0])
    write_versions(cpu, where, version)
    page_type = cpu.epcm[frame].pt
    if page_type == PageType.SECS:
        state = cpu.enclaves.pop(frame)
        cpu.written_out[state.eid] = state
        cpu.epcm.clear(frame)
    elif page_type == PageType.VA:
        cpu.epcm.clear(frame)
    else:
        state, offset = cpu.owner(frame), cpu.offset_of(frame)
        home = cpu.epcm[frame].home
        cpu.epcm.clear(frame)
        if home == HOME_ENCLAVE:
            state.store.forget(offset, PAGE_SIZE)
        state.tcs.discard(frame)
        state.children -= 1
        state.store.changed()
    if old:
        return OP.code(SgxError.VA_SLOT_OCCUPIED, "the version slot was empty", 0, f"version {old}")
    return SUCCESS


@encls_leaf(OP)
def run(
    cpu: Cpu, secs: EpcAddr, frames: Frames, slots: Slots, sealed: Bytes, pcmds: Bytes
) -> tuple[int, LeafResult]:
    """EWB pages of one enclave: the same checks and results, and no step for a page but the cipher's.

    Args:
        secs: the enclave's SECS.
        frames: the pages: valid REG, TCS or TRIM pages; quickest in the order of their addresses.
        slots: EPC addresses of a version slot for each.
        sealed: gets a row for each (:func:`swsgx.cpu.pager.rows`): the page, encrypted, then its MAC.
        pcmds: gets 128 bytes for each: its PCMD, MAC included.

    Returns:
        How many pages were written out; and what the next one was refused with, or success.

    Raises:
        PageFault: a page is not valid, or a slot is not in a VA page; those before it were written out.
    """
    secs_frame = cpu.epc.frame(secs)
    done = 0
    while done < len(frames):
        clean = _unquestioned(cpu, secs_frame, frames[done:], slots[done:])
        if clean:
            end = done + clean
            _run_clean(cpu, secs_frame, frames[done:end], slots[done:end], sealed[done:end], pcmds[done:end])
            done = end
            continue
        frame, slot = int(frames[done]), EpcAddr(int(slots[done]))
        OP.unlocked(cpu, "RCX", frame)
        OP.unlocked(cpu, "RDX", cpu.epc.frame(slot))
        if not cpu.epcm.valid(frame):
            raise OP.pf(cpu.epc.address(frame), "EPCM(RCX).VALID is 1", "a valid page", "a free page")
        check_slot_page(OP, cpu, slot)
        refused = _refusal(cpu, frame)
        if refused is not None:
            return done, refused
        version = _seal(cpu, frame, sealed[done : done + 1], pcmds[done : done + 1])
        _commit(cpu, frame, slot, version)
        done += 1
    return done, SUCCESS


def _unquestioned(cpu: Cpu, secs: int, frames: Frames, slots: Slots) -> int:
    """For how many leading pages no rule of EWB can fail or inform, and contents are in the enclave's store."""
    if cpu.any_locked() or not cpu.is_secs(secs):
        return 0
    found = cpu.epcm.columns[frames]
    good = (found["state"] & _BLOCKED == _BLOCKED) & (found["secs"] == secs) & is_enclave_page(found["pt"])
    good &= (found["home"] == HOME_ENCLAVE) & in_va_pages(cpu, slots)
    good &= read_versions(cpu, slots) == 0
    if not good[0] or not all_differ(slots) or not all_differ(frames):
        return 0
    state, epochs = cpu.enclaves[secs], found["epoch"]
    for epoch in np.unique(epochs[good]).tolist():
        if not is_tracked(cpu.tracker, state, epoch):
            good &= epochs != epoch
    return len(good) if good.all() else int(np.argmin(good))


def _run_clean(cpu: Cpu, secs: int, frames: Frames, slots: Slots, sealed: Bytes, pcmds: Bytes) -> None:
    state = cpu.enclaves[secs]
    found = cpu.epcm.columns[frames]
    flags, addresses = flags_of(found), found["enclaveaddress"]
    offsets = addresses - np.uint64(state.store.head.baseaddr)
    versions = cpu.pager.next_versions(len(frames))
    with cpu.scratch.table(len(frames), PAGE_SIZE) as room:
        pages = state.store.leaving(offsets, room)
        cpu.pager.seal(versions, pages, headers(flags, state.eid, addresses), sealed)
    _fill(pcmds, flags, state.eid, sealed)

    write_versions(cpu, slots, versions)
    cpu.epcm.clear(frames)
    state.store.forget_pages(offsets)
    # Also those that were TCSs until they were trimmed.
    state.tcs.difference_update(frames.tolist() if state.tcs else ())
    state.children -= len(frames)
    state.store.changed()
