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

from swsgx.linux.provision import NodeFile
from swsgx.native.abi import MARK_MODE, MARK_SIZE

if TYPE_CHECKING:
    from swsgx.linux.device import EnclaveFile
    from swsgx.linux.provision import ProvisionFile

    Node = EnclaveFile | ProvisionFile | NodeFile

__all__ = ["SETTABLE", "Descriptors", "NodeFiles", "Stand", "flags_of"]

#: Flags that fcntl's F_SETFL changes.
SETTABLE = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_NOT_KEPT = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC | os.O_CLOEXEC | SETTABLE
_LARGEFILE = 0o100000
_LAST_POSITION = (1 << 63) - 1
#: Flags of open(2) that stay with the file.
_KEPT = os.O_ACCMODE | os.O_NONBLOCK | os.O_APPEND | os.O_SYNC


class Stand:
    """One open file of a node, in whatever processes.

    Attributes:
        node: what the driver calls it.
        flags: what F_GETFL says of it, but for those that F_SETFL can change.
        identity: device and inode.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.flags = 0
        self._watch = os.memfd_create(node.node.rpartition("/")[2], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._watch, MARK_SIZE)
        os.fchmod(self._watch, MARK_MODE & 0o7777)
        fcntl.fcntl(self._watch, fcntl.F_ADD_SEALS, _SEALS)
        status = os.fstat(self._watch)
        self.identity = status.st_dev, status.st_ino

    def open(self, flags: int) -> int:
        """The program's descriptor, to be given to it and closed here: call this once.

        Args:
            flags: of the program's open(2).
        """
        self.flags = flags & ~_NOT_KEPT | _LARGEFILE
        kept = flags & _KEPT
        if kept & os.O_ACCMODE == os.O_ACCMODE:
            kept = kept & ~os.O_ACCMODE | os.O_RDWR  # a file for neither could not be locked
        fd = os.open(f"/proc/self/fd/{self._watch}", kept | os.O_CLOEXEC)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & SETTABLE)
        os.lseek(fd, _LAST_POSITION, os.SEEK_SET)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def open_again(self) -> int:
        """Another descriptor, from which the program opens one for the path only (O_PATH); it opens no device."""
        return os.open(f"/proc/self/fd/{self._watch}", os.O_RDONLY | os.O_CLOEXEC)

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
        #: What O_PATH descriptors stand for, by path; there are as many as nodes, and they stay.
        self._paths: dict[str, Stand] = {}

    def path(self, node: str) -> Stand:
        """What stands for a node that is not opened (O_PATH)."""
        stand = self._paths.get(node)
        if stand is None:
            stand = self._paths[node] = Stand(NodeFile(node))
        return stand

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
        identity = status.st_dev, status.st_ino
        found = self._stands.get(identity)
        return found or next((s for s in self._paths.values() if s.identity == identity), None)

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


def flags_of(pid: int, fd: int) -> int:
    """What F_GETFL would say of a process's descriptor.

    Raises:
        OSError: it has none.
    """
    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as lines:
        return next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))


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
            if not flags_of(self._pid, fd) & os.O_PATH:
                stand = self._files.of(self._pid, fd)
                return stand.node if stand is not None else object()
        raise KeyError(fd)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(int(name) for name in os.listdir(f"/proc/{self._pid}/fd")))

    def __len__(self) -> int:
        return len(os.listdir(f"/proc/{self._pid}/fd"))
