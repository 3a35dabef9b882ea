"""The files that stand in programs for open SGX nodes: made here, known by device and inode, gone when nobody has them.

A node cannot be made without root, so a program's descriptor is of a memfd, which holds nothing. What was learnt:

- The position of a memfd can be the largest number there is. From there read and write are EINVAL, as on the device;
  poll and epoll answer as for a device, too. What still differs (lseek, fstat, flock) is trapped in armed processes.
- Who holds an flock is the open file, not a process: it is free exactly when the last descriptor is gone, whatever
  forks, kills and messages there were. So nothing need be told of a close, and nothing can be forgotten.
- Size and mode are a mark that native code recognises by one fstat(2), in any process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from swsgx.native.abi import MARK_MODE, MARK_SIZE

if TYPE_CHECKING:
    from swsgx.linux.device import EnclaveFile
    from swsgx.linux.provision import ProvisionFile

    Node = EnclaveFile | ProvisionFile

__all__ = ["Descriptors", "NodeFiles", "Stand"]

_LAST_POSITION = (1 << 63) - 1
#: Flags of open(2) that stay with the file.
_KEPT = os.O_ACCMODE | os.O_NONBLOCK | os.O_APPEND | os.O_SYNC


class Stand:
    """One open file of a node, in whatever processes.

    Attributes:
        node: what the driver calls it.
        identity: device and inode.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self._watch = os.memfd_create(node.node.rpartition("/")[2], os.MFD_CLOEXEC)
        os.ftruncate(self._watch, MARK_SIZE)
        os.fchmod(self._watch, MARK_MODE & 0o7777)
        status = os.fstat(self._watch)
        self.identity = status.st_dev, status.st_ino

    def open(self, flags: int) -> int:
        """The program's descriptor, to be given to it and closed here: call this once.

        Args:
            flags: of the program's open(2).
        """
        path_only = flags & os.O_PATH
        kept = os.O_PATH if path_only else flags & _KEPT
        fd = os.open(f"/proc/self/fd/{self._watch}", kept | os.O_CLOEXEC)
        if not path_only:
            os.lseek(fd, _LAST_POSITION, os.SEEK_SET)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def gone(self) -> bool:
        """Whether no process has a descriptor any more."""
        try:
            fcntl.flock(self._watch, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give our own descriptor back."""
        os.close(self._watch)


class NodeFiles:
    """All open files of nodes in a tree."""

    def __init__(self) -> None:
        self._stands: dict[tuple[int, int], Stand] = {}

    def add(self, node: Node) -> Stand:
        """A new open file."""
        stand = Stand(node)
        self._stands[stand.identity] = stand
        return stand

    def of(self, pid: int, fd: int) -> Stand | None:
        """What a process's descriptor is; None: no node's, or not open."""
        try:
            status = Path(f"/proc/{pid}/fd/{fd}").stat()
        except OSError:
            return None
        return self._stands.get((status.st_dev, status.st_ino))

    def reap(self) -> None:
        """Close what no process has open any more."""
        for identity, stand in list(self._stands.items()):
            if stand.gone():
                del self._stands[identity]
                stand.close()
                stand.node.close()

    def __len__(self) -> int:
        return len(self._stands)

    def __iter__(self) -> Iterator[Stand]:
        return iter(list(self._stands.values()))


class Descriptors(Mapping[int, object]):
    """A process's open files, for the driver: an object for each descriptor, the node's if it is one.

    Args:
        files: the nodes'.
        pid: a task of the process.
    """

    def __init__(self, files: NodeFiles, pid: int) -> None:
        self._files = files
        self._pid = pid

    def __getitem__(self, fd: int) -> object:
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{self._pid}/fdinfo/{fd}", encoding="ascii") as lines:
                flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
            if not flags & os.O_PATH:
                stand = self._files.of(self._pid, fd)
                return stand.node if stand is not None else object()
        raise KeyError(fd)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(int(name) for name in os.listdir(f"/proc/{self._pid}/fd")))

    def __len__(self) -> int:
        return len(os.listdir(f"/proc/{self._pid}/fd"))
