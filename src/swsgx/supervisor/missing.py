"""Pages that are out: who touches one waits in the kernel until it is loaded (userfaultfd(2)).

Enclave contents are a memfd. A page that is written out is punched out of it, which takes it from all processes at
once, without their help; and memory that is mapped from the memfd is *watched*: a thread that touches a page which is
not there is put to sleep, we are told, load the page and wake it. No program sees a signal, or an interrupted call.

What was learnt:

- a watched mapping is watched before it is accessible: mapped without protection, watched, then protected. mprotect(2)
  keeps it watched, mremap(2) and fork(2) do not: a child makes its own descriptor before it goes on, and enclaves that
  are hidden by mremap are not paged.
- a page is filled by one pwrite(2) of all of it: the kernel keeps the page locked meanwhile, so nobody sees half.
- USER_MODE_ONLY is what ordinary users may have. System calls that meet a page which is out say EFAULT. It also keeps
  us from waiting for ourselves, when we read memory of a program that is a page which is out.
- each thread that waits has its message, so whoever loads a page need not think of who waits for it, and a wake-up
  that comes too early is only the first of two.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from functools import cache

from swsgx.isa.address import PAGE_SIZE
from swsgx.native.shm import SharedRegion
from swsgx.supervisor.kernel import descriptor_of, userfaultfd

__all__ = ["FLAGS", "IOCTL_REGISTER", "REGISTER", "REGISTER_MISSING", "Watch", "possible"]

_USER_MODE_ONLY = 1
FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY

_API = 0xAA
REGISTER_MISSING = 1
_IOCTL_API, IOCTL_REGISTER, _IOCTL_WAKE, _IOCTL_POISON = 0xC018AA3F, 0xC020AA00, 0x8010AA02, 0xC020AA08
_RANGE = struct.Struct("<QQ")
REGISTER = struct.Struct("<QQQQ")
_MESSAGE = struct.Struct("<BxHI3Q")
_PAGEFAULT = 0x12
_AT_ONCE = 64


class Watch:
    """What one process's watched mappings tell.

    Args:
        fd: the descriptor, ours from now on.

    Attributes:
        fd: readable when somebody waits.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        fcntl.ioctl(fd, _IOCTL_API, bytearray(struct.pack("<QQQ", _API, 0, 0)))

    @classmethod
    def of(cls, pid: int, fd: int) -> Watch:
        """That of a process, which made it under this number and may close it now.

        Raises:
            OSError: it cannot be had.
        """
        return cls(descriptor_of(pid, fd))

    def begin(self, start: int, length: int) -> None:
        """Watch a mapping of a memfd.

        Raises:
            OSError: there is none, or it cannot be watched.
        """
        fcntl.ioctl(self.fd, IOCTL_REGISTER, bytearray(REGISTER.pack(start, length, REGISTER_MISSING, 0)))

    def begin_where_mapped(self, start: int, length: int) -> None:
        """The same, where there may be nothing."""
        with contextlib.suppress(OSError):
            self.begin(start, length)

    def addresses(self) -> list[int]:
        """Pages that threads wait for."""
        try:
            messages = os.read(self.fd, _MESSAGE.size * _AT_ONCE)
        except OSError:
            return []
        found = {m[4] & -PAGE_SIZE for m in _MESSAGE.iter_unpack(messages) if m[0] == _PAGEFAULT}
        return sorted(found)

    def wake(self, start: int, length: int) -> None:
        """Pages are there: who waits for them goes on."""
        with contextlib.suppress(OSError):  # nobody is left there
            fcntl.ioctl(self.fd, _IOCTL_WAKE, _RANGE.pack(start, length))

    def refuse(self, start: int) -> bool:
        """A page will never be there: who touches it gets SIGBUS. False: this kernel cannot do that (before 6.6)."""
        try:
            fcntl.ioctl(self.fd, _IOCTL_POISON, bytearray(REGISTER.pack(start, PAGE_SIZE, 0, 0)))
        except OSError as error:
            return error.errno == errno.EEXIST
        return True

    def close(self) -> None:
        """The process has ended."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@cache
def possible() -> bool:
    """Whether this kernel, and whoever confines us, let pages be taken away from processes and waited for."""
    try:
        fd = userfaultfd(FLAGS)
        try:
            Watch.of(os.getpid(), fd).close()
        finally:
            os.close(fd)
        with SharedRegion("sgx-probe", 2 * PAGE_SIZE) as region:
            region.view[:1] = b"1"
            taken = bytearray(PAGE_SIZE)
            region.take(0, memoryview(taken))
            return taken[0] == ord("1") and region.view[0] == 0
    except OSError:
        return False
