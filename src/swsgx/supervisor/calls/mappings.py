"""Memory calls of armed processes: what concerns enclaves is the driver's, what is left of a range the kernel's."""

from __future__ import annotations

import errno
import os

from swsgx.isa.address import PAGE_SIZE
from swsgx.linux.device import EnclaveFile
from swsgx.native.abi import Answer
from swsgx.native.mappings import mappings_from
from swsgx.supervisor.calls.asked import Asked, Handler, Result
from swsgx.supervisor.files import flags_of
from swsgx.supervisor.process import TargetProcess

__all__ = ["MAPPING_CALLS"]

_MAP_FIXED, _MAP_FIXED_NOREPLACE = 0x10, 0x10_0000
_MAP_ANONYMOUS = 0x20
_MAP_TYPE = 0xF
_BITS_32 = 0xFFFF_FFFF


def _up(length: int) -> int:
    return -(-length // PAGE_SIZE) * PAGE_SIZE


def _touches(process: TargetProcess, address: int, length: int) -> bool:
    return any(True for _ in process.mm.overlapping(address, address + max(_up(length), 1)))


def _inside(process: TargetProcess, address: int, length: int) -> bool:
    """Whether enclave mappings cover the whole range."""
    at, end = address, address + _up(length)
    for vma in process.mm.overlapping(address, end):
        if vma.start > at:
            return False
        at = vma.end
    return at >= end


def mmap(asked: Asked) -> Result:
    """mmap(2): of a node's file; or of something else over an enclave's mapping."""
    address, length, prot, flags, fd, offset = asked.args
    stand = asked.stand(fd) if not flags & _MAP_ANONYMOUS else None
    process = asked.process
    if stand is not None and flags_of(asked.tid, fd & _BITS_32) & os.O_PATH:
        return -errno.EBADF
    if process is None:
        return Answer.ARM_FIRST if stand is not None else Answer.PASS
    if stand is None:
        replaces = flags & _MAP_FIXED and not flags & _MAP_FIXED_NOREPLACE and _would_map(asked)
        if replaces and _touches(process, address, length):
            with process.mm.lock:
                process.mm.clear(address, address + _up(length))
        return Answer.PASS
    if not isinstance(stand.node, EnclaveFile):
        return _without_mmap(asked, length, flags, offset)
    return process.mm.mmap(
        address,
        length,
        prot,
        flags & _BITS_32,
        stand.node,
        offset,
        personality=process.personality(),
        subject=asked.subject,
    )


def _would_map(asked: Asked) -> bool:
    """Whether the kernel gets as far as taking away what was mapped: it looks at the arguments and the file first."""
    address, length, _, flags, fd, offset = asked.args
    if address % PAGE_SIZE or offset % PAGE_SIZE or not length:
        return False
    if flags & _MAP_ANONYMOUS:
        return True
    try:
        return not flags_of(asked.tid, fd & _BITS_32) & os.O_PATH
    except OSError:
        return False


def _without_mmap(asked: Asked, length: int, flags: int, offset: int) -> Result:
    """A node that cannot be mapped: what the kernel looks at before it asks the driver."""
    if offset % PAGE_SIZE or not length or flags & _MAP_TYPE not in (1, 2, 3):
        return -errno.EINVAL
    return -errno.ENODEV


def munmap(asked: Asked) -> Result:
    """munmap(2): the enclave's part by the driver; the kernel does the rest."""
    address, length, *_ = asked.args
    process = asked.process
    if process is None or not _touches(process, address, length):
        return Answer.PASS
    whole = _inside(process, address, length)
    outcome = process.mm.munmap(address, length)
    # The kernel takes what is left in the range. Not where nothing is: another thread may have mapped there since.
    return outcome if whole or not outcome.ok else Answer.PASS


def mprotect(asked: Asked) -> Result:
    """mprotect(2). A range that is an enclave's in part goes piece by piece, in ascending order, as the kernel goes."""
    address, length, prot, *_ = asked.args
    process = asked.process
    if process is None or not _touches(process, address, length):
        return Answer.PASS
    if address % PAGE_SIZE or not length or _inside(process, address, length):
        return process.mm.mprotect(
            address, length, prot, personality=process.personality(), subject=asked.subject
        )
    personality, subject = process.personality(), asked.subject
    at, end = address, address + _up(length)
    for vma in list(process.mm.overlapping(address, end)):
        refused = _protect_others(process, at, vma.start, prot)
        if refused:
            return refused
        start, at = max(vma.start, address), min(vma.end, end)
        outcome = process.mm.mprotect(start, at - start, prot, personality=personality, subject=subject)
        if not outcome.ok:
            return outcome
    return _protect_others(process, at, end, prot)


def _protect_others(process: TargetProcess, start: int, end: int, prot: int) -> int:
    """mprotect(2) between enclave mappings, up to the first gap: that is -ENOMEM."""
    at = start
    for mapping in mappings_from(process.pid, start):
        if mapping.start > at or at == end:
            break
        at = min(mapping.end, end)
    if start < at:
        process.engine.protect_others(start, at - start, prot)
    return -errno.ENOMEM if at < end else 0


def mremap(asked: Asked) -> Result:
    """mremap(2): of an enclave's mapping; or of something else to where one is."""
    address, old, new, flags, new_address, _ = asked.args
    process = asked.process
    if process is None:
        return Answer.PASS
    if _touches(process, address, 1):
        return process.mm.mremap(address, old, new, flags, new_address, subject=asked.subject)
    if flags & 2 and _touches(process, new_address, new):
        process.mm.munmap(new_address, new)
    return Answer.PASS


def madvise(asked: Asked) -> Result:
    """madvise(2)."""
    address, length, advice, *_ = asked.args
    process = asked.process
    if process is None or not _touches(process, address, length):
        return Answer.PASS
    if not _inside(process, address, length) and address % PAGE_SIZE == 0:
        return -errno.EINVAL
    return process.mm.madvise(address, length, advice & _BITS_32)


def mlock(asked: Asked) -> Result:
    """mlock(2), munlock(2), mlock2(2): done, and without effect on an enclave."""
    address, length, *_ = asked.args
    process = asked.process
    if process is None or not _inside(process, address & -PAGE_SIZE, length + address % PAGE_SIZE):
        return Answer.PASS
    return 0


MAPPING_CALLS = {
    9: Handler(mmap),
    10: Handler(mprotect),
    11: Handler(munmap),
    25: Handler(mremap),
    28: Handler(madvise),
    149: Handler(mlock),
    150: Handler(mlock),
    325: Handler(mlock),
    329: Handler(mprotect),
}
