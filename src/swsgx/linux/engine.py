"""The narrow place where enclave code is really run and enclave memory is really mapped.

The driver model decides what is mapped, with which permissions; an engine carries it out. Today's engine
runs enclave code natively in a process (:mod:`swsgx.inprocess`); an exact one, under KVM, can take its
place without the driver noticing. :class:`ModelOnly` carries out nothing: for tests and offline work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from swsgx.isa.address import Linaddr

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl, EnclaveMapping

__all__ = ["Engine", "MappedRun", "ModelOnly"]


class MappedRun:
    """Consecutive pages of one enclave that get the same effective protection.

    Attributes:
        address: linear address of the first page.
        length: bytes, whole pages.
        prot: PROT_READ | PROT_WRITE | PROT_EXEC that the pages really have: what the VMA grants and the EPCM
            allows; 0 where there is no page, for a TCS, or when the VMA grants more than the page's ceiling.
    """

    __slots__ = ("address", "length", "prot")

    def __init__(self, address: Linaddr, length: int, prot: int) -> None:
        self.address = address
        self.length = length
        self.prot = prot

    def __repr__(self) -> str:
        return f"MappedRun({self.address:#x}, {self.length:#x}, prot={self.prot})"


class Engine(Protocol):
    """What one address space needs done."""

    def reserve(self, length: int, alignment: int, hint: int = 0) -> Linaddr:
        """Find free address space, as mmap without MAP_FIXED would.

        Args:
            length: bytes, whole pages.
            alignment: of the result, in bytes.
            hint: where the program would like it; taken if that is free.

        Raises:
            OSError: ENOMEM.
        """
        ...

    def occupied(self, address: Linaddr, length: int) -> bool:
        """Whether something is mapped in the range that is not an enclave (the driver knows those)."""
        ...

    def attach(self, mapping: EnclaveMapping) -> None:
        """The address space maps an enclave that CREATE has given base and size, and did not a moment ago.

        Called once before the first :meth:`map` whose runs lie in ELRANGE. ``mapping.encl`` is the enclave,
        ``mapping.vma_bits`` the bytes that native code reads.
        """
        ...

    def detach(self, mapping: EnclaveMapping) -> None:
        """The last mapping of the enclave in this address space is gone, or the address space ends."""
        ...

    def map(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        """Make the runs appear, replacing whatever was at those addresses.

        Before CREATE, and outside ELRANGE, every run has prot 0: nothing but the addresses is taken. What lay
        in ELRANGE then is mapped again after :meth:`attach`.

        Raises:
            OSError: the host refused.
        """
        ...

    def protect(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        """Change effective protection of pages that :meth:`map` made appear."""
        ...

    def unmap(self, encl: Encl | None, address: Linaddr, length: int) -> None:
        """Take the range away; without an enclave, whatever is there."""
        ...

    def written(self, encl: Encl, address: Linaddr, length: int) -> None:
        """EDBGWR has changed contents, in whole words: copies that the address space has of them follow."""
        ...

    def accessed(self, mapping: EnclaveMapping, first: int, count: int) -> npt.NDArray[np.bool_]:
        """Which of an enclave's pages this address space has used since it was last asked, by page index.

        The reclaimer spares them once. An engine that cannot know says: none.
        """
        ...


class ModelOnly:
    """An engine that maps nothing: the driver's rules can be tried without a process.

    Args:
        base: where :meth:`reserve` starts to hand out addresses.
    """

    def __init__(self, base: int = 0x7F00_0000_0000) -> None:
        self._next = base

    def reserve(self, length: int, alignment: int, hint: int = 0) -> Linaddr:
        if hint and hint % alignment == 0:
            return Linaddr(hint)
        address = -(-self._next // alignment) * alignment
        self._next = address + length
        return Linaddr(address)

    def occupied(self, address: Linaddr, length: int) -> bool:
        return False

    def attach(self, mapping: EnclaveMapping) -> None:
        pass

    def detach(self, mapping: EnclaveMapping) -> None:
        pass

    def map(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        pass

    def protect(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        pass

    def unmap(self, encl: Encl | None, address: Linaddr, length: int) -> None:
        pass

    def written(self, encl: Encl, address: Linaddr, length: int) -> None:
        pass

    def accessed(self, mapping: EnclaveMapping, first: int, count: int) -> npt.NDArray[np.bool_]:
        return np.zeros(count, np.bool_)
