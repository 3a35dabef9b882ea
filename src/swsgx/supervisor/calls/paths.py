"""Calls with paths: the nodes, what else a machine with SGX shows, and the descriptors of both.

The image asks only about paths that look as if (``native/supervised/trap.c``); here the path is resolved.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
import struct
from collections.abc import Generator
from pathlib import Path

from swsgx.linux.outcome import Outcome
from swsgx.native.abi import Answer
from swsgx.supervisor import emulated_files as emulated
from swsgx.supervisor.calls.asked import Asked, Handler, Result, signed
from swsgx.supervisor.files import Stand
from swsgx.supervisor.kinship import memory_of
from swsgx.supervisor.steps import Call, Step, Store

__all__ = ["PATH_CALLS"]

_DEV = Path("/dev")
_NR_CLOSE, _NR_OPENAT = 3, 257
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
#: AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT, AT_EMPTY_PATH, AT_STATX_SYNC_TYPE.
_SYNC_TYPE, _STAT_FLAGS, _STATX_RESERVED = 0x6000, 0x7900, 0x8000_0000
_BITS_32 = 0xFFFF_FFFF
#: struct open_how, and what its resolve may have.
_OPEN_HOW = 24
_RESOLVE_BENEATH, _RESOLVE_IN_ROOT, _RESOLVE_ALL = 8, 0x10, 0x3F
_OF_DESCRIPTOR = re.compile(r"/proc/(?:self|thread-self|(\d+))(?:/task/\d+)?/fd/(\d+)")
_FD_FOLDER = re.compile(r"/proc/\d+(?:/task/\d+)?/fd/")
_LINKS = 40
_DEV_FD = re.compile(r"/dev/fd/(\d+)")


def _resolve(asked: Asked, dirfd: int, address: int, follow: bool = True) -> tuple[str, bool]:
    """The path that a program means, absolute and without links but perhaps the last; whether it must be a folder.

    Raises:
        OSError: what the kernel would say of it.
    """
    path = os.fsdecode(asked.memory.text(address))
    if not path:
        return "", False
    if not path.startswith("/"):
        ours = asked.service.folders.of(asked.tid, dirfd) if dirfd != _AT_FDCWD else None
        path = f"{ours or _start(asked, dirfd)}/{path}"
    for _ in range(_LINKS):
        folder = path.endswith(("/", "/.", "/.."))
        found = _canonical(asked, path)
        target = _link(found) if follow or folder else None
        if target is None:
            return found, folder
        path = target if target.startswith("/") else f"{found.rpartition('/')[0]}/{target}"
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _start(asked: Asked, dirfd: int) -> str:
    """Where a relative path begins."""
    if dirfd == _AT_FDCWD:
        return f"/proc/{asked.tid}/cwd"
    start = f"/proc/{asked.tid}/fd/{dirfd}"
    if dirfd < 0 or not os.path.lexists(start):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    if not Path(start).is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return start


def _link(path: str) -> str | None:
    try:
        return os.readlink(path) if not path.startswith("/proc/") else None  # noqa: PTH115 - as bytes are
    except OSError:
        return None


def _canonical(asked: Asked, path: str) -> str:
    """The same file by the real path of its folder; our own folders are among those that exist."""
    parent, _, name = path.rstrip("/").rpartition("/")
    if name in (".", ".."):
        folder = _folder(asked, f"{parent}/")
        return folder if name == "." else folder.rpartition("/")[0] or "/"
    folder = _folder(asked, f"{parent}/")
    return f"{folder.rstrip('/')}/{name}"


def _folder(asked: Asked, path: str) -> str:
    """A folder's real path."""
    if path.startswith("/dev/fd/"):
        path = f"/proc/self/fd/{path[len('/dev/fd/') :]}"
    for own in ("/proc/self/", "/proc/thread-self/"):
        if path.startswith(own):
            path = f"/proc/{asked.tid}/{path[len(own) :]}"
    if path.startswith("/proc/") and _FD_FOLDER.fullmatch(path):
        return path.rstrip("/")
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.strip("/") == "":
            raise
        found = _canonical(asked, path)
        if _is_node(asked, found):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        link = emulated.LINKS.get(found)
        if link is not None:
            return _folder(asked, f"{found.rpartition('/')[0]}/{link}/")
        if not asked.service.folders.adds_to(found):
            raise
        return found
    try:
        return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - only the kernel can follow it
    finally:
        os.close(fd)


