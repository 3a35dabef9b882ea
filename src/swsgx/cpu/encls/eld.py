"""What ELDB and ELDU have in common: nearly all. Source: SDM, "ELDB/ELDU/ELDBC/ELDUC"."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swsgx.cpu.encls.evicted import (
    ENCLAVE_TYPES,
    SECS_EID,
    STATE_SHIFT,
    Slots,
    check_slot_page,
    in_va_pages,
    is_enclave_page,
    operands,
    pointers,
    read_versions,
    write_versions,
)
from swsgx.cpu.epc import Frames
from swsgx.cpu.epcm import HOME_ENCLAVE, HOME_EPC
from swsgx.cpu.faults import SUCCESS, LeafResult, invariant
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation
from swsgx.cpu.pager import headers, mac_header, rows
from swsgx.cpu.store import all_differ, consecutive
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PERM_MASK, PageType, SecinfoFlags, page_type_of
from swsgx.isa.structs import Pageinfo, Pcmd
from swsgx.native.abi import EpcmState

__all__ = ["load", "load_run"]

_KEPT = int(SecinfoFlags.PENDING | SecinfoFlags.MODIFIED | SecinfoFlags.PR)
#: PCMD in 8-byte words: SECINFO.FLAGS, the rest of SECINFO, and the reserved words.
_FLAGS, _MUST_BE_ZERO = 0, [*range(1, 8), *range(9, 14)]
_FLAGS_KNOWN = 0xFF00 | PERM_MASK | _KEPT
Bytes = npt.NDArray[np.uint8]


def load(
    operation: Operation,
    cpu: Cpu,
    memory: LinearMemory,
    pageinfo: Linaddr,
    page: EpcAddr,
    slot: EpcAddr,
    *,
    blocked: bool,
) -> LeafResult:
    """ELDB (``blocked``) or ELDU of one page."""
    frame = operands(operation, cpu, pageinfo, page, slot)
    info = Pageinfo(operation.read(memory, "PAGEINFO", pageinfo, Pageinfo.size_of))
    pointers(operation, cpu, info, page, slot)
    if cpu.epcm.valid(frame):
        raise operation.pf(page, "EPCM(RCX).VALID is 0", "a free page", "a valid page")
    check_slot_page(operation, cpu, slot)
    pcmd = Pcmd(operation.read(memory, "PAGEINFO.PCMD", Linaddr(info.secinfo), Pcmd.size_of))
    secs = _owner(operation, cpu, info, pcmd)
    contents = operation.read(memory, "PAGEINFO.SRCPGE", Linaddr(info.srcpge), PAGE_SIZE)
    return _load(operation, cpu, secs, frame, slot, info.linaddr, contents, pcmd, blocked=blocked)


def _owner(operation: Operation, cpu: Cpu, info: Pageinfo, pcmd: Pcmd) -> int | None:
    """The frame of the owner's SECS; None for a SECS or VA page, which have none."""
    page_type = page_type_of(pcmd.secinfo.flags)
    if page_type in ENCLAVE_TYPES:
        operation.aligned("PAGEINFO.SECS", info.secs, PAGE_SIZE)
        secs = operation.in_epc(cpu, "PAGEINFO.SECS", EpcAddr(info.secs))
        operation.unlocked(cpu, "PAGEINFO.SECS", secs)
        if not cpu.is_secs(secs):
            raise operation.pf(
                info.secs, "PAGEINFO.SECS is a valid SECS page", "VALID=1, PT_SECS", "another page, or none"
            )
        return secs
    if page_type not in (PageType.SECS, PageType.VA):
        raise operation.gp(
            "PCMD.SECINFO.PAGE_TYPE is one that EWB writes", "SECS, TCS, REG, VA or TRIM", page_type
        )
    if info.secs:
        raise operation.gp("PAGEINFO.SECS of a SECS or VA page is 0", 0, info.secs)
    return None


