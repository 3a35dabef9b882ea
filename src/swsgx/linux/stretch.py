"""Pages on their way into an enclave under construction: the loop of ADD_PAGES.

Linux goes page by page. Here a *stretch* of pages, all of the same fate, goes through the checks as one: the
stretch ends where a VA page is due, where a page exists, and where the source's mapping ends. What can only
fail for its first page is checked for that one, in Linux's order. Signals are looked at between stretches.
Read from ioctl.c, sgx_ioc_enclave_add_pages and below, of Linux 6.1 and 6.12 (same).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.encls import eadd
from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import Fault
from swsgx.cpu.memory import not_mapped
from swsgx.isa.address import PAGE_SIZE, Linaddr, TargetAddr
from swsgx.isa.flags import PERM_MASK, PageType, SecinfoFlags, page_type_of
from swsgx.isa.structs import Secinfo
from swsgx.linux import hooks
from swsgx.linux.encl import VA_SLOTS
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import ERESTARTSYS, OK, Outcome, Refuser
from swsgx.linux.profile import NoexecRule
from swsgx.linux.provenance import Extent, FilePages, Origin
from swsgx.linux.reclaim import EpcFull
from swsgx.linux.security import Answer
from swsgx.linux.sticky import Approval
from swsgx.linux.task import BadAddress, SourceVma, Task, TaskMemory
from swsgx.linux.uapi import PAGE_MEASURE
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["AddRequest", "add_all", "refuse_add"]

#: What a mapping of a TCS may have: R and W.
_TCS_CEILING = 3


@dataclass
class AddRequest:
    """What one ADD_PAGES asks for.

    Attributes:
        encl, task: the enclave, and who calls.
        arg: address of the argument.
        raw: the argument as it was read.
        src: the program's address of the first page.
        offset, length: bytes from the enclave's base, and bytes.
        secinfo_address: where the SECINFO is.
        flags: as given.
        secinfo: of all pages.
        found: the mapping that the last stretch came from; the next one is usually in it, and looking costs.
        unwritten: likewise, pages of a file that were last found to be the file's; whoever writes to them during the
            request is too late.
    """

    encl: Encl
    task: Task
    arg: TargetAddr
    raw: bytes = b""
    src: int = 0
    offset: int = 0
    length: int = 0
    secinfo_address: TargetAddr = TargetAddr(0)
    flags: int = 0
    secinfo: Secinfo = field(default_factory=Secinfo)
    found: SourceVma | None = None
    unwritten: FilePages | None = None

    @property
    def page_type(self) -> PageType:
        """Of all pages."""
        return PageType(page_type_of(self.secinfo.flags))

    @property
    def ceiling(self) -> int:
        """The most that a mapping of them may have: R 1, W 2, X 4."""
        return _TCS_CEILING if self.page_type is PageType.TCS else self.secinfo.flags & PERM_MASK

    @property
    def measured(self) -> bool:
        """Whether their contents are measured."""
        # Quirk of all kernels: unknown bits in flags are ignored. test_unknown_flags_are_ignored
        return bool(self.flags & PAGE_MEASURE)


#: A refusal of ADD_PAGES.
refuse_add = Refuser("SGX_IOC_ENCLAVE_ADD_PAGES", "ioctl.c", "sgx_ioc_enclave_add_pages")


def add_all(request: AddRequest) -> tuple[int, Outcome]:
    """Bytes done, and the ioctl's result."""
    encl, rules = request.encl, request.encl.profile.add_pages
    done = 0
    while done < request.length:
        if request.task.signal_pending():
            if done and not rules.restart_after_progress:
                return done, Outcome(
                    0, refuse_add(encl, 0, "no signal arrives", "none", "one, after some pages").reason
                )
            return done, refuse_add(encl, ERESTARTSYS, "no signal arrives", "none", "one")
        reclaimer = encl.driver.reclaimer
        try:
            with encl.guard, encl.mutex, reclaimer.bringing():
                added, refused = _stretch(request, done)
        except EpcFull as full:
            added = 0
            wanted = (request.length - done) // PAGE_SIZE
            refused = reclaimer.make_room(full.need, request.task.signal_pending, wanted=wanted)
        done += added * PAGE_SIZE
        encl.driver.balance()
        if refused is not None:
            return done, refused
    return done, OK


