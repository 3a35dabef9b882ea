"""madvise(2) of enclave mappings. Read from mm/madvise.c of 6.1 and 6.12 (same)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from swsgx.isa.address import PAGE_SIZE, is_aligned
from swsgx.linux.outcome import OK, Outcome, refuse
from swsgx.linux.vma import PROT_WRITE, Vma

if TYPE_CHECKING:
    from swsgx.linux.mm import AddressSpace

__all__ = ["MADV_DONTFORK", "MADV_REMOVE", "madvise"]

MADV_REMOVE, MADV_DONTFORK = 9, 10

#: Advice without effect on an enclave: NORMAL, RANDOM, SEQUENTIAL, WILLNEED, MERGEABLE, UNMERGEABLE, HUGEPAGE,
#: NOHUGEPAGE, DONTDUMP, KEEPONFORK.
_ACCEPTED = frozenset({0, 1, 2, 3, 12, 13, 14, 15, 16, 19})
#: Advice that device memory (VM_IO, VM_PFNMAP, a shared file) cannot have: DONTNEED, FREE, DOFORK, DODUMP,
#: WIPEONFORK, COLD, PAGEOUT, POPULATE_READ, POPULATE_WRITE, DONTNEED_LOCKED, COLLAPSE.
_INAPPLICABLE = frozenset({4, 8, 11, 17, 18, 20, 21, 22, 23, 24, 25})


def _refuse(number: int, rule: str, expected: object, found: object) -> Outcome:
    return refuse(
        number,
        operation="madvise",
        rule=rule,
        expected=expected,
        found=found,
        source="Linux 6.12, mm/madvise.c: do_madvise",
    )


def madvise(mm: AddressSpace, address: int, length: int, advice: int) -> Outcome:
    """Advise on enclave mappings; only MADV_DONTFORK does something.

    Returns: 0; -EINVAL misaligned, or advice that does not fit device memory; -ENODEV MADV_REMOVE, or -EACCES
        where the file was not opened for writing; -ENOMEM addresses that no enclave mapping covers (the rest
        is done all the same).
    """
    if advice not in _ACCEPTED | _INAPPLICABLE | {MADV_REMOVE, MADV_DONTFORK}:
        return _refuse(errno.EINVAL, "the advice is known", "an MADV_ constant", advice)
    if not is_aligned(address, PAGE_SIZE):
        return _refuse(errno.EINVAL, "the address is page aligned", "a multiple of 4096", address)
    end = address + -(-length // PAGE_SIZE) * PAGE_SIZE
    if end >= 1 << 64:
        return _refuse(errno.EINVAL, "the range does not wrap", "below 2^64", f"{address:#x}+{length:#x}")
    at, gap = address, False
    while at < end:
        vma = next(mm.overlapping(at, end), None)
        gap |= vma is None or vma.start > at
        if vma is None:
            break
        refused = _one(mm, vma, max(at, vma.start), min(end, vma.end), advice)
        if refused is not None:
            return refused
        at = min(end, vma.end)
    return _refuse(errno.ENOMEM, "the whole range is mapped", "no gap", "a gap") if gap else OK


def _one(mm: AddressSpace, vma: Vma, start: int, end: int, advice: int) -> Outcome | None:
    if advice in _INAPPLICABLE:
        return _refuse(errno.EINVAL, "the advice fits device memory", "other advice", advice)
    if advice == MADV_REMOVE:
        if not vma.may & PROT_WRITE:
            return _refuse(errno.EACCES, "the mapping may be written", "a file opened O_RDWR", "O_RDONLY")
        return _refuse(errno.ENODEV, "the file is a regular one", "fallocate", vma.file.node)
    if advice == MADV_DONTFORK and not vma.dontfork:
        mm.split(start)
        mm.split(end)
        changed = mm.vma_at(start)
        if changed is not None:
            changed.dontfork = True
    return None
