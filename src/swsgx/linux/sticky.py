"""What is remembered of each enclave page for security modules: not of its mappings, and not until they go.

Flags and obligations of a page only grow until EREMOVE takes the page away. They survive munmap, fork, paging and the
passing of descriptors, since they lie with the enclave's page and no mapping has a copy. An enclave has this state
only if a security stack was active when its file was opened.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Attributes, PageType
from swsgx.linux.provenance import Origin, Subject

__all__ = [
    "NO_GRANTS",
    "Allowance",
    "Approval",
    "EnclaveFacts",
    "EnclaveSecurity",
    "Grant",
    "Identity",
    "PageFlag",
    "PageRange",
    "StickyState",
]

_PROT_WRITE, _PROT_EXEC = 2, 4
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]


class Grant(IntFlag):
    """What an enclave may be allowed by its identity. An obligation is a grant that its INIT must bring."""

    EXECDIRTY = 1
    """Execute what was writable, or write what was executable."""
    MAPWX = 2
    """Have one mapping that is both."""
    AUGEXEC = 4
    """Execute pages that EAUG added, and map holes executable."""
    EXECANON = 8
    """Execute what was copied from anonymous memory."""
    EXECUNMR = 16
    """Execute what was not measured."""
    MODTYPE = 32
    """Turn regular pages into TCSs."""

    @property
    def permissions(self) -> tuple[str, ...]:
        """Their names as permissions of class ``enclave``: ``("execdirty", "mapwx")``."""
        return tuple((grant.name or "").lower() for grant in Grant if grant in self)


#: No grant, or no obligation.
NO_GRANTS = Grant(0)


class PageFlag(IntFlag):
    """What a page has been."""

    EVER_W = 1
    """Mapped writable, added by EAUG, or written by a debugger."""
    EVER_X = 2
    """Mapped executable."""
    MEASURED = 4
    """Its contents are in MRENCLAVE."""
    AUGMENTED = 8
    """Added by EAUG."""
    ADMITTED = 16
    """The security stack let it in."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """One security module's yes.

    Attributes:
        module: its name.
        rules: where its policy says so, such as ``"acme.te:14"``; none: it has no policy, or needed no rule.
        overruled: the rule, in words, by which it refused without effect, since refusals are only recorded; empty: it
            did allow it.
    """

    module: str
    rules: tuple[str, ...] = ()
    overruled: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """What was allowed, to whom and by whom.

    Attributes:
        subject: who asked; None: nobody knows who.
        allowed: every module's answer, in the order of asking.
    """

    subject: Subject | None
    allowed: tuple[Allowance, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an enclave is, once EINIT has said so.

    Attributes:
        mrenclave, mrsigner: 32 bytes each.
        isvprodid, isvsvn: of its SIGSTRUCT.
        attributes, xfrm, miscselect: of its SECS.
    """

    mrenclave: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int
    attributes: int
    xfrm: int
    miscselect: int

    @property
    def debug(self) -> bool:
        """ATTRIBUTES.DEBUG."""
        return bool(self.attributes & Attributes.DEBUG)


@dataclass(frozen=True, slots=True)
class EnclaveFacts:
    """An enclave as a security module sees it. Never changes: each event has one of its own.

    Attributes:
        number: for people, and in audit records.
        base, size: ELRANGE, bytes; 0 before CREATE.
        attributes: of its SECS; 0 before CREATE.
        initialised: INIT was done.
        label: its security label; empty if it has none.
        grants: what it may do beyond the rules; none before INIT.
        tolerated: what it may do besides, because only permissive modules withhold it; each use is recorded.
        identity: None before INIT.
    """

    number: int
    base: int = 0
    size: int = 0
    attributes: int = 0
    initialised: bool = False
    label: str = ""
    grants: Grant = NO_GRANTS
    tolerated: Grant = NO_GRANTS
    identity: Identity | None = None

    @property
    def debug(self) -> bool:
        """ATTRIBUTES.DEBUG."""
        return bool(self.attributes & Attributes.DEBUG)