def _descriptor(asked: Asked, path: str) -> Stand | None:
    """The node behind a path like /proc/self/fd/3."""
    match = _OF_DESCRIPTOR.fullmatch(path)
    if match:
        pid, fd = int(match[1] or asked.tid), int(match[2])
    else:
        match = _DEV_FD.fullmatch(path)
        if not match:
            return None
        pid, fd = asked.tid, int(match[1])
    return asked.service.files.of(pid, fd)


def _is_node(asked: Asked, path: str) -> bool:
    return path in asked.service.nodes


# open


def _open(asked: Asked, dirfd: int, address: int, flags: int) -> Result:
    path, folder = _resolve(asked, dirfd, address, not flags & os.O_NOFOLLOW)
    again = _descriptor(asked, path)
    if again is not None:
        path = again.node.node
    if _is_node(asked, path):
        return _open_node(asked, path, flags, folder)
    if flags & os.O_DIRECTORY and asked.service.folders.adds_to(path):
        return _open_folder(asked, path, flags)
    if memory_of(path) is not None and not flags & os.O_PATH:
        return asked.service.memory_files.install(asked)
    contents = emulated.contents_of(path, asked.service.cpu.model)
    if contents is None or flags & os.O_ACCMODE != os.O_RDONLY:
        return Answer.PASS
    fd = os.memfd_create(path.rpartition("/")[2], os.MFD_CLOEXEC)
    try:
        os.write(fd, contents)
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
    return _give(asked, reader, flags)


def _give(asked: Asked, fd: int, flags: int) -> int:
    try:
        return asked.service.give(asked.notification, fd, cloexec=bool(flags & os.O_CLOEXEC))
    finally:
        os.close(fd)


def _open_folder(asked: Asked, path: str, flags: int) -> Result:
    folders = asked.service.folders
    if Path(path).is_dir():
        return folders.trap_listing(asked)
    fd = _give(asked, folders.make(path), flags)
    return folders.trap_listing(asked, fd)


def getdents64(asked: Asked) -> Result:
    """getdents64(2) of a folder that we add to."""
    return asked.service.folders.list(asked)


def _open_node(asked: Asked, path: str, flags: int, folder: bool) -> Result:
    wrong = 0
    if not flags & os.O_PATH and (
        flags & os.O_DIRECT
        or (flags & os.O_CREAT and flags & os.O_DIRECTORY)
        or (flags & os.O_TMPFILE == os.O_TMPFILE and flags & os.O_ACCMODE == os.O_RDONLY)
    ):
        return -errno.EINVAL
    if flags & os.O_CREAT and flags & os.O_EXCL and not flags & os.O_PATH:
        wrong = errno.EEXIST
    elif folder or flags & os.O_DIRECTORY:
        wrong = errno.ENOTDIR
    if wrong:
        # The kernel has a descriptor before it looks at the path.
        limit, _ = resource.prlimit(asked.tid, resource.RLIMIT_NOFILE)
        return -errno.EMFILE if len(os.listdir(f"/proc/{asked.tid}/fd")) >= limit else -wrong
    if asked.process is None:
        return Answer.ARM_FIRST
    if flags & os.O_PATH:
        return _open_path(asked, path, flags)
    asked.service.files.reap()
    opened = asked.service.open_node(path, flags, asked.subject)
    if isinstance(opened, Outcome):
        return opened
    with asked.service.files.add(opened) as stand:
        return _give(asked, stand.open(flags), flags)


