"""What goes wrong when a program in our own process uses an enclave."""

from __future__ import annotations

import os

from swsgx.isa.vectors import Vector
from swsgx.linux.outcome import Outcome, errno_name
from swsgx.trace import Reason

__all__ = ["DriverError", "EnclaveFault"]


class DriverError(OSError):
    """A call to the driver was refused: the errno that a program would see, and the reason.

    Attributes:
        call: the ioctl or system call.
        reason: which rule, expected, found, source.
    """

    def __init__(self, call: str, outcome: Outcome) -> None:
        super().__init__(outcome.errno, os.strerror(outcome.errno))
        self.call = call
        self.reason = outcome.reason

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason is not None else ""
        return f"{self.call} gave {errno_name(self.errno or 0)}{why}"


class EnclaveFault(Exception):
    """An exception inside an enclave, or of EENTER or ERESUME themselves.

    Attributes:
        vector: the exception, as ``run.exception_vector`` tells it.
        error_code: its error code, 16 bits.
        address: the page of a #PF; else 0. Inside an enclave the low 12 bits are not told.
        inside: True after an AEX: the enclave can be resumed. False: the entry was refused.
        offset: where in the enclave it happened, in bytes from its base; None when refused at the entry. (A
            debugger's knowledge: hardware does not tell it.)
        reason: which rule, expected, found, source.
    """

    def __init__(
        self, vector: int, error_code: int, address: int, *, inside: bool, offset: int | None, reason: Reason
    ) -> None:
        super().__init__(vector, error_code, address)
        self.vector = Vector(vector)
        self.error_code = error_code
        self.address = address
        self.inside = inside
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        what = self.vector.mnemonic
        if self.vector == Vector.PF:
            what += f" at {self.address:#x}, error code {self.error_code:#x}"
        elif self.vector == Vector.GP:
            what += f"({self.error_code})"
        where = f" at offset {self.offset:#x} of the enclave" if self.offset is not None else " at the entry"
        return f"{what}{where}: {self.reason}"
