"""A page fault in an enclave's mapping: what the kernel does with it, and pages that appear by it (EAUG).

Read from arch/x86/mm/fault.c (do_user_addr_fault, access_error) and sgx/encl.c (sgx_vma_fault, sgx_encl_eaug_page) of
Linux 6.1 and 6.12 (same). Nothing is evicted yet, so that no fault waits for a page to come back.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.encls import eaug
from swsgx.cpu.encls.eaug import eaug as eaug_leaf
from swsgx.cpu.faults import Fault
from swsgx.cpu.memory import ScratchMemory
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import PageFaultCode, PageType
from swsgx.isa.structs import Pageinfo
from swsgx.linux.encl import VA_SLOTS
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import OK, Outcome, refuse
from swsgx.linux.vma import PROT_ACCESS, PROT_WRITE, Vma, shown_prot
from swsgx.native.abi import VmaBits
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl
    from swsgx.linux.mm import AddressSpace

__all__ = ["FaultAction", "Resolution", "augment", "resolve"]

_NAME = "page fault"
_FAULT_C = "arch/x86/mm/fault.c"


class FaultAction(Enum):
    """What becomes of the thread that faulted."""

    RETRY = auto()
    """The page is there now: the instruction is tried again."""
    SIGBUS = auto()
    """SIGBUS, BUS_ADRERR: the driver has no page for it."""
    SEGV_MAPERR = auto()
    """SIGSEGV, SEGV_MAPERR: no mapping."""
    SEGV_ACCERR = auto()
    """SIGSEGV, SEGV_ACCERR: the mapping, or the EPCM, forbids the access."""
    OOM = auto()
    """The kernel is out of memory: its killer is called, then the instruction is tried again."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The end of a page fault.

    Attributes:
        action: what happens to the thread. Inside the vDSO's ENCLU, all but RETRY and OOM become run fields instead.
        reason: why it is not RETRY.
    """

    action: FaultAction
    reason: Reason | None = None

    @property
    def resolved(self) -> bool:
        """Whether the instruction can be tried again."""
        return self.action is FaultAction.RETRY


_RETRY = Resolution(FaultAction.RETRY)


def resolve(mm: AddressSpace, address: int, code: PageFaultCode) -> Resolution:
    """One page fault of a user's access, in the kernel's order.

    A page that appears is PENDING and so inaccessible: effective protections do not change, and nobody is told. The
    same access will fault again, with the SGX bit, until the enclave has accepted the page.

    Args:
        mm: whose.
        address: of the access (CR2).
        code: as the processor pushed it; P says that there was a page-table entry.

    Returns:
        RETRY; SEGV_ACCERR with the SGX bit, or where the mapping forbids the access; SEGV_MAPERR without a mapping;
        SIGBUS where the driver has no page: a hole without SGX2 or before INIT, no EPC left, a mapping wider than the
        page's ceiling; OOM no memory for the record of a page.
    """
    with mm.lock:
        vma = mm.vma_at(address)
        found = _resolve(vma, address, code)
        if vma is not None and vma.file.driver.trace.on:
            shown = {"address": address, "code": int(code), "enclave": vma.encl.number}
            vma.file.driver.trace.event("memory", _NAME, shown, found.action.name, found.reason)
    return found


def _resolve(vma: Vma | None, address: int, code: PageFaultCode) -> Resolution:
    if code & PageFaultCode.SGX:
        return _refuse(
            vma,
            FaultAction.SEGV_ACCERR,
            "the EPCM allows the access",
            "no SGX bit in the error code",
            int(code),
            f"{_FAULT_C}: access_error",
        )
    if vma is None:
        return _refuse(
            vma,
            FaultAction.SEGV_MAPERR,
            "a mapping covers the address",
            "an enclave's mapping",
            f"nothing at {address:#x}",
            f"{_FAULT_C}: do_user_addr_fault",
        )
    denied = not vma.prot & PROT_WRITE if code & PageFaultCode.W else code & PageFaultCode.P or not vma.prot
    if denied:
        kind = "write" if code & PageFaultCode.W else "fetch" if code & PageFaultCode.I else "read"
        return _refuse(
            vma,
            FaultAction.SEGV_ACCERR,
            "the mapping allows the access",
            f"a mapping that allows a {kind}",
            shown_prot(vma.prot),
            f"{_FAULT_C}: access_error",
        )
    return _in_driver(vma, address)


def _refuse(
    vma: Vma | None,
    action: FaultAction,
    rule: str,
    expected: object,
    found: object,
    where: str,
    remedy: str = "",
) -> Resolution:
    kernel = vma.encl.profile.kernel if vma is not None else "Linux 6.12"
    told = refuse(
        0,
        operation=_NAME,
        rule=rule,
        expected=expected,
        found=found,
        source=f"{kernel}, {where}",
        remedy=remedy,
    )
    return Resolution(action, told.reason)


def _bus(vma: Vma, rule: str, expected: object, found: object, remedy: str = "") -> Resolution:
    where = f"{vma.encl.profile.files}encl.c: sgx_vma_fault"
    return _refuse(vma, FaultAction.SIGBUS, rule, expected, found, where, remedy)


def _in_driver(vma: Vma, address: int) -> Resolution:
    """sgx_vma_fault: a page that exists gets a page-table entry; where there is none, one is added."""
    encl, mapping = vma.encl, vma.mapping
    if mapping is None:
        return _bus(vma, "the mapping has an enclave", "an enclave", "none: fork failed")
    rules, index = encl.profile.faults, (address - encl.base) // PAGE_SIZE
    with encl.mutex:
        if rules.needs_init and not encl.initialised:
            return _bus(vma, "the enclave is initialised", "INIT", "an enclave that is being built")
        if not encl.has_page(address):
            refused = _hole(vma, address)
            if refused is not None:
                return refused
        elif rules.checks_ceiling and vma.prot & PROT_ACCESS & ~int(encl.max_prot[index]):
            return _bus(
                vma,
                "the mapping is not wider than the page's ceiling",
                shown_prot(int(encl.max_prot[index])),
                shown_prot(vma.prot),
                "mmap with the page's own permissions",
            )
        mapping.bits[index] |= np.uint8(VmaBits.PRESENT)
    return _RETRY


def _hole(vma: Vma, address: int) -> Resolution | None:
    """No page here: one more, if processor and enclave are ready for it; None if there is one now."""
    encl = vma.encl
    if not encl.profile.sgx2 or not encl.driver.cpu.model.sgx2:
        return _bus(vma, "a page was added at the address", "a page, or SGX2", f"a hole at {address:#x}")
    if not encl.initialised:
        return _bus(vma, "pages appear after INIT only", "INIT", f"a hole at {address:#x} before it")
    if not encl.base <= address < encl.base + encl.size:
        return _bus(vma, "EAUG does not fault", f"an address inside {encl!r}", address)
    _, outcome = augment(encl, (address - encl.base) // PAGE_SIZE, 1)
    if outcome.ok:
        return None
    action = FaultAction.OOM if outcome.errno == errno.ENOBUFS else FaultAction.SIGBUS
    return Resolution(action, outcome.reason)


def augment(encl: Encl, first: int, count: int) -> tuple[int, Outcome]:
    """EAUG zero pages from page index ``first`` on, up to the first that exists; also ahead of being asked.

    Takes the enclave's mutex; no address space need be told. No step for a page is made in Python.

    Args:
        encl: an initialised enclave of a machine with SGX2.
        first, count: pages of ELRANGE.

    Returns:
        How many were added, and why no further: -ENOBUFS no memory for the record of a page, -ENOMEM no EPC page,
        -EFAULT EPA or EAUG faults. Success, if all were added, or a page exists where it stopped.
    """
    added = 0
    with encl.mutex:
        count = min(count, encl.size // PAGE_SIZE - first)
        there = np.flatnonzero(encl.page_type[first : first + count])
        count = int(there[0]) if len(there) else count
        while added < count:
            done, refused = _stretch(encl, first + added, count - added)
            added += done
            if refused is not None:
                return added, refused
    return added, OK


def _stretch(encl: Encl, first: int, count: int) -> tuple[int, Outcome | None]:
    """At least one page, and no more than the last VA page has room for."""
    driver = encl.driver
    failures, epc = driver.failures, driver.cpu.epc
    if failures.armed and failures.hit(FailurePoint.PAGE_BOOKKEEPING):
        return 0, _failed(
            encl, errno.ENOBUFS, "memory for the record of a page", "memory", "none", "sgx_encl_page_alloc"
        )
    frame = driver.take_page(FailurePoint.EPC_PAGE)
    if isinstance(frame, Outcome):
        return 0, frame
    va_page = driver.grow(encl)
    if isinstance(va_page, Outcome):
        driver.free_page(frame)
        return 0, va_page
    room = VA_SLOTS - encl.page_count % VA_SLOTS
    # One that another processor works on, as tests have it, must fault as the leaf does.
    careful = failures.armed or driver.cpu.any_locked()
    count = 1 if careful else min(count, room, 1 + epc.free_count)
    address = Linaddr(encl.base + first * PAGE_SIZE)
    if careful:
        fault = _eaug(encl, frame, address)
        if fault is not None:
            epc.free(frame)
            driver.shrink(encl, va_page)
            told = _failed(
                encl, errno.EFAULT, "EAUG does not fault", "success", fault.mnemonic, cause=fault.reason
            )
            return 0, told
    else:
        frames = np.concatenate((np.array([frame], np.uint32), epc.allocate_run(count - 1)))
        eaug.run(driver.cpu, encl.secs_address, frames, address)
    encl.insert(first, count, PageType.REG, PROT_ACCESS)
    return count, None


def _eaug(encl: Encl, frame: int, address: Linaddr) -> Fault | None:
    memory, cpu = ScratchMemory(), encl.driver.cpu
    info = memory.place(Pageinfo.of(linaddr=address, secs=encl.secs_address).buffer, 32)
    try:
        eaug_leaf(cpu, memory, info, EpcAddr(cpu.epc.address(frame)))
    except Fault as fault:
        return fault
    return None


def _failed(
    encl: Encl,
    number: int,
    rule: str,
    expected: object,
    found: object,
    function: str = "sgx_encl_eaug_page",
    cause: Reason | None = None,
) -> Outcome:
    return refuse(
        number,
        operation=_NAME,
        rule=rule,
        expected=expected,
        found=found,
        source=encl.profile.source(f"encl.c: {function}"),
        cause=cause,
    )
