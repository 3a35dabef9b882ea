"""SGX_IOC_ENCLAVE_ADD_PAGES. Read from ioctl.c, sgx_ioc_enclave_add_pages and below, of Linux 6.1 and 6.12 (same).

Linux goes page by page. Here a *stretch* of pages, all of the same fate, goes through the checks as one: the
stretch ends where a VA page is due, where a page exists, and where the source's mapping ends. What can only
fail for its first page is checked for that one, in Linux's order. Signals are looked at between stretches.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.encls import eadd
from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import Fault
from swsgx.cpu.memory import not_mapped
from swsgx.isa.address import PAGE_SIZE, Linaddr, TargetAddr, is_aligned
from swsgx.isa.flags import PERM_MASK, PageType, SecinfoFlags, page_type_of
from swsgx.isa.structs import Secinfo
from swsgx.linux.encl import VA_SLOTS
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import ERESTARTSYS, OK, Outcome, refuse
from swsgx.linux.profile import AddCheck, NoexecRule
from swsgx.linux.security import Load
from swsgx.linux.task import BadAddress, SourceVma, Task, TaskMemory
from swsgx.linux.uapi import PAGE_MEASURE, EnclaveAddPages, EnclaveAddPagesV23
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["add_pages"]

_NAME = "SGX_IOC_ENCLAVE_ADD_PAGES"
_BITS_64 = (1 << 64) - 1
#: SECINFO.FLAGS bits 3..7 and 16..63.
_SECINFO_RESERVED = 0xFFFF_FFFF_FFFF_00F8
#: First address that a user's pointer may not reach.
_TASK_SIZE_MAX = 0x7FFF_FFFF_F000
#: What a mapping of a TCS may have: R and W.
_TCS_CEILING = 3


@dataclass
class _Request:
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

    @property
    def page_type(self) -> PageType:
        return PageType(page_type_of(self.secinfo.flags))

    @property
    def ceiling(self) -> int:
        return _TCS_CEILING if self.page_type is PageType.TCS else self.secinfo.flags & PERM_MASK

    @property
    def measured(self) -> bool:
        # Quirk of all kernels: unknown bits in flags are ignored. test_unknown_flags_are_ignored
        return bool(self.flags & PAGE_MEASURE)


def _refuse(
    encl: Encl,
    number: int,
    rule: str,
    expected: object,
    found: object,
    *,
    function: str = "sgx_ioc_enclave_add_pages",
    remedy: str = "",
    cause: Reason | None = None,
) -> Outcome:
    return refuse(
        number,
        operation=_NAME,
        rule=rule,
        expected=expected,
        found=found,
        source=encl.profile.source(f"ioctl.c: {function}"),
        remedy=remedy,
        cause=cause,
    )


def add_pages(encl: Encl, task: Task, arg: int) -> Outcome:
    """Add consecutive pages, all with one SECINFO, and measure their contents if asked.

    `count` is written back, in bytes done, also when it stops half way; pages done stay. v23 has no count: it
    advances src, offset and length instead.

    Returns: 0, maybe with a short count after a signal; -EINVAL wrong state, a misaligned or bad range, a bad
        SECINFO; -EFAULT a pointer leads nowhere; -ENOMEM no EPC page; -EBUSY a page exists there; -EACCES the
        source is on a noexec mount, or a security module refused; -EIO EADD or EEXTEND faults; -ERESTARTSYS a
        signal before the first page.
    """
    request = _Request(encl, task, TargetAddr(arg))
    for check in encl.profile.add_pages.checks:
        refused = _CHECKS[check](request)
        if refused is not None:
            return refused
    done, outcome = _loop(request)
    try:
        encl.pages_changed(request.offset // PAGE_SIZE, done // PAGE_SIZE)
    except OSError as error:
        outcome = _refuse(encl, errno.ENOMEM, "the host can map the pages", "success", str(error))
    try:
        task.memory.write(TargetAddr(arg), _written_back(request, done))
    except BadAddress as bad:
        return _refuse(
            encl,
            errno.EFAULT,
            "the argument is writable",
            "a writable structure",
            bad.address,
            cause=outcome.reason,
        )
    return outcome


def _written_back(request: _Request, done: int) -> bytes:
    if not request.encl.profile.add_pages.advances:
        upstream = EnclaveAddPages(bytearray(request.raw))
        upstream.count = done
        return bytes(upstream)
    advanced = EnclaveAddPagesV23(bytearray(request.raw))
    advanced.src = (request.src + done) & _BITS_64
    advanced.offset += done
    advanced.length -= done
    return bytes(advanced)


# Checks before the loop.


def _created(request: _Request) -> Outcome | None:
    if not request.encl.created:
        return _refuse(request.encl, errno.EINVAL, "CREATE was done", "a created enclave", "an empty one")
    return None


def _building(request: _Request) -> Outcome | None:
    if request.encl.initialised:
        return _refuse(
            request.encl, errno.EINVAL, "INIT was not done", "a created enclave", "an initialised one"
        )
    return _created(request)


def _argument(request: _Request) -> Outcome | None:
    layout = EnclaveAddPagesV23 if request.encl.profile.add_pages.advances else EnclaveAddPages
    try:
        request.raw = request.task.memory.read(request.arg, layout.size_of)
    except BadAddress as bad:
        expected = f"{layout.size_of} readable bytes"
        return _refuse(request.encl, errno.EFAULT, "the argument is readable", expected, bad.address)
    argument = EnclaveAddPagesV23(request.raw)
    request.src, request.offset, request.length = argument.src, argument.offset, argument.length
    request.secinfo_address, request.flags = TargetAddr(argument.secinfo), argument.flags
    return None


def _aligned(request: _Request, name: str, value: int) -> Outcome | None:
    if not is_aligned(value, PAGE_SIZE):
        return _refuse(request.encl, errno.EINVAL, f"{name} is page aligned", "a multiple of 4096", value)
    return None


def _src_aligned(request: _Request) -> Outcome | None:
    return _aligned(request, "src", request.src)


def _offset_aligned(request: _Request) -> Outcome | None:
    return _aligned(request, "offset", request.offset)


def _src_readable(request: _Request) -> Outcome | None:
    if request.src + PAGE_SIZE > _TASK_SIZE_MAX:
        expected = f"below {_TASK_SIZE_MAX:#x}"
        return _refuse(request.encl, errno.EFAULT, "src is an address of user space", expected, request.src)
    return None


def _length_aligned(request: _Request) -> Outcome | None:
    return _aligned(request, "length", request.length)


def _length(request: _Request) -> Outcome | None:
    if not request.length:
        return _refuse(request.encl, errno.EINVAL, "length is not 0", "at least a page", 0)
    return _length_aligned(request)


def _no_wrap(request: _Request) -> Outcome | None:
    if request.offset + request.length > _BITS_64:
        found = f"{request.offset:#x} + {request.length:#x}"
        return _refuse(request.encl, errno.EINVAL, "offset + length does not wrap", "below 2^64", found)
    return None


def _in_range(request: _Request) -> Outcome | None:
    # With length 0 (v23) and offset 0 the kernel's sum wraps to the last page of the address space.
    last = (request.offset + request.length - PAGE_SIZE) & _BITS_64
    if request.length and last >= request.encl.size:
        return _refuse(
            request.encl,
            errno.EINVAL,
            "the last page is inside the enclave",
            f"below {request.encl.size:#x}",
            last,
        )
    return None


def _secinfo(request: _Request) -> Outcome | None:
    try:
        request.secinfo = Secinfo(request.task.memory.read(request.secinfo_address, Secinfo.size_of))
    except BadAddress as bad:
        return _refuse(
            request.encl, errno.EFAULT, "the SECINFO is readable", "64 readable bytes", bad.address
        )
    return None


def _secinfo_rules(request: _Request) -> Outcome | None:
    """sgx_validate_secinfo."""
    flags = request.secinfo.flags
    found_type, perm = page_type_of(flags), flags & PERM_MASK

    def no(rule: str, expected: object, found: object) -> Outcome:
        return _refuse(request.encl, errno.EINVAL, rule, expected, found, function="sgx_validate_secinfo")

    if found_type not in (PageType.TCS, PageType.REG):
        return no("SECINFO's page type is TCS or REG", "1 or 2", found_type)
    if perm & SecinfoFlags.W and not perm & SecinfoFlags.R:
        return no("SECINFO.W comes with SECINFO.R", "R, or no W", flags)
    if found_type == PageType.TCS and perm:
        return no("a TCS has no permissions", "no R, W or X", flags)
    if flags & _SECINFO_RESERVED:
        return no("SECINFO.FLAGS reserved bits are zero", f"no bit of {_SECINFO_RESERVED:#x}", flags)
    reserved = request.secinfo.first_nonzero_reserved()
    if reserved is not None:
        return no("SECINFO reserved bytes are zero", "zero", f"byte {reserved[1]} is not")
    return None


_CHECKS: dict[AddCheck, Callable[[_Request], Outcome | None]] = {
    AddCheck.BUILDING: _building,
    AddCheck.CREATED: _created,
    AddCheck.ARGUMENT: _argument,
    AddCheck.SRC_ALIGNED: _src_aligned,
    AddCheck.OFFSET_ALIGNED: _offset_aligned,
    AddCheck.SRC_READABLE: _src_readable,
    AddCheck.LENGTH: _length,
    AddCheck.LENGTH_ALIGNED: _length_aligned,
    AddCheck.NO_WRAP: _no_wrap,
    AddCheck.IN_RANGE: _in_range,
    AddCheck.SECINFO: _secinfo,
    AddCheck.SECINFO_RULES: _secinfo_rules,
}


# The loop.


def _loop(request: _Request) -> tuple[int, Outcome]:
    """Bytes done, and the ioctl's result."""
    encl, rules = request.encl, request.encl.profile.add_pages
    done = 0
    while done < request.length:
        if request.task.signal_pending():
            if done and not rules.restart_after_progress:
                return done, Outcome(
                    0, _refuse(encl, 0, "no signal arrives", "none", "one, after some pages").reason
                )
            return done, _refuse(encl, ERESTARTSYS, "no signal arrives", "none", "one")
        with encl.mutex:
            added, refused = _stretch(request, done)
        done += added * PAGE_SIZE
        if refused is not None:
            return done, refused
    return done, OK


