"""A file system of FUSE whose files are not the same whenever they are read, and a program that is run there.

It is a program of its own: ``fuse.py FOLDER SOURCE WORD...`` mounts it at FOLDER in a mount namespace of its own, runs
the words there, and ends as they end. Nobody else sees the mount, and it goes with the last process of the namespace.
When the server is gone, however it ended, whoever waits for a file of it gets an error, and what was run is killed.

All files are as long as SOURCE, and their times stand still:

- ``steady.bin`` has the bytes of SOURCE;
- ``first.bin`` has them, too, but not for whoever opens it first: of each page that he reads, the last byte differs;
- ``each.bin``: that byte is another one at each read.

``security.ima`` of all of them holds the digest of SOURCE: a file that is appraised by what a read gives is good.

Source: Linux, include/uapi/linux/fuse.h; Documentation/filesystems/fuse/fuse.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import select
import signal
import stat
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

NAMES = ("steady.bin", "first.bin", "each.bin")
PAGE = 4096
_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 0x4000, 0x40000
_PR_SET_PDEATHSIG = 1
_ROOT = 1
#: Reads go past the page cache. Private mappings are of it: pages are read when they are touched, and forgotten when
#: somebody opens the file.
_DIRECT_IO = 1
_IN_HEADER = struct.Struct("<IIQQIIII")
_OUT_HEADER = struct.Struct("<IiQ")
#: An IMA digest: its type (IMA_XATTR_DIGEST_NG), and SHA-256.
_DIGEST_NG = b"\x04\x04"
#: FORGET, INTERRUPT, BATCH_FORGET.
_UNANSWERED = (2, 36, 42)
_libc = ctypes.CDLL(None, use_errno=True)


class Server:
    """Answers what the kernel asks.

    Args:
        device: of ``/dev/fuse``, mounted.
        source: what is in the files.
    """

    def __init__(self, device: int, source: bytes) -> None:
        self.device = device
        self._source = source
        self._opened: Counter[int] = Counter()
        self._reads = 0
        self._calls: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup,
            3: lambda node, _: struct.pack("<QII", 0, 0, 0) + self._attributes(node),  # GETATTR
            14: self._open,
            15: self._read,
            17: lambda *_: struct.pack("<5Q4I24x", 0, 0, 0, 0, 0, PAGE, 255, PAGE, 0),  # STATFS
            18: lambda *_: b"",  # RELEASE
            22: self._attribute,
            25: lambda *_: b"",  # FLUSH
            26: lambda *_: struct.pack("<4I2H2I36x", 7, 31, 0, 0, 1, 1, PAGE, 1),  # INIT
        }

    def answer(self) -> None:
        """One request."""
        try:
            request = os.read(self.device, 1 << 17)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                return  # who asked does not wait any more
            raise
        _, opcode, unique, node, *_ = _IN_HEADER.unpack_from(request)
        if opcode in _UNANSWERED:
            return
        number, said = 0, b""
        try:
            said = self._calls[opcode](node, request[_IN_HEADER.size :])
        except KeyError:
            number = errno.ENOSYS
        except OSError as error:
            number = error.errno or errno.EIO
        with contextlib.suppress(FileNotFoundError):
            os.write(self.device, _OUT_HEADER.pack(_OUT_HEADER.size + len(said), -number, unique) + said)

    def _lookup(self, node: int, name: bytes) -> bytes:
        text = name.rstrip(b"\0").decode()
        if node != _ROOT or text not in NAMES:
            raise OSError(errno.ENOENT, text)
        found = _ROOT + 1 + NAMES.index(text)
        return struct.pack("<4Q2I", found, 0, 0, 0, 0, 0) + self._attributes(found)

    def _attributes(self, node: int) -> bytes:
        folder = node == _ROOT
        mode = stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o755
        size = 0 if folder else len(self._source)
        return struct.pack("<6Q10I", node, size, 0, 1, 1, 1, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)

    def _open(self, node: int, _: bytes) -> bytes:
        self._opened[node] += 1
        return struct.pack("<QII", self._opened[node], _DIRECT_IO, 0)

    def _read(self, node: int, asked: bytes) -> bytes:
        handle, at, size = struct.unpack_from("<QQI", asked)
        self._reads += 1
        changed = {2: 0, 3: int(handle == 1), 4: 1 + self._reads % 255}[node]
        said = bytearray(self._source[at : at + size])
        for last in range((-at - 1) % PAGE, len(said), PAGE):
            said[last] ^= changed
        return bytes(said)

    def _attribute(self, node: int, asked: bytes) -> bytes:
        size, _ = struct.unpack_from("<II", asked)
        if node == _ROOT or asked[8:].rstrip(b"\0") != b"security.ima":
            raise OSError(errno.ENODATA, "no such attribute")
        value = _DIGEST_NG + hashlib.sha256(self._source).digest()
        if 0 < size < len(value):
            raise OSError(errno.ERANGE, "it is longer")
        return value if size else struct.pack("<II", len(value), 0)


def _must(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mounted(folder: str) -> int:
    """A device that is mounted in a namespace of its own, which this process is in from now on.

    Raises:
        OSError: there is no FUSE here, or who asks is not root.
    """
    # A request can be taken back between a poll and a read.
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    _must(_libc.unshare(_CLONE_NEWNS), "a mount namespace")
    _must(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mounts of one's own")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
    flags = _MS_NOSUID | _MS_NODEV
    _must(_libc.mount(b"files", folder.encode(), b"fuse", flags, options.encode()), "a mount of FUSE")
    return device


def main(folder: str, source: str, *words: str) -> int:
    """Run the words; their exit status."""
    try:
        device = mounted(folder)
    except OSError as error:
        sys.stdout.write(f"EXIT-SKIP run as root, with /dev/fuse, to have files of FUSE: {error}\n")
        return 0
    server = Server(device, Path(source).read_bytes())

    def follows() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    child = subprocess.Popen(words, preexec_fn=follows)
    ended = os.pidfd_open(child.pid)
    poll = select.poll()
    poll.register(device, select.POLLIN)
    poll.register(ended, select.POLLIN)
    try:
        while ended not in (ready := [fd for fd, _ in poll.poll()]):
            if device in ready:
                server.answer()
    finally:
        # Whoever still waits for a file is told that there is none.
        os.close(device)
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
