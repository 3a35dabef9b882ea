"""A mapping of an enclave's file, and the numbers of the memory calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swsgx.linux.device import EnclaveFile
    from swsgx.linux.encl import Encl, EnclaveMapping
    from swsgx.linux.hooks import Judgement

__all__ = [
    "MAP_FIXED",
    "MAP_FIXED_NOREPLACE",
    "MAP_PRIVATE",
    "MAP_SHARED",
    "MAP_SHARED_VALIDATE",
    "MAP_TYPE",
    "PROT_ACCESS",
    "PROT_EXEC",
    "PROT_NONE",
    "PROT_READ",
    "PROT_WRITE",
    "TASK_SIZE",
    "Vma",
    "shown_prot",
]

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
#: The three protections that a VMA has.
PROT_ACCESS = PROT_READ | PROT_WRITE | PROT_EXEC
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE = 1, 2, 3
#: Bits of mmap's flags that hold the type.
MAP_TYPE = 0x0F
MAP_FIXED, MAP_FIXED_NOREPLACE = 0x10, 0x10_0000
#: End of a program's addresses, 4-level paging.
TASK_SIZE = 0x7FFF_FFFF_F000


class Vma:
    """One mapping of an enclave's file.

    Attributes:
        start, end: page aligned.
        prot: R 1, W 2, X 4.
        may: what mprotect may set (VM_MAYREAD, VM_MAYWRITE, VM_MAYEXEC), same bits.
        file: held open by the mapping.
        mapping: the enclave in this address space; None if fork could not record it.
        dontfork: MADV_DONTFORK.
        judgement: what a security stack decided of it; None without one.
    """

    __slots__ = ("dontfork", "end", "file", "judgement", "mapping", "may", "prot", "start")

    def __init__(
        self,
        start: int,
        end: int,
        prot: int,
        may: int,
        file: EnclaveFile,
        mapping: EnclaveMapping | None,
        dontfork: bool = False,
        judgement: Judgement | None = None,
    ) -> None:
        self.start = start
        self.end = end
        self.prot = prot
        self.may = may
        self.file = file
        self.mapping = mapping
        self.dontfork = dontfork
        self.judgement = judgement

    @property
    def encl(self) -> Encl:
        """The enclave of the file."""
        return self.file.encl

    def __repr__(self) -> str:
        return f"<vma {self.start:#x}-{self.end:#x} {shown_prot(self.prot)}s {self.file.node}>"


def shown_prot(prot: int) -> str:
    """``"r-x"`` for R and X."""
    return "".join(letter if prot & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4)))
