"""Ordinary linear memory, as leaf functions reach it: their operands, and the pages they copy from.

The machine has no memory of its own beside the EPC; whoever runs a leaf says what its pointers mean.
"""

from __future__ import annotations

import bisect
from typing import Protocol

from swsgx.cpu.faults import PageFault
from swsgx.isa.address import Linaddr
from swsgx.isa.flags import PageFaultCode
from swsgx.trace import Reason

__all__ = ["LinearMemory", "ScratchMemory", "not_mapped"]


class LinearMemory(Protocol):
    """Memory that is not EPC, by linear address, as the running privilege level may use it."""

    def read(self, address: Linaddr, size: int) -> bytes:
        """``size`` bytes at ``address``.

        Raises:
            PageFault: a byte of them is not readable. ``address`` in the fault is the first such byte's.
        """
        ...

    def write(self, address: Linaddr, data: bytes) -> None:
        """Store ``data`` at ``address``.

        Raises:
            PageFault: a byte is not writable; nothing was written.
        """
        ...


def not_mapped(address: Linaddr, size: int, *, write: bool = False) -> PageFault:
    """The page fault of a supervisor access to memory that is not there."""
    reason = Reason(
        operation="write" if write else "read",
        rule="the operand is in mapped memory",
        expected=f"{size} mapped bytes",
        found=f"nothing at {address:#x}",
        source="Intel SDM volume 3A, 'Page-Fault Exceptions'",
    )
    return PageFault(address, reason, PageFaultCode.W if write else PageFaultCode(0))


class ScratchMemory:
    """Buffers of the machine's owner: what a kernel keeps on its stack or heap for ENCLS to read.

    Args:
        base: linear address of the first buffer; page aligned.
    """

    def __init__(self, base: int = 0xFFFF_8880_0000_0000) -> None:
        self._next = base
        self._starts: list[int] = []
        self._buffers: list[bytearray] = []

    def place(self, data: bytes | bytearray | memoryview, align: int) -> Linaddr:
        """Put a copy of ``data`` into a new buffer.

        Args:
            data: the contents.
            align: of the address, in bytes; a power of two.

        Returns:
            The buffer's address. Buffers never touch: reading past the end of one faults.
        """
        address = -(-self._next // align) * align
        self._next = address + len(data) + 1
        self._starts.append(address)
        self._buffers.append(bytearray(data))
        return Linaddr(address)

    def _find(self, address: Linaddr, size: int, *, write: bool) -> tuple[bytearray, int]:
        at = bisect.bisect_right(self._starts, address) - 1
        if at >= 0:
            offset = address - self._starts[at]
            if offset + size <= len(self._buffers[at]):
                return self._buffers[at], offset
        raise not_mapped(address, size, write=write)

    def read(self, address: Linaddr, size: int) -> bytes:
        """``size`` bytes at ``address``, all in one buffer; else :class:`PageFault`."""
        buffer, offset = self._find(address, size, write=False)
        return bytes(memoryview(buffer)[offset : offset + size])

    def write(self, address: Linaddr, data: bytes) -> None:
        """Store ``data`` at ``address``, all in one buffer; else :class:`PageFault`."""
        buffer, offset = self._find(address, len(data), write=True)
        buffer[offset : offset + len(data)] = data
