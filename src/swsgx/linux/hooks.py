"""The driver's side of the hook points: events are made here, from what the driver knows, and here it asks.

Nothing here is called for an enclave without a security stack (``encl.security`` is None), but :func:`opened`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swsgx.identity.signature import mrsigner
from swsgx.isa.address import PAGE_SIZE, Linaddr, TargetAddr
from swsgx.isa.flags import PageType
from swsgx.isa.sigstruct import Sigstruct
from swsgx.isa.structs import Secs
from swsgx.linux.outcome import Outcome
from swsgx.linux.provenance import Extent, Origin, Subject
from swsgx.linux.security import (
    Answer,
    Augment,
    Create,
    Debug,
    EnclaveFacts,
    Init,
    Load,
    Map,
    Modify,
    Open,
    Provision,
    Receive,
    judge,
)
from swsgx.linux.sticky import Allowance, Identity, PageFlag, PageRange
from swsgx.native.abi import VmaBits
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.device import Driver
    from swsgx.linux.encl import Encl
    from swsgx.linux.mm import AddressSpace
    from swsgx.linux.task import Task
    from swsgx.linux.vma import Vma

__all__ = [
    "Judgement",
    "augmenting",
    "creating",
    "debugging",
    "denied",
    "extents",
    "facts",
    "guarded",
    "initialised",
    "initialising",
    "judged_again",
    "loading",
    "mapped_prots",
    "mapping",
    "modifying",
    "opened",
    "page_range",
    "policy_changed",
    "provisioning",
    "receiving",
    "relabelled",
    "remember_mapping",
]

_PERM = int(VmaBits.R | VmaBits.W | VmaBits.X)
#: Generation of no policy.
_STALE = -1
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was decided of a mapping, last.

    Attributes:
        subject: who asked.
        prot: that was allowed: R 1, W 2, X 4.
        generation: of the policy that allowed it.
        initialised: the enclave was: who it is was known.
        allowed: who allowed it, and by which rules.
        withdrawn: why it would not be allowed now, in words, the policy or the enclave being another one since; empty:
            it would. What was mapped executable has lost X then.
    """

    subject: Subject | None
    prot: int
    generation: int
    initialised: bool
    allowed: tuple[Allowance, ...] = ()
    withdrawn: str = ""


def denied(reason: Reason) -> Outcome:
    """A security module's refusal, as programs see it."""
    return Outcome(-errno.EACCES, reason)


# What the driver knows.


def facts(encl: Encl) -> EnclaveFacts:
    """The enclave as it is now."""
    security = encl.security
    if security is None:
        return EnclaveFacts(encl.number, encl.base, encl.size, encl.attributes, encl.initialised)
    return EnclaveFacts(
        encl.number,
        encl.base,
        encl.size,
        encl.attributes,
        encl.initialised,
        security.label,
        security.grants,
        security.tolerated,
        security.identity,
    )


