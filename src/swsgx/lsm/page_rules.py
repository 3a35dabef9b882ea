"""What a page may become, given what it has been: the rules that need no policy but the enclave's grants.

Executable and writable at once, or one after the other, in whatever process and order: a page that was ever mapped
writable (or added by EAUG, or written by a debugger) is not mapped executable, and one that was ever mapped executable
is not mapped writable, without the grant ``execdirty``; a single mapping that is both needs ``mapwx``, too. Pages of
EAUG, and holes of a running enclave, where such pages may appear, need ``augexec`` to be mapped executable. Before INIT
holes are free, since EADD looks at the mappings that wait for its pages. A regular page becomes a TCS with ``modtype``
only. These apply where a module hands out grants, so that with none nothing is different.

Obligations bind always: a page that has open ones is not mapped executable, and INIT fails unless it grants them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swsgx.isa.flags import PageType
from swsgx.linux.security import NO_GRANTS, Augment, Debug, Event, Grant, Init, Load, Map, Modify, PageFlag

__all__ = ["NAME", "Lack", "lacking", "undischarged"]

#: In audit records, and for whoever makes the rules permissive.
NAME = "page_rules"

_WRITE, _EXEC = 2, 4


@dataclass(frozen=True, slots=True)
class Lack:
    """Grants that something needs and the enclave does not have.

    Attributes:
        grants: those.
        reason: the rule, in words.
        found: what is in its way.
        span: bytes from the enclave's base and bytes of the first pages that are; None: all that the event is about.
    """

    grants: Grant
    reason: str
    found: str
    span: tuple[int, int] | None = None


def undischarged(event: Init, grants: Grant) -> Lack | None:
    """Obligations of pages that an INIT with these grants would leave open."""
    missing = event.obligations & ~grants
    if not missing:
        return None
    owing = event.pages.open_obligations & np.uint8(missing) != 0
    return Lack(
        missing,
        "the enclave's identity is granted what its pages owe",
        f"pages that owe {', '.join(missing.permissions)}",
        event.pages.span(owing),
    )


def lacking(event: Event, *, write_execute: bool) -> Lack | None:
    """Grants that an event needs and its enclave does not have.

    Args:
        event: of any hook but init.
        write_execute: all rules; else that of obligations only.
    """
    if isinstance(event, Map):
        return _map(event, write_execute=write_execute)
    if not write_execute:
        return None
    if isinstance(event, Augment) and event.mapped & _EXEC:
        needed = Grant.AUGEXEC | Grant.EXECDIRTY | (Grant.MAPWX if event.mapped & _WRITE else NO_GRANTS)
        return _lack(
            event.enclave.grants,
            needed,
            "EAUG adds no page where executable mappings wait for it",
            "an executable mapping",
        )
    if isinstance(event, Load) and event.mapped & _WRITE and event.mapped & _EXEC:
        return _lack(
            event.enclave.grants,
            Grant.EXECDIRTY | Grant.MAPWX,
            "no page appears where it is writable and executable at once",
            "mappings that are writable and executable",
        )
    if isinstance(event, Debug) and event.write and event.pages.any(PageFlag.EVER_X):
        return _lack(
            event.enclave.grants,
            Grant.EXECDIRTY,
            "a debugger writes into no page that was ever executable",
            "a page that was mapped executable",
            event.pages.span(event.pages.having(PageFlag.EVER_X)),
        )
    if isinstance(event, Modify) and event.page_type is PageType.TCS:
        return _lack(
            event.enclave.grants, Grant.MODTYPE, "a page becomes a TCS by EADD only", "EMODT to PT_TCS"
        )
    return None


def _lack(
    held: Grant, needed: Grant, reason: str, found: str, span: tuple[int, int] | None = None
) -> Lack | None:
    missing = needed & ~held
    return Lack(missing, reason, found, span) if missing else None


def _map(event: Map, *, write_execute: bool) -> Lack | None:
    """All that a mapping needs, so that one record tells all; words and pages are those of the first rule it breaks."""
    needs: list[tuple[Grant, str, str, npt.NDArray[np.bool_] | None]] = []
    pages, prot = event.pages, event.prot
    if prot & _EXEC and pages.obligations:
        needs.append(
            (
                pages.obligations,
                "a page that owes something is not executable",
                "a page with an obligation that no INIT has discharged",
                pages.open_obligations != 0,
            )
        )
    if write_execute:
        if prot & _WRITE and prot & _EXEC:
            needs.append(
                (
                    Grant.MAPWX | Grant.EXECDIRTY,
                    "no mapping is writable and executable",
                    "W and X at once",
                    None,
                )
            )
        if prot & _EXEC:
            augmented, dirty = pages.having(PageFlag.AUGMENTED), pages.having(PageFlag.EVER_W)
            # Before INIT no EAUG fills them, and EADD looks at the mappings that wait.
            if pages.has_holes and event.enclave.initialised:
                rule = "a hole, where EAUG may add pages, is not executable"
                needs.append((Grant.AUGEXEC | Grant.EXECDIRTY, rule, "a hole", pages.holes))
            if augmented.any():
                needs.append(
                    (
                        Grant.AUGEXEC | Grant.EXECDIRTY,
                        "a page that EAUG added is not executable",
                        "one",
                        augmented,
                    )
                )
            if dirty.any():
                needs.append(
                    (
                        Grant.EXECDIRTY,
                        "a page that was ever writable is not executable",
                        "one that was",
                        dirty,
                    )
                )
        if prot & _WRITE:
            executed = pages.having(PageFlag.EVER_X)
            if executed.any():
                needs.append(
                    (
                        Grant.EXECDIRTY,
                        "a page that was ever executable is not writable",
                        "one that was",
                        executed,
                    )
                )
    missing, first = NO_GRANTS, None
    for need in needs:
        lacks = need[0] & ~event.enclave.grants
        if lacks and first is None:
            first = need
        missing |= lacks
    if first is None:
        return None
    _, reason, found, mask = first
    return Lack(missing, reason, found, pages.span(mask) if mask is not None else None)
