"""Calls with the descriptor of a node. What a memfd answers as a device does is not among them."""

from __future__ import annotations

from swsgx.linux.outcome import Outcome
from swsgx.native.abi import Answer
from swsgx.supervisor.calls.asked import Asked, Handler, Result

__all__ = ["FILE_CALLS"]


def ioctl(asked: Asked) -> Result:
    """ioctl(2)."""
    fd, code, arg, *_ = asked.args
    stand = asked.stand(fd)
    if stand is None:
        return Answer.PASS
    if asked.process is None:
        return Answer.ARM_FIRST
    asked.service.files.reap()
    return stand.node.ioctl(asked.task(), code & 0xFFFF_FFFF, arg)


def lseek(asked: Asked) -> Result:
    """lseek(2): -ESPIPE."""
    fd, offset, whence, *_ = asked.args
    stand = asked.stand(fd)
    return Answer.PASS if stand is None else stand.node.lseek(offset, whence)


def flock(asked: Asked) -> Result:
    """flock(2): granted; nobody else can have the same file open."""
    return Answer.PASS if asked.stand(asked.args[0]) is None else Outcome(0)


FILE_CALLS = {8: Handler(lseek), 16: Handler(ioctl, slow=True), 73: Handler(flock)}
