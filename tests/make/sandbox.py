"""Places in which less is allowed: another user, no capabilities, system calls that are refused. Linux x86-64.

Run as a program it confines itself, and becomes another program. Nothing of the checkout is imported for that, and the
paths that the program needs are made reachable first, since a user may not look into the home of root.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["NOBODY", "confined"]

#: A user who owns nothing.
NOBODY = 65534
_ROOT = Path(__file__).resolve().parents[2]

_EPERM, _EINVAL, _ENOSYS = 1, 22, 38
_LOAD, _EQUAL, _MORE, _MORE_THAN, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
_RET_ERRNO, _RET_ALLOW = 0x0005_0000, 0x7FFF_0000
_ARCH_X86_64 = 0xC000003E
_NR, _ARCH, _ARGS = 0, 4, 16
_CLONE, _CLONE3, _PERSONALITY, _SOCKET, _SECCOMP = 56, 435, 135, 41, 317
_AF_VSOCK = 40
_CLONE_NEW_ANY = 0x7E020000
_NEW_LISTENER = 8
_NUMBERS = {
    "ptrace": 101,
    "prctl": 157,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "seccomp": _SECCOMP,
    "userfaultfd": 323,
    "memfd_create": 319,
    "pidfd_open": 434,
}
#: What Docker's default profile (moby, profiles/seccomp/default.json) does not allow without capabilities, from number
#: to number: it is a list of what is allowed, so that what nobody knows is refused, too.
# fmt: off
_DOCKER_REFUSES = (
    (103, 103), (134, 134), (136, 136), (139, 139), (153, 153), (155, 156), (163, 185), (212, 212), (227, 227),
    (236, 239), (246, 246), (248, 250), (256, 256), (272, 272), (279, 279), (298, 298), (300, 300), (304, 304),
    (308, 308), (312, 313), (320, 321), (323, 323), (335, 423), (425, 433), (438, 438), (440, 440), (442, 443),
    (450, 0xFFFFFFFF),
)
# fmt: on
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)


def confined(
    *words: str | Path,
    user: int | None = None,
    namespace: bool = False,
    capabilities: bool = True,
    docker: bool = False,
    refused: Sequence[str] = (),
    reach: Iterable[Path] = (),
) -> list[str]:
    """The command that runs ``words`` with less.

    Args:
        words: a command.
        user: another user, with no group; only for root. What is in ``reach`` and Python can be read.
        namespace: in a user namespace of its own, as root of it.
        capabilities: whether any is kept; if not, none can be gained either.
        docker: under the filter of Docker's default profile.
        refused: system calls that are EPERM; ``notification`` is seccomp with NEW_LISTENER, which is EINVAL. With
            ``=N`` behind it, another errno.
        reach: further paths that the user must be able to read.
    """
    options = [f"user={user}"] if user is not None else []
    options += [f"reach={path}" for path in (sys.prefix, sys.base_prefix, _ROOT, *reach) if user is not None]
    options += ["namespace"] if namespace else []
    options += [] if capabilities else ["bare"]
    options += ["docker"] if docker else []
    options += [f"refuse={name}" for name in refused]
    return [sys.executable, "-S", "-E", __file__, *options, "--", *map(str, words)]


# ---- what runs as a program ------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_CAPBSET_DROP, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 24, 22, 38
_SET_DUMPABLE = 4
_MODE_FILTER = 2


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _open_to_all(path: Path) -> bool:
    return bool(path.stat().st_mode & 1)


def _make_reachable(paths: list[Path]) -> None:
    """In a mount namespace of our own: where a folder above is closed, an open one with the wanted paths in it."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount")
    wanted: dict[Path, list[Path]] = {}
    for path in {path.resolve() for path in paths}:
        closed = [parent for parent in reversed(path.parents) if not _open_to_all(parent)]
        if closed:
            wanted.setdefault(closed[0], []).append(path)
    for folder, inside in wanted.items():
        opened = {path: os.open(path, os.O_PATH) for path in inside}
        _check(_libc.mount(b"none", bytes(folder), b"tmpfs", 0, b"mode=755"), "mount")
        for path, fd in opened.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112 - a Path of it would be resolved
                path.mkdir(exist_ok=True)
            else:
                path.touch()
            source = f"/proc/self/fd/{fd}".encode()
            _check(_libc.mount(source, bytes(path), None, _MS_BIND | _MS_REC, None), "mount")


