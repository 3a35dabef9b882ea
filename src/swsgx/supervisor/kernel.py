"""The system calls that Python has no function for: ptrace, prctl, seccomp.

Only ``supervisor`` may use this; what it does to another process is dangerous, and every call can find that the
process has died: then it raises ``ProcessLookupError``.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from enum import IntEnum

__all__ = [
    "NR_USERFAULTFD",
    "Ptrace",
    "descriptor_of",
    "die_with_parent",
    "execve_marked",
    "move_memory",
    "prctl_answers",
    "ptrace",
    "ptrace_buffer",
    "seccomp_filter",
    "subreaper",
    "userfaultfd",
]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_ulong, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_libc.syscall.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * 6]
_libc.syscall.restype = ctypes.c_long

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_NR_EXECVE, _NR_SECCOMP, _NR_PIDFD_GETFD = 59, 317, 438
#: Programs make this call for us, too.
NR_USERFAULTFD = 323
_SECCOMP_SET_MODE_FILTER = 1


class Ptrace(IntEnum):
    """Requests of ptrace(2), ``linux/ptrace.h``."""

    CONT = 7
    GETREGS = 12
    SETREGS = 13
    DETACH = 17
    GETEVENTMSG = 0x4201
    SEIZE = 0x4206
    INTERRUPT = 0x4207
    GETSIGMASK = 0x420A
    SETSIGMASK = 0x420B


def _failed(what: str) -> OSError:
    error = ctypes.get_errno()
    return OSError(error, f"{what}: {os.strerror(error)}")


def ptrace(request: Ptrace, tid: int, address: int = 0, data: int = 0) -> None:
    """ptrace(2) with numbers.

    Raises:
        ProcessLookupError: the task is gone, or not in a stop that allows the request.
        PermissionError: somebody else traces it, or we may not.
        OSError: anything else.
    """
    if _libc.ptrace(request, tid, address, data) == -1:
        raise _failed(f"ptrace {request.name} of {tid}")


def ptrace_buffer(request: Ptrace, tid: int, address: int, buffer: bytearray) -> None:
    """ptrace(2) with ``buffer`` as its data, to be read or written. Raises what :func:`ptrace` raises."""
    data = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    if _libc.ptrace(request, tid, address, ctypes.addressof(data)) == -1:
        raise _failed(f"ptrace {request.name} of {tid}")


def move_memory(function: str) -> None:
    """Move no byte to or from our own memory, by ``process_vm_readv`` or ``process_vm_writev``.

    Raises:
        OSError: it is refused.
    """
    if getattr(_libc, function)(os.getpid(), None, 0, None, 0, 0) == -1:
        raise _failed(function)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) == -1:
        raise _failed(f"prctl {option}")


def prctl_answers(option: int) -> None:
    """Ask prctl(2) for an option that no kernel has.

    Raises:
        OSError: it is refused by somebody before the kernel looks.
    """
    try:
        _prctl(option, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def subreaper() -> None:
    """Adopt the orphans among our descendants. Not inherited by fork."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal: int) -> None:
    """Send us ``signal`` (0: none) when the thread that forked us ends."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def execve_marked(path: bytes, words: Sequence[bytes], environment: Sequence[bytes], mark: int) -> None:
    """execve(2) with a sixth argument, which the kernel does not look at. Returns only by an exception.

    Raises:
        OSError: what the kernel says.
    """
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    envp = (ctypes.c_char_p * (len(environment) + 1))(*environment, None)
    _libc.syscall(_NR_EXECVE, path, argv, envp, None, None, mark)
    raise _failed(f"execve {os.fsdecode(path)}")


def seccomp_filter(program: bytes, flags: int) -> int:
    """Put this thread and its future children under a filter, for good; gives up gaining privileges by exec.

    Args:
        program: instructions of classic BPF, 8 bytes each.
        flags: SECCOMP_FILTER_FLAG_*.

    Returns:
        The listener's file descriptor with NEW_LISTENER, else 0.

    Raises:
        OSError: EBUSY when there is a listener already, EINVAL for what this kernel does not know.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    argument = Program(len(program) // 8, program)
    address = ctypes.addressof(argument)
    result = int(_libc.syscall(_NR_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, address, None, None, None))
    if result < 0:
        raise _failed("seccomp")
    return result


def userfaultfd(flags: int) -> int:
    """userfaultfd(2) of our own.

    Raises:
        OSError: it is not allowed here, or this kernel has none.
    """
    fd = int(_libc.syscall(NR_USERFAULTFD, flags, None, None, None, None, None))
    if fd < 0:
        raise _failed("userfaultfd")
    return fd


def descriptor_of(pid: int, fd: int) -> int:
    """A copy of another process's file descriptor, as pidfd_getfd(2) gives it.

    Raises:
        OSError: the process or the descriptor is gone, or we may not.
    """
    process = os.pidfd_open(pid)
    try:
        copy = int(_libc.syscall(_NR_PIDFD_GETFD, process, fd, None, None, None, None))
    finally:
        os.close(process)
    if copy < 0:
        raise _failed(f"pidfd_getfd of {pid}")
    return copy
