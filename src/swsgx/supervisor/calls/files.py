"""Calls with the descriptor of a node. What a memfd answers as a device does is not among them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from swsgx.linux.device import EnclaveFile
from swsgx.linux.provision import ProvisionFile
from swsgx.linux.uapi import SGX_IOC_ENCLAVE_INIT
from swsgx.native.abi import Answer
from swsgx.supervisor.calls.asked import Asked, Handler, Result
from swsgx.supervisor.files import SETTABLE, flags_of

__all__ = ["FILE_CALLS"]

_SEEK_MAX = 4
_F_GETFL, _F_SETFL = 3, 4


def ioctl(asked: Asked) -> Result:
    """ioctl(2)."""
    fd, code, arg, *_ = asked.args
    stand = asked.stand(fd)
    if stand is None or not isinstance(stand.node, EnclaveFile | ProvisionFile):
        return Answer.PASS
    if asked.process is None:
        return Answer.ARM_FIRST
    asked.service.files.reap()
    with asked.service.files.using(stand):
        outcome = stand.node.ioctl(asked.task(), code & 0xFFFF_FFFF, arg)
        security = asked.service.settings.security
        if outcome.ok and code & 0xFFFF_FFFF == SGX_IOC_ENCLAVE_INIT and security is not None:
            # Now it is known whose mappings those are that were there before.
            security.judge_again(asked.service.processes())
        return outcome


def lseek(asked: Asked) -> Result:
    """lseek(2): -ESPIPE."""
    fd, offset, whence, *_ = asked.args
    stand = asked.stand(fd)
    if stand is None:
        return Answer.PASS
    if flags_of(asked.tid, fd) & os.O_PATH:
        return -errno.EBADF
    return stand.node.lseek(offset, whence) if whence & 0xFFFF_FFFF <= _SEEK_MAX else -errno.EINVAL


def fcntl(asked: Asked) -> Result:
    """fcntl(2): no seals, no direct access, and the flags that it was opened with."""
    fd, command, argument, *_ = asked.args
    stand = asked.stand(fd)
    if stand is not None and command == _F_GETFL and stand.flags:
        return stand.flags | flags_of(asked.tid, fd) & SETTABLE
    if stand is None or command == _F_GETFL or (command == _F_SETFL and not argument & os.O_DIRECT):
        return Answer.PASS
    return -errno.EINVAL


def _always(result: int) -> Callable[[Asked], Result]:
    """The same answer for all nodes; that of a device whose driver lacks the call."""

    def serve(asked: Asked) -> Result:
        fd = asked.args[0] & 0xFFFF_FFFF
        if asked.stand(fd) is None:
            return Answer.PASS
        return -errno.EBADF if flags_of(asked.tid, fd) & os.O_PATH else result

    return serve


_INVALID = Handler(_always(-errno.EINVAL))
FILE_CALLS = {
    0: _INVALID,  # read of no byte
    1: _INVALID,  # write of no byte
    8: Handler(lseek),
    16: Handler(ioctl, slow=True),
    72: Handler(fcntl),
    73: Handler(_always(0)),  # flock: nobody else can have the same file open
    74: _INVALID,  # fsync
    75: _INVALID,  # fdatasync
    77: _INVALID,  # ftruncate
    285: Handler(_always(-errno.ENODEV)),  # fallocate
    326: _INVALID,  # copy_file_range
}