def _load(
    operation: Operation,
    cpu: Cpu,
    secs: int | None,
    frame: int,
    slot: EpcAddr,
    linaddr: int,
    contents: bytes,
    pcmd: Pcmd,
    *,
    blocked: bool,
) -> LeafResult:
    """The MAC, and what follows if it is right."""
    where = np.array([slot], np.uint64)
    eid = cpu.enclaves[secs].eid if secs is not None else 0
    row, data = rows(1), np.empty((1, PAGE_SIZE), np.uint8)
    row[0] = np.frombuffer(contents + pcmd.mac, np.uint8)
    aad = np.frombuffer(mac_header(pcmd, eid, linaddr).buffer, np.uint8).reshape(1, -1)
    versions = read_versions(cpu, where)
    if not cpu.pager.unseal(versions, row, aad, data):
        return mismatch(operation, linaddr, int(versions[0]))

    # Commit.
    write_versions(cpu, where, 0)
    flags = pcmd.secinfo.flags
    page_type = PageType(page_type_of(flags))
    state = EpcmState.VALID | EpcmState((flags & _KEPT) >> STATE_SHIFT)
    if secs is not None and blocked:
        state |= EpcmState.BLOCKED
    home = _place(cpu, secs, frame, linaddr, page_type, data[0])
    cpu.epcm.set(
        frame,
        address=linaddr,
        secs=secs if secs is not None else frame if page_type is PageType.SECS else 0,
        pt=page_type,
        perm=flags & PERM_MASK,
        state=state,
        home=home,
    )
    if secs is not None:
        owner = cpu.enclaves[secs]
        cpu.epcm[frame].epoch = owner.epoch if blocked else 0
        owner.children += 1
        if page_type is PageType.TCS and not state & EpcmState.MODIFIED:  # else EACCEPT makes it one
            owner.tcs.add(frame)
        owner.store.changed()
    return SUCCESS