def _stretch(request: AddRequest, done: int) -> tuple[int, Outcome | None]:
    """Add at least one page from byte ``done`` on: how many, and why no further (None: there was no reason).

    Raises:
        EpcFull: nothing was done; EPC pages must be reclaimed, without the enclave's mutex.
    """
    encl, driver = request.encl, request.encl.driver
    failures, epc = driver.failures, driver.cpu.epc

    # Allocations for the first page.
    failure = failures.hit(FailurePoint.PAGE_BOOKKEEPING) if failures.armed else 0
    if failure:
        told = refuse_add(
            encl, failure, "memory for the record of a page", "memory", "none", function="sgx_encl_page_alloc"
        )
        return 0, told
    frame = driver.take_page(FailurePoint.EPC_PAGE)
    if isinstance(frame, Outcome):
        return 0, frame
    try:
        va_page = driver.grow(encl)
    except EpcFull as full:
        driver.free_page(frame)
        raise EpcFull(1 + full.need) from full
    if isinstance(va_page, Outcome):
        driver.free_page(frame)
        return 0, va_page

    # How far all pages share the first one's fate, and what that is.
    first = (request.offset + done) // PAGE_SIZE
    count = min(
        (request.length - done) // PAGE_SIZE, VA_SLOTS - encl.page_count % VA_SLOTS, 1 + epc.free_count
    )
    if failures.armed:
        count = 1
    there = np.flatnonzero(encl.page_type[first : first + count])
    count = int(there[0]) if len(there) else count
    refused: Outcome | None = None
    vma: SourceVma | None = None
    if encl.initialised:
        refused = refuse_add(
            encl,
            encl.profile.add_pages.after_init,
            "INIT was not done",
            "a created enclave",
            "an initialised one",
        )
    elif not count:
        refused = refuse_add(
            encl,
            encl.profile.add_pages.duplicate,
            "no page was added at the offset before",
            "a hole",
            f"a page at offset {first * PAGE_SIZE:#x}",
            function="sgx_encl_add_page",
        )
    else:
        vma, refused = _source(request, done)
    if refused is not None or vma is None:
        driver.free_page(frame)
        driver.shrink(encl, va_page)
        return 0, refused
    count = min(count, (vma.end - request.src - done) // PAGE_SIZE)

    # The pages.
    frames = np.concatenate((np.array([frame], np.uint32), epc.allocate_up_to(count - 1)))
    start = request.src + done
    judged = _Judged(request, first, start) if encl.security is not None else None
    source = judged or _Source(request.task.memory, start)
    added, refused = _eadd(request, done, first, frames, source)
    encl.insert(first, added, request.page_type, request.ceiling)
    if judged is not None:
        judged.remember(added)
    if not added:
        driver.shrink(encl, va_page)
    return added, refused


def _source(request: AddRequest, done: int) -> tuple[SourceVma | None, Outcome | None]:
    """find_vma and what it must allow; pages that cannot be pinned at all."""
    encl = request.encl
    address = TargetAddr(request.src + done)
    if request.found is not None and request.found.start <= address < request.found.end:
        return request.found, None
    vma = _lowest(request.task.memory.find_vma(address), request.task.mm.find_vma(address))
    if vma is None:
        return None, refuse_add(
            encl,
            errno.EFAULT,
            "a mapping lies at or above src",
            "mapped memory",
            address,
            function="__sgx_encl_add_page",
        )
    every = encl.profile.add_pages.noexec is NoexecRule.EVERY_PAGE
    if not vma.may_exec and (every or request.ceiling & SecinfoFlags.X):
        return None, refuse_add(
            encl,
            errno.EACCES,
            "the source may become executable (VM_MAYEXEC)",
            "memory that is not on a noexec mount",
            f"{vma.start:#x}-{vma.end:#x}",
            function="__sgx_encl_add_page",
            remedy="copy the contents to anonymous memory first",
        )
    if address < vma.start or not vma.pinnable:
        found = "device memory" if vma.start <= address else "nothing"
        return None, refuse_add(
            encl,
            errno.EFAULT,
            "the source page can be pinned",
            "ordinary mapped memory",
            f"{found} at {address:#x}",
            function="__sgx_encl_add_page",
        )
    request.found = vma
    return vma, None


def _lowest(ordinary: SourceVma | None, enclave: SourceVma | None) -> SourceVma | None:
    """Which of two mappings find_vma would have found; an ordinary one ends where an enclave starts, if it must."""
    if ordinary is None or enclave is None:
        return ordinary or enclave
    return enclave if enclave.end <= ordinary.end else ordinary


class _Source:
    """The program's pages, as EADD's bulk leaf wants them."""

    def __init__(self, memory: TaskMemory, start: int) -> None:
        self._memory = memory
        self._start = start

    def copy_to_file(self, fd: int, file_offset: int, position: int, size: int) -> int:
        return self._memory.copy_to_file(fd, file_offset, TargetAddr(self._start + position), size)

    def read(self, position: int, size: int) -> bytes:
        try:
            return self._memory.read(TargetAddr(self._start + position), size)
        except BadAddress as bad:
            raise not_mapped(Linaddr(bad.address), size) from bad


class _Judged(_Source):
    """The program's pages, and a security stack's say in them: asked extent by extent, when their bytes are copied.

    Args:
        request: that brings them.
        first: page index in ELRANGE of the first.
        start: the program's address of it.

    Attributes:
        reason: why it went no further.
    """

    def __init__(self, request: AddRequest, first: int, start: int) -> None:
        super().__init__(request.task.memory, start)
        self._request = request
        self._first = first
        self._code = bool(request.ceiling & SecinfoFlags.X) or request.page_type is PageType.TCS
        self._copied: Extent | None = None
        self._loaded: list[tuple[int, int, Origin | None, Answer]] = []
        self.reason: Reason | None = None

    def copy_to_file(self, fd: int, file_offset: int, position: int, size: int) -> int:
        """As any source's; data that a file vouches for comes from that file, where this is known without a look."""
        pages = None if self._code else self._unwritten(self._start + position, size)
        if pages is not None:
            origin = pages.copy_to_file(fd, file_offset, self._start + position, size)
            if origin is not None:
                self._copied = Extent(size, origin)
                return size
            self._request.unwritten = None  # the next block is looked at again
        return super().copy_to_file(fd, file_offset, position, size)

    def _unwritten(self, address: int, size: int) -> FilePages | None:
        """All of the pages, from a file and not written to; the rest of the request is looked at with them."""
        request, pages = self._request, self._request.unwritten
        if pages is None or not pages.start <= address < pages.end:
            if request.task.provenance is None or request.found is None:
                return None
            end = min(request.found.end, request.src + request.length)
            pages = request.task.provenance.unwritten(TargetAddr(address), end - address)
            request.unwritten = pages
        return pages if pages is not None and address + size <= pages.end else None

    def _extents(self, position: int, contents: memoryview) -> Iterable[Extent]:
        copied, self._copied = self._copied, None
        if copied is not None:
            return [copied]
        return hooks.extents(self._request.task, self._start + position, contents, code=self._code)

    def admit(self, position: int, contents: memoryview) -> int:
        """Ask for a block of pages at a byte position in the stretch: how many, from the first on, may be added."""
        request, done = self._request, 0
        for extent in self._extents(position, contents):
            answer = hooks.loading(
                request.encl,
                request.task.subject,
                offset=self._first * PAGE_SIZE + position + done,
                page_type=request.page_type,
                ceiling=request.ceiling,
                measured=request.measured,
                contents=contents[done : done + extent.size],
                origin=extent.origin,
                source=self._start + position + done,
            )
            if answer.reason is not None:
                self.reason = answer.reason
                break
            index = (position + done) // PAGE_SIZE
            self._loaded.append((index, extent.size // PAGE_SIZE, extent.origin, answer))
            done += extent.size
        return done // PAGE_SIZE

    def remember(self, added: int) -> None:
        """That many pages, from the first on, were added."""
        security = self._request.encl.security
        for index, count, origin, answer in self._loaded:
            first, count = self._first + index, min(count, added - index)
            if security is not None and count > 0:
                security.pages.loaded(
                    first, count, origin, answer.obligations, measured=self._request.measured
                )
                security.pages.approve(first, count, Approval(self._request.task.subject, answer.allowed))


def _eadd(
    request: AddRequest, done: int, first: int, frames: Frames, source: _Source
) -> tuple[int, Outcome | None]:
    """EADD (and EEXTEND) of a stretch; frames that no page got are free again."""
    encl, cpu = request.encl, request.encl.driver.cpu
    rules, start = encl.profile.add_pages, request.src + done
    judged = source if isinstance(source, _Judged) else None
    state = cpu.enclaves[cpu.epc.frame(encl.secs_address)]
    before = state.children
    refused: Outcome | None = None
    spoilt = 0
    try:
        eadd.run(
            cpu,
            encl.secs_address,
            frames,
            Linaddr(encl.base + first * PAGE_SIZE),
            request.secinfo,
            source,
            request.measured,
            judged.admit if judged is not None else None,
        )
        added = state.children - before
        if judged is not None and judged.reason is not None:
            refused = hooks.denied(judged.reason)
        elif not added:
            refused = _unreadable(encl, start)
    except Fault as fault:
        added = state.children - before
        if fault.reason.operation == "EEXTEND":
            # The page is in the EPC and in MRENCLAVE already; only the former can be undone.
            added -= 1
            spoilt = 1
            encl.dead = rules.eextend_fault_kills
        refused = _faulted(request, fault, start + added * PAGE_SIZE)
    if spoilt:
        encl.driver.free_page(int(frames[added]))
    cpu.epc.unread(frames[added + spoilt :])
    return added, refused


def _unreadable(encl: Encl, address: int) -> Outcome:
    return refuse_add(
        encl,
        errno.EFAULT,
        "the source page is readable",
        "readable memory",
        address,
        function="__sgx_encl_add_page",
    )


def _faulted(request: AddRequest, fault: Fault, address: int) -> Outcome:
    """EADD or EEXTEND of the page at ``address`` faulted; Linux would have pinned the page before."""
    encl, rules = request.encl, request.encl.profile.add_pages
    extending = fault.reason.operation == "EEXTEND"
    if not extending:
        try:
            request.task.memory.read(TargetAddr(address), PAGE_SIZE)
        except BadAddress:
            return _unreadable(encl, address)
    return refuse_add(
        encl,
        rules.eextend_fault if extending else rules.eadd_fault,
        f"{fault.reason.operation} does not fault",
        "success",
        fault.mnemonic,
        function="__sgx_encl_extend" if extending else "__sgx_encl_add_page",
        cause=fault.reason,
    )
