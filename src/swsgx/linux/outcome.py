"""What a system call gives back: a value as the kernel returns it, and the reason beside it."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swsgx.trace import Reason, hexed

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["ERESTARTSYS", "OK", "Outcome", "Refuser", "done", "errno_name", "refuse"]

#: Never seen by a program: the call restarts by itself, or becomes EINTR.
ERESTARTSYS = 512


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call's result.

    Attributes:
        value: 0 or more as the call defines it, or minus an errno.
        reason: why, if it was refused or only partly done.
    """

    value: int = 0
    reason: Reason | None = None

    @property
    def ok(self) -> bool:
        """Whether the call did not fail."""
        return self.value >= 0

    @property
    def errno(self) -> int:
        """The errno, or 0."""
        return -self.value if self.value < 0 else 0

    def __str__(self) -> str:
        return errno_name(self.errno) if self.errno else (hex(self.value) if self.value else "ok")


#: A call that did what it was asked and returns 0.
OK = Outcome()


def done(value: int) -> Outcome:
    """Success with a value, such as mmap's address."""
    return Outcome(value)


def errno_name(number: int) -> str:
    """``"EINVAL"`` for 22."""
    if number == ERESTARTSYS:
        return "ERESTARTSYS"
    return errno.errorcode.get(number, str(number))


def refuse(
    number: int,
    *,
    operation: str,
    rule: str,
    expected: object,
    found: object,
    source: str,
    remedy: str = "",
    cause: Reason | None = None,
) -> Outcome:
    """A refusal: errno ``number`` with its reason; integers are told in hexadecimal."""
    return Outcome(-number, Reason(operation, rule, hexed(expected), hexed(found), source, remedy, cause))


@dataclass(frozen=True, slots=True)
class Refuser:
    """Refusals of one operation of the driver's, called like a function.

    Attributes:
        operation: what is refused.
        file: of the driver's source, where its rules stand.
        function: where they stand in it, unless a call says otherwise.
    """

    operation: str
    file: str
    function: str

    def __call__(
        self,
        encl: Encl,
        number: int,
        rule: str,
        expected: object,
        found: object,
        *,
        function: str = "",
        remedy: str = "",
        cause: Reason | None = None,
    ) -> Outcome:
        """:func:`refuse`, with the source in the words of the enclave's profile."""
        return refuse(
            number,
            operation=self.operation,
            rule=rule,
            expected=expected,
            found=found,
            source=encl.profile.source(f"{self.file}: {function or self.function}"),
            remedy=remedy,
            cause=cause,
        )
