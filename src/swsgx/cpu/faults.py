"""The two ways in which a leaf refuses: a fault is raised, an error code is returned. Never mixed.

A :class:`Fault` is what the processor delivers through the IDT. A :class:`LeafResult` is what a leaf leaves in
RAX and in the flags. Both carry a :class:`~swsgx.trace.Reason`, which hardware never gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from swsgx.isa.address import Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageFaultCode
from swsgx.isa.vectors import Vector
from swsgx.trace import Reason

__all__ = [
    "SUCCESS",
    "Fault",
    "GeneralProtection",
    "InternalError",
    "LeafResult",
    "PageFault",
    "UndefinedOpcode",
    "invariant",
]


class InternalError(Exception):
    """Our own bug: a state that no input may produce. Stops the run."""


def invariant(holds: bool, message: str, **facts: object) -> None:
    """Insist that something holds which no input may break; stays on in every build.

    Args:
        holds: the condition.
        message: what was expected, with the owner's name first: ``"EPCM: a REG page has a valid SECS"``.
        facts: values that help to find the bug.

    Raises:
        InternalError: it does not hold.
    """
    if not holds:
        shown = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        raise InternalError(f"{message} ({shown})" if shown else message)


class Fault(Exception):
    """An exception of the processor, raised by a leaf that was refused; nothing was changed.

    Attributes:
        vector: which exception.
        error_code: as pushed on the stack; 0 where the vector has none.
        address: what CR2 gets (#PF only), else None.
        reason: why.
    """

    vector: ClassVar[Vector]

    def __init__(self, reason: Reason, error_code: int = 0, address: Linaddr | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error_code = error_code
        self.address = address

    @property
    def mnemonic(self) -> str:
        """``"#GP(0)"``, ``"#PF(0x8003)"``."""
        return (
            f"{self.vector.mnemonic}({self.error_code:#x})"
            if self.error_code
            else f"{self.vector.mnemonic}(0)"
        )

    def __str__(self) -> str:
        where = f" at {self.address:#x}" if self.address is not None else ""
        told = str(self.reason).removeprefix(f"{self.reason.operation}: ")
        return f"{self.reason.operation} {self.mnemonic}{where}: {told}"


class UndefinedOpcode(Fault):
    """#UD: the instruction does not exist here."""

    vector = Vector.UD

    @property
    def mnemonic(self) -> str:
        """``"#UD"``; this vector pushes no error code."""
        return self.vector.mnemonic


class GeneralProtection(Fault):
    """#GP(0)."""

    vector = Vector.GP


class PageFault(Fault):
    """#PF: a page is not mapped, or the EPCM forbids what was asked.

    Args:
        address: the linear address, for CR2.
        reason: why.
        error_code: by default what an ENCLS leaf gets from the EPCM: P, W and SGX (0x8003), as KVM injects it.
    """

    vector = Vector.PF

    def __init__(
        self,
        address: Linaddr,
        reason: Reason,
        error_code: int = PageFaultCode.P | PageFaultCode.W | PageFaultCode.SGX,
    ) -> None:
        super().__init__(reason, int(error_code), address)


@dataclass(frozen=True, slots=True)
class LeafResult:
    """What a leaf that returns a code leaves behind.

    Attributes:
        rax: 0, or the error code; see :class:`~swsgx.isa.errors.SgxError`.
        zf: the zero flag: 1 with most error codes.
        cf: the carry flag: 1 with those codes that only inform.
        reason: why, if ``rax`` is not 0.
    """

    rax: int = 0
    zf: bool = False
    cf: bool = False
    reason: Reason | None = None

    @property
    def ok(self) -> bool:
        """Whether RAX is 0."""
        return self.rax == 0

    @property
    def code(self) -> SgxError | None:
        """The error code by name; None for success."""
        return SgxError(self.rax) if self.rax else None

    def __str__(self) -> str:
        if self.code is None:
            return "ok"
        return f"SGX_{self.code.name} ({self.rax})"


#: A leaf that did what it was asked.
SUCCESS = LeafResult()
