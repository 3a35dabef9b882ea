"""munmap(2) of enclave mappings. Read from mm/mmap.c and mm/vma.c (do_vmi_munmap, vms_gather_munmap_vmas) of 6.12."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from swsgx.isa.address import PAGE_SIZE, is_aligned
from swsgx.linux.outcome import OK, Outcome, refuse
from swsgx.linux.vma import TASK_SIZE

if TYPE_CHECKING:
    from swsgx.linux.mm import AddressSpace

__all__ = ["munmap"]


def munmap(mm: AddressSpace, address: int, length: int) -> Outcome:
    """Take enclave mappings away; enclave pages are untouched and can be mapped again.

    Memory that is no enclave's is the caller's own to unmap.

    Returns: 0; -EINVAL misaligned, length 0, or beyond user space; -ENOMEM a hole in the middle of a mapping
        would make one mapping too many.
    """
    size = -(-length // PAGE_SIZE) * PAGE_SIZE
    if (
        not is_aligned(address, PAGE_SIZE)
        or not length
        or address > TASK_SIZE
        or length > TASK_SIZE - address
    ):
        return refuse(
            errno.EINVAL,
            operation="munmap",
            rule="the range is page aligned, not empty and in user space",
            expected=f"pages below {TASK_SIZE:#x}",
            found=f"{address:#x}+{length:#x}",
            source="Linux 6.12, mm/vma.c: do_vmi_munmap",
        )
    vma = mm.vma_at(address)
    if vma is not None and vma.start < address and address + size < vma.end and not mm.room_to_split:
        return refuse(
            errno.ENOMEM,
            operation="munmap",
            rule="the mapping can be split",
            expected=mm.max_map_count,
            found=len(mm.vmas),
            source="Linux 6.12, mm/vma.c: vms_gather_munmap_vmas",
        )
    mm.clear(address, address + size)
    return OK
