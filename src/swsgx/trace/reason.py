"""Why something was refused: the same four facts at every layer.

Hardware tells a program ``#GP(0)``, the kernel tells it ``EIO``. Both stay exactly what they are; a
:class:`Reason` travels beside them and says which rule was broken, what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Reason", "hexed"]


def hexed(value: object) -> str:
    """Integers in hexadecimal, everything else as it prints."""
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Reason:
    """One refusal, told to a person.

    Attributes:
        operation: what refused: ``"EADD"``, ``"SGX_IOC_ENCLAVE_INIT"``, ``"mmap"``.
        rule: the rule in words, as a statement that did not hold: ``"LINADDR lies inside ELRANGE"``.
        expected: what would have been accepted.
        found: what was there instead.
        source: where the rule stands: manual section by title, or kernel file and function.
        remedy: what to do about it, where that is known; else empty.
        cause: the refusal below this one, as when ADD_PAGES says EIO because EADD faulted.
    """

    operation: str
    rule: str
    expected: str
    found: str
    source: str
    remedy: str = ""
    cause: Reason | None = None

    def __str__(self) -> str:
        text = f"{self.operation}: {self.rule}: expected {self.expected}, found {self.found}"
        if self.remedy:
            text += f"; {self.remedy}"
        if self.cause is not None:
            text += f" <- {self.cause}"
        return text

    def lines(self) -> Iterator[str]:
        """At length: this reason and its causes, one fact a line."""
        level: Reason | None = self
        while level is not None:
            yield f"  {level.operation}"
            yield f"    rule:     {level.rule}"
            yield f"    expected: {level.expected}"
            yield f"    found:    {level.found}"
            yield f"    source:   {level.source}"
            if level.remedy:
                yield f"    remedy:   {level.remedy}"
            level = level.cause
            if level is not None:
                yield "  because"

    def as_dict(self) -> dict[str, object]:
        """The reason as plain values, for JSON."""
        plain: dict[str, object] = {
            "operation": self.operation,
            "rule": self.rule,
            "expected": self.expected,
            "found": self.found,
            "source": self.source,
        }
        if self.remedy:
            plain["remedy"] = self.remedy
        if self.cause is not None:
            plain["cause"] = self.cause.as_dict()
        return plain
