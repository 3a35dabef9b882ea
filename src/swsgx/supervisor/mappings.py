"""The enclave mappings of a tree, and who authorised each: what ``swsgx mappings`` is told.

Loaded at the first such question. Everything is read from what the driver keeps: nobody is asked again, no file is
looked at and no lock is taken. So what changes meanwhile can be told as it was before or after.

Facts of pages are told in runs: consecutive pages of one mapping about which all facts agree.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.isa.structs import Secs
from swsgx.linux.sticky import Approval, Grant, PageFlag
from swsgx.linux.vma import PROT_EXEC, PROT_WRITE, shown_prot
from swsgx.lsm.measurement import MeasurementError
from swsgx.supervisor.figures import name_of

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl
    from swsgx.linux.hooks import Judgement
    from swsgx.linux.provenance import Origin, Subject
    from swsgx.linux.sticky import Allowance, EnclaveSecurity
    from swsgx.linux.vma import Vma
    from swsgx.lsm.integrity import Integrity
    from swsgx.lsm.listed import ListedEntry
    from swsgx.lsm.stack import Stack
    from swsgx.supervisor.service import Service

__all__ = ["MOST_RUNS", "mappings_of"]

#: Runs of one answer; an enclave whose pages alternate has as many as pages.
MOST_RUNS = 10_000
_DISCHARGED = ((PageFlag.EVER_W | PageFlag.EVER_X, Grant.EXECDIRTY), (PageFlag.AUGMENTED, Grant.AUGEXEC))
Words = npt.NDArray[np.int64]


def mappings_of(service: Service, *, everything: bool) -> dict[str, Any]:
    """The mappings of a machine's enclaves; docs/mappings.md says what each member is.

    Args:
        service: the machine.
        everything: also mappings that are not executable.
    """
    service.grants.settle()
    security = service.settings.security
    stack = security.stack if security is not None else None
    teller = _Teller(_integrity(stack) if stack is not None else None)
    processes = [
        {
            "pid": process.pid,
            "name": name_of(process.pid),
            "mappings": [
                teller.mapping(vma) for vma in process.mm.vmas if everything or vma.prot & PROT_EXEC
            ],
        }
        for process in service.processes()
        if process.mm.vmas
    ]
    told = None
    if stack is not None:
        told = {
            "modules": list(stack.modules),
            "mode": stack.mode.value,
            "permissive": sorted(stack.permissive),
            "generation": stack.generation,
        }
    return {
        "all": everything,
        "security": told,
        "enclaves": [teller.enclave(encl) for encl in service.driver.enclaves if encl.created],
        "processes": processes,
        "left_off": teller.left_off,
    }


def _integrity(stack: Stack) -> Integrity | None:
    """The module that measures; None: nobody does."""
    from swsgx.lsm.integrity import Integrity

    found = stack.module(Integrity.name)
    return found if isinstance(found, Integrity) else None


def _subject(subject: Subject | None) -> dict[str, Any] | None:
    if subject is None:
        return None
    return {
        "pid": subject.pid,
        "uid": subject.uid,
        "exe": subject.exe,
        "comm": subject.comm,
        "label": subject.label,
    }


def _allowed(allowed: Sequence[Allowance]) -> list[dict[str, Any]]:
    return [
        {"module": one.module, "rules": list(one.rules), "overruled": one.overruled or None}
        for one in allowed
    ]


def _approval(approval: Approval | None) -> dict[str, Any] | None:
    if approval is None:
        return None
    return {"subject": _subject(approval.subject), "allowed": _allowed(approval.allowed)}


def _origin(origin: Origin, entry: ListedEntry | None) -> dict[str, Any]:
    file = bool(origin.inode)
    return {
        "class": origin.kind.value,
        "path": origin.path or None,
        "device": f"{os.major(origin.device)}:{os.minor(origin.device)}" if file else None,
        "inode": origin.inode if file else None,
        "offset": origin.offset if file else None,
        "digest": _digest(entry) if file else None,
        "deleted": origin.deleted,
        "noexec": origin.noexec,
        "writers": origin.writers,
        "unwatched": origin.unwatched,
        "label": origin.label or None,
    }


def _digest(entry: ListedEntry | None) -> str | None:
    """Of the file, as it was measured; nobody computes it now, when the file may be another."""
    fields = _fields(entry)
    return (
        str(fields["digest"]) if fields is not None and not str(fields["path"]).startswith("anon:") else None
    )


def _fields(entry: ListedEntry | None) -> dict[str, Any] | None:
    try:
        return dict(entry.entry.event().fields) if entry is not None else None
    except MeasurementError:
        return None


def _entry(entry: ListedEntry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    try:
        template = entry.entry.event().template
    except MeasurementError:
        template = entry.entry.template
    return {
        "number": entry.number,
        "template": template,
        "pcr": entry.entry.pcr,
        "hash": entry.entry.template_hash.hex(),
        "violation": entry.entry.violation,
    }


def _grants(grants: Grant) -> list[str]:
    return list(grants.permissions)


@dataclass(frozen=True)
class _Pages:
    """What the driver knows of the pages of one mapping, as it was at one moment.

    Attributes:
        first: index in ELRANGE.
        facts: a row for each page; equal rows are one run.
        sources: page of the source file.
        origins: of each page: index into ``extents`` plus one.
        extents, approved: as in :class:`~swsgx.linux.sticky.StickyState`.
    """

    first: int
    facts: Words
    sources: Words
    origins: Words
    extents: Sequence[Origin]
    approved: Sequence[Approval]

    def cuts(self) -> list[int]:
        """Where runs begin, and the end."""
        count = len(self.facts)
        changed = np.any(np.diff(self.facts, axis=0) != 0, axis=1)
        # Pages of one file follow each other, or all come from one place that is no file.
        changed |= (np.diff(self.sources) != 1) & (self.facts[1:, 4] != 0) & (self.sources[1:] >= 0)
        return [0, *(np.flatnonzero(changed) + 1).tolist(), count]


class _Teller:
    """Makes the answer.

    Attributes:
        left_off: runs that were too many.
    """

    def __init__(self, integrity: Integrity | None) -> None:
        self.left_off = 0
        self._integrity = integrity
        self._runs = 0
        self._told: dict[tuple[int, ...], dict[str, Any]] = {}

    # Enclaves.

    def enclave(self, encl: Encl) -> dict[str, Any]:
        """One enclave."""
        security = encl.security
        mrenclave, mrsigner, prodid, svn = _identity(encl)
        listed = self._integrity.memory.listed.init(encl.number) if self._integrity is not None else None
        origin = security.sigstruct if security is not None else None
        return {
            "number": encl.number,
            "base": encl.base,
            "size": encl.size,
            "initialised": encl.initialised,
            "debug": encl.debug,
            "asked": security is not None,
            "label": (security.label or None) if security is not None else None,
            "mrenclave": mrenclave,
            "mrsigner": mrsigner,
            "isvprodid": prodid,
            "isvsvn": svn,
            "grants": _grants(security.grants) if security is not None else [],
            "tolerated": _grants(security.tolerated) if security is not None else [],
            "init": _approval(security.approval) if security is not None else None,
            "sigstruct": _origin(origin, None) if origin is not None else None,
            "entry": _entry(listed),
        }

    # Mappings.

    def mapping(self, vma: Vma) -> dict[str, Any]:
        """One mapping, with the runs of its pages."""
        judgement = vma.judgement
        by = None
        if judgement is not None:
            by = {
                "subject": _subject(judgement.subject),
                "allowed": _allowed(judgement.allowed),
                "generation": judgement.generation,
                "current": _current(vma, judgement),
                "withdrawn": judgement.withdrawn or None,
            }
        return {
            "start": vma.start,
            "end": vma.end,
            "prot": shown_prot(vma.prot),
            "enclave": vma.encl.number,
            "accessible": vma.mapping is not None,
            "judged": by,
            "runs": list(self._of_mapping(vma)),
        }

    def _of_mapping(self, vma: Vma) -> Iterator[dict[str, Any]]:
        encl = vma.encl
        first, last = encl.clip(vma.start, vma.end)
        pages = self._pages(encl, first, last)
        if pages is None:
            yield from self._hole(vma.start, vma.end)
            return
        low, high = encl.base + first * PAGE_SIZE, encl.base + last * PAGE_SIZE
        yield from self._hole(vma.start, low)
        for begin, end in itertools.pairwise(pages.cuts()):
            if self._counted():
                start, stop = low + begin * PAGE_SIZE, low + end * PAGE_SIZE
                yield {"start": start, "end": stop, **self._run(vma, pages, begin)}
        yield from self._hole(high, vma.end)

    def _counted(self) -> bool:
        """One run more; whether there is room."""
        self._runs += 1
        if self._runs <= MOST_RUNS:
            return True
        self.left_off += 1
        return False

    def _hole(self, start: int, end: int) -> Iterator[dict[str, Any]]:
        if start < end and self._counted():
            yield {"start": start, "end": end, "type": None}

    def _pages(self, encl: Encl, first: int, last: int) -> _Pages | None:
        """A copy of the arrays; None if there are none."""
        count = last - first
        columns: list[npt.NDArray[Any]] = [encl.page_type[first:last], encl.max_prot[first:last]]
        extents: Sequence[Origin] = ()
        approved: Sequence[Approval] = ()
        sources = np.full(count, -1, np.int64)
        origins = np.zeros(count, np.int64)
        if encl.security is not None:
            sticky = encl.security.pages
            extents, approved = tuple(sticky.extents), tuple(sticky.approved)
            kinds = np.array([0, *_alike(extents)], np.int64)
            origins = np.minimum(sticky.origins[first:last].astype(np.int64), len(extents))
            files = np.array([False, *(bool(one.inode) for one in extents)])
            raw = sticky.source_pages[first:last].astype(np.int64)
            if not len(raw) == len(origins) == count:
                return None
            sources = np.where(files[origins], raw, -1)
            columns += [sticky.flags[first:last], sticky.obligations[first:last], kinds[origins]]
            columns += [
                np.minimum(sticky.approvals[first:last], len(approved)),
                self._augmented(encl, first, last),
            ]
        else:
            columns += [np.zeros(count, np.uint8)] * 5
        if not count or any(len(column) != count for column in columns):
            return None  # before CREATE, or the enclave ends just now
        facts = np.stack([column.astype(np.int64) for column in columns], axis=1)
        return _Pages(first, facts, sources, origins, extents, approved)

    def _augmented(self, encl: Encl, first: int, last: int) -> Words:
        """Of each page: which entry of the list says that it became executable, counted from 1."""
        found = np.zeros(last - first, np.int64)
        if self._integrity is not None:
            for number, (offset, length, _) in enumerate(self._spans(encl), 1):
                low, high = offset // PAGE_SIZE - first, (offset + length) // PAGE_SIZE - first
                found[max(low, 0) : max(high, 0)] = number
        return found

    def _spans(self, encl: Encl) -> list[tuple[int, int, ListedEntry]]:
        return self._integrity.memory.listed.spans(encl.number) if self._integrity is not None else []

    def _run(self, vma: Vma, pages: _Pages, at: int) -> dict[str, Any]:
        """Facts of a page. Most runs of an enclave are like others, but for their place in the file."""
        index, source = int(pages.origins[at]), int(pages.sources[at])
        key = (vma.encl.number, vma.prot, index, *pages.facts[at].tolist())
        told = self._told.get(key)
        if told is None:
            told = self._told[key] = self._facts(vma, pages, at)
        if source < 0 or told.get("origin") is None:
            return told
        return {**told, "origin": {**told["origin"], "offset": source * PAGE_SIZE}}

    def _facts(self, vma: Vma, pages: _Pages, at: int) -> dict[str, Any]:
        kind, ceiling, flag_bits, owed, _, approval, augmented = pages.facts[at].tolist()
        security = vma.encl.security
        if not kind:
            return {"type": None}
        run: dict[str, Any] = {"type": PageType(kind).name.lower(), "ceiling": shown_prot(ceiling)}
        if security is None:
            return {**run, "asked": False}
        flags = PageFlag(flag_bits)
        index = int(pages.origins[at])
        origin = pages.extents[index - 1] if index else None
        entry = self._entry_of(vma.encl, flags, origin, ceiling, augmented)
        return {
            **run,
            "asked": PageFlag.ADMITTED in flags,
            "measured": PageFlag.MEASURED in flags,
            "ever_w": PageFlag.EVER_W in flags,
            "ever_x": PageFlag.EVER_X in flags,
            "augmented": PageFlag.AUGMENTED in flags,
            "obligations": _grants(Grant(owed)),
            "origin": _origin(origin, entry) if origin is not None else None,
            "admitted": _approval(pages.approved[approval - 1]) if approval else None,
            "used": _grants(_used(security, vma.prot, flags, Grant(owed))),
            "entry": _entry(entry),
        }

    def _entry_of(
        self, encl: Encl, flags: PageFlag, origin: Origin | None, ceiling: int, augmented: int
    ) -> ListedEntry | None:
        if self._integrity is None:
            return None
        if PageFlag.AUGMENTED in flags:
            spans = self._spans(encl)
            return spans[augmented - 1][2] if 0 < augmented <= len(spans) else None
        measured = PageFlag.MEASURED in flags
        return self._integrity.entry_of(encl.number, origin, ceiling, measured=measured)


def _current(vma: Vma, judgement: Judgement) -> bool:
    """Whether it was judged by the policy that there is, of the enclave as it is."""
    encl = vma.encl
    now = (encl.driver.security.generation, encl.initialised)
    return (judgement.generation, judgement.initialised) == now


def _alike(extents: Sequence[Origin]) -> list[int]:
    """Of each origin a number from 1; two that differ only in the offset have the same."""
    known: dict[Origin, int] = {}
    return [known.setdefault(replace(origin, offset=0), len(known) + 1) for origin in extents]


def _used(security: EnclaveSecurity, prot: int, flags: PageFlag, owed: Grant) -> Grant:
    """The grants without which the page would not be mapped as it is; those that are only tolerated count."""
    used = Grant(0)
    if prot & PROT_EXEC:
        used |= owed
    if prot & (PROT_EXEC | PROT_WRITE):
        for marks, grant in _DISCHARGED:
            if marks in flags and (grant is not Grant.AUGEXEC or prot & PROT_EXEC):
                used |= grant
    if prot & PROT_EXEC and prot & PROT_WRITE:
        used |= Grant.MAPWX
    return used & (security.grants | security.tolerated)


def _identity(encl: Encl) -> tuple[str | None, str | None, int | None, int | None]:
    """MRENCLAVE, MRSIGNER, ISVPRODID and ISVSVN of an initialised enclave, as far as they are known."""
    known = encl.security.identity if encl.security is not None else None
    if known is not None:
        return known.mrenclave.hex(), known.mrsigner.hex(), known.isvprodid, known.isvsvn
    frame, state = encl.secs, encl.known_state
    if not encl.initialised or state is None:
        return None, None, None, None
    if frame is None:  # it is written out, and nobody brings it back for this
        return state.measurement.digest().hex(), None, None, None
    secs = Secs(bytearray(encl.driver.cpu.page(frame)))
    return bytes(secs.mrenclave).hex(), bytes(secs.mrsigner).hex(), secs.isvprodid, secs.isvsvn
