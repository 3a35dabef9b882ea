"""What must be true of enclaves, pages and mappings: written from the rules, not from the driver's tables.

Grants are the numbers of :class:`~swsgx.linux.sticky.Grant`; nothing else is shared with what is checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from swsgx.linux.device import EnclaveFile
from swsgx.linux.mm import AddressSpace
from swsgx.linux.provenance import Origin, Subject
from swsgx.linux.task import Task
from tests.make.world import SIZE

__all__ = ["PAGES", "SPARE", "Area", "Enclave", "Named", "Page", "Process", "R", "W", "X", "union", "wanted"]

R, W, X = 1, 2, 4
EXECDIRTY, MAPWX, AUGEXEC, MODTYPE = 1, 2, 4, 32
PAGES = SIZE // 0x1000
#: Where each enclave has a SECINFO for its own EACCEPTs: always there, and nothing else happens to it.
SPARE = PAGES - 1

#: A subject as events tell it: pid and label.
Named: TypeAlias = tuple[int, str]


@dataclass
class Page:
    """A page that exists.

    Attributes:
        kind: ``"REG"``, ``"TCS"`` or ``"TRIM"``.
        ceiling: what mappings may have.
        owes: obligations.
        measured, augmented, ever_w, ever_x: what it has been.
        origin: where it was copied from.
        settled: no EACCEPT is due.
    """

    kind: str
    ceiling: int
    owes: int = 0
    measured: bool = False
    augmented: bool = False
    ever_w: bool = False
    ever_x: bool = False
    origin: Origin | None = None
    settled: bool = True


@dataclass(eq=False)
class Enclave:
    """An enclave, by page index from its base.

    Attributes:
        users: subjects that have used its file, in the order of their coming.
        grants: since INIT.
        label: since INIT; empty if nobody gave one.
    """

    file: EnclaveFile
    debug: bool = True
    created: bool = False
    initialised: bool = False
    grants: int = 0
    label: str = ""
    users: list[Subject] = field(default_factory=list)
    pages: dict[int, Page] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return self.file.encl.number

    def at(self, first: int, last: int) -> list[Page | None]:
        """Pages of a range; None is a hole, or an address that the enclave does not have (yet)."""
        return [self.pages.get(index) if self.created else None for index in range(first, last)]

    def fits(self, first: int, last: int, prot: int) -> bool:
        """The driver's own rule: inside an initialised enclave, and within the ceilings."""
        if self.initialised and last > PAGES:
            return False
        return not any(page is not None and prot & ~page.ceiling for page in self.at(first, last))


@dataclass(eq=False)
class Area:
    """One mapping.

    Attributes:
        start, end: page indexes.
        judged: what it was allowed, and to whom, under which policy, and whether the enclave was initialised.
        alive: it has an enclave; a child's has none if it was refused.
    """

    start: int
    end: int
    prot: int
    encl: Enclave
    subject: Subject | None = None
    judged: int = 0
    generation: int = 0
    initialised: bool = False
    alive: bool = True


@dataclass(eq=False)
class Process:
    """Who calls."""

    task: Task
    subject: Subject
    files: list[Enclave] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)

    @property
    def mm(self) -> AddressSpace:
        return self.task.mm

    def over(self, first: int, last: int) -> list[Area]:
        """Mappings that have a page in the range, ascending."""
        return sorted((a for a in self.areas if a.start < last and first < a.end), key=lambda a: a.start)

    def at(self, index: int) -> Area | None:
        return next(iter(self.over(index, index + 1)), None)

    def split(self, index: int) -> None:
        area = self.at(index)
        if area is not None and area.start < index:
            self.areas.append(
                Area(
                    index,
                    area.end,
                    area.prot,
                    area.encl,
                    area.subject,
                    area.judged,
                    area.generation,
                    area.initialised,
                    area.alive,
                )
            )
            area.end = index

    def clear(self, first: int, last: int) -> list[Area]:
        """Take mappings out of a range; what they were."""
        self.split(first)
        self.split(last)
        gone = self.over(first, last)
        self.areas = [area for area in self.areas if area not in gone]
        return gone


def wanted(encl: Enclave, first: int, last: int, prot: int) -> int:
    """Grants that a mapping needs (lsm.md 3.3, both ways, and obligations)."""
    needs = 0
    for page in encl.at(first, last):
        if prot & X:
            # Before INIT nothing but EADD fills a hole, and that looks at who waits.
            if page.augmented if page is not None else encl.initialised:
                needs |= AUGEXEC | EXECDIRTY
            if page is not None:
                needs |= page.owes | (EXECDIRTY if page.ever_w else 0)
        if prot & W and page is not None and page.ever_x:
            needs |= EXECDIRTY
    if prot & W and prot & X:
        needs |= EXECDIRTY | MAPWX
    return needs


def union(processes: list[Process], encl: Enclave, first: int, last: int) -> int:
    """All protections of all mappings of a range."""
    prots = 0
    for process in processes:
        for area in process.over(first, last):
            if area.encl is encl and area.alive:
                prots |= area.prot
    return prots


def wanted_by_eadd(mapped: int) -> int:
    """The same for pages that are added under mappings."""
    return EXECDIRTY | MAPWX if mapped & W and mapped & X else 0


def wanted_by_eaug(mapped: int) -> int:
    """Grants that a page needs to appear under mappings that are there already: those of a page mapped so later."""
    if not mapped & X:
        return 0
    return AUGEXEC | EXECDIRTY | (MAPWX if mapped & W else 0)
