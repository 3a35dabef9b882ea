"""What a process is to do for the supervisor, in order: system calls that it makes itself, and stores into its memory.

A step is decided while the driver's model is being changed, and carried out when the process's question is answered:
nobody but the process can change its mappings. The model has been changed by then, so a refusal of the host's is
noted, and the program's call fails.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from swsgx.cpu.faults import invariant
from swsgx.linux.task import BadAddress
from swsgx.native.abi import CALLS_AT_ONCE, HostCall, Request
from swsgx.supervisor.kernel import NR_USERFAULTFD
from swsgx.supervisor.missing import IOCTL_REGISTER, REGISTER, REGISTER_MISSING

if TYPE_CHECKING:
    from swsgx.supervisor.memory import TargetMemory
    from swsgx.supervisor.seccomp import Listener, Notification

__all__ = ["Adopt", "Call", "Carrier", "Fd", "Give", "HostRefused", "Step", "Store", "Watched"]

_NR_CLOSE, _NR_IOCTL = 3, 16
_CALLS_AT = Request.calls.offset
#: HostCall: number, six arguments, result.
_HOST_CALL = struct.Struct("<8Q")
_ERRNO_LIMIT = 4095


class HostRefused(Exception):
    """The host did not do what a process had to have done.

    Attributes:
        errno: what it said.
    """

    def __init__(self, number: int, error: int, args: tuple[int | Fd, ...] = ()) -> None:
        shown = ", ".join(hex(arg) if isinstance(arg, int) else "file" for arg in args)
        super().__init__(f"system call {number}({shown}) in the program: {os.strerror(error)}")
        self.errno = error


@dataclass(frozen=True, slots=True)
class Fd:
    """One of our files as an argument: the process gets a descriptor for it while the steps last."""

    fd: int


@dataclass(frozen=True, slots=True)
class Call:
    """A system call, or an :class:`~swsgx.native.abi.OwnCall`.

    Attributes:
        number: which.
        args: at most six.
        expected: its result; None: whatever is no error.
    """

    number: int
    args: tuple[int | Fd, ...] = ()
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """Bytes into the process's memory."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Watched:
    """A mapping of enclave contents that is to be watched from now on (:mod:`swsgx.supervisor.missing`).

    The process does it, since that is one answer less; if it cannot, because its program has closed what it does not
    know, we do.
    """

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """The call before made a descriptor for watching, which is ours from now on."""


Step = Call | Store | Watched | Adopt


#: Opens one of our files in the process that waits, under a number.
Give = Callable[[int, int], None]


class Watcher(Protocol):
    """Whose mappings are watched: a process's engine."""

    def adopt(self, fd: int, give: Give) -> None:
        """The process has made a descriptor. Raises ``OSError``."""
        ...

    def watch(self, start: int, length: int) -> None:
        """A mapping is there. Raises ``OSError``."""
        ...

    @property
    def watch_number(self) -> int:
        """Under which number the process has its descriptor."""
        ...