@dataclass(frozen=True, slots=True, eq=False)
class PageRange:
    """The pages of a range, by index from its first. Arrays cannot be written, and are good during the call only.

    Attributes:
        first: page index in ELRANGE of the first.
        outside: pages of the range that lie outside ELRANGE, or have no ELRANGE yet; no array has them.
        types: :class:`~swsgx.isa.flags.PageType`; 0 is a hole.
        flags: :class:`PageFlag`.
        open_obligations: :class:`Grant` bits that the enclave does not have yet.
        origins: index into ``extents`` plus one; 0: unknown, or a hole.
        extents: the origins that the enclave's pages have.
    """

    first: int
    outside: int
    types: Bytes
    flags: Bytes
    open_obligations: Bytes
    origins: Words
    extents: Sequence[Origin]

    @property
    def count(self) -> int:
        """Pages, those outside ELRANGE included."""
        return len(self.types) + self.outside

    @property
    def holes(self) -> Mask:
        """Where there is no page."""
        found: Mask = self.types == 0
        return found

    @property
    def has_holes(self) -> bool:
        """Whether any page is missing, or outside ELRANGE."""
        return bool(self.outside) or not self.types.all()

    def having(self, flag: PageFlag) -> Mask:
        """Pages that exist and have a flag."""
        found: Mask = (self.types != 0) & (self.flags & np.uint8(flag) != 0)
        return found

    def lacking(self, flag: PageFlag) -> Mask:
        """Pages that exist and do not have a flag."""
        found: Mask = (self.types != 0) & (self.flags & np.uint8(flag) == 0)
        return found

    def any(self, flag: PageFlag) -> bool:
        """Whether any page has a flag."""
        return bool(self.having(flag).any())

    @property
    def obligations(self) -> Grant:
        """All that are open, of all pages."""
        return Grant(int(np.bitwise_or.reduce(self.open_obligations, initial=0)))

    @property
    def tcs(self) -> Mask:
        """Pages that are TCSs."""
        found: Mask = self.types == int(PageType.TCS)
        return found

    def span(self, mask: Mask) -> tuple[int, int]:
        """The first run of pages that a mask picks: bytes from the enclave's base, and bytes; (0, 0): none."""
        if not mask.any():
            return 0, 0
        start = int(np.argmax(mask))
        rest = ~mask[start:]
        length = int(np.argmax(rest)) if rest.any() else len(rest)
        return (self.first + start) * PAGE_SIZE, length * PAGE_SIZE

    def origin(self, index: int) -> Origin | None:
        """Of the page ``index`` behind the first of the range."""
        at = int(self.origins[index])
        return self.extents[at - 1] if at else None

    def frozen(self) -> PageRange:
        """The same with arrays of its own, for whoever may look at them later."""
        return PageRange(
            self.first,
            self.outside,
            self.types.copy(),
            self.flags.copy(),
            self.open_obligations.copy(),
            self.origins.copy(),
            tuple(self.extents),
        )


