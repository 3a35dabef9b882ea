"""The supervisor's loop: notifications of exec on one side, ptrace stops and deaths of targets on the other.

A task that announces an exec is seized and let go on: it stops behind the exec, in the new program, which is then
injected. If it has not stopped after a while, it is asked to, and then stops there, too, or behind the failed call,
where it is simply detached: to ask at once would cost each exec one more stop. Nothing here waits for one task only: an
exec may have to wait for others (its own threads; a file system that another target serves).

What was learnt:

- PTRACE_INTERRUPT comes after the notification is answered. Before, it would interrupt the wait for the answer on
  kernels without WAIT_KILLABLE_RECV, and the call would be announced again and again.
- Whichever stop comes first takes the pending interrupt with it, most times; when it does not, an extra
  PTRACE_EVENT_STOP comes between two stops of the injection, and is continued.
- An exec of a thread that is no leader reports its stop under the leader's number; PTRACE_GETEVENTMSG tells
  the old one.
- A tracer sees the end of a tracee before its parent does, so a number is never forgotten too late.
- A task whose exec failed may announce the next one before the interrupt reaches it: it is seized already.
- A task that somebody else traces cannot be seized. If its tracer is of the tree (strace or gdb inside), the tracer is
  made to inject it (:mod:`swsgx.supervisor.traced`); else its exec is refused.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from swsgx.supervisor.image import IMAGE_BASE, Image
from swsgx.supervisor.inject import Injection
from swsgx.supervisor.kernel import Ptrace, ptrace, ptrace_buffer
from swsgx.supervisor.kinship import in_tree, leader_of, tracer_of
from swsgx.supervisor.seccomp import PRCTL, Listener, Notification

if TYPE_CHECKING:
    from _socket import socket

    from swsgx.supervisor.cpuid import CpuidPatches
    from swsgx.supervisor.inquiries import Inquiries
    from swsgx.supervisor.service import Service
    from swsgx.supervisor.settings import Settings

__all__ = ["Supervisor"]

_WALL = 0x40000000
_EVENT_EXEC = 4
_EVENT_SECCOMP = 7
_EVENT_STOP = 128
_OPTIONS = 1 << _EVENT_EXEC | 1 << _EVENT_SECCOMP | 1 << 20  # EXITKILL: a tracee does not outlive us
#: struct known_files.count of native/supervised/cpuid.h: no file needs a patch, and a program does not ask.
_ALL_FILES = b"\xff" * 8
#: Milliseconds until forks whose children may be dead are looked at again.
_LOOK_AGAIN = 1000
#: Seconds that an exec may take before its task is asked to stop. One that fails is rare: the image looks first whether
#: there is such a file.
_EXEC_TAKES = 0.01
#: What a task's death looks like, through ptrace and through /proc/PID/mem.
_DEAD = (errno.ESRCH, errno.EIO, errno.ENOENT)


class Supervisor:
    """Injects the image at every exec of a tree, and reaps it.

    Args:
        target: the first program's process, our child.
        listener: of the filter the tree runs under; None in a run inside a run.
        image: what is injected.
        ended: called once with the target's wait status.
        stopped: called with the signal that stopped the target, as job control does.
        abandoned: called when a signal came; True: nobody needs us any more, end.
        settings: of the SGX machine, which is made when a program first asks for it.
        asked_at: where people ask for figures; not blocking.
        inquiries: called with that and the loop's poll when the first one does: who answers.
        told: becomes readable when the user wants the policy loaded again, and stays so when nobody can want it any
            more; -1: there is no policy.
    """

    def __init__(
        self,
        target: int,
        listener: Listener | None,
        image: Image,
        ended: Callable[[int], None],
        stopped: Callable[[int], None],
        abandoned: Callable[[], bool],
        settings: Settings,
        asked_at: socket | None,
        inquiries: Callable[[socket, select.poll], Inquiries],
        told: int = -1,
    ) -> None:
        self._told = told
        self._settings = settings
        self._asked_at = asked_at
        self._new_inquiries = inquiries
        self._inquiries: Inquiries | None = None
        self._service: Service | None = None
        self._patches: CpuidPatches | None = None
        #: Processes that exec while a tracer of the tree traces them, and have no image yet.
        self._traced_execs: set[int] = set()
        #: Processes that become tracees of their parents when they exec.
        self._traced_later: set[int] = set()
        self._watched: set[int] = set()
        self._poll = select.poll()
        self._failure: BaseException | None = None
        self._failures = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._target = target
        self._listener = listener
        self._image = image
        self._ended = ended
        self._stopped = stopped
        self._abandoned = abandoned
        #: Tasks that we trace; their injection, once the new program is there.
        self._traced: dict[int, Injection | None] = {}
        #: Tasks that may be in an exec, and until when they may; the earliest first.
        self._announcing: dict[int, float] = {}

    def run(self, wakeup: int) -> None:
        """Serve until no child is left. ``wakeup`` is readable after each signal."""
        self._poll.register(wakeup, select.POLLIN)
        self._poll.register(self._failures[0], select.POLLIN)
        listener = self._listener
        if listener is not None:
            self._poll.register(listener.fd, select.POLLIN)
        if self._asked_at is not None:
            self._poll.register(self._asked_at.fileno(), select.POLLIN)
        if self._told >= 0:
            self._poll.register(self._told, select.POLLIN)
        while self._reap():
            self._watch()
            forks = self._service is not None and self._service.drop_forks()
            writing = self._inquiries is not None and self._inquiries.prepare()
            for fd, events in self._poll.poll(self._patience(looks=forks or writing)):
                if fd == wakeup:
                    os.read(wakeup, 4096)
                    if self._abandoned():
                        return
                elif self._failure is not None:
                    raise self._failure
                elif fd == self._told:
                    self._reload(fd)
                elif self._inquired(fd):
                    pass
                elif fd in self._watched and self._service is not None:
                    self._ready(self._service, fd)
                elif listener is not None and fd == listener.fd:
                    if events & select.POLLIN:
                        self._receive(listener)
                    else:
                        self._poll.unregister(fd)  # nobody is left under the filter

    def _patience(self, *, looks: bool) -> float | None:
        """Ask tasks to stop whose exec takes long. Milliseconds until there is something to do without being told."""
        now = time.monotonic()
        while self._announcing:
            tid, until = next(iter(self._announcing.items()))
            if until > now:
                return math.ceil((until - now) * 1000)
            del self._announcing[tid]
            with contextlib.suppress(OSError):  # it dies, and will be reaped
                ptrace(Ptrace.INTERRUPT, tid)
        return _LOOK_AGAIN if looks else None

    def _reload(self, fd: int) -> None:
        """The user wants the policy loaded again."""
        if not os.read(fd, 1):
            self._poll.unregister(fd)
        elif self._service is not None:
            self._service.reload()
        elif self._settings.security is not None:
            self._settings.security.reload(self._settings.tell, ())

    def _inquired(self, fd: int) -> bool:
        """Whether a descriptor is one of those who ask for figures; then they are served."""
        if self._inquiries is None:
            if self._asked_at is None or fd != self._asked_at.fileno():
                return False
            self._inquiries = self._new_inquiries(self._asked_at, self._poll)
        return self._inquiries.ready(fd, self._service)

    def _receive(self, listener: Listener) -> None:
        notification = listener.receive()
        if notification is None:
            return
        if notification.number == PRCTL:
            self._asked(listener, notification)
        else:
            self._announced(listener, notification)

    def _reap(self) -> bool:
        """Handle all stops and ends that are there. False: there is no child any more."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | _WALL)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._announcing.pop(pid, None)
            if not os.WIFSTOPPED(status):
                injection = self._traced.pop(pid, None)
                if injection is not None:
                    injection.close()
                if pid == self._target:
                    self._ended(status)
            elif pid in self._traced or status >> 16:
                self._stop(pid, status)
            elif pid == self._target:
                self._stopped(os.WSTOPSIG(status))

    def _failed(self, error: BaseException) -> None:
        """A thread of the service met a bug of ours: the loop ends with it."""
        self._failure = error
        os.write(self._failures[1], b"!")

    def _unwatch(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._watched.discard(fd)

    def _watch(self) -> None:
        """Notice the end of each process that uses SGX, and what its threads wait for."""
        if self._service is None:
            return
        wanted = {*self._service.pidfds(), *self._service.waited_at()}
        for fd in self._watched - wanted:
            self._unwatch(fd)  # closed meanwhile
        for fd in wanted - self._watched:
            self._poll.register(fd, select.POLLIN)
            self._watched.add(fd)

    def _ready(self, service: Service, fd: int) -> None:
        """A process has ended, or threads wait for pages."""
        process = service.waited_at().get(fd)
        if process is not None:
            service.missing(process)
        elif fd in service.pidfds():
            self._unwatch(fd)
            service.ended(fd)

    def _asked(self, listener: Listener, notification: Notification) -> None:
        """A program asks for the SGX machine, or of it, or has mapped code."""
        if self._service is None and self._code_mapped(notification):
            return
        if self._service is None:
            from swsgx.supervisor.service import Service

            self._service = Service(
                listener,
                self._image,
                self._settings,
                self._traced_execs,
                self._traced_later,
                self._filled,
                self._code_mapped,
                self._failed,
            )
        self._service.answer(notification)

    def _code_mapped(self, notification: Notification) -> bool:
        """If a program has mapped code, patch it, and answer."""
        if self._listener is None or not self._settings.patch:
            return False
        return self._cpuid().asked(self._listener, notification)

    def _announced(self, listener: Listener, notification: Notification) -> None:
        """A task is about to exec."""
        tid = notification.tid
        if tid not in self._traced:
            try:
                ptrace(Ptrace.SEIZE, tid, 0, _OPTIONS)
            except OSError:
                self._announced_traced(listener, notification)
                return
            self._traced[tid] = None
        listener.proceed(notification)
        self._announcing.pop(tid, None)
        self._announcing[tid] = time.monotonic() + _EXEC_TAKES

    def _announced_traced(self, listener: Listener, notification: Notification) -> None:
        """A task that somebody else traces is about to exec; a tracer of the tree will help."""
        if in_tree(tracer_of(notification.tid)):
            self._traced_execs.add(leader_of(notification.tid))
            listener.proceed(notification)
        else:
            listener.refuse(notification, errno.EPERM)  # it would die at its first path call

    def _stop(self, tid: int, status: int) -> None:
        """A task that we trace has stopped."""
        event, number = status >> 16, os.WSTOPSIG(status)
        injection = self._traced.get(tid)
        try:
            if event == _EVENT_EXEC:
                self._executed(tid)
            elif injection is None:
                # The exec failed. A signal that stopped it is delivered, a stop of job control goes on.
                self._release(tid, 0 if event else number)
            elif event == _EVENT_SECCOMP:
                injection.finish(self._image, self._filled)
                self._release(tid, injection.stopped_by)
            else:
                if not event and not self._is_ours(tid, number):
                    injection.stopped_by = number
                ptrace(Ptrace.CONT, tid)
        except OSError as error:
            if error.errno not in _DEAD:
                raise

    def _is_ours(self, tid: int, number: int) -> bool:
        """Whether a signal was sent by the service to the program that was there before; then it is none any more."""
        if number != signal.SIGSYS or self._service is None or tid not in self._service.called:
            return False
        self._service.called.discard(tid)
        return True

    def _filled(self, tid: int, memory: int) -> None:
        """A program has its image, and not run yet."""
        if self._settings.patch:
            self._cpuid().program(tid, memory)
        else:
            os.pwrite(memory, _ALL_FILES, IMAGE_BASE + self._image.known)
        # The first bytes of scratch (native/supervised/cpuid.h): a tracee from the start; the 2019 form of the vDSO.
        later, old = tid in self._traced_later, self._settings.kernel == "v23"
        self._traced_later.discard(tid)
        if later or old:
            os.pwrite(memory, bytes([later, old]), IMAGE_BASE + self._image.scratch)

    def _cpuid(self) -> CpuidPatches:
        if self._patches is None:
            from swsgx.supervisor.cpuid import CpuidPatches

            self._patches = CpuidPatches(self._image, self._settings)
        return self._patches

    def _executed(self, tid: int) -> None:
        message = bytearray(8)
        ptrace_buffer(Ptrace.GETEVENTMSG, tid, 0, message)
        former = int.from_bytes(message, "little")
        self._traced.pop(former, None)
        self._announcing.pop(former, None)
        if self._service is not None:
            for fd in self._service.pidfds_of(tid):
                if fd in self._watched:
                    self._unwatch(fd)
            self._service.executed(tid)
        self._traced[tid] = None
        injection = Injection.begin(tid, self._image)
        if injection is None:
            self._release(tid, 0)
        else:
            self._traced[tid] = injection

    def _release(self, tid: int, number: int) -> None:
        self._traced.pop(tid, None)
        ptrace(Ptrace.DETACH, tid, 0, number)
