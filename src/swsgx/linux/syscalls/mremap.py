"""mremap(2) of enclave mappings. Read from mm/mremap.c (mremap, mremap_to, vma_to_resize) of 6.12."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from swsgx.isa.address import PAGE_SIZE, is_aligned
from swsgx.linux import hooks
from swsgx.linux.outcome import Outcome, done, refuse
from swsgx.linux.security import ALLOWED, Approval, Subject, judge
from swsgx.linux.syscalls.munmap import munmap
from swsgx.linux.vma import TASK_SIZE, Vma

if TYPE_CHECKING:
    from swsgx.linux.mm import AddressSpace

__all__ = ["MREMAP_DONTUNMAP", "MREMAP_FIXED", "MREMAP_MAYMOVE", "mremap"]

MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4


def _refuse(number: int, rule: str, expected: object, found: object) -> Outcome:
    return refuse(
        number,
        operation="mremap",
        rule=rule,
        expected=expected,
        found=found,
        source="Linux 6.12, mm/mremap.c: mremap",
    )


def mremap(
    mm: AddressSpace,
    address: int,
    old_length: int,
    new_length: int,
    flags: int,
    new_address: int,
    subject: Subject | None,
) -> Outcome:
    """Shrink or move a mapping; an enclave's cannot grow.

    The driver has no say in it: range and permissions are not checked again, and page-table entries move
    along. A moved mapping shows pages where the EPCM does not expect them, so an enclave cannot use them.

    Returns: the address; -EINVAL bad flags, misaligned, new_length 0, overlapping, or MREMAP_DONTUNMAP;
        -EFAULT nothing mapped, growing, old_length 0, or beyond the end of the mapping; -ENOMEM too many
        mappings; -EACCES a security module refused.
    """
    fixed, dontunmap = bool(flags & MREMAP_FIXED), bool(flags & MREMAP_DONTUNMAP)
    if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP):
        return _refuse(errno.EINVAL, "only known flags are given", "MAYMOVE, FIXED, DONTUNMAP", flags)
    if fixed and not flags & MREMAP_MAYMOVE:
        return _refuse(errno.EINVAL, "MREMAP_FIXED comes with MREMAP_MAYMOVE", "both", flags)
    if dontunmap and (not flags & MREMAP_MAYMOVE or old_length != new_length):
        return _refuse(errno.EINVAL, "MREMAP_DONTUNMAP moves and does not resize", "equal lengths", flags)
    if not is_aligned(address, PAGE_SIZE):
        return _refuse(errno.EINVAL, "the address is page aligned", "a multiple of 4096", address)
    old, new = (-(-length // PAGE_SIZE) * PAGE_SIZE for length in (old_length, new_length))
    if not new:
        return _refuse(errno.EINVAL, "new_length is not 0", "at least a byte", new_length)
    vma = mm.vma_at(address)
    if vma is None:
        return _refuse(errno.EFAULT, "an enclave mapping covers the address", "a mapping", address)
    if fixed or dontunmap:
        return _move(mm, address, old, new, flags, new_address, subject)
    if new > old:
        return _resizable(vma, address, old, new, flags) or _refuse(
            errno.EFAULT, "an enclave mapping does not grow", f"at most {old:#x}", new
        )
    if new < old:
        shrunk = munmap(mm, address + new, old - new)
        if not shrunk.ok:
            return shrunk
    return done(address)


def _resizable(vma: Vma | None, address: int, old: int, new: int, flags: int) -> Outcome | None:
    """vma_to_resize, for a mapping that is VM_DONTEXPAND and VM_PFNMAP."""
    if vma is None:
        return _refuse(errno.EFAULT, "an enclave mapping covers the address", "a mapping", address)
    if flags & MREMAP_DONTUNMAP:
        return _refuse(errno.EINVAL, "MREMAP_DONTUNMAP is for ordinary memory", "no enclave", "an enclave")
    if old > vma.end - address:
        return _refuse(
            errno.EFAULT, "the range lies in one mapping", f"up to {vma.end:#x}", f"{address:#x}+{old:#x}"
        )
    if new != old:
        return _refuse(errno.EFAULT, "an enclave mapping does not grow", old, new)
    return None


def _move(
    mm: AddressSpace, address: int, old: int, new: int, flags: int, new_address: int, subject: Subject | None
) -> Outcome:
    """mremap_to."""
    if not is_aligned(new_address, PAGE_SIZE):
        return _refuse(errno.EINVAL, "the new address is page aligned", "a multiple of 4096", new_address)
    if new > TASK_SIZE or new_address > TASK_SIZE - new:
        return _refuse(
            errno.EINVAL,
            "the new range is in user space",
            f"up to {TASK_SIZE:#x}",
            f"{new_address:#x}+{new:#x}",
        )
    if address + old > new_address and new_address + new > address:
        return _refuse(errno.EINVAL, "old and new range do not overlap", "disjoint ranges", new_address)
    if len(mm.vmas) + 2 >= mm.max_map_count - 3:
        return _refuse(errno.ENOMEM, "room for more mappings", mm.max_map_count, len(mm.vmas))
    vma = mm.vma_at(address)
    if vma is None or vma.encl.security is None:
        return _moved(mm, address, old, new, flags, new_address, Approval(subject))
    encl = vma.encl
    reason = encl.used_by(subject)
    if reason is not None:
        return hooks.denied(reason)
    answer = ALLOWED
    with encl.guard:
        if _resizable(vma, address, min(old, new), new, flags) is None:
            event = hooks.mapping(encl, subject, "mremap", new_address, new_address + new, vma.prot)
            answer = judge(encl.driver.security, event)
            if answer.reason is not None:
                return hooks.denied(answer.reason)
        approval = Approval(subject, answer.allowed)
        return _moved(mm, address, old, new, flags, new_address, approval)


def _moved(
    mm: AddressSpace, address: int, old: int, new: int, flags: int, new_address: int, approval: Approval
) -> Outcome:
    """mremap_to, from where it changes something."""
    if flags & MREMAP_FIXED:
        unmapped = munmap(mm, new_address, new)
        if not unmapped.ok:
            return unmapped
    if old > new:
        shrunk = munmap(mm, address + new, old - new)
        if not shrunk.ok:
            return shrunk
        old = new
    refused = _resizable(mm.vma_at(address), address, old, new, flags)
    if refused is not None:
        return refused
    mm.split(address)
    mm.split(address + old)
    moved = mm.vma_at(address)
    if moved is None:
        return _refuse(errno.EFAULT, "an enclave mapping covers the address", "a mapping", address)
    copy = Vma(
        new_address, new_address + new, moved.prot, moved.may, moved.file, moved.mapping, moved.dontfork
    )
    try:
        mm.insert(copy)
    except OSError as error:
        return _refuse(errno.ENOMEM, "the host can map the new range", f"{new:#x} bytes", str(error))
    hooks.remember_mapping(copy.encl, copy, approval.subject, approval.allowed)
    mm.clear(address, address + old)
    return done(new_address)