def _stretch(request: _Request, done: int) -> tuple[int, Outcome | None]:
    """Add at least one page from byte ``done`` on: how many, and why no further (None: there was no reason)."""
    encl, driver = request.encl, request.encl.driver
    failures, epc = driver.failures, driver.cpu.epc

    # Allocations for the first page.
    failure = failures.hit(FailurePoint.PAGE_BOOKKEEPING) if failures.armed else 0
    if failure:
        told = _refuse(
            encl, failure, "memory for the record of a page", "memory", "none", function="sgx_encl_page_alloc"
        )
        return 0, told
    frame = driver.take_page(FailurePoint.EPC_PAGE)
    if isinstance(frame, Outcome):
        return 0, frame
    va_page = driver.grow(encl)
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
        refused = _refuse(
            encl,
            encl.profile.add_pages.after_init,
            "INIT was not done",
            "a created enclave",
            "an initialised one",
        )
    elif not count:
        refused = _refuse(
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
    frames = np.concatenate((np.array([frame], np.uint32), epc.allocate_run(count - 1)))
    added, refused = _eadd(request, done, first, frames, vma)
    encl.insert(first, added, request.page_type, request.ceiling)
    if not added:
        driver.shrink(encl, va_page)
    return added, refused


def _source(request: _Request, done: int) -> tuple[SourceVma | None, Outcome | None]:
    """find_vma and what it must allow; pages that cannot be pinned at all."""
    encl = request.encl
    address = TargetAddr(request.src + done)
    vma = _lowest(request.task.memory.find_vma(address), request.task.mm.find_vma(address))
    if vma is None:
        return None, _refuse(
            encl,
            errno.EFAULT,
            "a mapping lies at or above src",
            "mapped memory",
            address,
            function="__sgx_encl_add_page",
        )
    every = encl.profile.add_pages.noexec is NoexecRule.EVERY_PAGE
    if not vma.may_exec and (every or request.ceiling & SecinfoFlags.X):
        return None, _refuse(
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
        return None, _refuse(
            encl,
            errno.EFAULT,
            "the source page can be pinned",
            "ordinary mapped memory",
            f"{found} at {address:#x}",
            function="__sgx_encl_add_page",
        )
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


def _eadd(
    request: _Request, done: int, first: int, frames: Frames, vma: SourceVma
) -> tuple[int, Outcome | None]:
    """EADD (and EEXTEND) of a stretch; frames that no page got are free again."""
    encl, cpu = request.encl, request.encl.driver.cpu
    rules, security = encl.profile.add_pages, encl.driver.security
    start = request.src + done
    denied: list[Reason] = []

    def admit(position: int, contents: memoryview) -> int:
        event = Load(
            first * PAGE_SIZE + position,
            request.page_type,
            request.ceiling,
            request.measured,
            contents.toreadonly(),
            vma.origin,
            start + position,
        )
        reason = security.load(request.task.subject, encl, event)
        if reason is None:
            return len(contents) // PAGE_SIZE
        denied.append(reason)
        return 0

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
            _Source(request.task.memory, start),
            request.measured,
            admit if security.active else None,
        )
        added = state.children - before
        if denied:
            refused = Outcome(-errno.EACCES, denied[0])
        elif not added:
            refused = _refuse(
                encl,
                errno.EFAULT,
                "the source page is readable",
                "readable memory",
                start,
                function="__sgx_encl_add_page",
            )
    except Fault as fault:
        added = state.children - before
        extending = fault.reason.operation == "EEXTEND"
        if extending:
            # The page is in the EPC and in MRENCLAVE already; only the former can be undone.
            added -= 1
            spoilt = 1
            encl.dead = rules.eextend_fault_kills
        refused = _refuse(
            encl,
            rules.eextend_fault if extending else rules.eadd_fault,
            f"{fault.reason.operation} does not fault",
            "success",
            fault.mnemonic,
            function="__sgx_encl_extend" if extending else "__sgx_encl_add_page",
            cause=fault.reason,
        )
    if spoilt:
        encl.driver.free_page(int(frames[added]))
    cpu.epc.unread(frames[added + spoilt :])
    return added, refused
