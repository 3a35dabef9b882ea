"""What is wrong with a file: which file, where in it, and which rule it breaks."""

from __future__ import annotations

from dataclasses import dataclass

from swsgx.trace import Reason

__all__ = ["Format", "ImageError"]


class ImageError(Exception):
    """A file that cannot be used as it is. Never a bug of ours: the file, or the request, is at fault.

    Attributes:
        file: name of the file, as it was given.
        reason: the broken rule; its ``found`` says where in the file, if there is such a place.
        offset: bytes from the start of the file to what is wrong, or None.
    """

    def __init__(self, file: str, reason: Reason, offset: int | None = None) -> None:
        super().__init__(file, reason, offset)
        self.file = file
        self.reason = reason
        self.offset = offset

    def __str__(self) -> str:
        where = "" if self.offset is None else f"at file offset {self.offset:#x}: "
        return f"{self.file}: {where}{self.reason}"


@dataclass(frozen=True, slots=True)
class Format:
    """Who complains: makes the :class:`ImageError` objects of one file.

    Attributes:
        file: name of the file, for messages.
        name: the format's name: ``"ELF"``, ``".sgxs"``.
        source: the document that the rules come from.
    """

    file: str
    name: str
    source: str

    def refuse(
        self, rule: str, *, expected: str, found: str, offset: int | None = None, remedy: str = ""
    ) -> ImageError:
        """The error to raise; ``rule`` is a statement that does not hold, ``offset`` in bytes of the file."""
        return ImageError(self.file, Reason(self.name, rule, expected, found, self.source, remedy), offset)