def _enter_namespace() -> None:
    user, group = os.getuid(), os.getgid()
    # Else /proc/self is root's after a change of the user.
    _check(_libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0), "prctl")
    _check(_libc.unshare(_CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")


def _give_up_capabilities() -> None:
    for number in range(64):
        if _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break
    header, none = struct.pack("<Ii", 0x20080522, 0), bytes(24)
    _check(_libc.capset(header, none), "capset")


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, _RET_ERRNO | error)


def _refusing(number: int, error: int) -> bytes:
    return _instruction(_EQUAL, number, 0, 1) + _refuse(error)


def _looking(number: int, argument: int, tests: bytes) -> bytes:
    """``tests`` of an argument of one call; behind them it is allowed."""
    body = _instruction(_LOAD, _ARGS + 8 * argument) + tests + _instruction(_RETURN, _RET_ALLOW)
    return _instruction(_EQUAL, number, 0, len(body) // 8) + body


def _docker() -> bytes:
    allowed = _instruction(_RETURN, _RET_ALLOW)
    same = b"".join(_instruction(_EQUAL, value, 0, 1) + allowed for value in _PERSONALITIES)
    return (
        _refusing(_CLONE3, _ENOSYS)
        + b"".join(
            _instruction(_MORE, first, 0, 2) + _instruction(_MORE_THAN, last, 1, 0) + _refuse(_EPERM)
            for first, last in _DOCKER_REFUSES
        )
        + _looking(_CLONE, 0, _instruction(_ANY_BIT, _CLONE_NEW_ANY, 0, 1) + _refuse(_EPERM))
        + _looking(_PERSONALITY, 0, same + _refuse(_EPERM))
        + _looking(_SOCKET, 0, _refusing(_AF_VSOCK, _EPERM))
    )


def _refused(word: str) -> bytes:
    name, _, error = word.partition("=")
    if name == "notification":
        test = _instruction(_ANY_BIT, _NEW_LISTENER, 0, 1) + _refuse(int(error or _EINVAL))
        return _looking(_SECCOMP, 1, test)
    return _refusing(_NUMBERS[name], int(error or _EPERM))


def _install(body: bytes) -> None:
    start = _instruction(_LOAD, _ARCH) + _instruction(_EQUAL, _ARCH_X86_64, 1, 0)
    start += _instruction(_RETURN, _RET_ALLOW) + _instruction(_LOAD, _NR)
    code = start + body + _instruction(_RETURN, _RET_ALLOW)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    argument = ctypes.create_string_buffer(program, len(program))
    _check(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    _check(_libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(argument), 0, 0), "prctl")


def _main(arguments: list[str]) -> None:
    end = arguments.index("--")
    options, words = arguments[:end], arguments[end + 1 :]
    values = [option.partition("=") for option in options]
    reach = [Path(value) for name, _, value in values if name == "reach"]
    users = [int(value) for name, _, value in values if name == "user"]
    if reach:
        _make_reachable(reach)
    if users:
        os.setgroups([])
        os.setresgid(users[0], users[0], users[0])
        os.setresuid(users[0], users[0], users[0])
    if "namespace" in options:
        _enter_namespace()
    if "bare" in options:
        _give_up_capabilities()
        _check(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    filters = b"".join(_refused(value) for name, _, value in values if name == "refuse")
    if filters:
        _install(filters)
    if "docker" in options:
        _install(_docker())
    os.execvp(words[0], words)


if __name__ == "__main__":
    _main(sys.argv[1:])
