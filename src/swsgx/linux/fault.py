"""A page fault in an enclave's mapping: what the kernel does with it, and pages that appear by it (EAUG).

Read from arch/x86/mm/fault.c (do_user_addr_fault, access_error) and sgx/encl.c (sgx_vma_fault, sgx_encl_eaug_page) of
Linux 6.1 and 6.12 (same), and sgx_encl_load_page_in_vma: pages that were written out come back.

Linux's fault handler never reclaims: with no EPC page free it wakes ksgxd, and lets the instruction fault again until
there is one. Here it lets go of all locks, reclaims, and looks again, a few times, before the instruction is tried.
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
from swsgx.linux import hooks
from swsgx.linux.backing import Indexes
from swsgx.linux.encl import VA_SLOTS
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import OK, Outcome, Refuser, refuse
from swsgx.linux.provenance import Subject
from swsgx.linux.reclaim import EpcFull
from swsgx.linux.sticky import Approval
from swsgx.linux.vma import PROT_ACCESS, PROT_WRITE, Vma, shown_prot
from swsgx.native.abi import VmaBits
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.device import Driver
    from swsgx.linux.encl import Encl
    from swsgx.linux.mm import AddressSpace

__all__ = ["FaultAction", "Resolution", "augment", "resolve"]

_NAME = "page fault"
_failed = Refuser(_NAME, "encl.c", "sgx_encl_eaug_page")
_FAULT_C = "arch/x86/mm/fault.c"
#: How often a fault is looked at again behind a reclaim, before the instruction is tried.
_TRIES = 4
#: Of a page in its enclave, none: what :meth:`~swsgx.linux.paging.EnclavePaging.load` takes for "only the SECS".
_NO_PAGE = np.empty(0, np.int64)


class FaultAction(Enum):
    """What becomes of the thread that faulted."""

    RETRY = auto()
    """The page is there now, or was not to be had at once: the instruction is tried again."""
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
    same access will fault again, with the SGX bit, until the enclave has accepted the page. A page that was evicted is
    loaded, its SECS before it, and appears in all address spaces that map it.

    Call it without any lock: pages may be reclaimed.

    Args:
        mm: whose.
        address: of the access (CR2).
        code: as the processor pushed it; P says that there was a page-table entry.

    Returns:
        RETRY; SEGV_ACCERR with the SGX bit, or where the mapping forbids the access; SEGV_MAPERR without a mapping;
        SIGBUS where the driver has no page: a hole without SGX2 or before INIT, no EPC left and none to be made so, a
        mapping wider than the page's ceiling, a page that is not what was written out; OOM no memory for the record of
        a page. RETRY also while the page is being written out, or others take what is reclaimed: it faults again.

    Raises:
        OSError: the host cannot map a page that was loaded.
    """
    _prepare(mm, address)
    for _ in range(_TRIES):
        need = None
        with mm.lock:
            vma = mm.vma_at(address)
            try:
                found = _resolve(vma, address, code)
            except EpcFull as full:
                found, need = _RETRY, full.need
        if vma is not None:
            vma.encl.tell_loaded()
        if vma is None or need is None:
            break
        found = _relieve(vma.file.driver, need)
        if not found.resolved:
            break
    if vma is not None and vma.file.driver.trace.on:
        shown = {"address": address, "code": int(code), "enclave": vma.encl.number}
        vma.file.driver.trace.event("memory", _NAME, shown, found.action.name, found.reason)
    return found


def _prepare(mm: AddressSpace, address: int) -> None:
    """Wake the reclaimer if an EPC page will be needed: before, so that what comes is not what goes."""
    with mm.lock:
        vma = mm.vma_at(address)
        if vma is None or not vma.encl.created:
            return
        encl = vma.encl
        with encl.mutex:
            index = (address - encl.base) // PAGE_SIZE
            if not 0 <= index < encl.size // PAGE_SIZE or encl.store.frame_map[index]:
                return
            evicted = encl.paging.is_evicted(index)
    if evicted:
        encl.driver.count("faults", 1)
    encl.driver.balance()


def _relieve(driver: Driver, need: int) -> Resolution:
    """Without any lock: have EPC pages free, or pages that are being written out on their way."""
    if driver.cpu.epc.free_count >= need:
        driver.wake()
        return _RETRY
    refused = driver.reclaimer.make_room(need, _no_signal)
    return _RETRY if refused is None else Resolution(FaultAction.SIGBUS, refused.reason)


