"""SGX_IOC_ENCLAVE_ADD_PAGES. Read from ioctl.c, sgx_ioc_enclave_add_pages and below, of Linux 6.1 and 6.12 (same).

What happens to the pages themselves is in :mod:`swsgx.linux.stretch`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from swsgx.isa.address import PAGE_SIZE, TargetAddr, is_aligned
from swsgx.isa.flags import PERM_MASK, PageType, SecinfoFlags, page_type_of
from swsgx.isa.structs import Secinfo
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import AddCheck
from swsgx.linux.stretch import AddRequest, add_all, refuse_add
from swsgx.linux.task import BadAddress, Task
from swsgx.linux.uapi import EnclaveAddPages, EnclaveAddPagesV23

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["add_pages"]

_BITS_64 = (1 << 64) - 1
#: SECINFO.FLAGS bits 3..7 and 16..63.
_SECINFO_RESERVED = 0xFFFF_FFFF_FFFF_00F8
#: First address that a user's pointer may not reach.
_TASK_SIZE_MAX = 0x7FFF_FFFF_F000


def add_pages(encl: Encl, task: Task, arg: int) -> Outcome:
    """Add consecutive pages, all with one SECINFO, and measure their contents if asked.

    `count` is written back, in bytes done, also when it stops half way; pages done stay. v23 has no count: it
    advances src, offset and length instead.

    Returns: 0, maybe with a short count after a signal; -EINVAL wrong state, a misaligned or bad range, a bad
        SECINFO; -EFAULT a pointer leads nowhere; -ENOMEM no EPC page; -EBUSY a page exists there; -EACCES the
        source is on a noexec mount, or a security module refused; -EIO EADD or EEXTEND faults; -ERESTARTSYS a
        signal before the first page.
    """
    request = AddRequest(encl, task, TargetAddr(arg))
    for check in encl.profile.add_pages.checks:
        refused = _CHECKS[check](request)
        if refused is not None:
            return refused
    done, outcome = add_all(request)
    try:
        encl.pages_changed(request.offset // PAGE_SIZE, done // PAGE_SIZE)
    except OSError as error:
        outcome = refuse_add(encl, errno.ENOMEM, "the host can map the pages", "success", str(error))
    try:
        task.memory.write(TargetAddr(arg), _written_back(request, done))
    except BadAddress as bad:
        return refuse_add(
            encl,
            errno.EFAULT,
            "the argument is writable",
            "a writable structure",
            bad.address,
            cause=outcome.reason,
        )
    return outcome


def _written_back(request: AddRequest, done: int) -> bytes:
    if not request.encl.profile.add_pages.advances:
        upstream = EnclaveAddPages(bytearray(request.raw))
        upstream.count = done
        return bytes(upstream)
    advanced = EnclaveAddPagesV23(bytearray(request.raw))
    advanced.src = (request.src + done) & _BITS_64
    advanced.offset += done
    advanced.length -= done
    return bytes(advanced)


def _created(request: AddRequest) -> Outcome | None:
    if not request.encl.created:
        return refuse_add(request.encl, errno.EINVAL, "CREATE was done", "a created enclave", "an empty one")
    return None


def _building(request: AddRequest) -> Outcome | None:
    if request.encl.initialised:
        return refuse_add(
            request.encl, errno.EINVAL, "INIT was not done", "a created enclave", "an initialised one"
        )
    return _created(request)


def _argument(request: AddRequest) -> Outcome | None:
    layout = EnclaveAddPagesV23 if request.encl.profile.add_pages.advances else EnclaveAddPages
    try:
        request.raw = request.task.memory.read(request.arg, layout.size_of)
    except BadAddress as bad:
        expected = f"{layout.size_of} readable bytes"
        return refuse_add(request.encl, errno.EFAULT, "the argument is readable", expected, bad.address)
    argument = EnclaveAddPagesV23(request.raw)
    request.src, request.offset, request.length = argument.src, argument.offset, argument.length
    request.secinfo_address, request.flags = TargetAddr(argument.secinfo), argument.flags
    return None


def _aligned(request: AddRequest, name: str, value: int) -> Outcome | None:
    if not is_aligned(value, PAGE_SIZE):
        return refuse_add(request.encl, errno.EINVAL, f"{name} is page aligned", "a multiple of 4096", value)
    return None


def _src_aligned(request: AddRequest) -> Outcome | None:
    return _aligned(request, "src", request.src)


def _offset_aligned(request: AddRequest) -> Outcome | None:
    return _aligned(request, "offset", request.offset)


def _src_readable(request: AddRequest) -> Outcome | None:
    if request.src + PAGE_SIZE > _TASK_SIZE_MAX:
        expected = f"below {_TASK_SIZE_MAX:#x}"
        return refuse_add(
            request.encl, errno.EFAULT, "src is an address of user space", expected, request.src
        )
    return None


def _length_aligned(request: AddRequest) -> Outcome | None:
    return _aligned(request, "length", request.length)


def _length(request: AddRequest) -> Outcome | None:
    if not request.length:
        return refuse_add(request.encl, errno.EINVAL, "length is not 0", "at least a page", 0)
    return _length_aligned(request)


def _no_wrap(request: AddRequest) -> Outcome | None:
    if request.offset + request.length > _BITS_64:
        found = f"{request.offset:#x} + {request.length:#x}"
        return refuse_add(request.encl, errno.EINVAL, "offset + length does not wrap", "below 2^64", found)
    return None


def _in_range(request: AddRequest) -> Outcome | None:
    # With length 0 (v23) and offset 0 the kernel's sum wraps to the last page of the address space.
    last = (request.offset + request.length - PAGE_SIZE) & _BITS_64
    if request.length and last >= request.encl.size:
        return refuse_add(
            request.encl,
            errno.EINVAL,
            "the last page is inside the enclave",
            f"below {request.encl.size:#x}",
            last,
        )
    return None


def _secinfo(request: AddRequest) -> Outcome | None:
    try:
        request.secinfo = Secinfo(request.task.memory.read(request.secinfo_address, Secinfo.size_of))
    except BadAddress as bad:
        return refuse_add(
            request.encl, errno.EFAULT, "the SECINFO is readable", "64 readable bytes", bad.address
        )
    return None


def _secinfo_rules(request: AddRequest) -> Outcome | None:
    """sgx_validate_secinfo."""
    flags = request.secinfo.flags
    found_type, perm = page_type_of(flags), flags & PERM_MASK

    def no(rule: str, expected: object, found: object) -> Outcome:
        return refuse_add(request.encl, errno.EINVAL, rule, expected, found, function="sgx_validate_secinfo")

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


_CHECKS: dict[AddCheck, Callable[[AddRequest], Outcome | None]] = {
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
