"""ENCLU leaves that enclave code executes and Python carries out: the processor's part, and the kernel's beside it.

A leaf's operands go through the process's page tables. Where those have no entry the leaf takes an ordinary page fault,
which the kernel resolves, if it can, so that the leaf runs again: that is how EACCEPT makes a page appear by itself,
and how a page that was evicted comes back.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swsgx.cpu.enclu.eaccept import eaccept
from swsgx.cpu.enclu.eacceptcopy import eacceptcopy
from swsgx.cpu.enclu.emodpe import emodpe
from swsgx.cpu.enclu.operands import Inside, page_fault
from swsgx.cpu.faults import SUCCESS, Fault, GeneralProtection, LeafResult, PageFault, invariant
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import PageFaultCode
from swsgx.isa.leaves import Enclu
from swsgx.linux.fault import FaultAction, Resolution, resolve
from swsgx.linux.fresh import accept_fresh
from swsgx.linux.vma import shown_prot
from swsgx.native.abi import EpcmState, VmaBits

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl, EnclaveMapping
    from swsgx.linux.mm import AddressSpace

__all__ = ["LEAVES", "Executed", "ProcessPaging", "execute"]

#: The leaves that :func:`execute` knows.
LEAVES = frozenset({Enclu.EACCEPT, Enclu.EMODPE, Enclu.EACCEPTCOPY})

#: How often a leaf is run again behind faults that the kernel resolved; three operands need no more than three, if
#: nobody takes away what was loaded.
_TRIES = 16
_ANY = int(VmaBits.R | VmaBits.W | VmaBits.X)
_PRESENT, _WRITABLE = int(VmaBits.PRESENT), int(VmaBits.W)
_BLOCKED = int(EpcmState.BLOCKED)


@dataclass(frozen=True, slots=True)
class Executed:
    """How a leaf ended.

    Attributes:
        result: what RAX and the flags get, and the thread goes on behind the instruction; None for EMODPE, which
            touches neither, and with a fault.
        fault: the exception; the thread leaves by an AEX, with RIP at the instruction.
        resolution: what the kernel makes of a #PF; None for #GP, and without a fault. RETRY: the page cannot be had
            now; the thread comes back to the instruction by ERESUME, as with every page fault of a real processor.
    """

    result: LeafResult | None = None
    fault: Fault | None = None
    resolution: Resolution | None = None


class ProcessPaging:
    """The page tables of one process, as far as it maps one enclave: its VMAs, and which pages were touched.

    A page that is being written out has no entry: Linux takes that away before EBLOCK, we do at the same time.

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
        gone = not frame or int(encl.driver.cpu.epcm.columns["state"][frame - 1]) & _BLOCKED
        if not bits & _PRESENT or not bits & _ANY or gone:
            raise page_fault(address, "a page-table entry", "none", write=write)
        if write and not bits & _WRITABLE:
            raise page_fault(address, "a writable page", shown_prot(bits & _ANY), write=True, present=True)
        return EpcAddr(encl.driver.cpu.epc.address(frame - 1) + at)


def execute(mm: AddressSpace, encl: Encl, leaf: Enclu, rbx: int, rcx: int, rdx: int = 0) -> Executed:
    """ENCLU of one of :data:`LEAVES` by a thread of a process that is inside an enclave.

    Address spaces that map the page are told if it got usable, or more permissions. Call it without any lock: pages
    may be reclaimed and loaded.

    Args:
        mm: of the process.
        encl: the enclave that the thread is inside of, which the process maps.
        leaf: EAX.
        rbx, rcx, rdx: the registers.

    Returns:
        How it ended; with a fault that the kernel resolves only if the leaf could not be run now, however often it
        was tried: other pages, or other enclaves, need the EPC, or the page is being written out.

    Raises:
        OSError: the host cannot give the page its new protection.
    """
    invariant(leaf in LEAVES, "ENCLU: a leaf that Python carries out", leaf=leaf)
    mapping = mm.mappings.get(encl)
    invariant(mapping is not None, "ENCLU: inside an enclave that is mapped")
    if mapping is None:
        return Executed()
    index = (rcx - encl.base) // PAGE_SIZE
    if leaf is Enclu.EACCEPT and accept_fresh(encl, mapping, rbx, rcx):
        encl.pages_changed(index, 1)
        return Executed(SUCCESS)
    paging = ProcessPaging(mapping)
    before = _usable(encl, index)
    done = Executed()
    for _ in range(_TRIES):
        done = _try(mm, encl, paging, leaf, Linaddr(rbx), Linaddr(rcx), Linaddr(rdx))
        if done.resolution is None or not done.resolution.resolved:
            break
    if done.fault is None and _usable(encl, index) != before:
        encl.pages_changed(index, 1)
    return done


def _try(
    mm: AddressSpace,
    encl: Encl,
    paging: ProcessPaging,
    leaf: Enclu,
    rbx: Linaddr,
    rcx: Linaddr,
    rdx: Linaddr,
) -> Executed:
    """Run the leaf once; its fault goes to the kernel."""
    try:
        with encl.mutex:  # nothing leaves the EPC in the middle of a leaf
            if encl.secs is not None:
                return Executed(_run(encl, Inside(encl.secs, paging), leaf, rbx, rcx, rdx))
    except PageFault as fault:
        resolution = resolve(mm, fault.address or 0, PageFaultCode(fault.error_code))
        if resolution.action is FaultAction.OOM:
            resolution = Resolution(FaultAction.RETRY, resolution.reason)
        return Executed(fault=fault, resolution=resolution)
    except GeneralProtection as fault:
        return Executed(fault=fault)
    return _without_secs(encl, rbx)


def _without_secs(encl: Encl, rbx: Linaddr) -> Executed:
    """Nobody is inside an enclave without a SECS: all its pages are out. It comes back first, and the leaf is next."""
    outcome = encl.ensure_resident(())
    later = outcome.ok or outcome.errno == errno.EAGAIN
    resolution = Resolution(FaultAction.RETRY if later else FaultAction.SIGBUS, outcome.reason)
    return Executed(fault=page_fault(rbx, "a page-table entry", "none", write=False), resolution=resolution)


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
