"""Does a rule allow what a neverallow forbids? Sets of types are numbers here, so that two are compared in one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from swsgx.lsm.policy.source import Rule
from swsgx.lsm.policy.te import PERMISSIONS, Cell

__all__ = ["Ban", "Breach", "breaches"]


class Ban(NamedTuple):
    """One pair of names of a neverallow rule, with its permissions as bits."""

    source: str
    target: str
    mask: int
    rule: Rule


class Breach(NamedTuple):
    """A rule that a ban forbids, and an example of what it allows."""

    rule: Rule
    ban: Ban
    source: str
    target: str
    permission: str


def breaches(
    bans: Sequence[Ban], cells: Mapping[tuple[str, str], Cell], bits: Mapping[str, int]
) -> Iterator[Breach]:
    """All pairs of a ban and a rule that it forbids.

    Args:
        bans: what is forbidden.
        cells: what is allowed, by names of types and sets.
        bits: for each name, its types.
    """
    types = {mask: name for name, mask in bits.items() if mask.bit_count() == 1 and name[:1] not in "~{*"}
    by_permission: list[list[tuple[tuple[str, str], Cell]]] = [[] for _ in PERMISSIONS]
    wanted = 0
    for ban in bans:
        wanted |= ban.mask
    for pair, cell in cells.items():
        for number in _ones(cell.allow & wanted):
            by_permission[number].append((pair, cell))
    for ban in bans:
        told: set[int] = set()
        for number in _ones(ban.mask):
            for (source, target), cell in by_permission[number]:
                # Subjects that both mean, and what both mean by the target.
                both = bits[source] & bits[ban.source]
                if not both:
                    continue
                if target == "self" or ban.target == "self":
                    for side in (target, ban.target):
                        if side != "self":
                            both &= bits[side]
                    other = both
                else:
                    other = bits[target] & bits[ban.target]
                rule = cell.rules[1 << number]
                if both and other and id(rule) not in told:
                    told.add(id(rule))
                    names = types[both & -both], types[other & -other]
                    yield Breach(rule, ban, *names, PERMISSIONS[number])


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _ones(mask: int) -> Iterator[int]:
    while mask:
        yield _lowest(mask)
        mask &= mask - 1
