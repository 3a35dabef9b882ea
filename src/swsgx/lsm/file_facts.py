"""What can be known of an open file: who it is, whether it can be changed unseen, its label, its digest.

Nothing here follows a path again once the file is open: a path can mean another file a moment later.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "FileDigests",
    "FileFacts",
    "Mount",
    "ProvenanceError",
    "file_facts",
    "open_for_writing",
    "parse_mounts",
    "read_again",
]

#: Filesystems whose files change without this kernel's knowing, or that give other bytes at each read.
_BLIND = frozenset({"9p", "afs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "nfs", "nfs4"})
_BLIND |= {"ocfs2", "orangefs", "smb3", "virtiofs"}

#: A file's times have this grain at worst; one that changed so recently may change again and show the same times.
_GRAIN = 2_000_000_000
_CHUNK = 1 << 20


class ProvenanceError(Exception):
    """A file cannot be read, or does not hold still; the message says which."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of ``/proc/PID/mountinfo``.

    Attributes:
        number: mount ID, unique on the machine.
        device: of the filesystem, as in st_dev of most files on it.
        point: where it is mounted, as the process sees it.
        noexec: of this mount.
        filesystem: its type, like ``ext4`` or ``fuse.sshfs``.
    """

    number: int
    device: int
    point: str
    noexec: bool
    filesystem: str

    @property
    def reports_changes(self) -> bool:
        """Whether a change of a file always shows in its times."""
        return self.filesystem.partition(".")[0] not in _BLIND


def _unescaped(text: str) -> str:
    """Mountinfo writes space, tab, line end and backslash as three octal digits."""
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def parse_mounts(text: str) -> list[Mount]:
    """The mounts in a ``mountinfo``.

    Source: proc(5), "/proc/pid/mountinfo".
    """
    mounts = []
    for line in text.split("\n"):
        front, _, back = line.partition(" - ")
        if not back:
            continue
        number, _, device, _, point, options = front.split(" ")[:6]
        major, _, minor = device.partition(":")
        mounts.append(
            Mount(
                int(number),
                os.makedev(int(major), int(minor)),
                _unescaped(point),
                "noexec" in options.split(","),
                back.split(" ")[0],
            )
        )
    return mounts


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one look at an open file tells.

    Attributes:
        device, inode: from fstat.
        regular: an ordinary file, not a device or a pipe.
        links: names it has; 0: deleted.
        mode: permission bits, with set-user-ID and the like.
        uid: its owner.
        noexec: its mount is noexec.
        filesystem: type of its filesystem; empty if not known.
        reports_changes: False also where the filesystem is not known.
        writers: somebody has it open for writing; None: cannot be told.
        label: its security label, without the zero byte; empty if it has none.
    """

    device: int
    inode: int
    regular: bool
    links: int
    mode: int
    uid: int
    noexec: bool
    filesystem: str
    reports_changes: bool
    writers: bool | None
    label: str


def file_facts(fd: int, mounts: list[Mount]) -> FileFacts:
    """Look at an open file.

    Args:
        fd: opened with O_PATH is enough, and blocks on no pipe.
        mounts: of the process whose file it is.
    """
    status = os.fstat(fd)
    mount = _mount_of(fd, status.st_dev, mounts)
    regular = stat.S_ISREG(status.st_mode)
    writers = None
    if regular:
        try:
            again = read_again(fd)
        except OSError:
            pass
        else:
            writers = open_for_writing(again)
            os.close(again)
    return FileFacts(
        device=status.st_dev,
        inode=status.st_ino,
        regular=regular,
        links=status.st_nlink,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        noexec=bool(os.fstatvfs(fd).f_flag & os.ST_NOEXEC),
        filesystem=mount.filesystem if mount else "",
        reports_changes=mount.reports_changes if mount else False,
        writers=writers,
        label=_label(fd),
    )


