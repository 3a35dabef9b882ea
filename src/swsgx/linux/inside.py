"""ENCLU leaves that enclave code executes and Python carries out: the processor's part, and the kernel's beside it.

A leaf's operands go through the process's page tables. Where those have no entry the leaf takes an ordinary page fault,
which the kernel resolves, if it can, so that the leaf runs again: that is how EACCEPT makes a page appear by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swsgx.cpu.enclu.eaccept import eaccept
from swsgx.cpu.enclu.eacceptcopy import eacceptcopy
from swsgx.cpu.enclu.emodpe import emodpe
from swsgx.cpu.enclu.operands import Inside, page_fault
from swsgx.cpu.faults import Fault, GeneralProtection, LeafResult, PageFault, invariant
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import PageFaultCode
from swsgx.isa.leaves import Enclu
from swsgx.linux.fault import FaultAction, Resolution, resolve
from swsgx.linux.vma import shown_prot
from swsgx.native.abi import VmaBits

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl, EnclaveMapping
    from swsgx.linux.mm import AddressSpace

__all__ = ["LEAVES", "Executed", "ProcessPaging", "execute"]

#: The leaves that :func:`execute` knows.
LEAVES = frozenset({Enclu.EACCEPT, Enclu.EMODPE, Enclu.EACCEPTCOPY})

_ANY = int(VmaBits.R | VmaBits.W | VmaBits.X)
_PRESENT, _WRITABLE = int(VmaBits.PRESENT), int(VmaBits.W)


@dataclass(frozen=True, slots=True)
class Executed:
    """How a leaf ended.

    Attributes:
        result: what RAX and the flags get, and the thread goes on behind the instruction; None for EMODPE, which
            touches neither, and with a fault.
        fault: the exception; the thread leaves by an AEX, with RIP at the instruction.
        resolution: what the kernel makes of a #PF; None for #GP, and without a fault.
    """

    result: LeafResult | None = None
    fault: Fault | None = None
    resolution: Resolution | None = None


class ProcessPaging:
    """The page tables of one process, as far as it maps one enclave: its VMAs, and which pages were touched.

    Args:
        mapping: the enclave in the process.
    """

    def __init__(self, mapping: EnclaveMapping) -> None:
        self._mapping = mapping

    def translate(self, address: Linaddr, *, write: bool) -> EpcAddr | None:
        encl = self._mapping.encl
        index, at = divmod(address - encl.base, PAGE_SIZE)
        bits = int(self._mapping.bits[index])
        frame = int(encl.store.frame_map[index])
        if not bits & _PRESENT or not bits & _ANY or not frame:
            raise page_fault(address, "a page-table entry", "none", write=write)
        if write and not bits & _WRITABLE:
            raise page_fault(address, "a writable page", shown_prot(bits & _ANY), write=True, present=True)
        return EpcAddr(encl.driver.cpu.epc.address(frame - 1) + at)


def execute(mm: AddressSpace, encl: Encl, leaf: Enclu, rbx: int, rcx: int, rdx: int = 0) -> Executed:
    """ENCLU of one of :data:`LEAVES` by a thread of a process that is inside an enclave.

    Address spaces that map the page are told if it got usable, or more permissions. Call it without any lock.

    Args:
        mm: of the process.
        encl: the enclave that the thread is inside of, which the process maps.
        leaf: EAX.
        rbx, rcx, rdx: the registers.

    Returns:
        How it ended; never with a fault that the kernel resolves.

    Raises:
        OSError: the host cannot give the page its new protection.
    """
    invariant(leaf in LEAVES, "ENCLU: a leaf that Python carries out", leaf=leaf)
    mapping = mm.mappings.get(encl)
    invariant(mapping is not None and encl.secs is not None, "ENCLU: inside an enclave that is mapped")
    if mapping is None or encl.secs is None:
        return Executed()
    thread = Inside(encl.secs, ProcessPaging(mapping))
    index = (rcx - encl.base) // PAGE_SIZE
    before = _usable(encl, index)
    while True:
        try:
            result = _run(encl, thread, leaf, Linaddr(rbx), Linaddr(rcx), Linaddr(rdx))
        except PageFault as fault:
            resolution = resolve(mm, fault.address or 0, PageFaultCode(fault.error_code))
            if resolution.action in (FaultAction.RETRY, FaultAction.OOM):
                continue
            return Executed(fault=fault, resolution=resolution)
        except GeneralProtection as fault:
            return Executed(fault=fault)
        if _usable(encl, index) != before:
            encl.pages_changed(index, 1)
        return Executed(result)


def _run(
    encl: Encl, thread: Inside, leaf: Enclu, rbx: Linaddr, rcx: Linaddr, rdx: Linaddr
) -> LeafResult | None:
    cpu = encl.driver.cpu
    if leaf is Enclu.EACCEPT:
        return eaccept(cpu, thread, rbx, rcx)
    if leaf is Enclu.EACCEPTCOPY:
        return eacceptcopy(cpu, thread, rbx, rcx, rdx)
    emodpe(cpu, thread, rbx, rcx)
    return None


def _usable(encl: Encl, index: int) -> int:
    """What the EPCM lets the enclave do with the page; 0 outside the range."""
    if not 0 <= index < encl.size // PAGE_SIZE:
        return 0
    return int(encl.usable(index, index + 1)[0])
