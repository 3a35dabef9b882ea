"""SGX_IOC_ENCLAVE_CREATE. Read from ioctl.c, sgx_ioc_enclave_create, of Linux 6.1 and 6.12 (same)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swsgx.cpu.encls.ecreate import ecreate
from swsgx.cpu.faults import Fault
from swsgx.cpu.memory import ScratchMemory
from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.isa.flags import Attributes
from swsgx.isa.ssa import Gprsgx, misc_size, xsave_size
from swsgx.isa.structs import Pageinfo, Secinfo, Secs
from swsgx.linux import hooks
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import OK, Outcome, Refuser
from swsgx.linux.profile import CreateCheck
from swsgx.linux.reclaim import EpcFull
from swsgx.linux.task import BadAddress, Task
from swsgx.linux.uapi import EnclaveCreate

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["create"]

#: ENCLS faults travel through the kernel as this plus the vector; v23 lets it out.
_ENCLS_FAULT_FLAG = 0x4000_0000


@dataclass
class _Request:
    encl: Encl
    task: Task
    arg: TargetAddr
    src: TargetAddr = TargetAddr(0)
    secs: Secs | None = None


_refuse = Refuser("SGX_IOC_ENCLAVE_CREATE", "ioctl.c", "sgx_ioc_enclave_create")


def create(encl: Encl, task: Task, arg: int) -> Outcome:
    """Allocate an enclave's SECS and run ECREATE.

    A failure undoes everything; CREATE can be tried again.

    Returns: 0; -EINVAL created before, or SECS.SIZE is no power of two (v23: or any rule of its own validation);
        -EFAULT the argument or the SECS cannot be read, or EPA faults; -ENOMEM no memory or no EPC page;
        -ERESTARTSYS a signal while reclaiming; -EACCES a security module refused; -EIO ECREATE faults (v23:
        the positive value 0x40000000 + vector).
    """
    request = _Request(encl, task, TargetAddr(arg))
    for check in encl.profile.create.checks:
        refused = _CHECKS[check](request)
        if refused is not None:
            return refused
    secs = request.secs if request.secs is not None else Secs()
    if encl.security is not None:
        reason = hooks.creating(encl, task.subject, secs)
        if reason is not None:
            return hooks.denied(reason)
    outcome = _with_room(request, secs)
    if outcome.ok and encl.created:
        encl.announce()
    return outcome


def _not_created(request: _Request) -> Outcome | None:
    if request.encl.created:
        return _refuse(
            request.encl, errno.EINVAL, "CREATE was not done before", "an empty enclave", "a created one"
        )
    return None


def _argument(request: _Request) -> Outcome | None:
    try:
        request.src = TargetAddr(
            EnclaveCreate(request.task.memory.read(request.arg, EnclaveCreate.size_of)).src
        )
    except BadAddress as bad:
        return _refuse(
            request.encl, errno.EFAULT, "the argument is readable", "8 readable bytes", bad.address
        )
    return None


def _buffer(request: _Request) -> Outcome | None:
    failure = request.encl.driver.failures.hit(FailurePoint.COPY_BUFFER)
    if failure:
        return _refuse(request.encl, failure, "memory for a copy of the SECS", "a page", "none")
    return None


def _secs(request: _Request) -> Outcome | None:
    try:
        request.secs = Secs(bytearray(request.task.memory.read(request.src, PAGE_SIZE)))
    except BadAddress as bad:
        return _refuse(
            request.encl, errno.EFAULT, "the SECS at src is readable", "4096 readable bytes", bad.address
        )
    return None


def _size_power_of_two(request: _Request) -> Outcome | None:
    size = request.secs.size if request.secs is not None else 0
    if not size or size & (size - 1):
        return _refuse(request.encl, errno.EINVAL, "SECS.SIZE is a power of two", "a power of two", size)
    return None


def _secs_rules(request: _Request) -> Outcome | None:
    """v23: sgx_validate_secs; every failure is EINVAL, so the order cannot be told from outside."""
    encl, secs = request.encl, request.secs if request.secs is not None else Secs()
    model = encl.driver.cpu.model

    def no(rule: str, expected: object, found: object) -> Outcome:
        return _refuse(encl, errno.EINVAL, rule, expected, found)

    if secs.size < 2 * PAGE_SIZE or secs.size & (secs.size - 1):
        return no(
            "SECS.SIZE is a power of two of at least two pages", "a power of two, at least 0x2000", secs.size
        )
    if secs.baseaddr & (secs.size - 1):
        return no("SECS.BASEADDR is a multiple of SECS.SIZE", f"a multiple of {secs.size:#x}", secs.baseaddr)
    if secs.miscselect & ~model.exinfo:
        return no("SECS.MISCSELECT is supported", model.exinfo, secs.miscselect)
    reserved = encl.profile.static_reserved_attributes | ~model.attributes_mask & (1 << 64) - 1
    if secs.attributes & reserved:
        return no("SECS.ATTRIBUTES has no reserved bit", f"no bit of {reserved:#x}", secs.attributes)
    if secs.xfrm & ~model.xfrm_mask:
        return no("SECS.XFRM is supported", model.xfrm_mask, secs.xfrm)
    limit = model.size_log2_64 if secs.attributes & Attributes.MODE64BIT else model.size_log2_32
    if secs.size >= 1 << limit:
        return no("SECS.SIZE is below the processor's limit", f"below 2^{limit}", secs.size)
    if secs.xfrm & 3 != 3 or (secs.xfrm >> 3 & 1) != (secs.xfrm >> 4 & 1):
        return no(
            "SECS.XFRM has x87 and SSE, and MPX bits 3 and 4 together", "bits 1:0 set, 4:3 equal", secs.xfrm
        )
    needed = xsave_size(secs.xfrm, model.components) + misc_size(secs.miscselect) + Gprsgx.size_of
    if secs.ssaframesize * PAGE_SIZE < needed:
        return no(
            "SECS.SSAFRAMESIZE holds a frame",
            f"{-(-needed // PAGE_SIZE)} pages",
            f"{secs.ssaframesize} pages",
        )
    nonzero = secs.first_nonzero_reserved()
    if nonzero is not None:
        return no("SECS reserved bytes are zero", "zero", f"byte {nonzero[1]} ({nonzero[0]}) is not")
    return None


_CHECKS: dict[CreateCheck, Callable[[_Request], Outcome | None]] = {
    CreateCheck.NOT_CREATED: _not_created,
    CreateCheck.ARGUMENT: _argument,
    CreateCheck.BUFFER: _buffer,
    CreateCheck.SECS: _secs,
    CreateCheck.SIZE_POWER_OF_TWO: _size_power_of_two,
    CreateCheck.SECS_RULES: _secs_rules,
}


def _with_room(request: _Request, secs: Secs) -> Outcome:
    """Reclaim EPC pages as long as there are too few."""
    encl, driver = request.encl, request.encl.driver
    while True:
        try:
            with encl.mutex:
                outcome = _create(encl, secs)
        except EpcFull as full:
            refused = driver.reclaimer.make_room(full.need, request.task.signal_pending)
            if refused is None:
                continue
            outcome = refused
        driver.balance()
        return outcome


def _create(encl: Encl, secs: Secs) -> Outcome:
    """sgx_encl_create, from the VA page on."""
    driver = encl.driver
    va_page = driver.grow(encl)
    if isinstance(va_page, Outcome):
        return va_page
    failure = driver.failures.hit(FailurePoint.BACKING)
    if failure:
        driver.shrink(encl, va_page)
        return _refuse(encl, failure, "a backing file for evicted pages", "a file", "none")
    try:
        frame = driver.take_page(FailurePoint.SECS_PAGE)
    except EpcFull as full:
        driver.shrink(encl, va_page)
        raise EpcFull(2 if va_page is not None else 1) from full
    if isinstance(frame, Outcome):
        driver.shrink(encl, va_page)
        return frame
    refused = _ecreate(encl, secs, frame)
    if refused is not None:
        driver.free_page(frame)
        driver.shrink(encl, va_page)
        return refused
    encl.page_count += 1
    encl.settle(secs, frame)
    return OK


def _ecreate(encl: Encl, secs: Secs, frame: int) -> Outcome | None:
    cpu = encl.driver.cpu
    memory = ScratchMemory()
    pageinfo = Pageinfo.of(
        srcpge=memory.place(secs.buffer, PAGE_SIZE), secinfo=memory.place(bytes(Secinfo.size_of), 64)
    )
    try:
        ecreate(cpu, memory, memory.place(pageinfo.buffer, 32), cpu.epc.address(frame))
    except Fault as fault:
        number = encl.profile.create.ecreate_fault
        told = _refuse(
            encl,
            number or errno.EIO,
            "ECREATE does not fault",
            "success",
            fault.mnemonic,
            function="sgx_encl_create",
            cause=fault.reason,
        )
        return told if number is not None else Outcome(_ENCLS_FAULT_FLAG + fault.vector, told.reason)
    except OSError as error:
        return _refuse(
            encl, errno.ENOMEM, "the host can hold the enclave's range", f"{secs.size:#x} bytes", str(error)
        )
    return None
