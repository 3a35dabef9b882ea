"""Who asks for the figures of a tree gets them: ``swsgx stat`` and ``swsgx top``.

Loaded at the first question. The supervisor listens at a Unix socket in the abstract namespace, which goes with it and
leaves no file. Whoever connects gets one JSON object and the end of the stream; nothing is read from him. Who wants to
know more than figures says so by the name of his own socket (:data:`ASKS`), which the kernel tells with the connection:
so nobody waits for a question. Only the tree's own user and root are answered, others see the end at once
(:mod:`swsgx.supervisor.trees` is the other side).

The supervisor's loop writes: nobody is waited for. What a socket does not take at once is written when it can be; who
has not read everything within :data:`PATIENCE` gets no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _socket import socket as PlainSocket

    from swsgx.supervisor.service import Service

__all__ = ["ASKS", "AT_ONCE", "PATIENCE", "UCRED", "VERSION", "Inquiries"]

#: Of the object; raised when something in it goes or means something else, not when something is added.
VERSION = 1
#: Seconds within which an answer must be read.
PATIENCE = 5.0
#: How the name of a socket that asks for more than figures begins, behind the zero byte of the abstract namespace. What
#: it asks for follows, ``mappings`` or ``mappings-all``, then a slash and what makes the name one of its own.
ASKS = "swsgx-asks/"
#: Answers on their way at a time; who comes then is turned away.
AT_ONCE = 32
#: struct ucred: pid, uid, gid.
UCRED = struct.Struct("<iII")
#: Questions about mappings: whether also about those that are not executable.
_MAPPINGS = {"mappings": False, "mappings-all": True}
#: Seconds for which nobody is let in when a descriptor for him is lacking.
_PAUSE = 1.0


@dataclass
class _Answer:
    """What is still to be written, to whom, and until when (monotonic seconds)."""

    client: socket.socket
    rest: memoryview
    until: float


class Inquiries:
    """Those who ask, and the answers on their way.

    Args:
        listening: the socket, ours from now on.
        program: the program that was run, and its arguments.
        front: process id of the command that the user started.
        poll: of the supervisor's loop.
    """

    def __init__(self, listening: PlainSocket, program: Sequence[str], front: int, poll: select.poll) -> None:
        self._listening = socket.socket(fileno=listening.detach())
        self._listening.setblocking(False)
        self._program = list(program)
        self._front = front
        self._poll = poll
        self._answers: dict[int, _Answer] = {}
        self._deaf_until = 0.0

    def prepare(self) -> bool:
        """Before each poll: have it wait for what is to be written. True: not longer than a second."""
        now = time.monotonic()
        for fd in [fd for fd, answer in self._answers.items() if answer.until < now]:
            self._end(fd)
        for fd in self._answers:
            self._poll.register(fd, select.POLLOUT)
        if not self._deaf_until:
            return bool(self._answers)
        if self._deaf_until < now:
            self._deaf_until = 0.0
            self._poll.register(self._listening.fileno(), select.POLLIN)
        return True

    def ready(self, fd: int, service: Service | None) -> bool:
        """A descriptor of the poll is ready. False: it is none of ours.

        Args:
            fd: the descriptor.
            service: the tree's machine; None: no program has used SGX yet.
        """
        if fd == self._listening.fileno():
            self._accept(service)
        elif fd in self._answers:
            self._go_on(fd)
        else:
            return False
        return True

    def _accept(self, service: Service | None) -> None:
        try:
            client, name = self._listening.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return  # he has gone
        except OSError:
            self._deaf_until = time.monotonic() + _PAUSE
            self._poll.unregister(self._listening.fileno())
            return
        client.setblocking(False)
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        if UCRED.unpack(credentials)[1] not in (0, os.geteuid()) or len(self._answers) >= AT_ONCE:
            client.close()
            return
        rest = memoryview(self._text(service, _question(name)))
        self._answers[client.fileno()] = _Answer(client, rest, time.monotonic() + PATIENCE)
        self._go_on(client.fileno())

    def _go_on(self, fd: int) -> None:
        """Write what the socket takes."""
        answer = self._answers[fd]
        try:
            while answer.rest:
                answer.rest = answer.rest[answer.client.send(answer.rest, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            return
        except OSError:
            pass  # he has gone
        self._end(fd)

    def _end(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(fd)
        self._answers.pop(fd).client.close()

    def _text(self, service: Service | None, question: str) -> bytes:
        told: dict[str, object] = {
            "version": VERSION,
            "front": self._front,
            "supervisor": os.getpid(),
            "uid": os.geteuid(),
            "program": self._program,
        }
        member = "mappings" if question in _MAPPINGS else "machine"
        told[member] = None
        if service is not None:
            try:
                told[member] = _answered(service, question)
            except Exception as error:  # figures are not worth a run
                told["bug"] = f"{type(error).__name__}: {error}"
        return json.dumps(told, default=int).encode()


def _question(name: object) -> str:
    """What the name of a socket asks for; empty: figures. Anybody can choose any name."""
    begin = b"\0" + ASKS.encode()
    if not isinstance(name, bytes) or not name.startswith(begin):
        return ""
    return name[len(begin) :].split(b"/")[0].decode("ascii", "replace")


def _answered(service: Service, question: str) -> dict[str, object]:
    if question in _MAPPINGS:
        from swsgx.supervisor.mappings import mappings_of

        return mappings_of(service, everything=_MAPPINGS[question])
    from swsgx.supervisor.figures import machine_figures

    return machine_figures(service)