class StickyState:
    """Arrays with an element for each page of ELRANGE. Who changes them holds :attr:`EnclaveSecurity.lock`.

    Args:
        pages: of ELRANGE.

    Attributes:
        flags, obligations, origins: as in :class:`PageRange`, but obligations also when they are discharged.
        births: how many times a page was removed here: what grows only, grows between two of them.
        source_pages: pages from the start of the source file; of pages that come from a file.
        approvals: index into ``approved`` plus one; 0: a hole, or the stack does not say who allowed the page.
        extents: each origin once.
        approved: who let pages in, each once.
    """

    def __init__(self, pages: int) -> None:
        self.flags: Bytes = np.zeros(pages, np.uint8)
        self.obligations: Bytes = np.zeros(pages, np.uint8)
        self.origins: Words = np.zeros(pages, np.uint32)
        self.births: Words = np.zeros(pages, np.uint32)
        self.source_pages: Words = np.zeros(pages, np.uint32)
        self.approvals: Words = np.zeros(pages, np.uint32)
        self.extents: list[Origin] = []
        self.approved: list[Approval] = []
        self._known: dict[Origin, int] = {}
        self._known_approvals: dict[Approval, int] = {}

    def born(self, first: int, count: int, mapped: Bytes, *, augmented: bool) -> None:
        """Pages appear that the stack has let in. What maps their addresses now, maps them.

        Args:
            first, count: which.
            mapped: R 1, W 2, X 4 of all mappings that are there, page by page.
            augmented: by EAUG.
        """
        start = PageFlag.ADMITTED | (PageFlag.AUGMENTED | PageFlag.EVER_W if augmented else PageFlag(0))
        last = first + count
        self.flags[first:last] = _of_prots(mapped) | np.uint8(start)
        for array in (self.obligations, self.origins, self.source_pages, self.approvals):
            array[first:last] = 0

    def loaded(
        self, first: int, count: int, origin: Origin | None, obligations: Grant, *, measured: bool
    ) -> None:
        """Of pages that were born by EADD: where they come from, and what they owe."""
        last = first + count
        self.origins[first:last] = self._index(origin)
        if origin is not None and origin.inode:
            start = origin.offset // PAGE_SIZE
            self.source_pages[first:last] = np.arange(start, start + count, dtype=np.uint64)
        self.obligations[first:last] = int(obligations)
        if measured:
            self.flags[first:last] |= np.uint8(PageFlag.MEASURED)

    def approve(self, first: int, count: int, approval: Approval) -> None:
        """Of pages that were born: who has let them in."""
        if not approval.allowed:
            return
        # Mostly the last one again; the stack's answers share what they have in common, so looking is quick.
        last = len(self.approved)
        at = last if last and self.approved[-1] == approval else self._known_approvals.get(approval)
        if at is None:
            self.approved.append(approval)
            at = self._known_approvals[approval] = len(self.approved)
        self.approvals[first : first + count] = at

    def _index(self, origin: Origin | None) -> int:
        if origin is None:
            return 0
        at = self._known.get(origin)
        if at is None:
            self.extents.append(origin)
            at = self._known[origin] = len(self.extents)
        return at

    def mapped(self, first: int, last: int, prot: int) -> None:
        """A mapping with ``prot`` covers pages now."""
        flags = (PageFlag.EVER_W if prot & _PROT_WRITE else PageFlag(0)) | (
            PageFlag.EVER_X if prot & _PROT_EXEC else PageFlag(0)
        )
        if flags:
            self.flags[first:last] |= np.uint8(flags)

    def written(self, first: int, last: int) -> None:
        """A debugger wrote into pages."""
        self.flags[first:last] |= np.uint8(PageFlag.EVER_W)

    def removed(self, first: int, count: int) -> None:
        """EREMOVE: nothing is known of the pages any more."""
        last = first + count
        for array in (self.flags, self.obligations, self.origins, self.source_pages, self.approvals):
            array[first:last] = 0
        self.births[first:last] += np.uint32(1)


def _of_prots(mapped: Bytes) -> Bytes:
    writable = np.where(mapped & _PROT_WRITE, np.uint8(PageFlag.EVER_W), np.uint8(0))
    executable = np.where(mapped & _PROT_EXEC, np.uint8(PageFlag.EVER_X), np.uint8(0))
    return np.bitwise_or(writable, executable)


class EnclaveSecurity:
    """What the driver keeps of one enclave for security modules.

    Attributes:
        lock: held from a decision about pages or mappings until what was decided has happened, so that two decisions
            do not allow together what each alone may. It comes behind an address space's lock and before the
            enclave's mutex.
        pages: from CREATE on; has no pages before.
        label, grants, tolerated, identity: as in :class:`EnclaveFacts`; from INIT on.
        approval: who allowed INIT; None before it.
        sigstruct: where the SIGSTRUCT was read from; None: not known, or before INIT.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pages = StickyState(0)
        self.label = ""
        self.grants = NO_GRANTS
        self.tolerated = NO_GRANTS
        self.identity: Identity | None = None
        self.approval: Approval | None = None
        self.sigstruct: Origin | None = None

    def settle(self, pages: int) -> None:
        """CREATE succeeded."""
        self.pages = StickyState(pages)

    def forget(self) -> None:
        """The enclave has ended."""
        self.pages = StickyState(0)
