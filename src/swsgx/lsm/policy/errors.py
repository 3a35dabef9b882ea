"""What is wrong with a policy: where, what was found, what was expected; all that was found, not only the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from swsgx.trace import Reason

__all__ = ["MAX_PROBLEMS", "Place", "PolicyError", "Problem", "Problems"]

#: After so many problems of one load, the rest are not told.
MAX_PROBLEMS = 50
#: How much of a long line is shown, and how much of it before the caret.
_SHOWN, _BEFORE = 100, 60


class Place(NamedTuple):
    """Where something stands. Line and column count from 1; columns are characters."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: where it begins.
        rule: what must hold and does not, as a statement.
        found, expected: what stands there; what would have been accepted.
        line: the text of that line.
        other: a second place that the problem is about, such as the rule that came first.
    """

    place: Place
    rule: str
    found: str
    expected: str
    line: str = ""
    other: Place | None = None

    def __str__(self) -> str:
        where = f"{self.place.file}:{self.place.line}:{self.place.column}"
        also = f" (see {self.other})" if self.other is not None else ""
        return f"{where}: {self.rule}: found {self.found}, expected {self.expected}{also}"

    def lines(self) -> Iterator[str]:
        """The message, the line it is about, and a caret under the place."""
        yield str(self)
        if not self.line.strip():
            return
        at = self.place.column - 1
        start = max(0, at - _BEFORE) if len(self.line) > _SHOWN else 0
        # One sign for each character, so that the caret stands where it should.
        shown = "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in self.line[start:])
        yield f"    {shown[:_SHOWN]}".rstrip()
        yield f"    {' ' * (at - start)}^"

    @property
    def reason(self) -> Reason:
        """The problem as other refusals are told."""
        return Reason("policy", self.rule, self.expected, self.found, "docs/policy.md")


class PolicyError(Exception):
    """Policy files that cannot be used as they are. Never a bug of ours.

    Attributes:
        problems: all that was found, in the order of places; at least one.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        more = len(self.problems) - 1
        return f"{self.problems[0]}{f' (and {more} more)' if more else ''}"

    @property
    def file(self) -> str:
        """The file of the first problem."""
        return self.problems[0].place.file

    @property
    def reason(self) -> Reason:
        """The first problem."""
        return self.problems[0].reason


@dataclass(slots=True)
class Problems:
    """Collects problems, so that one load tells them all."""

    found: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        """Note ``problem``.

        Raises:
            PolicyError: there are too many already.
        """
        self.found.append(problem)
        if len(self.found) >= MAX_PROBLEMS:
            self.check()

    def check(self) -> None:
        """Go on only if nothing is wrong.

        Raises:
            PolicyError: with everything that was noted.
        """
        if self.found:
            raise PolicyError(tuple(sorted(self.found, key=lambda problem: problem.place)))
