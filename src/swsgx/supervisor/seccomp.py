"""The filter that every target runs under, and the listener's side of user notification (seccomp_unotify(2)).

Why exec is announced by user notification and not by RET_TRACE: a notification needs no tracer, so strace and gdb
find the target free. The supervisor traces the task only from the notification to the new program's first
instruction.

What was learnt:

- A filter outlives exec, so it is the same for a program and for all that it starts.
- i386 system calls of 64-bit and 32-bit programs go through the same filter with another ``arch``: their execve must
  be announced as well, since a 32-bit program may start a 64-bit one. All other calls of another architecture pass.
- WAIT_KILLABLE_RECV (Linux 5.19): once a notification is received, only a fatal signal wakes the task. Without it a
  timer's signal makes execve start again, or fail with EINTR.
- A second listener in a tree is EBUSY: in a run inside a run, the outer supervisor serves.
- An exec that fails costs as much as one that succeeds, and a search of PATH makes many: so exec is trapped first, and
  the image looks whether there is such a file. What it makes again is announced.
- Two stages. The first filter is every program's: paths, the two calls by which a program that was handed a file of a
  node would use it first, and masks that would block SIGSYS. The second comes when a process first uses SGX.
- Two more come only to a process that opens what asks for them: a folder that we add to, /proc/PID/mem.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import struct
from typing import NamedTuple

from swsgx.supervisor.kernel import seccomp_filter

__all__ = [
    "ASK",
    "FIRST_EXEC",
    "INJECTED",
    "PRCTL",
    "Listener",
    "Notification",
    "install",
    "listing_program",
    "memory_program",
    "program",
    "second_program",
]

#: The number of prctl(2), and swsgx.native.abi.INJECTED_OPTION and ASK_OPTION; a test compares them. Every `swsgx run`
#: pays for imports here.
PRCTL = 157
INJECTED = 0x53475800
ASK = 0x53475801
#: Sixth argument of an execve that is announced at once: its process has no image that could look at the path first.
FIRST_EXEC = 0x53475802
#: PR_GET_DUMPABLE, PR_SET_DUMPABLE: a process that the supervisor cannot read would be lost.
_DUMPABLE = (3, 4)

_ARCH_X86_64 = 0xC000003E
_ARCH_I386 = 0x40000003
_X32 = 0x40000000
_EXEC_X86_64 = (59, 322)
_EXEC_X32 = (_X32 + 520, _X32 + 545)
_EXEC_I386 = (11, 358)

_RET_TRACE = 0x7FF00000
_RET_ALLOW = 0x7FFF0000
_RET_USER_NOTIF = 0x7FC00000

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06
_MORE = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_DATA_NR, _DATA_ARCH, _DATA_IP, _DATA_ARGS = 0, 4, 8, 16

_RET_ERRNO = 0x00050000
#: The low half is swsgx.native.abi.TRAP_DATA.
_RET_TRAP = 0x00030000 | 0x5357
_PROT_EXEC = 4
#: PTRACE_TRACEME; PEEKTEXT, PEEKDATA, POKETEXT, POKEDATA; CONT, SINGLESTEP, DETACH, SYSCALL, SYSEMU, SYSEMU_SINGLESTEP,
#: SINGLEBLOCK.
_PTRACE_TRAPPED = (0, 1, 2, 4, 5, 7, 9, 17, 24, 31, 32, 33)
_SIG_UNBLOCK = 1
_O_DIRECTORY = 0x10000
_AT_EMPTY_PATH = 0x1000
_AT_FDCWD = 0xFFFFFF9C
_GETDENTS64 = 217
#: read, write, pread64, pwrite64, readv, writev, preadv, pwritev, preadv2, pwritev2.
_READ_AND_WRITE = (0, 1, 17, 18, 19, 20, 295, 296, 327, 328)
#: F_GETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS.
_FCNTL_TRAPPED = (3, 4, 1033, 1034)
_CLONE3 = 435
_CLONE_VM = 0x100
_MAP_TYPE = 0xF
_MAP_ANONYMOUS = 0x20
_MAP_FIXED_ANY = 0x100010

_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE_RECV = 1 << 5

_NOTIF = struct.Struct("<QIIiIQ6Q")
_RESPONSE = struct.Struct("<QqiI")
_IOCTL_RECV = 0xC0502100
_IOCTL_SEND = 0xC0182101
_IOCTL_SET_FLAGS = 0x40082104
_IOCTL_ADDFD = 0x40182103
_ADDFD = struct.Struct("<QIIII")
_ADDFD_SETFD = 1
_O_CLOEXEC = 0o2000000
_SYNC_WAKE_UP = 1
_CONTINUE = 1


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, k)


def _returns(value: int, numbers: tuple[int, ...]) -> bytes:
    """Return ``value`` if the accumulator is one of ``numbers``; else go on behind."""
    return b"".join(_instruction(_EQUAL, n, 0, 1) + _instruction(_RETURN, value) for n in numbers)


def _block(number: int, body: bytes) -> bytes:
    """``body``, which returns, for one system call; for others, go on behind it."""
    return _instruction(_EQUAL, number, 0, len(body) // 8) + body


def _argument(index: int, high: bool = False) -> bytes:
    return _instruction(_LOAD, _DATA_ARGS + 8 * index + 4 * high)


_ALLOW = _instruction(_RETURN, _RET_ALLOW)
_TRAP = _instruction(_RETURN, _RET_TRAP)


def _unless(test: int, value: int, verdict: bytes = _ALLOW) -> bytes:
    """Return the verdict if the accumulator passes the test."""
    return _instruction(test, value, 0, 1) + verdict


def _allow_null(index: int) -> bytes:
    """Let the call pass if a pointer is NULL."""
    low, high = _argument(index), _argument(index, high=True)
    return low + _instruction(_EQUAL, 0, 0, 3) + high + _unless(_EQUAL, 0)


def _allow_address(address: int) -> bytes:
    """Let the call pass if its first argument is this."""
    low, high = _argument(0), _argument(0, high=True)
    return low + _instruction(_EQUAL, address & 0xFFFFFFFF, 0, 3) + high + _unless(_EQUAL, address >> 32)


def _flag_argument(index: int, flag: int) -> bytes:
    """Let the call pass if an argument has the flag."""
    return _argument(index) + _unless(_ANY_BIT, flag)


def _own(start: int, end: int, verdict: bytes) -> bytes:
    """Return the verdict for a call made from ``start`` to ``end``."""
    return (
        _instruction(_LOAD, _DATA_IP + 4)
        + _instruction(_EQUAL, 0, 0, 4)
        + _instruction(_LOAD, _DATA_IP)
        + _instruction(_MORE, start, 0, 2)
        + _instruction(_MORE, end, 1, 0)
        + verdict
    )


def _first_traps() -> dict[int, bytes]:
    """What every program's calls are looked at for; what the bodies let through is none of ours."""
    anonymous = _argument(3) + _unless(_ANY_BIT, _MAP_ANONYMOUS)
    code = _argument(2) + _unless(_ANY_BIT, _PROT_EXEC, _TRAP)
    shared = _argument(3) + _instruction(_AND, _MAP_TYPE)
    shared += _instruction(_EQUAL, 1, 2, 0) + _instruction(_EQUAL, 3, 1, 0) + _ALLOW
    # Folders that are opened relative to others are none of ours: who walks a tree would pay for it.
    folder = _argument(2) + _instruction(_ANY_BIT, _O_DIRECTORY, 0, 3)
    folder += _argument(0) + _instruction(_EQUAL, _AT_FDCWD, 1, 0) + _ALLOW
    # posix_spawn(3) asks for all 64 actions. SIGILL and SIGSYS are those that may be ours.
    question = _argument(0) + _unless(_EQUAL, 4, _TRAP) + _unless(_EQUAL, 31, _TRAP) + _allow_null(1)
    return {
        9: anonymous + code + shared,  # mmap
        13: question,  # rt_sigaction
        14: _argument(0) + _unless(_EQUAL, _SIG_UNBLOCK) + _allow_null(1),  # rt_sigprocmask
        16: _argument(1) + _instruction(_AND, 0xFF00) + _instruction(_EQUAL, 0xA400, 1, 0) + _ALLOW,  # ioctl
        101: _argument(0) + b"".join(_unless(_EQUAL, n, _TRAP) for n in _PTRACE_TRAPPED) + _ALLOW,  # ptrace
        130: b"",  # rt_sigsuspend
        270: _allow_null(5),  # pselect6
        271: _allow_null(3),  # ppoll
        281: _allow_null(4),  # epoll_pwait
        441: _allow_null(4),  # epoll_pwait2
        257: folder,  # openat
        262: _flag_argument(3, _AT_EMPTY_PATH),  # newfstatat
        332: _flag_argument(2, _AT_EMPTY_PATH),  # statx
        # open, stat, lstat, access, getxattr, lgetxattr, listxattr, llistxattr, faccessat, openat2, faccessat2
        # process_vm_readv, process_vm_writev
        **dict.fromkeys((2, 4, 6, 21, 191, 192, 194, 195, 269, 437, 439, 310, 311), b""),
    }