def read_again(fd: int) -> int:
    """The same file, opened for reading; whoever asks closes it.

    Raises:
        OSError: it may not be read.
    """
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def _mount_of(fd: int, device: int, mounts: list[Mount]) -> Mount | None:
    """By the mount's number, which is exact; by the device, where another process's mounts are not ours to see."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            exact = [mount for mount in mounts if mount.number == int(value)]
            if exact:
                return exact[0]
    return next((mount for mount in mounts if mount.device == device), None)


def _label(fd: int) -> str:
    try:
        raw = os.getxattr(f"/proc/self/fd/{fd}", "security.selinux")
    except OSError:
        return ""
    return os.fsdecode(raw.rstrip(b"\0"))


def open_for_writing(fd: int) -> bool | None:
    """Whether anybody has a file open for writing, or mapped so.

    The kernel grants a read lease exactly when nobody has. It may be asked for by the file's owner and by whoever
    has CAP_LEASE; others can look through the files of the processes that they may see. Files of the kernel's own
    mounts (memfd, SysV) are not counted by it: their lease is granted always, so do not ask for those.

    Args:
        fd: the file, opened for reading only.

    Returns: None: it cannot be told, since neither way is open, or the filesystem has no leases.
    """
    try:
        # A lease that is broken between the two calls sends a signal; SIGURG is one that nobody dies of.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return True
        if error.errno != errno.EACCES:
            return None
        return _seen_open_for_writing(os.fstat(fd)) or None
    return False


def _seen_open_for_writing(file: os.stat_result) -> bool:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for link in (process / "fd").iterdir():
                status = link.stat()
                if (status.st_dev, status.st_ino) != (file.st_dev, file.st_ino):
                    continue
                info = (process / "fdinfo" / link.name).read_text(encoding="ascii")
                flags = info.partition("flags:")[2].split(None, 1)[0]
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
        except (OSError, IndexError):
            continue  # not ours to see, or gone
    return False


class FileDigests:
    """Digests of whole files, computed when they are asked for, and kept while the file's times stand still.

    Args:
        limit: how many are kept.
        clock: nanoseconds since 1970, as files' times count.
    """

    def __init__(self, limit: int = 1024, clock: Callable[[], int] = time.time_ns) -> None:
        self._limit = limit
        self._clock = clock
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        #: How many files were read: what a cache is good for.
        self.read = 0

    def digest(
        self, fd: int, algorithm: str = "sha256", *, keep: bool = True, most: int | None = None
    ) -> bytes:
        """The digest of a whole file.

        Args:
            fd: opened for reading. Its position does not matter and stays.
            algorithm: as hashlib names it.
            keep: False for files that can change without their times changing: those that somebody may be writing
                through a mapping, and those of filesystems that do not report changes.
            most: bytes that the file may have; None: any number.

        Raises:
            ProvenanceError: it changes while it is read, cannot be read, or is larger.
        """
        for _ in range(3):
            before = _identity(fd)
            key = (algorithm, *before)
            if keep and key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            digest = self._read(fd, algorithm, most)
            if _identity(fd) == before:
                if keep and self._clock() - max(before[3], before[4]) > _GRAIN:
                    self._kept[key] = digest
                    while len(self._kept) > self._limit:
                        self._kept.popitem(last=False)
                return digest
        raise ProvenanceError("the file changes while its digest is computed")

    def _read(self, fd: int, algorithm: str, most: int | None) -> bytes:
        hashed = hashlib.new(algorithm)
        at = 0
        try:
            if most is not None and os.fstat(fd).st_size > most:
                raise ProvenanceError(f"the file is larger than {most} bytes")
            self.read += 1
            while chunk := os.pread(fd, _CHUNK, at):
                hashed.update(chunk)
                at += len(chunk)
                if most is not None and at > most:
                    raise ProvenanceError("the file grows while its digest is computed")
        except OSError as error:
            raise ProvenanceError(f"the file cannot be read: {error.strerror}") from None
        return hashed.digest()


def _identity(fd: int) -> tuple[int, int, int, int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