def _place(cpu: Cpu, secs: int | None, frame: int, linaddr: int, page_type: PageType, data: Bytes) -> int:
    """Put the contents where they belong; :attr:`~swsgx.native.abi.EpcmEntry.home`."""
    if secs is not None:
        store = cpu.enclaves[secs].store
        offset = linaddr - store.head.baseaddr
        if not store.frame_map[offset // PAGE_SIZE]:
            store.fill(offset, data.data)
            store.frame_map[offset // PAGE_SIZE] = frame + 1
            return HOME_ENCLAVE
    elif page_type is PageType.SECS:
        eid = int.from_bytes(data[SECS_EID].tobytes(), "little")
        data[SECS_EID] = 0
        invariant(eid in cpu.written_out, "ELD: a SECS whose version is right was written out", eid=eid)
        state = cpu.written_out.pop(eid)
        state.frame = frame
        state.store.head.secs_frame = frame
        cpu.enclaves[frame] = state
        state.store.changed()
    cpu.epc.page(frame)[:] = data.data
    return HOME_EPC


def mismatch(operation: Operation, linaddr: int, version: int) -> LeafResult:
    """The MAC is wrong."""
    return operation.code(
        SgxError.MAC_COMPARE_FAIL,
        "the page, its PCMD, address and owner are what EWB wrote with this version",
        f"the MAC of version {version}",
        f"another, for the page at {linaddr:#x}",
        remedy="the backing store was changed, or an old version or another page was put there",
    )


def load_run(
    operation: Operation,
    cpu: Cpu,
    secs: EpcAddr,
    frames: Frames,
    slots: Slots,
    linaddrs: npt.NDArray[np.uint64],
    sealed: Bytes,
    pcmds: Bytes,
    *,
    blocked: bool,
) -> tuple[int, LeafResult]:
    """Load pages of one enclave: the same checks and results, and no step for a page but the cipher's.

    Args:
        operation: ELDB's or ELDU's.
        cpu: the machine.
        secs: the enclave's SECS.
        frames: a free EPC page for each.
        slots: EPC addresses of their version slots.
        linaddrs: their addresses; quickest in ascending order.
        sealed: rows as :func:`swsgx.cpu.encls.ewb.run` fills them; the MAC is taken from PCMD.
        pcmds: 128 bytes each.
        blocked: the pages come back blocked.

    Returns:
        How many were loaded; and what the next one was refused with, or success.

    Raises:
        GeneralProtection, PageFault: as the single leaf, for the first page that is refused so; those before
            it were loaded.
    """
    pcmds = np.ascontiguousarray(pcmds)
    sealed[:, PAGE_SIZE:] = pcmds[:, Pcmd.mac.offset :]
    clean = _unquestioned(cpu, secs, frames, slots, linaddrs, pcmds)
    done = 0
    if clean:
        parts = (frames[:clean], slots[:clean], linaddrs[:clean], sealed[:clean], pcmds[:clean])
        done = _run_clean(cpu, secs, *parts, blocked=blocked)
    while done < len(frames):
        frame, slot, linaddr = int(frames[done]), EpcAddr(int(slots[done])), int(linaddrs[done])
        operation.unlocked(cpu, "RCX", frame)
        operation.unlocked(cpu, "RDX", cpu.epc.frame(slot))
        if cpu.epcm.valid(frame):
            raise operation.pf(cpu.epc.address(frame), "EPCM(RCX).VALID is 0", "a free page", "a valid page")
        check_slot_page(operation, cpu, slot)
        pcmd = Pcmd(pcmds[done].tobytes())
        owner = _owner(operation, cpu, Pageinfo.of(linaddr=linaddr, secs=secs), pcmd)
        contents = sealed[done, :PAGE_SIZE].tobytes()
        result = _load(operation, cpu, owner, frame, slot, linaddr, contents, pcmd, blocked=blocked)
        if not result.ok:
            return done, result
        done += 1
    return done, SUCCESS


def _unquestioned(
    cpu: Cpu, secs: EpcAddr, frames: Frames, slots: Slots, linaddrs: npt.NDArray[np.uint64], pcmds: Bytes
) -> int:
    """For how many leading pages nothing but the MAC can be wrong."""
    if cpu.any_locked() or not cpu.epc.contains(secs) or not cpu.is_secs(cpu.epc.frame(secs)):
        return 0
    store = cpu.enclaves[cpu.epc.frame(secs)].store
    words = pcmds.view(np.uint64)
    flags = words[:, _FLAGS]
    types = (flags >> np.uint64(8)).astype(np.uint8)
    good = (flags & np.uint64(~_FLAGS_KNOWN & (1 << 64) - 1) == 0) & is_enclave_page(types)
    good &= ~words[:, _MUST_BE_ZERO].any(axis=1)
    good &= cpu.epcm.columns["state"][frames] & EpcmState.VALID == 0
    offsets = linaddrs - np.uint64(store.head.baseaddr)
    inside = (offsets < store.head.size) & (linaddrs % np.uint64(PAGE_SIZE) == 0)
    good &= inside & in_va_pages(cpu, slots)
    good &= store.frame_map[np.where(inside, offsets, 0) // np.uint64(PAGE_SIZE)] == 0
    for each in (frames, slots, linaddrs):
        if not all_differ(each):
            return 0
    return len(good) if good.all() else int(np.argmin(good))


def _run_clean(
    cpu: Cpu,
    secs: EpcAddr,
    frames: Frames,
    slots: Slots,
    linaddrs: npt.NDArray[np.uint64],
    sealed: Bytes,
    pcmds: Bytes,
    *,
    blocked: bool,
) -> int:
    """Load pages of which only the MAC can be wrong; how many, up to the first that is."""
    secs_frame = cpu.epc.frame(secs)
    state = cpu.enclaves[secs_frame]
    store = state.store
    flags = pcmds.view(np.uint64)[:, _FLAGS]
    with cpu.scratch.table(len(frames), PAGE_SIZE) as plain:
        done = cpu.pager.unseal(read_versions(cpu, slots), sealed, headers(flags, state.eid, linaddrs), plain)
        if not done:
            return 0
        frames, slots, flags, linaddrs = frames[:done], slots[:done], flags[:done], linaddrs[:done]
        indexes = (linaddrs - np.uint64(store.head.baseaddr)) // np.uint64(PAGE_SIZE)
        at = 0
        for first, count in consecutive(indexes):
            store.fill(first * PAGE_SIZE, plain[at : at + count].reshape(-1).data)
            at += count
    write_versions(cpu, slots, 0)
    types = (flags >> np.uint64(8)).astype(np.uint8)
    found = (flags & np.uint64(_KEPT)).astype(np.uint8) >> np.uint8(STATE_SHIFT)
    columns = cpu.epcm.columns
    columns["enclaveaddress"][frames] = linaddrs
    columns["secs"][frames] = secs_frame
    columns["pt"][frames] = types
    columns["perm"][frames] = (flags & np.uint64(PERM_MASK)).astype(np.uint8)
    columns["home"][frames] = HOME_ENCLAVE
    columns["epoch"][frames] = state.epoch if blocked else 0
    columns["state"][frames] = found | np.uint8(EpcmState.VALID | (EpcmState.BLOCKED if blocked else 0))
    store.frame_map[indexes] = frames + np.uint32(1)
    accepted = found & np.uint8(EpcmState.MODIFIED) == 0
    state.tcs.update(frames[(types == int(PageType.TCS)) & accepted].tolist())
    state.children += done
    store.changed()
    return done