def _second_traps(start: int, end: int) -> dict[int, bytes]:
    """What an armed process's calls are looked at for, beside that.

    The filter outlives exec: where the next program's image will be, the injected code maps and protects.
    """
    mmap = (
        _allow_address(start)
        + _argument(3)
        + _instruction(_ANY_BIT, _MAP_FIXED_ANY, 2, 0)
        + _unless(_ANY_BIT, _MAP_ANONYMOUS)
    )
    return {
        9: mmap,
        **dict.fromkeys(
            (0, 1), _argument(2) + _instruction(_EQUAL, 0, 1, 0) + _ALLOW
        ),  # read and write of nothing
        # Of a node's descriptor: fstat, lseek, flock, fsync, fdatasync, ftruncate, fallocate, copy_file_range.
        **dict.fromkeys((5, 8, 73, 74, 75, 77, 285, 326), b""),
        72: _argument(1) + b"".join(_unless(_EQUAL, n, _TRAP) for n in _FCNTL_TRAPPED) + _ALLOW,  # fcntl
        # Of enclave mappings: munmap, mremap, madvise, mlock, munlock, mlock2, pkey_mprotect.
        **dict.fromkeys((11, 25, 28, 149, 150, 325, 329), b""),
        # Of signals: rt_sigaction, rt_sigprocmask, rt_sigreturn, rt_sigpending, rt_sigtimedwait, sigaltstack.
        **dict.fromkeys((13, 14, 15, 127, 128, 131), b""),
        # fork, exit, readlink, openat, newfstatat, readlinkat, statx
        **dict.fromkeys((57, 60, 89, 257, 262, 267, 332), b""),
        10: _allow_address(end),
        56: _flag_argument(0, _CLONE_VM),  # clone
    }