def _no_signal() -> bool:
    """A fault does not look at signals: they are delivered when it has returned."""
    return False


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
    """sgx_vma_fault: a page that exists is loaded, and gets a page-table entry; where there is none, one is added.

    Raises:
        EpcFull: not now: no EPC page is free, or the page is being written out or changed.
    """
    encl, mapping = vma.encl, vma.mapping
    if mapping is None:
        return _bus(vma, "the mapping has an enclave", "an enclave", "none: fork failed")
    rules, index = encl.profile.faults, (address - encl.base) // PAGE_SIZE
    if encl.security is not None:
        with encl.guard:
            hooks.judged_again(vma)
    with encl.guard, encl.mutex:
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
        else:
            loaded = _load(encl, np.array([index]))
            if not loaded.ok:
                return Resolution(FaultAction.SIGBUS, loaded.reason)
            if not encl.listed[index]:
                # The reclaimer or an ioctl is about to take the entry away that it would get.
                raise EpcFull(0)
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
    subject = vma.judgement.subject if vma.judgement is not None else None
    _, outcome = _stretch(encl, (address - encl.base) // PAGE_SIZE, 1, subject, explicit=False)
    if outcome is None:
        return None
    action = FaultAction.OOM if outcome.errno == errno.ENOBUFS else FaultAction.SIGBUS
    return Resolution(action, outcome.reason)


def _load(encl: Encl, indexes: Indexes) -> Outcome:
    """Load pages, and the SECS, with the mutex held: 0, -ENOMEM or -EFAULT.

    Raises:
        EpcFull: not now.
    """
    outcome = encl.paging.load(indexes)
    if outcome.errno == errno.EAGAIN:
        raise EpcFull
    return outcome


def augment(encl: Encl, first: int, count: int, subject: Subject | None = None) -> tuple[int, Outcome]:
    """EAUG zero pages from page index ``first`` on, up to the first that exists; also ahead of being asked.

    Call it without any lock: pages may be reclaimed. No address space need be told. No step for a page is made in
    Python.

    Args:
        encl: an initialised enclave of a machine with SGX2.
        first, count: pages of ELRANGE.
        subject: who asks, for security modules.

    Returns:
        How many were added, and why no further: -EACCES a security module refused, -ENOBUFS no memory for the record
        of a page, -ENOMEM no EPC page, and none to be made free, -EFAULT EPA or EAUG faults, or the SECS does not
        come back. Success, if all were added, or a page exists where it stopped.
    """
    added, refused = 0, None
    driver = encl.driver
    while refused is None:
        try:
            with encl.guard, encl.mutex:
                holes = _holes(encl, first + added, count - added)
                if not holes:
                    break
                done, refused = _stretch(encl, first + added, holes, subject, explicit=True)
        except EpcFull as full:
            done = 0
            refused = driver.reclaimer.make_room(full.need, _no_signal, wanted=count - added)
        added += done
        driver.balance()
    return added, OK if refused is None else refused


def _holes(encl: Encl, first: int, count: int) -> int:
    """How many of the pages from ``first`` on do not exist, up to the first that does."""
    there = encl.page_type[first : first + count] != 0
    return int(np.argmax(there)) if there.any() else len(there)


def _stretch(
    encl: Encl, first: int, count: int, subject: Subject | None, *, explicit: bool
) -> tuple[int, Outcome | None]:
    """At least one page, where none is, and no more than the last VA page has room for. The mutex is held.

    Raises:
        EpcFull: nothing was done; EPC pages must be reclaimed, without any lock.
    """
    with encl.driver.reclaimer.bringing():
        return _bring(encl, first, count, subject, explicit=explicit)


def _bring(
    encl: Encl, first: int, count: int, subject: Subject | None, *, explicit: bool
) -> tuple[int, Outcome | None]:
    driver = encl.driver
    failures, epc = driver.failures, driver.cpu.epc
    if failures.armed and failures.hit(FailurePoint.PAGE_BOOKKEEPING):
        return 0, _failed(
            encl,
            errno.ENOBUFS,
            "memory for the record of a page",
            "memory",
            "none",
            function="sgx_encl_page_alloc",
        )
    loaded = _load(encl, _NO_PAGE)
    if not loaded.ok:
        return 0, loaded
    frame = driver.take_page(FailurePoint.EPC_PAGE)
    if isinstance(frame, Outcome):
        return 0, frame
    try:
        va_page = driver.grow(encl)
    except EpcFull as full:
        epc.unread(np.array([frame], np.uint32))
        raise EpcFull(1 + full.need) from full
    if isinstance(va_page, Outcome):
        driver.free_page(frame)
        return 0, va_page
    room = VA_SLOTS - encl.page_count % VA_SLOTS
    # One that another processor works on, as tests have it, must fault as the leaf does.
    careful = failures.armed or driver.cpu.any_locked()
    count = 1 if careful else min(count, room, 1 + epc.free_count)
    if encl.security is not None:
        answer = hooks.augmenting(encl, subject, first, count, explicit=explicit)
        if answer.reason is not None:
            epc.unread(np.array([frame], np.uint32))
            driver.shrink(encl, va_page)
            return 0, hooks.denied(answer.reason)
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
        frames = np.concatenate((np.array([frame], np.uint32), epc.allocate_up_to(count - 1)))
        count = len(frames)
        eaug.run(driver.cpu, encl.secs_address, frames, address)
    encl.insert(first, count, PageType.REG, PROT_ACCESS)
    if encl.security is not None:
        encl.security.pages.approve(first, count, Approval(subject, answer.allowed))
    encl.augmented += count
    driver.count("eaug", count)
    return count, None


def _eaug(encl: Encl, frame: int, address: Linaddr) -> Fault | None:
    memory, cpu = ScratchMemory(), encl.driver.cpu
    info = memory.place(Pageinfo.of(linaddr=address, secs=encl.secs_address).buffer, 32)
    try:
        eaug_leaf(cpu, memory, info, EpcAddr(cpu.epc.address(frame)))
    except Fault as fault:
        return fault
    return None