@dataclass
class Carrier:
    """Carries the steps of one question out, over as many answers as it takes.

    Attributes:
        memory: of the process.
        steps: still to be done.
        result: of the program's call, when they are.
        answer: which answer goes with it, :class:`~swsgx.native.abi.Answer`.
        token: what else the process is told.
        tolerant: a refusal ends the steps, and is no failure of the call.
        more: asked for further steps when these are done; none means that it is over.
        watcher: for steps about watching.
        results: of the calls that were made last.
        failure: the first refusal; the steps behind it are left.
    """

    memory: TargetMemory
    steps: list[Step]
    result: int = 0
    answer: int = 0
    token: int = 0
    more: Callable[[], list[Step]] | None = None
    tolerant: bool = False
    failure: HostRefused | None = None
    watcher: Watcher | None = None
    results: list[int] = field(default_factory=list)
    _sent: list[Call] = field(default_factory=list)
    _given: dict[int, int] = field(default_factory=dict)
    _watched: dict[int, Watched] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Calls that were put into the request."""
        return len(self._sent)

    @property
    def last(self) -> bool:
        """Whether nothing is left to do behind the calls in the request, if they give what they must."""
        known = all(call.expected is not None for call in self._sent)
        return known and not self.steps and not self._given and self.more is None and self.failure is None

    def fail(self, error: OSError) -> None:
        """The steps cannot be gone on with."""
        self.failure = HostRefused(0, error.errno or errno.EIO)
        self.steps, self._sent = [], []

    def collect(self, request: Request) -> None:
        """The process has made the calls that it was sent."""
        self.results = []
        for index, call in enumerate(self._sent):
            at = _CALLS_AT + index * HostCall.size_of
            made = HostCall(request.buffer[at : at + HostCall.size_of]).result
            self.results.append(made)
            refused = made > (1 << 64) - 1 - _ERRNO_LIMIT
            if self.failure is not None or call.number == _NR_CLOSE:
                continue
            if refused and index in self._watched:
                self._watch(self._watched[index])
            elif refused:
                self.failure = HostRefused(call.number, (1 << 64) - made, call.args)
            elif call.expected is not None and made != call.expected:
                self.failure = HostRefused(call.number, errno.EEXIST, call.args)
        self._sent = []
        self._watched.clear()
        if self.failure is not None:
            self.steps = []

    def _watch(self, step: Watched) -> None:
        try:
            if self.watcher is not None:
                self.watcher.watch(step.start, step.length)
        except OSError as error:
            self.failure = HostRefused(NR_USERFAULTFD, error.errno or errno.EIO)

    def send(self, request: Request, listener: Listener, notification: Notification) -> bool:
        """Put the next calls into the request. False: there are none left.

        Raises:
            OSError: the process cannot be given a descriptor.
        """
        if not self.steps and self.more is not None and self.failure is None:
            self.steps = self.more()
        while (self.steps or self._given) and len(self._sent) < CALLS_AT_ONCE:
            if not self.steps:
                self._append(request, Call(_NR_CLOSE, (self._given.popitem()[1],)))
                continue
            step = self.steps[0]
            if isinstance(step, Watched):
                if not self._send_watched(request, step, notification.argument):
                    break
            elif not isinstance(step, Call):
                if self._sent:
                    break  # calls first, then what we do
                if isinstance(step, Store):
                    self._store(step)
                else:
                    self._adopt(lambda fd, at: listener.give_at(notification, fd, at))
                if self.failure is not None:
                    continue
            else:
                words = tuple(self._word(arg, listener, notification) for arg in step.args)
                self._append(request, Call(step.number, words, step.expected))
            self.steps = self.steps[1:]
        return bool(self._sent)

    def _store(self, step: Store) -> None:
        try:
            self.memory.write(step.address, step.data)
        except BadAddress:
            self.failure = HostRefused(0, errno.EFAULT)
            self.steps = []

    def _adopt(self, give: Give) -> None:
        invariant(self.watcher is not None, "steps: somebody watches")
        if self.watcher is None:
            return
        try:
            self.watcher.adopt(self.results[-1], give)
            self.steps.insert(1, Call(_NR_CLOSE, (self.results[-1],)))
        except OSError as error:
            self.failure = HostRefused(NR_USERFAULTFD, error.errno or errno.EIO)
            self.steps = []
        except BadAddress:  # it is being killed
            self.failure = HostRefused(0, errno.EFAULT)
            self.steps = []

    def _send_watched(self, request: Request, step: Watched, request_at: int) -> bool:
        """UFFDIO_REGISTER by the process, with its argument in the request. False: there is no room left for that."""
        invariant(self.watcher is not None, "steps: somebody watches")
        place = len(self._watched) * REGISTER.size
        if self.watcher is None or place + REGISTER.size > Request.arguments.size:
            return False
        at = Request.arguments.offset + place
        REGISTER.pack_into(request.buffer, at, step.start, step.length, REGISTER_MISSING, 0)
        self._watched[len(self._sent)] = step
        argument = request_at + at
        self._append(request, Call(_NR_IOCTL, (self.watcher.watch_number, IOCTL_REGISTER, argument), 0))
        return True

    def _word(self, arg: int | Fd, listener: Listener, notification: Notification) -> int:
        if not isinstance(arg, Fd):
            return arg
        if arg.fd not in self._given:
            self._given[arg.fd] = listener.give(notification, arg.fd)
        return self._given[arg.fd]

    def _append(self, request: Request, call: Call) -> None:
        words = [int(arg) & (1 << 64) - 1 for arg in call.args if not isinstance(arg, Fd)]
        words += [0] * (6 - len(words))
        _HOST_CALL.pack_into(
            request.buffer,
            _CALLS_AT + len(self._sent) * HostCall.size_of,
            call.number,
            *words,
            call.expected or 0,
        )
        self._sent.append(call)
