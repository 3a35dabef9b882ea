"""Operands of ENCLU leaves: linear addresses inside ELRANGE, of the enclave that the thread is inside of.

Source: SDM, "EACCEPT", "EACCEPTCOPY", "EMODPE". The manual's order is everywhere: alignment, ELRANGE, then what paging
makes of the address, then what the EPCM says of the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from swsgx.cpu.encls.secinfo import check_reserved
from swsgx.cpu.faults import PageFault
from swsgx.cpu.machine import Cpu, SecsState
from swsgx.cpu.operation import Operation
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr, page_base
from swsgx.isa.flags import PageFaultCode, PageType, SecinfoFlags
from swsgx.isa.structs import Secinfo
from swsgx.native.abi import EpcmEntry, EpcmState
from swsgx.trace import Reason

__all__ = [
    "EveryPage",
    "Inside",
    "Paging",
    "check_page",
    "in_elrange",
    "is_right_place",
    "page_fault",
    "read_secinfo",
    "to_epc",
    "unused",
]


# Plain numbers: these are looked at for each page that an enclave accepts.
_VALID, _REG = int(EpcmState.VALID), int(PageType.REG)
_IN_USE = int(EpcmState.VALID | EpcmState.PENDING | EpcmState.MODIFIED | EpcmState.BLOCKED)


class Paging(Protocol):
    """What the page tables of the thread's process make of an address inside ELRANGE."""

    def translate(self, address: Linaddr, *, write: bool) -> EpcAddr | None:
        """The EPC address that a user's access reaches; None if it reaches ordinary memory.

        Raises:
            PageFault: no page-table entry, or one that forbids the access: a fault without the SGX bit.
        """
        ...


@dataclass(frozen=True, slots=True)
class Inside:
    """A thread in enclave mode.

    Attributes:
        secs: EPC frame of the SECS of the enclave that it is inside of.
        paging: of its process.
    """

    secs: int
    paging: Paging


class EveryPage:
    """Paging by which each page that the enclave has is there, readable and writable."""

    def __init__(self, cpu: Cpu, state: SecsState) -> None:
        self._cpu = cpu
        self._store = state.store

    def translate(self, address: Linaddr, *, write: bool) -> EpcAddr | None:
        offset = address - self._store.head.baseaddr
        frame = int(self._store.frame_map[offset // PAGE_SIZE])
        if not frame:
            raise page_fault(address, "a page-table entry", "none", write=write)
        return EpcAddr(self._cpu.epc.address(frame - 1) + offset % PAGE_SIZE)


def page_fault(
    address: Linaddr, expected: str, found: str, *, write: bool, present: bool = False
) -> PageFault:
    """The fault of a user's access that paging refuses."""
    code = PageFaultCode.U
    if write:
        code |= PageFaultCode.W
    if present:
        code |= PageFaultCode.P
    reason = Reason(
        operation="write" if write else "read",
        rule="paging allows the access",
        expected=expected,
        found=f"{found} at {address:#x}",
        source="Intel SDM volume 3A, 'Page-Fault Exceptions'",
    )
    return PageFault(address, reason, code)


def in_elrange(operation: Operation, cpu: Cpu, thread: Inside, operand: str, address: Linaddr) -> None:
    """Insist that an operand is in the enclave's range; else #GP(0)."""
    head = cpu.enclaves[thread.secs].store.head
    if not head.baseaddr <= address < head.baseaddr + head.size:
        raise operation.gp(
            f"{operand} is inside ELRANGE", f"{head.baseaddr:#x}-{head.baseaddr + head.size:#x}", address
        )


def to_epc(
    operation: Operation, cpu: Cpu, thread: Inside, operand: str, address: Linaddr, *, write: bool = False
) -> int:
    """The frame that an operand in ELRANGE reaches; paging's own #PF, or one with the SGX bit if it is no EPC page."""
    kind = "writable" if write else "readable"
    try:
        found = thread.paging.translate(address, write=write)
    except PageFault as fault:
        told = operation.reason(
            f"{operand} is mapped, {kind}",
            f"a {kind} page at {address:#x}",
            "a page fault",
            cause=fault.reason,
        )
        raise PageFault(address, told, fault.error_code) from fault
    if found is None or not cpu.epc.contains(found):
        raise operation.pf(
            address, f"{operand} is in the EPC", "an EPC page", "memory outside the EPC", write=write
        )
    return cpu.epc.frame(found)


def check_page(
    operation: Operation, cpu: Cpu, thread: Inside, operand: str, address: Linaddr, frame: int, perm: int
) -> EpcmEntry:
    """Insist on a REG page of the enclave in its place, in no transition, with permissions ``perm``; else #PF."""
    entry = cpu.epcm[frame]
    if (
        entry.state & _IN_USE == _VALID
        and entry.pt == _REG
        and not perm & ~entry.perm
        and is_right_place(entry, thread, address)
    ):
        return entry
    expected, found = f"REG, at {page_base(address):#x}, of this enclave, in use", _shown(entry)

    def refuse(rule: str) -> PageFault:
        return operation.pf(address, f"EPCM({operand}){rule}", expected, found)

    if not entry.state & EpcmState.VALID:
        raise refuse(".VALID is 1")
    if perm & ~entry.perm:
        raise refuse(f".{SecinfoFlags(perm).name} is 1")
    for bit in (EpcmState.PENDING, EpcmState.MODIFIED, EpcmState.BLOCKED):
        if entry.state & bit:
            raise refuse(f".{bit.name} is 0")
    if entry.pt != PageType.REG:
        raise refuse(".PT is PT_REG")
    if entry.secs != thread.secs:
        raise refuse(".ENCLAVESECS is the enclave's")
    raise refuse(f".ENCLAVEADDRESS is {operand}'s page")


def is_right_place(entry: EpcmEntry, thread: Inside, address: Linaddr) -> bool:
    """Whether the page is this enclave's, and belongs where it was found."""
    return entry.secs == thread.secs and entry.enclaveaddress == page_base(address)


def unused(operation: Operation, cpu: Cpu, operand: str, frame: int) -> None:
    """Insist that no other leaf works on the page; else #GP(0)."""
    operation.unlocked(cpu, operand, frame)
    if cpu.is_changing(frame):
        raise operation.gp(
            f"{operand} is not being changed by another SGX2 leaf",
            "a page that no logical processor works on",
            f"EPC page {cpu.epc.address(frame):#x} is being changed",
            remedy="try again",
        )


def read_secinfo(operation: Operation, cpu: Cpu, thread: Inside, address: Linaddr, frame: int) -> Secinfo:
    """The SECINFO at RBX (64-byte aligned, in that frame), of a readable page; reserved bits are #GP(0)."""
    check_page(operation, cpu, thread, "RBX", address, frame, int(SecinfoFlags.R))
    at = address % PAGE_SIZE
    info = Secinfo(bytearray(cpu.page(frame)[at : at + Secinfo.size_of]))
    check_reserved(operation, info)
    return info


def _shown(entry: EpcmEntry) -> str:
    if not entry.state & EpcmState.VALID:
        return "a free page"
    bits = "".join(letter if entry.perm >> i & 1 else "-" for i, letter in enumerate("RWX"))
    states = [flag.name or "" for flag in EpcmState if entry.state & flag and flag is not EpcmState.VALID]
    return " ".join([PageType(entry.pt).name, bits, *states, f"at {entry.enclaveaddress:#x}"])
