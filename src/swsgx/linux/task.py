"""Who makes a call: its memory, its address space, its files. The driver sees programs only through this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from swsgx.isa.address import TargetAddr

if TYPE_CHECKING:
    from swsgx.linux.mm import AddressSpace
    from swsgx.linux.provenance import Origin, Provenance, Subject

__all__ = ["READ_IMPLIES_EXEC", "BadAddress", "SourceVma", "Task", "TaskMemory"]

#: personality(2) flag: whatever is readable is executable. Enclaves may not be mapped with it.
READ_IMPLIES_EXEC = 0x0040_0000


class BadAddress(Exception):
    """The program's pointer leads nowhere: what a kernel's copy_from_user notices.

    Attributes:
        address: the pointer.
    """

    def __init__(self, address: int) -> None:
        super().__init__(f"{address:#x}")
        self.address = address


@dataclass(frozen=True, slots=True)
class SourceVma:
    """One mapping of a program that is no enclave, as a source of enclave pages.

    Attributes:
        start: its first address, page aligned.
        end: the first address after it.
        may_exec: VM_MAYEXEC: mprotect could make it executable; False on a noexec mount.
        pinnable: get_user_pages works on it; False for device memory (VM_IO, VM_PFNMAP).
        origin: where the contents come from, for security modules; None: unknown.
    """

    start: int
    end: int
    may_exec: bool = True
    pinnable: bool = True
    origin: Origin | None = None


class TaskMemory(Protocol):
    """A program's memory."""

    def read(self, address: TargetAddr, size: int) -> bytes:
        """Copy out of the program.

        Raises:
            BadAddress: not all of it is readable.
        """
        ...

    def write(self, address: TargetAddr, data: bytes) -> None:
        """Copy into the program.

        Raises:
            BadAddress: not all of it is writable; how much was written is not known.
        """
        ...

    def copy_to_file(self, fd: int, file_offset: int, address: TargetAddr, size: int) -> int:
        """Write the program's bytes at ``address`` into a file, the fast way.

        Returns:
            Bytes written: less than ``size`` where the program's memory cannot be read further; no exception.
        """
        ...

    def find_vma(self, address: TargetAddr) -> SourceVma | None:
        """The lowest mapping that ends above ``address`` (it may start above it, too); None if there is none.

        Enclave mappings need not be among them: the driver has its own list.
        """
        ...


def _nothing_pending() -> bool:
    return False


@dataclass(slots=True)
class Task:
    """The caller of an ioctl or of a memory call.

    Attributes:
        memory: its memory.
        mm: its address space, as far as enclaves are concerned.
        personality: personality(2) flags; only :data:`READ_IMPLIES_EXEC` matters.
        files: open files by descriptor; those opened with O_PATH are left out.
        signal_pending: whether a signal waits for it.
        subject: who it is, for security modules; None: nobody asks.
        provenance: where its pages come from, for security modules; None: as its mappings' origins say.
    """

    memory: TaskMemory
    mm: AddressSpace
    personality: int = 0
    files: Mapping[int, object] = field(default_factory=dict)
    signal_pending: Callable[[], bool] = _nothing_pending
    subject: Subject | None = None
    provenance: Provenance | None = None