def _open_path(asked: Asked, path: str, flags: int) -> Generator[list[Step], list[int], int]:
    """O_PATH, by a detour: the kernel hands no such descriptor to another process."""
    fd = _give(asked, asked.service.files.path(path).open_again(), os.O_CLOEXEC)
    at = asked.service.scratch + 16
    kept = flags & (os.O_PATH | os.O_CLOEXEC)
    made = yield [
        Store(at, f"/proc/self/fd/{fd}".encode() + b"\0"),
        Call(_NR_OPENAT, (_AT_FDCWD, at, kept)),
        Call(_NR_CLOSE, (fd,)),
    ]
    return made[0]


def open_(asked: Asked) -> Result:
    """open(2)."""
    path, flags, *_ = asked.args
    return _open(asked, _AT_FDCWD, path, flags)


def openat(asked: Asked) -> Result:
    """openat(2)."""
    dirfd, path, flags, *_ = asked.args
    return _open(asked, signed(dirfd), path, flags)


def openat2(asked: Asked) -> Result:
    """openat2(2), as far as struct open_how has flags; its resolve flags forbid nothing of a node's path."""
    dirfd, path, how, size, *_ = asked.args
    if size < _OPEN_HOW:
        return -errno.EINVAL
    if size > 4096 or any(asked.memory.read(how + _OPEN_HOW, size - _OPEN_HOW) if size > _OPEN_HOW else b""):
        return -errno.E2BIG
    flags, mode, resolve = struct.unpack("<QQQ", asked.memory.read(how, _OPEN_HOW))
    if flags >> 32 or resolve & ~_RESOLVE_ALL or (mode and not flags & os.O_CREAT):
        return -errno.EINVAL
    absolute = asked.memory.read(path, 1) == b"/"
    if absolute and resolve & _RESOLVE_BENEATH:
        return -errno.EXDEV
    if absolute and resolve & _RESOLVE_IN_ROOT and os.path.realpath(_start(asked, signed(dirfd))) != "/":
        return Answer.PASS  # the path is below the folder, where we have nothing
    return _open(asked, signed(dirfd), path, flags)


# stat


def _facts(asked: Asked, path: str, follow: bool) -> emulated.FileFacts | None:
    if _is_node(asked, path):
        return emulated.device_facts(path, _DEV.stat())
    stand = _descriptor(asked, path) if follow else None
    if stand is not None:
        return emulated.device_facts(stand.node.node, _DEV.stat())
    return emulated.facts_of(path, asked.service.cpu.model)


def _stat(
    asked: Asked, dirfd: int, path: int, follow: bool, empty: bool = False
) -> emulated.FileFacts | int | None:
    if empty:
        stand = asked.stand(dirfd)
        if stand is not None and not asked.memory.text(path):
            return emulated.device_facts(stand.node.node, _DEV.stat())
    name, folder = _resolve(asked, dirfd, path, follow)
    facts = _facts(asked, name, follow)
    if facts is not None and folder and not stat.S_ISDIR(facts.mode):
        return -errno.ENOTDIR
    return facts


def _stated(
    asked: Asked, facts: emulated.FileFacts | int | None, buffer: int, extended: bool = False
) -> Result:
    if facts is None:
        return Answer.PASS
    if isinstance(facts, int):
        return facts
    asked.memory.write(buffer, emulated.pack_statx(facts) if extended else emulated.pack_stat(facts))
    return 0


def stat_(asked: Asked) -> Result:
    """stat(2)."""
    path, buffer, *_ = asked.args
    return _stated(asked, _stat(asked, _AT_FDCWD, path, follow=True), buffer)


def lstat(asked: Asked) -> Result:
    """lstat(2)."""
    path, buffer, *_ = asked.args
    return _stated(asked, _stat(asked, _AT_FDCWD, path, follow=False), buffer)


def fstat(asked: Asked) -> Result:
    """fstat(2) of a node's descriptor."""
    fd, buffer, *_ = asked.args
    stand = asked.stand(fd)
    if stand is None:
        return Answer.PASS
    return _stated(asked, emulated.device_facts(stand.node.node, _DEV.stat()), buffer)


def newfstatat(asked: Asked) -> Result:
    """fstatat(2)."""
    dirfd, path, buffer, flags, *_ = asked.args
    if flags & _BITS_32 & ~_STAT_FLAGS:
        return -errno.EINVAL
    facts = _stat(asked, signed(dirfd), path, not flags & 0x100, bool(flags & _AT_EMPTY_PATH))
    return _stated(asked, facts, buffer)


