"""Exception vectors."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Vector"]


class Vector(IntEnum):
    """Exceptions and NMI by number. Source: SDM volume 3A, "Exception and Interrupt Vectors"."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XM = 19
    VE = 20
    CP = 21

    @property
    def mnemonic(self) -> str:
        """As the manual writes it: ``"#GP"``; the NMI has no ``#``."""
        return "NMI" if self is Vector.NMI else f"#{self.name}"

    @property
    def has_error_code(self) -> bool:
        """Whether the CPU gives an error code with it."""
        return self in (
            Vector.DF,
            Vector.TS,
            Vector.NP,
            Vector.SS,
            Vector.GP,
            Vector.PF,
            Vector.AC,
            Vector.CP,
        )
