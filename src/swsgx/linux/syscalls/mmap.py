"""mmap(2) of an enclave's file. Read from mm/mmap.c (do_mmap, __mmap_region) and sgx/driver.c of 6.1 and 6.12."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swsgx.isa.address import PAGE_SIZE, Linaddr, is_aligned
from swsgx.linux import hooks
from swsgx.linux.outcome import Outcome, done, refuse
from swsgx.linux.security import ALLOWED, Answer, Subject, judge
from swsgx.linux.task import READ_IMPLIES_EXEC
from swsgx.linux.vma import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    PROT_ACCESS,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    TASK_SIZE,
    Vma,
)

if TYPE_CHECKING:
    from swsgx.linux.device import EnclaveFile
    from swsgx.linux.mm import AddressSpace

__all__ = ["Request", "mmap"]

#: Flags that MAP_SHARED_VALIDATE knows (LEGACY_MAP_MASK): the types, FIXED, ANONYMOUS, 32BIT, ABOVE4G,
#: GROWSDOWN, DENYWRITE, EXECUTABLE, LOCKED, NORESERVE, POPULATE, NONBLOCK, STACK, HUGETLB with 2 MiB and 1 GiB,
#: UNINITIALIZED.
_LEGACY_FLAGS = (
    MAP_SHARED_VALIDATE
    | MAP_FIXED
    | sum((0x20, 0x40, 0x80, 0x100, 0x800, 0x1000, 0x2000, 0x4000, 0x8000))
    | sum((0x1_0000, 0x2_0000, 0x4_0000, 0x400_0000))
    | 21 << 26
    | 30 << 26
)


_BITS_64 = (1 << 64) - 1
_MAP_GROWSDOWN, _MAP_HUGETLB = 0x100, 0x4_0000


@dataclass(slots=True)
class Request:
    """The call's arguments, and what is made of them."""

    address: int
    length: int
    prot: int
    flags: int
    file: EnclaveFile
    offset: int = 0
    personality: int = 0
    subject: Subject | None = None

    @property
    def size(self) -> int:
        """Length in whole pages, in bytes."""
        return -(-self.length // PAGE_SIZE) * PAGE_SIZE

    @property
    def fixed(self) -> bool:
        """Whether the address is an order, not a hint."""
        return bool(self.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))

    @property
    def kind(self) -> int:
        """MAP_SHARED and so on."""
        return self.flags & MAP_TYPE


def _refuse(
    request: Request,
    number: int,
    rule: str,
    expected: object,
    found: object,
    *,
    where: str = "mm/mmap.c: do_mmap",
    remedy: str = "",
) -> Outcome:
    return refuse(
        number,
        operation="mmap",
        rule=rule,
        expected=expected,
        found=found,
        source=f"{request.file.encl.profile.kernel}, {where}",
        remedy=remedy,
    )


def mmap(mm: AddressSpace, request: Request) -> Outcome:
    """Map an enclave. The offset is ignored beyond its alignment: an enclave page is chosen by its address.

    A MAP_FIXED call that the driver refuses leaves a hole where it would have mapped.

    Returns: the address; -EINVAL length 0, a private mapping, a misaligned address or offset; -ENOMEM no room;
        -EEXIST MAP_FIXED_NOREPLACE on a mapping; -EOPNOTSUPP a flag that MAP_SHARED_VALIDATE does not know;
        -EACCES the file's mode, the rules of sgx_encl_may_map, or a security module; -EPERM PROT_EXEC on a
        noexec mount.
    """
    request.prot &= PROT_ACCESS
    refused = _arguments(mm, request) or _address(mm, request) or _mode(request)
    if refused is not None:
        return refused
    encl = request.file.encl
    if encl.security is None:
        return _map(mm, request, ALLOWED)
    reason = encl.used_by(request.subject)
    if reason is not None:
        return hooks.denied(reason)
    with encl.guard:
        # What the driver itself will refuse, nobody is asked.
        start, end = request.address, request.address + request.size
        answer = ALLOWED
        if encl.may_map(start, end, request.prot, request.personality, "mmap").ok:
            event = hooks.mapping(encl, request.subject, "mmap", start, end, request.prot)
            answer = judge(encl.driver.security, event)
            if answer.reason is not None:
                return hooks.denied(answer.reason)
        return _map(mm, request, answer)


def _map(mm: AddressSpace, request: Request, answer: Answer) -> Outcome:
    """From where it changes something; ``answer``: what security modules said."""
    file, encl = request.file, request.file.encl
    driver = file.driver
    start, end = request.address, request.address + request.size
    if request.fixed:
        if not mm.room_to_split and _in_the_middle(mm, start, end):
            return _refuse(
                request,
                errno.ENOMEM,
                "the old mapping can be split",
                mm.max_map_count,
                len(mm.vmas),
                where="mm/vma.c: vms_gather_munmap_vmas",
            )
        mm.clear(start, end)
    outcome = encl.may_map(start, end, request.prot, request.personality, "mmap")
    if outcome.ok:
        outcome = mm.join(encl, "mmap")
    if not outcome.ok:
        if request.fixed:
            # Quirk of all kernels: the old mapping is gone. test_a_refused_fixed_mmap_leaves_a_hole
            mm.engine.unmap(None, Linaddr(start), request.size)
        return outcome
    may = PROT_READ | (PROT_WRITE if file.writable else 0) | (0 if driver.noexec else PROT_EXEC)
    vma = Vma(start, end, request.prot, may, file, mm.mappings[encl])
    try:
        mm.insert(vma)
    except OSError as error:
        return _refuse(
            request, errno.ENOMEM, "the host can map the range", f"{request.size:#x} bytes", str(error)
        )
    hooks.remember_mapping(encl, vma, request.subject, answer.allowed)
    return done(start)