def page_range(encl: Encl, start: int, end: int) -> PageRange:
    """The pages of an address range, page aligned. The arrays are the driver's own, and cannot be written by them."""
    security = encl.security
    if security is None:
        empty = np.empty(0, np.uint8)
        return PageRange(0, (end - start) // PAGE_SIZE, empty, empty, empty, np.empty(0, np.uint32), ())
    first, last = encl.clip(start, end)
    pages = security.pages
    owed = pages.obligations[first:last] & np.uint8(~int(security.grants) & 0xFF)
    types, flags, origins = encl.page_type[first:last], pages.flags[first:last], pages.origins[first:last]
    for view in (types, flags, owed, origins):
        view.flags.writeable = False
    outside = (end - start) // PAGE_SIZE - (last - first)
    return PageRange(first, outside, types, flags, owed, origins, tuple(pages.extents))


def mapped_prots(encl: Encl, first: int, last: int) -> Bytes:
    """R 1, W 2, X 4 of all mappings of pages ``first`` to ``last``, in all address spaces together."""
    prots = np.zeros(last - first, np.uint8)
    for one in list(encl.mappings):
        if len(one.bits):
            prots |= one.bits[first:last] & np.uint8(_PERM)
    return prots


def extents(task: Task, address: int, contents: memoryview, *, code: bool = True) -> Iterator[Extent]:
    """Where bytes come from that were copied out of the program, without a gap."""
    left = len(contents)
    if task.provenance is not None:
        for extent in task.provenance.extents(TargetAddr(address), contents.toreadonly(), code=code):
            length = min(extent.size, left)
            if length > 0:
                yield Extent(length, extent.origin)
                left -= length
    else:
        vma = task.memory.find_vma(TargetAddr(address))
        if vma is not None and vma.start <= address:
            length = min(left, vma.end - address)
            yield Extent(length, vma.origin)
            left -= length
    if left:
        yield Extent(left, None)


@contextlib.contextmanager
def guarded(enclaves: Iterable[Encl]) -> Iterator[None]:
    """Hold what keeps decisions about several enclaves apart from other ones, always in the same order."""
    with contextlib.ExitStack() as stack:
        for encl in sorted(set(enclaves), key=lambda one: one.number):
            stack.enter_context(encl.guard)
        yield


# Asking. Whoever decides about pages or mappings holds the enclave's guard, until it has happened.


def opened(driver: Driver, subject: Subject | None, node: str) -> Reason | None:
    """open(2) of a node."""
    if not driver.security.active:
        return None
    return judge(driver.security, Open(subject=subject, node=node)).reason


def creating(encl: Encl, subject: Subject | None, secs: Secs) -> Reason | None:
    """ECREATE."""
    event = Create(
        subject=subject,
        enclave=facts(encl),
        size=secs.size,
        attributes=secs.attributes,
        xfrm=secs.xfrm,
        miscselect=secs.miscselect,
    )
    return judge(encl.driver.security, event).reason


def loading(
    encl: Encl,
    subject: Subject | None,
    *,
    offset: int,
    page_type: PageType,
    ceiling: int,
    measured: bool,
    contents: memoryview,
    origin: Origin | None,
    source: int,
) -> Answer:
    """EADD of pages of one origin."""
    first, count = offset // PAGE_SIZE, len(contents) // PAGE_SIZE
    event = Load(
        subject=subject,
        enclave=facts(encl),
        mapped=int(np.bitwise_or.reduce(mapped_prots(encl, first, first + count), initial=0)),
        offset=offset,
        page_type=page_type,
        ceiling=ceiling,
        measured=measured,
        contents=contents.toreadonly(),
        origin=origin,
        source=source,
    )
    return judge(encl.driver.security, event)


def initialising(
    encl: Encl, task: Task, address: int, sigstruct: Sigstruct, mrenclave: bytes
) -> tuple[Answer, Init]:
    """EINIT that would succeed, and the event; ``address`` is where the SIGSTRUCT was read."""
    identity = Identity(
        mrenclave,
        mrsigner(sigstruct),
        sigstruct.isvprodid,
        sigstruct.isvsvn,
        encl.attributes,
        encl.xfrm,
        encl.miscselect,
    )
    copied = memoryview(bytes(sigstruct.buffer))
    origins = {extent.origin for extent in extents(task, address, copied)}
    event = Init(
        subject=task.subject,
        enclave=facts(encl),
        identity=identity,
        sigstruct=sigstruct,
        origin=origins.pop() if len(origins) == 1 else None,
        pages=page_range(encl, encl.base, encl.base + encl.size),
    )
    return judge(encl.driver.security, event), event


def augmenting(encl: Encl, subject: Subject | None, first: int, count: int, *, explicit: bool) -> Answer:
    """EAUG of pages."""
    prots = mapped_prots(encl, first, first + count)
    event = Augment(
        subject=subject,
        enclave=facts(encl),
        offset=first * PAGE_SIZE,
        length=count * PAGE_SIZE,
        explicit=explicit,
        mapped=int(np.bitwise_or.reduce(prots, initial=0)),
    )
    return judge(encl.driver.security, event)


def modifying(
    encl: Encl,
    subject: Subject | None,
    leaf: str,
    offset: int,
    length: int,
    *,
    page_type: PageType | None = None,
    permissions: int | None = None,
) -> Outcome | None:
    """EMODT, EMODPR or EREMOVE of a range, all of it: before the driver looks at the first page. None allows."""
    if encl.security is None:
        return None
    with encl.guard, encl.mutex:
        event = Modify(
            subject=subject,
            enclave=facts(encl),
            leaf=leaf,
            offset=offset,
            length=length,
            page_type=page_type,
            permissions=permissions,
            pages=page_range(encl, encl.base + offset, encl.base + offset + length),
        )
        reason = judge(encl.driver.security, event).reason
    return None if reason is None else denied(reason)


def mapping(encl: Encl, subject: Subject | None, call: str, start: int, end: int, prot: int) -> Map:
    """A mapping that is about to exist or to change. Only the event: several may be decided before one is made."""
    return Map(
        subject=subject,
        enclave=facts(encl),
        call=call,
        address=Linaddr(start),
        length=end - start,
        prot=prot,
        pages=page_range(encl, start, end),
    )


def remember_mapping(
    encl: Encl, vma: Vma | None, subject: Subject | None, allowed: tuple[Allowance, ...]
) -> None:
    """A mapping that was allowed has happened; ``allowed``: by whom."""
    if encl.security is None or vma is None:
        return
    encl.security.pages.mapped(*encl.clip(vma.start, vma.end), vma.prot)
    generation = encl.driver.security.generation
    vma.judgement = Judgement(subject, vma.prot, generation, encl.initialised, allowed)


def receiving(encl: Encl, subject: Subject, previous: Subject | None) -> Reason | None:
    """The file is used by somebody new."""
    return judge(
        encl.driver.security, Receive(subject=subject, enclave=facts(encl), previous=previous)
    ).reason


def debugging(
    encl: Encl, subject: Subject | None, address: int, length: int, *, write: bool
) -> Reason | None:
    """EDBGRD or EDBGWR."""
    start = address & ~(PAGE_SIZE - 1)
    event = Debug(
        subject=subject,
        enclave=facts(encl),
        offset=address - encl.base,
        length=length,
        write=write,
        pages=page_range(encl, start, -(-(address + length) // PAGE_SIZE) * PAGE_SIZE),
    )
    return judge(encl.driver.security, event).reason


def provisioning(encl: Encl, subject: Subject | None) -> Reason | None:
    """The provision attribute."""
    if encl.security is None:
        return None
    return judge(encl.driver.security, Provision(subject=subject, enclave=facts(encl))).reason


# When the policy has changed, or who a program is, or what is known of the enclave.


def judged_again(vma: Vma) -> None:
    """First fault in a mapping since policy or label changed, or INIT: if it would not be allowed now, it loses X.

    The address space's lock and the enclave's guard are held.

    Raises:
        OSError: the host cannot protect the mapping; it keeps what it had, and is judged again next time.
    """
    encl, judgement, own = vma.encl, vma.judgement, vma.mapping
    hooks = encl.driver.security
    if encl.security is None or own is None or judgement is None:
        return
    if (judgement.generation, judgement.initialised) == (hooks.generation, encl.initialised):
        return
    answer = judge(hooks, mapping(encl, judgement.subject, "fault", vma.start, vma.end, vma.prot))
    if answer.reason is not None and vma.prot & int(VmaBits.X):
        own.mm.protect(vma, vma.prot & ~int(VmaBits.X))
    # What is left of a mapping that would not be allowed now is there because it was allowed once.
    allowed, why = answer.allowed, ""
    if answer.reason is not None:
        allowed, why = judgement.allowed, f"{answer.reason.rule} ({answer.reason.source})"
    vma.judgement = Judgement(judgement.subject, vma.prot, hooks.generation, encl.initialised, allowed, why)


def initialised(encl: Encl) -> None:
    """INIT succeeded: mappings that were executable before are judged as those of the enclave that it is now. No lock
    may be held.

    Raises:
        OSError: the host cannot have them fault; the enclave must not be used.
    """
    if encl.security is not None and (encl.security.pages.flags & np.uint8(PageFlag.EVER_X)).any():
        encl.zap(0, encl.size // PAGE_SIZE)


def policy_changed(driver: Driver) -> None:
    """Have every mapping of every enclave fault at its next touch, and so be judged again. No lock may be held.

    Whoever has used an enclave's file is asked again, too, but for its maker, who never was.

    Raises:
        OSError: the host cannot do it in some address space; others were not asked.
    """
    for encl in driver.enclaves:
        for user in list(encl.users)[1:]:
            encl.users.pop(user, None)
        if encl.security is not None and encl.created:
            encl.zap(0, encl.size // PAGE_SIZE)


def relabelled(mm: AddressSpace, subject: Subject) -> None:
    """A program has another label now: each of its mappings faults at its next touch, and is judged as a new subject's.

    No lock may be held.

    Raises:
        OSError: the host cannot take page-table entries away; they may be there as long as nobody evicts the pages.
    """
    with mm.lock:
        for vma in mm.vmas:
            if vma.judgement is not None:
                vma.judgement = dataclasses.replace(vma.judgement, subject=subject, generation=_STALE)
        for encl, own in list(mm.mappings.items()):
            if encl.security is not None and encl.created:
                mm.zap(own, encl.base, encl.base + encl.size)
