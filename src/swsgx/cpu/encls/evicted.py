"""Evicted pages, as EWB makes them and ELDB and ELDU take them: what both sides have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import SECINFO_PT_SHIFT, PageType
from swsgx.isa.structs import Pageinfo, Pcmd
from swsgx.native.abi import EpcmState

__all__ = [
    "ENCLAVE_TYPES",
    "SECS_EID",
    "SLOT_SIZE",
    "STATE_SHIFT",
    "Slots",
    "check_slot_page",
    "flags_of",
    "in_va_pages",
    "is_enclave_page",
    "operands",
    "pointers",
    "read_versions",
    "write_versions",
]

#: Addresses of version slots in the EPC.
Slots = npt.NDArray[np.uint64]

#: Page types that belong to an enclave, and that EBLOCK blocks.
ENCLAVE_TYPES = (PageType.TCS, PageType.REG, PageType.TRIM)
#: Bytes of a version slot.
SLOT_SIZE = 8
#: Where the EID stands in a SECS page that is written out; the manual leaves its private bytes to the processor.
SECS_EID = slice(PAGE_SIZE - 8, PAGE_SIZE)
#: EPCM's PENDING, MODIFIED and PR are the same bits of SECINFO.FLAGS, one further up.
STATE_SHIFT = 1
_KEPT = int(EpcmState.PENDING | EpcmState.MODIFIED | EpcmState.PR)
_IS_ENCLAVE_PAGE = np.isin(np.arange(256), [int(t) for t in ENCLAVE_TYPES])


def is_enclave_page(types: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which page types belong to an enclave."""
    found: npt.NDArray[np.bool_] = _IS_ENCLAVE_PAGE[types]
    return found


def flags_of(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """SECINFO.FLAGS that tell of EPCM entries."""
    flags: npt.NDArray[np.uint64] = rows["pt"].astype(np.uint64) << np.uint64(SECINFO_PT_SHIFT)
    flags |= rows["perm"].astype(np.uint64)
    flags |= (rows["state"] & np.uint8(_KEPT)).astype(np.uint64) << np.uint64(STATE_SHIFT)
    return flags


def operands(operation: Operation, cpu: Cpu, pageinfo: Linaddr, page: EpcAddr, slot: EpcAddr) -> int:
    """The operands in themselves; the frame of RCX."""
    operation.aligned("RBX", pageinfo, Pageinfo.size_of)
    operation.aligned("RCX", page, PAGE_SIZE)
    frame = operation.in_epc(cpu, "RCX", page)
    operation.aligned("RDX", slot, SLOT_SIZE)
    slot_frame = operation.in_epc(cpu, "RDX", slot)
    if slot_frame == frame:
        raise operation.gp("RCX and RDX are in different EPC pages", "two pages", page)
    return frame


def pointers(operation: Operation, cpu: Cpu, info: Pageinfo, page: EpcAddr, slot: EpcAddr) -> None:
    """PAGEINFO's pointers, and whether the EPC pages are in use."""
    operation.aligned("PAGEINFO.PCMD", info.secinfo, Pcmd.size_of)
    operation.aligned("PAGEINFO.SRCPGE", info.srcpge, PAGE_SIZE)
    operation.unlocked(cpu, "RCX", cpu.epc.frame(page))
    operation.unlocked(cpu, "RDX", cpu.epc.frame(slot))


def check_slot_page(operation: Operation, cpu: Cpu, slot: EpcAddr) -> None:
    """Insist that RDX is in a valid VA page; else #PF."""
    frame = cpu.epc.frame(slot)
    if not cpu.epcm.valid(frame) or cpu.epcm[frame].pt != PageType.VA:
        raise operation.pf(slot, "EPCM(RDX) is a valid VA page", "VALID=1, PT_VA", "another page, or none")


def in_va_pages(cpu: Cpu, slots: Slots) -> npt.NDArray[np.bool_]:
    """Which slots are in valid VA pages; all are in the EPC."""
    frames = (slots - np.uint64(cpu.epc.base)) // np.uint64(PAGE_SIZE)
    found = cpu.epcm.columns[frames]
    inside: npt.NDArray[np.bool_] = (found["state"] & EpcmState.VALID != 0) & (
        found["pt"] == int(PageType.VA)
    )
    return inside


def read_versions(cpu: Cpu, slots: Slots) -> npt.NDArray[np.uint64]:
    """What stands in version slots."""
    words = np.frombuffer(cpu.epc.store.view, np.uint64)
    found: npt.NDArray[np.uint64] = words[(slots - np.uint64(cpu.epc.base)) // np.uint64(SLOT_SIZE)]
    return found


def write_versions(cpu: Cpu, slots: Slots, versions: npt.NDArray[np.uint64] | int) -> None:
    """Store versions in their slots."""
    words = np.frombuffer(cpu.epc.store.view, np.uint64)
    words[(slots - np.uint64(cpu.epc.base)) // np.uint64(SLOT_SIZE)] = versions
