"""One system call of a program's, as a handler sees it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from swsgx.linux.outcome import Outcome
from swsgx.native.abi import Answer, Request

if TYPE_CHECKING:
    from swsgx.linux.provenance import Subject
    from swsgx.linux.task import Task
    from swsgx.supervisor.files import Stand
    from swsgx.supervisor.memory import TargetMemory
    from swsgx.supervisor.process import TargetProcess
    from swsgx.supervisor.seccomp import Notification
    from swsgx.supervisor.service import Service
    from swsgx.supervisor.steps import Step

__all__ = ["Asked", "Handler", "Result", "signed"]

#: A result as the kernel returns it; or that the call is not for us, or that the process must be armed first; or
#: steps for the process to make, after which the call is its own unless they say what it gives.
Result = int | Outcome | Answer | Generator[list["Step"], list[int], int | None]


class Handler(NamedTuple):
    """Who serves a call.

    Attributes:
        serve: does it.
        slow: it takes its time, so it gets a thread.
    """

    serve: Callable[[Asked], Result]
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The call.

    Attributes:
        service: the machine.
        notification: the task that waits.
        memory: its memory.
        process: what is known of its process; None: it is not armed.
        request: number and arguments.
    """

    service: Service
    notification: Notification
    memory: TargetMemory
    process: TargetProcess | None
    request: Request

    @property
    def tid(self) -> int:
        """The task."""
        return self.notification.tid

    @property
    def args(self) -> tuple[int, int, int, int, int, int]:
        """All six, unsigned."""
        r = self.request
        return r.arg0, r.arg1, r.arg2, r.arg3, r.arg4, r.arg5

    def stand(self, fd: int) -> Stand | None:
        """The SGX node that a descriptor is open for."""
        return self.service.files.of(self.tid, fd & 0xFFFF_FFFF)

    def task(self) -> Task:
        """The process as the driver sees it; it must be armed."""
        if self.process is None:
            raise ValueError("the process is not armed")
        return self.process.task(
            self.tid, self.request.blocked, self.service.files, self.service.settings.security
        )

    @property
    def subject(self) -> Subject | None:
        """Who asks, for security modules; None: there are none."""
        security = self.service.settings.security
        return security.subject(self.tid) if security is not None else None


def signed(value: int) -> int:
    """A 32-bit argument as an int."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value
