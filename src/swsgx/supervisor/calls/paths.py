"""Calls with paths: the nodes, what else a machine with SGX shows, and the descriptors of both.

The image asks only about paths that look as if (``native/supervised/trap.c``); here the path is resolved.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from swsgx.linux.outcome import Outcome
from swsgx.native.abi import Answer
from swsgx.supervisor import emulated_files as emulated
from swsgx.supervisor.calls.asked import Asked, Handler, Result, signed
from swsgx.supervisor.files import Stand

__all__ = ["PATH_CALLS"]

_DEV = Path("/dev")
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OF_DESCRIPTOR = re.compile(r"/proc/(?:self|thread-self|(\d+))(?:/task/\d+)?/fd/(\d+)")
_DEV_FD = re.compile(r"/dev/fd/(\d+)")


def _resolve(asked: Asked, dirfd: int, address: int) -> tuple[str, bool]:
    """The path that a program means, absolute and without ``.`` and ``..``; and whether it must be a folder."""
    path = os.fsdecode(asked.memory.text(address))
    folder = path.endswith(("/", "/."))
    if not path:
        return "", False
    if not path.startswith("/"):
        ours = asked.service.folders.of(asked.tid, dirfd) if dirfd != _AT_FDCWD else None
        path = f"{ours}/{path}" if ours is not None else path
    if not path.startswith("/"):
        where = "cwd" if dirfd == _AT_FDCWD else f"fd/{dirfd}"
        path = f"{Path(f'/proc/{asked.tid}/{where}').readlink()}/{path}"
    path = "/" + os.path.normpath(path).lstrip("/")
    parent, _, name = path.rpartition("/")
    if not parent.startswith(("/dev", "/proc", "/sys")):
        parent = os.path.realpath(parent or "/")
        path = "/" + f"{parent}/{name}".lstrip("/")
    return path, folder


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
    path, folder = _resolve(asked, dirfd, address)
    again = _descriptor(asked, path)
    if again is not None:
        path = again.node.node
    if _is_node(asked, path):
        return _open_node(asked, path, flags, folder)
    if flags & os.O_DIRECTORY and asked.service.folders.adds_to(path):
        return _open_folder(asked, path, flags)
    contents = asked.service.contents(path)
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
    if flags & os.O_CREAT and flags & os.O_EXCL:
        return -errno.EEXIST
    if folder or flags & os.O_DIRECTORY:
        return -errno.ENOTDIR
    if asked.process is None:
        return Answer.ARM_FIRST
    asked.service.files.reap()
    opened = asked.service.open_node(path, flags)
    if isinstance(opened, Outcome):
        return opened
    stand = asked.service.files.add(opened)
    try:
        return _give(asked, stand.open(flags), flags)
    except OSError:
        asked.service.files.reap()
        raise


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
    if size < 24:
        return -errno.EINVAL
    return _open(asked, signed(dirfd), path, int.from_bytes(asked.memory.read(how, 8), "little"))


# stat


def _facts(asked: Asked, path: str, follow: bool) -> emulated.FileFacts | None:
    if _is_node(asked, path):
        return emulated.device_facts(path, _DEV.stat())
    stand = _descriptor(asked, path) if follow else None
    if stand is not None:
        return emulated.device_facts(stand.node.node, _DEV.stat())
    return asked.service.facts(path)


def _stat(
    asked: Asked, dirfd: int, path: int, follow: bool, empty: bool = False
) -> emulated.FileFacts | int | None:
    if empty:
        stand = asked.stand(dirfd)
        if stand is not None and not asked.memory.text(path):
            return emulated.device_facts(stand.node.node, _DEV.stat())
    name, folder = _resolve(asked, dirfd, path)
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
    facts = _stat(asked, signed(dirfd), path, not flags & 0x100, bool(flags & _AT_EMPTY_PATH))
    return _stated(asked, facts, buffer)


def statx(asked: Asked) -> Result:
    """statx(2)."""
    dirfd, path, flags, _, buffer, _ = asked.args
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
    """faccessat(2) and faccessat2(2)."""
    dirfd, path, mode, *_ = asked.args
    return _access(asked, signed(dirfd), path, mode & 0xFFFF_FFFF)


def _readlink(asked: Asked, dirfd: int, address: int, buffer: int, size: int) -> Result:
    path, _ = _resolve(asked, dirfd, address)
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
    439: Handler(faccessat),
}
