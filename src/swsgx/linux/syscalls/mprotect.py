"""mprotect(2) of enclave mappings. Read from mm/mprotect.c (do_mprotect_pkey, mprotect_fixup) of 6.1 and 6.12."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swsgx.isa.address import PAGE_SIZE, is_aligned
from swsgx.linux import hooks
from swsgx.linux.outcome import OK, Outcome, refuse
from swsgx.linux.security import Allowance, Answer, Map, Subject
from swsgx.linux.task import READ_IMPLIES_EXEC
from swsgx.linux.vma import PROT_ACCESS, PROT_EXEC, PROT_READ, Vma, shown_prot

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl
    from swsgx.linux.mm import AddressSpace

__all__ = ["mprotect"]

#: PROT_SEM: accepted and without effect.
_PROT_SEM = 8


def _refuse(number: int, rule: str, expected: object, found: object, remedy: str = "") -> Outcome:
    return refuse(
        number,
        operation="mprotect",
        rule=rule,
        expected=expected,
        found=found,
        source="Linux 6.12, mm/mprotect.c: do_mprotect_pkey",
        remedy=remedy,
    )


def mprotect(
    mm: AddressSpace, address: int, length: int, prot: int, personality: int, subject: Subject | None
) -> Outcome:
    """Change protection, one mapping after another; the first refusal ends it, earlier ones keep the new one.

    Returns: 0; -EINVAL misaligned, or an unknown protection; -ENOMEM the range wraps, has addresses that no
        enclave mapping covers, or a split would make one mapping too many; -EACCES the mapping may never have
        that, the rules of sgx_encl_may_map, or a security module.
    """
    if not is_aligned(address, PAGE_SIZE):
        return _refuse(errno.EINVAL, "the address is page aligned", "a multiple of 4096", address)
    if not length:
        return OK
    end = address + -(-length // PAGE_SIZE) * PAGE_SIZE
    if end >= 1 << 64:
        return _refuse(errno.ENOMEM, "the range does not wrap", "below 2^64", f"{address:#x}+{length:#x}")
    if prot & ~(PROT_ACCESS | _PROT_SEM):
        return _refuse(errno.EINVAL, "only known protections are asked", "R, W, X, SEM", prot)
    rier = bool(personality & READ_IMPLIES_EXEC and prot & PROT_READ)
    prot &= PROT_ACCESS
    judged = [vma.encl for vma in mm.overlapping(address, end) if vma.encl.security is not None]
    if not judged:
        return _all(mm, address, end, prot, rier, personality, _Approved(subject))
    with hooks.guarded(judged):
        approved = _ask(mm, address, end, prot, rier, personality, subject)
        if isinstance(approved, Outcome):
            return approved
        return _all(mm, address, end, prot, rier, personality, approved)


@dataclass
class _Approved:
    """What security modules said.

    Attributes:
        subject: who asks.
        by_start: who allowed it, by the address where a mapping, or the part of one, begins.
    """

    subject: Subject | None
    by_start: dict[int, tuple[Allowance, ...]] = field(default_factory=dict)


def _ask(
    mm: AddressSpace, address: int, end: int, prot: int, rier: bool, personality: int, subject: Subject | None
) -> Outcome | _Approved:
    """Have security modules decide about all mappings of the range before the first is changed.

    So their refusal changes nothing, other than the driver's own. What the driver would refuse they are not asked.
    """
    asked: list[tuple[Encl, Map, Answer]] = []
    approved = _Approved(subject)
    at = address
    while at < end:
        vma = mm.vma_at(at)
        if vma is None:
            break
        encl, stop = vma.encl, min(vma.end, end)
        wanted = prot | (PROT_EXEC if rier and vma.may & PROT_EXEC else 0)
        if wanted & ~vma.may or not encl.may_map(at, stop, wanted, personality, "mprotect").ok:
            break
        if encl.security is not None:
            reason = encl.used_by(subject)
            if reason is not None:
                return hooks.denied(reason)
            event = hooks.mapping(encl, subject, "mprotect", at, stop, wanted)
            answer = encl.driver.security.decide(event)
            if answer.reason is not None:
                return hooks.denied(answer.reason)
            asked.append((encl, event, answer))
        at = stop
    for encl, event, answer in asked:
        reason = encl.driver.security.commit(event, answer)
        if reason is not None:
            return hooks.denied(reason)
        approved.by_start[event.address] = answer.allowed
    return approved


def _all(
    mm: AddressSpace, address: int, end: int, prot: int, rier: bool, personality: int, approved: _Approved
) -> Outcome:
    at = address
    while at < end:
        vma = mm.vma_at(at)
        if vma is None:
            return _refuse(errno.ENOMEM, "the whole range is mapped", "no gap", f"a gap at {at:#x}")
        wanted = prot | (PROT_EXEC if rier and vma.may & PROT_EXEC else 0)
        stop = min(vma.end, end)
        refused = _one(mm, vma, at, stop, wanted, personality, approved)
        if not refused.ok:
            return refused
        at = stop
    return OK


def _one(
    mm: AddressSpace, vma: Vma, start: int, end: int, prot: int, personality: int, approved: _Approved
) -> Outcome:
    """The part of the range that lies in one mapping."""
    encl = vma.encl
    if prot & ~vma.may:
        return _refuse(
            errno.EACCES,
            "the mapping may have that protection (VM_MAY*)",
            shown_prot(vma.may),
            shown_prot(prot),
            "open the node read-write, and mount /dev without noexec",
        )
    refused = encl.may_map(start, end, prot, personality, "mprotect")
    if not refused.ok or prot == vma.prot:
        return refused
    pieces = (vma.start < start) + (end < vma.end)
    if pieces and len(mm.vmas) + pieces - 1 >= mm.max_map_count:
        return _refuse(errno.ENOMEM, "the mapping can be split", mm.max_map_count, len(mm.vmas))
    mm.split(start)
    mm.split(end)
    changed = mm.vma_at(start)
    try:
        if changed is not None:
            mm.protect(changed, prot)
    except OSError as error:
        return _refuse(errno.ENOMEM, "the host can protect the range", "success", str(error))
    hooks.remember_mapping(encl, changed, approved.subject, approved.by_start.get(start, ()))
    return OK