def _prctl(start: int, end: int) -> bytes:
    ask = _own(start, end, _instruction(_RETURN, _RET_USER_NOTIF)) + _ALLOW
    dumpable = b"".join(_unless(_EQUAL, option, _TRAP) for option in _DUMPABLE)
    return (
        _argument(0)
        + _returns(_RET_TRACE, (INJECTED,))
        + _instruction(_EQUAL, ASK, 0, len(ask) // 8)
        + ask
        + _own(start, end, _ALLOW)
        + _argument(0)
        + dumpable
        + _ALLOW
    )


def _traps(calls: dict[int, bytes], start: int, end: int) -> bytes:
    own = _own(start, end, _ALLOW)
    return b"".join(_block(number, own + body + _TRAP) for number, body in calls.items())


def _program(native: bytes, i386: bytes) -> bytes:
    start = _instruction(_LOAD, _DATA_ARCH) + _instruction(_EQUAL, _ARCH_X86_64, 1 + len(i386) // 8, 0)
    other = _instruction(_EQUAL, _ARCH_I386, 0, len(i386) // 8 - 1)
    return start + other + i386 + native


def program(start: int, end: int) -> bytes:
    """The filter of every program: exec is announced, the image's questions too, a few calls are trapped.

    Args:
        start, end: addresses of the image's code, whose own calls pass.
    """
    number = _instruction(_LOAD, _DATA_NR)
    i386 = number + _returns(_RET_USER_NOTIF, _EXEC_I386) + _ALLOW
    notify = _instruction(_RETURN, _RET_USER_NOTIF)
    announced = _own(start, end, notify) + _argument(5) + _unless(_EQUAL, FIRST_EXEC, notify) + _TRAP
    native = (
        number
        + _returns(_RET_USER_NOTIF, _EXEC_X32)
        + b"".join(_block(number, announced) for number in _EXEC_X86_64)
        + _block(PRCTL, _prctl(start, end))
        + _traps(_first_traps(), start, end)
        # CLONE_CLEAR_SIGHAND would take SIGSYS's handler away, and its flags are in memory: libc falls back to clone.
        + _block(_CLONE3, _instruction(_RETURN, _RET_ERRNO | errno.ENOSYS))
        + _ALLOW
    )
    return _program(native, i386)


def second_program(start: int, end: int) -> bytes:
    """The filter that comes on top when a process first uses SGX. Arguments as for :func:`program`."""
    number = _instruction(_LOAD, _DATA_NR)
    return _program(number + _traps(_second_traps(start, end), start, end) + _ALLOW, _ALLOW)


def listing_program(start: int, end: int) -> bytes:
    """The filter that comes on top when a process opens a folder that we add to. Arguments as for :func:`program`."""
    number = _instruction(_LOAD, _DATA_NR)
    return _program(number + _traps({_GETDENTS64: b""}, start, end) + _ALLOW, _ALLOW)


def memory_program(start: int, end: int) -> bytes:
    """The filter that comes on top when a process opens /proc/PID/mem. Arguments as for :func:`program`."""
    number = _instruction(_LOAD, _DATA_NR)
    return _program(number + _traps(dict.fromkeys(_READ_AND_WRITE, b""), start, end) + _ALLOW, _ALLOW)


def install(code: bytes) -> int | None:
    """Put this process under a filter. Returns the listener, or None when one of an outer run is there already.

    Raises:
        OSError: this kernel, or a sandbox, does not allow it.
    """
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE_RECV, _NEW_LISTENER):
        try:
            return seccomp_filter(code, flags)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return None
            if error.errno != errno.EINVAL or flags == _NEW_LISTENER:
                raise
    return None


class Notification(NamedTuple):
    """A task that waits at the system call which the filter announces.

    Attributes:
        cookie: the kernel's id of the notification.
        tid: the task, in the listener's pid namespace; 0 if it is not visible there.
        number: of the system call.
        argument: its second argument; of a question, where it is.
    """

    cookie: int
    tid: int
    number: int
    argument: int


class Listener:
    """The supervisor's end of the filter.

    Args:
        fd: what :func:`install` returned, in the process that owns this.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # Linux 6.6: the two sides take turns on one CPU, which is 10 to 25 times faster.
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _IOCTL_SET_FLAGS, _SYNC_WAKE_UP)

    def receive(self) -> Notification | None:
        """The next notification; None when its task died meanwhile. Call it when the descriptor is readable."""
        buffer = bytearray(_NOTIF.size)
        try:
            fcntl.ioctl(self.fd, _IOCTL_RECV, buffer)
        except (FileNotFoundError, InterruptedError):
            return None
        cookie, tid, _, number, _, _, _, argument, *_ = _NOTIF.unpack(buffer)
        return Notification(cookie, tid, number, argument)

    def proceed(self, notification: Notification) -> bool:
        """Let the system call happen. False: the task is not waiting any more."""
        return self._answer(_RESPONSE.pack(notification.cookie, 0, 0, _CONTINUE))

    def reply(self, notification: Notification, value: int) -> bool:
        """Let the system call return a value. False: the task is not waiting any more."""
        return self._answer(_RESPONSE.pack(notification.cookie, value, 0, 0))

    def give(self, notification: Notification, fd: int, *, cloexec: bool = True) -> int:
        """Open one of our files in the task that waits; returns the descriptor it has there.

        Raises:
            OSError: EMFILE and the like, as the task would get; ENOENT: it is not waiting any more.
        """
        flags = _O_CLOEXEC if cloexec else 0
        request = bytearray(_ADDFD.pack(notification.cookie, 0, fd, 0, flags))
        while True:
            # Python does not repeat an ioctl that one of our own signals interrupts.
            with contextlib.suppress(InterruptedError):
                return int(fcntl.ioctl(self.fd, _IOCTL_ADDFD, request))

    def give_at(self, notification: Notification, fd: int, number: int) -> None:
        """The same under a number of ours, whatever it was before; closed by exec.

        Raises:
            OSError: the number is beyond the task's limit; it is not waiting any more.
        """
        request = bytearray(_ADDFD.pack(notification.cookie, _ADDFD_SETFD, fd, number, _O_CLOEXEC))
        while True:
            with contextlib.suppress(InterruptedError):
                fcntl.ioctl(self.fd, _IOCTL_ADDFD, request)
                return

    def refuse(self, notification: Notification, error: int) -> bool:
        """Let the system call fail with an errno. False: the task is not waiting any more."""
        return self._answer(_RESPONSE.pack(notification.cookie, 0, -error, 0))

    def _answer(self, response: bytes) -> bool:
        while True:
            try:
                fcntl.ioctl(self.fd, _IOCTL_SEND, bytearray(response))
            except FileNotFoundError:
                return False
            except InterruptedError:
                continue
            return True