def _in_the_middle(mm: AddressSpace, start: int, end: int) -> bool:
    vma = mm.vma_at(start)
    return vma is not None and vma.start < start and end < vma.end


def _arguments(mm: AddressSpace, request: Request) -> Outcome | None:
    """Before an address is looked for."""
    if not is_aligned(request.offset, PAGE_SIZE):
        return _refuse(
            request,
            errno.EINVAL,
            "offset is page aligned",
            "a multiple of 4096",
            request.offset,
            where="arch/x86/kernel/sys_x86_64.c: mmap",
        )
    if request.flags & _MAP_HUGETLB:
        return _refuse(
            request,
            errno.EINVAL,
            "MAP_HUGETLB is for files of hugetlbfs",
            "no MAP_HUGETLB",
            request.flags,
            where="mm/mmap.c: ksys_mmap_pgoff",
        )
    if not request.length:
        return _refuse(request, errno.EINVAL, "length is not 0", "at least a byte", 0)
    rier = request.personality & READ_IMPLIES_EXEC and request.prot & PROT_READ
    if rier and not request.file.driver.noexec:
        request.prot |= PROT_EXEC
    if request.size >= 1 << 64:
        return _refuse(
            request, errno.ENOMEM, "length can be rounded up to pages", "below 2^64 - 4095", request.length
        )
    if len(mm.vmas) > mm.max_map_count:
        return _refuse(
            request, errno.ENOMEM, "vm.max_map_count is not exceeded", mm.max_map_count, len(mm.vmas)
        )
    return None


def _address(mm: AddressSpace, request: Request) -> Outcome | None:
    """__get_unmapped_area, with the driver's own function in it."""
    profile = request.file.encl.profile
    size = request.size
    if size > TASK_SIZE:
        return _refuse(request, errno.ENOMEM, "length fits in user space", f"at most {TASK_SIZE:#x}", size)
    exact = profile.mapping.private_exact
    if request.kind == MAP_PRIVATE if exact else request.kind & MAP_PRIVATE:
        return _refuse(
            request,
            errno.EINVAL,
            "the mapping is shared",
            "MAP_SHARED",
            f"map type {request.kind}",
            where=f"{profile.files}driver.c: sgx_get_unmapped_area",
            remedy="map the enclave's file with MAP_SHARED",
        )
    if not request.fixed:
        try:
            request.address = _place(mm, request.address & ~(PAGE_SIZE - 1), size)
        except OSError as error:
            return _refuse(request, errno.ENOMEM, "enough addresses are free", f"{size:#x} bytes", str(error))
        return None
    if request.address > TASK_SIZE - size:
        return _refuse(
            request, errno.ENOMEM, "the range ends in user space", f"up to {TASK_SIZE:#x}", request.address
        )
    if not is_aligned(request.address, PAGE_SIZE):
        return _refuse(
            request, errno.EINVAL, "a fixed address is page aligned", "a multiple of 4096", request.address
        )
    if request.flags & MAP_FIXED_NOREPLACE and mm.occupied(request.address, size):
        return _refuse(
            request, errno.EEXIST, "nothing is mapped in the range", "free addresses", request.address
        )
    return None


def _place(mm: AddressSpace, hint: int, size: int) -> int:
    """Where an mmap without MAP_FIXED goes: at the hint if that is free, else where the engine says."""
    if hint and (hint > TASK_SIZE - size or mm.occupied(hint, size)):
        hint = 0
    return mm.engine.reserve(size, PAGE_SIZE, hint)


def _mode(request: Request) -> Outcome | None:
    """What the type, the file's mode and the mount allow."""
    file = request.file
    if request.offset >> 12 > (_BITS_64 - request.size) >> 12:
        return _refuse(
            request,
            errno.EOVERFLOW,
            "offset and length fit in 64 bits",
            "a smaller offset",
            request.offset,
            where="mm/mmap.c: file_mmap_ok",
        )
    unknown = request.flags & ~_LEGACY_FLAGS
    if request.kind == MAP_SHARED_VALIDATE and unknown:
        return _refuse(
            request, errno.EOPNOTSUPP, "MAP_SHARED_VALIDATE knows all flags", "no other flag", unknown
        )
    if request.kind not in (MAP_SHARED, MAP_SHARED_VALIDATE):
        return _refuse(request, errno.EINVAL, "the map type exists", "MAP_SHARED", request.kind)
    if request.prot & PROT_WRITE and not file.writable:
        return _refuse(
            request,
            errno.EACCES,
            "a writable mapping has a file opened for writing",
            "O_RDWR",
            "a file opened without",
        )
    if not file.readable:
        return _refuse(request, errno.EACCES, "a mapping has a file opened for reading", "O_RDWR", "O_WRONLY")
    if file.driver.noexec and request.prot & PROT_EXEC:
        return _refuse(
            request,
            errno.EPERM,
            "an executable mapping has a file on a mount without noexec",
            "/dev mounted exec",
            f"{file.node} is on a noexec mount",
            remedy="mount -o remount,exec /dev",
        )
    if request.flags & _MAP_GROWSDOWN:
        return _refuse(
            request, errno.EINVAL, "a shared mapping does not grow", "no MAP_GROWSDOWN", request.flags
        )
    return None