def statx(asked: Asked) -> Result:
    """statx(2)."""
    dirfd, path, flags, mask, buffer, _ = asked.args
    if flags & _BITS_32 & ~_STAT_FLAGS or flags & _SYNC_TYPE == _SYNC_TYPE or mask & _STATX_RESERVED:
        return -errno.EINVAL
    facts = _stat(asked, signed(dirfd), path, not flags & 0x100, bool(flags & _AT_EMPTY_PATH))
    return _stated(asked, facts, buffer, extended=True)


# access and readlink


def _access(asked: Asked, dirfd: int, address: int, mode: int) -> Result:
    path, folder = _resolve(asked, dirfd, address)
    facts = _facts(asked, path, follow=True)
    if facts is None:
        return Answer.PASS
    if mode & ~7:
        return -errno.EINVAL
    if folder and not stat.S_ISDIR(facts.mode):
        return -errno.ENOTDIR
    return 0 if mode & ~(facts.mode & 7) == 0 else -errno.EACCES


def access(asked: Asked) -> Result:
    """access(2)."""
    path, mode, *_ = asked.args
    return _access(asked, _AT_FDCWD, path, mode & 0xFFFF_FFFF)


def faccessat(asked: Asked) -> Result:
    """faccessat(2)."""
    dirfd, path, mode, *_ = asked.args
    return _access(asked, signed(dirfd), path, mode & 0xFFFF_FFFF)


def faccessat2(asked: Asked) -> Result:
    """faccessat2(2)."""
    dirfd, path, mode, flags, *_ = asked.args
    if flags & 0xFFFF_FFFF & ~0x1300:
        return -errno.EINVAL
    return _access(asked, signed(dirfd), path, mode & 0xFFFF_FFFF)


def _readlink(asked: Asked, dirfd: int, address: int, buffer: int, size: int) -> Result:
    path, _ = _resolve(asked, dirfd, address, follow=False)
    stand = _descriptor(asked, path)
    text = stand.node.node if stand is not None else emulated.LINKS.get(path)
    if text is None:
        return -errno.EINVAL if _facts(asked, path, follow=False) is not None else Answer.PASS
    if signed(size) <= 0:
        return -errno.EINVAL
    data = os.fsencode(text)[: signed(size)]
    asked.memory.write(buffer, data)
    return len(data)


def readlink(asked: Asked) -> Result:
    """readlink(2)."""
    path, buffer, size, *_ = asked.args
    return _readlink(asked, _AT_FDCWD, path, buffer, size)


def readlinkat(asked: Asked) -> Result:
    """readlinkat(2)."""
    dirfd, path, buffer, size, *_ = asked.args
    return _readlink(asked, signed(dirfd), path, buffer, size)


# extended attributes


def getxattr(asked: Asked) -> Result:
    """getxattr(2) and lgetxattr(2): there are none."""
    path, _ = _resolve(asked, _AT_FDCWD, asked.args[0])
    return Answer.PASS if _facts(asked, path, follow=True) is None else -errno.ENODATA


def listxattr(asked: Asked) -> Result:
    """listxattr(2) and llistxattr(2): none."""
    path, _ = _resolve(asked, _AT_FDCWD, asked.args[0])
    return Answer.PASS if _facts(asked, path, follow=True) is None else 0


PATH_CALLS = {
    2: Handler(open_),
    4: Handler(stat_),
    5: Handler(fstat),
    6: Handler(lstat),
    21: Handler(access),
    89: Handler(readlink),
    191: Handler(getxattr),
    192: Handler(getxattr),
    194: Handler(listxattr),
    195: Handler(listxattr),
    217: Handler(getdents64),
    257: Handler(openat),
    262: Handler(newfstatat),
    267: Handler(readlinkat),
    269: Handler(faccessat),
    332: Handler(statx),
    437: Handler(openat2),
    439: Handler(faccessat2),
}
