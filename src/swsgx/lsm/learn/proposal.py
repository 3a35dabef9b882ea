"""A policy file in the making: candidate rules with comments on where each comes from, and text around them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["DANGEROUS", "Candidate", "Piece", "Tally", "moment", "printable", "render", "warnings_of"]

#: Permissions that a rule should give only to who must have them, with what they bring.
DANGEROUS = {
    "execdirty": "memory that was written can be executed; measured code needs it for nothing",
    "mapwx": "memory is writable and executable at once; map it twice, or first so and then so",
    "execanon": "code comes from memory that no file vouches for; load it from a file that may be executed instead",
    "augexec": "code that was added after EINIT, and that no measurement knows, can be executed",
    "execunmr": "code or entry points that are not in MRENCLAVE; add them with SGX_PAGE_MEASURE instead",
    "execmod": "code is not what its file says; find out who writes to the private copy",
    "modtype": "entry points can be made later, where MRENCLAVE has none",
    "debug": "whoever debugs an enclave reads and changes all that is in it",
    "provision": "the provisioning keys tell this processor from all others",
    "vepc": "guests make enclaves that no policy of this host is asked about",
}


def printable(text: str) -> str:
    """Text of a log without what a terminal or a policy file would take for more than characters of one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def moment(milliseconds: int) -> str:
    """A time of an event, UTC."""
    try:
        stamp = datetime.datetime.fromtimestamp(milliseconds // 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds // 1000} s after 1970"
    return f"{stamp:%Y-%m-%d %H:%M:%S}"


@dataclass(slots=True)
class Tally:
    """How many records ask for the same, and when."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, milliseconds: int) -> None:
        """One more, at this time."""
        self.first = min(self.first, milliseconds) if self.count else milliseconds
        self.last = max(self.last, milliseconds) if self.count else milliseconds
        self.count += 1

    def merge(self, other: Tally) -> None:
        """Those of another tally, too."""
        if not other.count:
            return
        for time in (other.first, other.last):
            self.add(time)
        self.count += other.count - 2

    def __str__(self) -> str:
        if self.count == 1:
            return f"1 record, {moment(self.first)}"
        return f"{self.count} records, {moment(self.first)} to {moment(self.last)}"


@dataclass(slots=True, eq=False)
class Candidate:
    """A statement that is proposed.

    Attributes:
        text: the statement, one line.
        notes: comments before it.
        halves: statements that say the same together: tried if this one cannot be.
        instead: the line that it takes the place of.
        refused: why it is shown as a comment only; empty: it is a statement.
        about: of an allow rule: source, target and permissions.
    """

    text: str
    notes: list[str] = field(default_factory=list)
    halves: list[Candidate] = field(default_factory=list)
    instead: str = ""
    refused: str = ""
    about: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The candidate in a file; its statement is the last line."""
        said = [f"# {printable(note)}" for note in self.notes]
        if self.refused:
            kept = [self.instead] if self.instead else []
            return [*said, f"# not proposed: {printable(self.refused)}", *kept, f"#   {self.text}"]
        was = [f"# in the place of: {printable(self.instead)}"] if self.instead else []
        return [*said, *was, self.text]


#: What a file is made of.
Piece = str | Candidate


def render(pieces: Sequence[Piece]) -> tuple[str, dict[int, Candidate]]:
    """The file's text, and on which of its lines, counted from 1, each candidate's statement stands."""
    lines: list[str] = []
    where: dict[int, Candidate] = {}
    for piece in pieces:
        if isinstance(piece, str):
            lines.append(piece)
            continue
        lines += piece.lines()
        where[len(lines)] = piece
    return "".join(f"{line}\n" for line in lines), where


def warnings_of(permissions: Iterable[str]) -> list[str]:
    """A warning for each permission that is dangerous."""
    return [f"WARNING, {name}: {DANGEROUS[name]}" for name in permissions if name in DANGEROUS]
