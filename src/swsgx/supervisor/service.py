"""The SGX machine that a tree of processes shares, and its answers to what they ask.

Loaded at the first question: `swsgx run` of a program that does not use SGX does not pay for it.

A question is a system call of the image's (:data:`swsgx.native.abi.ASK_OPTION`), so the task waits. Most are answered
at once; an ioctl is done by a thread of its own, since a second one meanwhile must be told EBUSY. What a process must
do itself goes to it as :mod:`~swsgx.supervisor.steps`, before its answer.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Generator

from swsgx.cpu.enclu.refusals import reason_of
from swsgx.cpu.faults import SUCCESS
from swsgx.cpu.faults import Fault as CpuFault
from swsgx.cpu.machine import Cpu
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.leaves import Enclu
from swsgx.isa.vectors import Vector
from swsgx.linux.device import Driver, EnclaveFile, ProvisionFile
from swsgx.linux.encl import Encl
from swsgx.linux.engine import MappedRun
from swsgx.linux.fault import FaultAction, Resolution
from swsgx.linux.inside import LEAVES, execute
from swsgx.linux.mm import AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.linux.provenance import Subject
from swsgx.linux.task import BadAddress
from swsgx.native.abi import Answer, Ask, LeafEnd, LeafSignal, LogicalProcessor, Request, TargetState, VmaBits
from swsgx.supervisor import emulated_files
from swsgx.supervisor.calls import CALLS, Asked
from swsgx.supervisor.calls.asked import Result
from swsgx.supervisor.engine import TargetEngine
from swsgx.supervisor.faults import Fault, served
from swsgx.supervisor.files import NodeFiles
from swsgx.supervisor.folders import Folders
from swsgx.supervisor.grants import Grants
from swsgx.supervisor.image import IMAGE_BASE, Image
from swsgx.supervisor.kinship import leader_of
from swsgx.supervisor.later import LaterFilter
from swsgx.supervisor.memory import TargetMemory
from swsgx.supervisor.missing import possible
from swsgx.supervisor.process import TargetProcess, status_of
from swsgx.supervisor.seccomp import Listener, Notification, listing_program, memory_program, second_program
from swsgx.supervisor.settings import Settings
from swsgx.supervisor.steps import Call, Carrier, Step, Store
from swsgx.supervisor.turns import Conversation, Fork, Turn
from swsgx.trace import Event, Reason, Recorder

__all__ = ["Service"]


_NR_SECCOMP = 317
_SET_MODE_FILTER = 1
_FILTER_TSYNC = 1
#: Seconds within which a fork's child asks, if it lives.
_CHILD_ASKS = 10.0
#: How often, and seconds in between, processes are asked whether they know that pages leave the EPC.
_LOOKS, _BETWEEN_LOOKS = 20, 0.0005
#: Seconds that an ioctl waits at most until other processes have changed their mappings, too.
_FOLLOWS = 0.5
_BITS_64 = (1 << 64) - 1
#: Evicted pages that there may be: 4 GiB.
_BACKING_PAGES = 1 << 20
#: Status flags that a leaf's result sets.
_CF, _ZF = 0x1, 0x40
#: What the kernel makes of a page fault that it does not resolve.
_SIGNALS = {
    FaultAction.SEGV_ACCERR: LeafSignal.ACCERR,
    FaultAction.SEGV_MAPERR: LeafSignal.MAPERR,
    FaultAction.SIGBUS: LeafSignal.BUS,
}


class Service:
    """The machine, its driver, and the processes that use them.

    Args:
        listener: where answers go.
        image: what is in every program.
        settings: what the user asked for.
        traced_execs: processes that exec while a tracer of the tree traces them, and have no image yet.
        traced_later: processes that become tracees of their parents when they exec.
        filled: called with a task and its memory's descriptor when a program has its image and has not run.
        code_mapped: answers a question about mapped code; False: it is none.
        failed: called with an exception of a thread of ours.

    Attributes:
        called: processes that were sent SIGSYS and have not asked yet what they are to do.
        scratch: address of 1024 bytes of every program that it does not use while it asks.
    """

    def __init__(
        self,
        listener: Listener,
        image: Image,
        settings: Settings,
        traced_execs: set[int],
        traced_later: set[int],
        filled: Callable[[int, int], None],
        code_mapped: Callable[[Notification], bool],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._listener = listener
        self._filter = second_program(IMAGE_BASE, IMAGE_BASE + image.writable)
        self.image = image
        self.scratch = IMAGE_BASE + image.scratch
        self.settings = settings
        self.traced_execs = traced_execs
        self.traced_later = traced_later
        self.filled = filled
        self._code_mapped = code_mapped
        self._failed = failed
        self._trace = Recorder([self._traced] if settings.trace >= 0 else [])
        self.cpu = Cpu(settings.model(), random=os.urandom, trace=self._trace)
        self.grants = Grants()
        self.called: set[int] = set()
        self._calling = threading.Lock()
        self.driver = self._driver(settings)
        self.files = NodeFiles()
        code = IMAGE_BASE, IMAGE_BASE + image.writable
        self.folders = Folders(LaterFilter(listing_program(*code), self.scratch))
        self.memory_files = LaterFilter(memory_program(*code), self.scratch)
        self._processes: dict[int, TargetProcess] = {}
        self._keys = itertools.count(1)
        self._tokens = itertools.count(1)
        self._conversations: dict[int, Conversation] = {}
        self._forks: dict[int, Fork] = {}
        self._pidfds: dict[int, TargetProcess] = {}
        self._lock = threading.RLock()
        self._paging = False

    def _driver(self, settings: Settings) -> Driver:
        demand = possible()
        driver = Driver(
            self.cpu,
            settings.profile(),
            trace=self._trace,
            security=settings.security.stack if settings.security is not None else None,
            backing_pages=_BACKING_PAGES if demand else 0,
        )
        driver.demand = demand
        if not demand:
            driver.when_full = (
                "allow userfaultfd in the sandbox's or container's filter, so that pages can leave the EPC; "
                "or make the EPC larger"
            )
        driver.shootdown = self._careful
        driver.recall = self.grants.recall
        return driver

    # What handlers need.

    @property
    def nodes(self) -> tuple[str, ...]:
        """Paths of all nodes, of both generations."""
        return tuple(emulated_files.NODES) if self.driver.usable else ()

    def open_node(
        self, path: str, flags: int, subject: Subject | None
    ) -> EnclaveFile | ProvisionFile | Outcome:
        """open(2) of a node, by whichever generation's name."""
        kind = 0 if path.endswith("enclave") else 1
        names = (self.driver.profile.enclave_nodes, self.driver.profile.provision_nodes)[kind]
        return self.driver.open(path if path in names else names[0], flags, subject)

    def give(self, notification: Notification, fd: int, *, cloexec: bool) -> int:
        """Open one of our files in the task that waits."""
        return self._listener.give(notification, fd, cloexec=cloexec)

    # What the supervisor's loop tells.

    def processes(self) -> list[TargetProcess]:
        """Those that use the machine, in the order in which they began."""
        return list(self._processes.values())

    def pidfds(self) -> list[int]:
        """Descriptors that become readable when a process has ended."""
        return list(self._pidfds)

    def ended(self, pidfd: int) -> None:
        """A process has ended: all that it mapped is gone."""
        process = self._gone(pidfd)
        if process is not None:
            self.called.discard(process.pid)

    def _gone(self, pidfd: int) -> TargetProcess | None:
        process = self._pidfds.pop(pidfd, None)
        os.close(pidfd)
        if process is not None:
            self._forget(process)
        return process

    def waited_at(self) -> dict[int, TargetProcess]:
        """Descriptors that become readable when a thread touches a page that is out, and whose they are."""
        found = {}
        for process in list(self._processes.values()):
            watched = process.engine.watched
            if watched is not None:
                found[watched.fd] = process
        return found

    def missing(self, process: TargetProcess) -> None:
        """Threads wait for pages that are out: load them, and wake the threads."""
        watched = process.engine.watched
        for address in watched.addresses() if watched is not None else ():
            place = process.engine.place(address)
            if place is None or watched is None:
                continue
            encl, index = place
            outcome = encl.load_page(encl.base + index * PAGE_SIZE)
            if outcome.ok:
                mapping = process.mm.mappings.get(encl)
                if mapping is not None:
                    mapping.bits[index] |= VmaBits.PRESENT
                watched.wake(address, PAGE_SIZE)
                continue
            if outcome.errno == errno.EAGAIN:
                watched.wake(address, PAGE_SIZE)  # it will wait again
                continue
            if self.settings.explain and outcome.reason is not None:
                self._explain(f"page fault at {address:#x} in process {process.pid}", outcome.reason)
            if not process.engine.refuse(encl, index):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGBUS)

    def _give_watch(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        """A program has closed the descriptor that its mappings are watched by: we watch this one, the next it can."""
        process = self._processes.get(request.key)
        if process is not None and process.engine.watched is not None:
            process.engine.watched.begin_where_mapped(request.arg0, request.arg1)
            with contextlib.suppress(OSError, BadAddress):
                process.engine.give_watch(lambda fd, number: self._listener.give_at(notification, fd, number))
        self._reply(notification, memory, request, Answer.DONE)

    def _careful(self, _encl: Encl) -> bool:
        """Pages vanish from all processes when they are written out: nobody need be made to leave for that.

        But who brings a hidden enclave back must know that pages can be out.
        """
        self._paging = True
        for _ in range(_LOOKS):
            if all(process.engine.pages_leave() for process in list(self._processes.values())):
                return True
            time.sleep(_BETWEEN_LOOKS)
        return False

    def pidfds_of(self, pid: int) -> list[int]:
        """Those of one process."""
        return [pidfd for pidfd, process in self._pidfds.items() if process.pid == pid]

    def executed(self, pid: int) -> None:
        """A process has become another program; its descriptors are not watched any more."""
        for pidfd in self.pidfds_of(pid):
            self._gone(pidfd)

    def replaced(self, pid: int) -> None:
        """The same, where its descriptors are still watched: it is as good as ended."""
        for pidfd in self.pidfds_of(pid):
            self._forget(self._pidfds[pidfd])

    def _forget(self, process: TargetProcess) -> None:
        self.grants.settle()
        process.ended = True
        with self._lock:
            self._processes.pop(process.key, None)
            process.mm.exit()
            process.engine.take()
            process.engine.close()
            self.files.reap()
            # Of threads that died before they came back.
            for token in [t for t, c in self._conversations.items() if c.key == process.key]:
                del self._conversations[token]

    def drop_forks(self) -> bool:
        """Drop the forks whose children ended before they asked. True: ask again in a while."""
        now = time.monotonic()
        with self._lock:
            for token, fork in list(self._forks.items()):
                if fork.until < now:
                    del self._forks[token]
                    fork.mm.exit()
                    self.files.reap()
                elif fork.until == math.inf and fork.parent.key not in self._processes:
                    fork.until = now + _CHILD_ASKS
            return bool(self._forks)

    # Questions.

    def answer(self, notification: Notification) -> None:
        """Answer one question, now or later."""
        memory = TargetMemory(notification.tid)
        try:
            request = Request(bytearray(memory.read(notification.argument, Request.size_of)))
        except BadAddress:
            self._listener.refuse(notification, errno.EFAULT)  # it is none of the image's
            return
        op = request.op
        if op == Ask.CONTINUE:
            self._continue(notification, memory, request)
            return
        self.grants.settle()
        asking, security = self._processes.get(request.key), self.settings.security
        if asking is not None and security is not None:
            security.noticed(asking, notification.tid)
        if op == Ask.CALL:
            self._call(notification, memory, request)
        elif op == Ask.ARM:
            self._arm(notification, memory, request)
        elif op == Ask.FAULT:
            process = self._processes.get(request.key)
            told = self._fault(process, request) if process is not None else Fault.OWN
            self._check()
            self._carry(notification, memory, request, process, told)
        elif op == Ask.LEAF:
            self._leaf(notification, memory, request)
            self._check()
        elif op == Ask.CALLED:
            process = self._processes.get(request.key)
            self.called.discard(process.pid if process is not None else leader_of(notification.tid))
            self._carry(notification, memory, request, process, 0)
        elif op == Ask.WATCH:
            self._give_watch(notification, memory, request)
        elif op == Ask.EXPLAIN:
            self._exception(notification, memory, request)
        elif op == Ask.FORK:
            self._fork(notification, memory, request)
        elif op == Ask.FORKED:
            self._forked(notification, memory, request)
        elif op == Ask.CHILD:
            self._child(notification, memory, request)
        elif op != Ask.CODE or not self._code_mapped(notification):
            self._reply(notification, memory, request, Answer.DONE, -errno.ENOSYS)

    def _reply(
        self,
        notification: Notification,
        memory: TargetMemory,
        request: Request,
        answer: Answer,
        result: int = 0,
    ) -> bool:
        """False: the task has died."""
        request.result = result & _BITS_64
        try:
            memory.write(notification.argument, bytes(request.buffer))
        except BadAddress:
            return False
        return self._listener.reply(notification, int(answer))

    def _call(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        process = self._processes.get(request.key)
        handler = CALLS.get(request.number)
        if handler is None:
            self._reply(notification, memory, request, Answer.PASS)
            return
        if process is None and request.key:
            self._reply(
                notification, memory, request, Answer.DONE, -errno.EIO
            )  # it has ended, as far as we know
            return
        asked = Asked(self, notification, memory, process, request)
        if handler.slow and process is not None:
            threading.Thread(
                target=self._serve, args=(notification, memory, request, asked, handler.serve), daemon=True
            ).start()
        else:
            self._serve(notification, memory, request, asked, handler.serve)

    def _serve(
        self,
        notification: Notification,
        memory: TargetMemory,
        request: Request,
        asked: Asked,
        serve: Callable[[Asked], Result],
    ) -> None:
        try:
            result = serve(asked)
            self._check()
        except BadAddress:
            result = -errno.EFAULT
        except OSError as error:
            result = -(error.errno or errno.EIO)
        except BaseException as error:
            if threading.current_thread() is threading.main_thread():
                raise
            self._failed(error)  # a bug of ours: the run stops
            return
        if isinstance(result, Answer):
            if result is Answer.ARM_FIRST or asked.process is None:
                self._reply(notification, memory, request, result)
                return
            self._carry(notification, memory, request, asked.process, 0, result)
            return
        if isinstance(result, Generator):
            self._make(notification, memory, request, result)
            return
        value = result.value if isinstance(result, Outcome) else result
        if threading.current_thread() is not threading.main_thread():
            self.follow(asked.process)
        if isinstance(result, Outcome) and result.reason is not None and self.settings.explain:
            self._explain(f"{result.reason.operation} gave {result}", result.reason)
        self._carry(notification, memory, request, asked.process, value)

    def _make(
        self,
        notification: Notification,
        memory: TargetMemory,
        request: Request,
        steps: Generator[list[Step], list[int], int | None],
    ) -> None:
        """Have the process do steps of which each depends on those before; then its own call, if there is no result."""
        carrier = Carrier(memory, [], answer=int(Answer.PASS), tolerant=True)
        started = False

        def more() -> list[Step]:
            nonlocal started
            try:
                if started:
                    return steps.send(carrier.results)
                started = True
                return next(steps)
            except StopIteration as end:
                if end.value is not None:
                    carrier.result, carrier.answer = end.value, int(Answer.DONE)
            except (OSError, BadAddress):
                pass
            carrier.more = None
            return []

        carrier.more = more
        self._start(notification, memory, request, carrier)

    def _carry(
        self,
        notification: Notification,
        memory: TargetMemory,
        request: Request,
        process: TargetProcess | None,
        result: int,
        answer: Answer = Answer.DONE,
    ) -> None:
        """Have the process do what was decided, then tell it the result."""
        if process is None:
            self._reply(notification, memory, request, answer, result)
            return
        carrier = Carrier(memory, [], result, int(answer), watcher=process.engine)
        self._queue(process, Turn(notification, memory, request, carrier))

    def _queue(self, process: TargetProcess, turn: Turn) -> None:
        """Steps of one process are done in the order in which they were decided, whichever threads decided them."""
        with process.mm.lock:
            if process.unconfirmed:
                with self._lock:
                    self._conversations.pop(process.unconfirmed, None)
                process.unconfirmed = 0
            if turn.request.op != Ask.LEAF:  # which maps nothing new
                process.tell_areas()
            turn.carrier.steps = process.engine.take()
            process.turns.append(turn)
            if process.busy:
                return
            process.busy = True
        self._next(process)

    def _next(self, process: TargetProcess) -> None:
        with process.mm.lock:
            if not process.turns:
                process.busy = False
                return
            turn = process.turns.popleft()
        self._start(turn.notification, turn.memory, turn.request, turn.carrier, turn.finish, process)

    def _start(
        self,
        notification: Notification,
        memory: TargetMemory,
        request: Request,
        carrier: Carrier,
        finish: Callable[[], None] | None = None,
        process: TargetProcess | None = None,
    ) -> None:
        token = next(self._tokens)
        with self._lock:
            self._conversations[token] = Conversation(carrier, request.key, finish, process)
        request.token = token
        self._go_on(notification, memory, request, token)

    def _continue(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        conversation = self._conversations.get(request.token)
        if conversation is None:
            self._reply(notification, memory, request, Answer.DONE, -errno.EINVAL)
            return
        if conversation.process is not None:
            conversation.process.unconfirmed = 0
        conversation.carrier.collect(request)
        self._go_on(notification, memory, request, request.token)

    def _go_on(self, notification: Notification, memory: TargetMemory, request: Request, token: int) -> None:
        conversation = self._conversations[token]
        carrier = conversation.carrier
        try:
            more = carrier.send(request, self._listener, notification)
        except OSError as error:
            carrier.fail(error)
            more = carrier.send(request, self._listener, notification)
        if more:
            request.count = carrier.count
            process = conversation.process
            if process is not None and conversation.finish is None and self._ends(process, carrier):
                # Its next question says that they went well, and nobody else of the process asks before.
                process.unconfirmed = token
                request.token = token
                self._reply(notification, memory, request, Answer.LAST, carrier.result)
                self._next(process)
                return
            self._reply(notification, memory, request, Answer.CALLS)
            return
        with self._lock:
            self._conversations.pop(token, None)
        if conversation.finish is not None:
            conversation.finish()
        result = carrier.result
        refused = carrier.failure if not carrier.tolerant else None
        if refused is not None:
            result = -refused.errno
        request.token = carrier.token
        lives = self._reply(notification, memory, request, Answer(carrier.answer), result)
        if refused is not None and lives:
            self.settings.tell(f"{refused}")
        if conversation.process is not None:
            self._next(conversation.process)

    def follow(self, cause: TargetProcess | None, patience: float = _FOLLOWS) -> None:
        """Other processes than the one that was the cause do now what was decided for them.

        Not to be called by the main loop, which answers them, with patience.

        Args:
            cause: None: all follow.
            patience: seconds to wait for them at most. One that is stopped follows when it goes on.
        """
        others = [p for p in list(self._processes.values()) if p is not cause and p.engine.pending]
        for process in others:
            # One signal at a time, or the second would find that the first was dealt with.
            with self._calling:
                if process.pid not in self.called:
                    self.called.add(process.pid)
                    process.call()
        until = time.monotonic() + patience
        while patience and any(process.must_follow for process in others) and time.monotonic() < until:
            time.sleep(_BETWEEN_LOOKS)

    @staticmethod
    def _ends(process: TargetProcess, carrier: Carrier) -> bool:
        """Whether the process need not come back when it has made the calls."""
        done = carrier.answer == Answer.DONE and not carrier.token
        return done and carrier.last and not process.turns and process.has_one_thread

    # Security modules.

    def reload(self) -> None:
        """The user wants the policy files read again."""
        security = self.settings.security
        if security is None:
            return
        self.grants.settle()
        security.reload(self.settings.tell, self.processes())
        # Threads that are inside are made to leave, and find less when they go on.
        self.follow(None, patience=0)
        self._check()

    def _check(self) -> None:
        """In a paranoid run: what the security modules promise holds.

        Raises:
            InternalError: it does not.
        """
        security = self.settings.security
        if security is not None and security.paranoid:
            security.check(self.driver, self.processes())

    def _fault(self, process: TargetProcess, request: Request) -> Fault:
        told = self._explain if self.settings.explain and self.settings.security is not None else None
        return served(process, request, hides=self.settings.hides, paging=self._paging, explain=told)

    def _leaf(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        """A leaf that the machine carries out for a thread that is inside."""
        process = self._processes.get(request.key)
        encl = process.engine.enclave_in(request.arg1) if process is not None else None
        if process is None or encl is None or request.arg0 not in LEAVES:
            # The enclave is being torn down around the thread.
            request.arg0, request.arg1, request.arg2, request.arg3 = Vector.GP, 0, 0, 0
            self._reply(notification, memory, request, Answer.DONE, LeafEnd.FAULT)
            return
        leaf, page = Enclu(request.arg0), (request.arg3 - encl.base) // PAGE_SIZE
        if leaf is Enclu.EACCEPT and self.grants.offer(process, encl, page):
            self._carry(notification, memory, request, process, LeafEnd.AGAIN)
            return
        done = execute(process.mm, encl, leaf, request.arg2, request.arg3, request.arg4)
        if leaf is Enclu.EACCEPT and done.result == SUCCESS:
            self.grants.accepted(process.mm.mappings[encl], page)
        end = LeafEnd.SILENT
        if done.resolution is not None and done.resolution.resolved:
            end = LeafEnd.AGAIN
        elif done.fault is not None:
            end = LeafEnd.FAULT
            self._leaf_fault(process, request, done.fault, done.resolution)
        elif done.result is not None:
            end = LeafEnd.RESULT
            request.arg0 = done.result.rax
            request.arg1 = (_ZF if done.result.zf else 0) | (_CF if done.result.cf else 0)
            if done.result.reason is not None and self.settings.explain:
                self._explain(f"{done.result.reason.operation} gave {done.result}", done.result.reason)
        self._carry(notification, memory, request, process, end)

    def _leaf_fault(
        self, process: TargetProcess, request: Request, fault: CpuFault, resolution: Resolution | None
    ) -> None:
        request.arg0, request.arg1, request.arg2 = fault.vector, fault.error_code, fault.address or 0
        request.arg3 = _SIGNALS[resolution.action] if resolution is not None else LeafSignal.ACCERR
        args = {"code": fault.error_code, "address": fault.address or 0}
        self._trace.event("fault", fault.vector.mnemonic, args, fault.mnemonic, fault.reason)
        if self.settings.explain:
            self._explain(f"{fault.mnemonic} in process {process.pid}", fault.reason)

    # What the user is told.

    def _traced(self, event: Event) -> None:
        with contextlib.suppress(OSError):
            os.write(self.settings.trace, json.dumps(event.as_dict()).encode() + b"\n")

    def _explain(self, what: str, reason: Reason) -> None:
        self.settings.tell("\n".join([what, *reason.lines()]))

    def _exception(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        """A leaf was refused, or an instruction inside an enclave raised an exception."""
        lp = LogicalProcessor(bytearray(LogicalProcessor.size_of))
        lp.check, lp.vector, lp.error_code = request.arg0, request.arg1, request.arg2
        lp.address, lp.expected, lp.found = request.arg3, request.arg4, request.arg5
        with contextlib.suppress(ValueError, KeyError):
            reason = reason_of(lp)
            name = Vector(lp.vector).mnemonic
            self._trace.event("fault", name, {"code": lp.error_code, "address": lp.address}, name, reason)
            if self.settings.explain:
                self._explain(f"{name} with error code {lp.error_code:#x} in process {memory.pid}", reason)
        self._reply(notification, memory, request, Answer.DONE)

    # Processes.

    def _arm(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        address = request.arg0
        try:
            state = TargetState(bytearray(memory.read(address, TargetState.size_of)))
        except BadAddress:
            self._listener.refuse(notification, errno.EFAULT)  # it is being killed
            return
        pid = int(status_of(notification.tid).get("Tgid", "0"))
        engine = TargetEngine(
            TargetMemory(pid),
            state,
            address,
            (self.cpu.epcm.region.fd, self.cpu.epcm.region.size),
            patch=self.settings.patch,
            hide=self.settings.hides,
            watches=self.driver.demand,
            elsewhere=self._elsewhere,
        )
        engine.begin_watching()
        process = TargetProcess(next(self._keys), pid, AddressSpace(engine), engine, address)
        program = state.filter
        steps: list[Step] = [
            Store(address + TargetState.key.offset, struct.pack("<Q", process.key)),
            Store(address + TargetState.explain.offset, struct.pack("<I", self._wants_reasons)),
            Store(program, struct.pack("<HxxxxxxQ", len(self._filter) // 8, program + 16) + self._filter),
            Call(_NR_SECCOMP, (_SET_MODE_FILTER, _FILTER_TSYNC, program), 0),
            *engine.take(),
        ]
        self._processes[process.key] = process
        self._watch(process)
        if self._paging:
            engine.pages_leave()
        self._start(notification, memory, request, Carrier(memory, steps, watcher=engine))

    @property
    def _wants_reasons(self) -> bool:
        return self.settings.explain or self._trace.on

    def _elsewhere(self, engine: TargetEngine, encl: Encl) -> set[int]:
        """TCSs that threads of other processes are inside with."""
        found: set[int] = set()
        for process in list(self._processes.values()):
            if process.engine is not engine and encl in process.mm.mappings:
                found |= process.inside()
        return found

    def _watch(self, process: TargetProcess) -> None:
        self.called.discard(process.pid)  # another one's, of this number
        try:
            self._pidfds[os.pidfd_open(process.pid)] = process
        except ProcessLookupError:
            self._forget(process)

    def _fork(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        """Before a fork: copy what is known now, since the parent may change it before the child asks."""
        process = self._processes.get(request.key)
        if process is None:
            self._reply(notification, memory, request, Answer.DONE, -errno.EAGAIN)
            return
        # The child is who its parent is, until it asks something itself.
        security = self.settings.security
        subject = security.subject(notification.tid) if security is not None else None
        # What is still to be done to the parent's mappings is done before they are copied; what is decided by other
        # threads meanwhile, the child does, too.
        carrier = Carrier(memory, [], watcher=process.engine)

        def copy() -> None:
            carrier.token = next(self._tokens)
            with process.mm.lock, self._lock:
                process.forks -= 1
                waiting = [step for turn in process.turns for step in turn.carrier.steps]
                engine = process.engine.fork(waiting)
                child = process.mm.fork(engine, subject)
                for vma in process.mm.vmas:
                    if vma.dontfork:
                        engine.unmap(vma.encl, Linaddr(vma.start), vma.end - vma.start)
                for vma in child.vmas:
                    if vma.mapping is None:  # the child may not have it; the host's fork has copied it
                        engine.map(vma.encl, [MappedRun(Linaddr(vma.start), vma.end - vma.start, 0)])
                engine.keep_attached(mapping.encl for mapping in child.mappings.values())
                self._forks[carrier.token] = Fork(process, child, engine)

        process.forks += 1
        self._queue(process, Turn(notification, memory, request, carrier, copy))

    def _forked(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        """Behind a fork, in the parent: a child that has not asked yet is dead, or there is none."""
        pid = request.arg0 if request.arg0 < 1 << 63 else 0
        if not pid:
            with self._lock:
                dropped = self._forks.pop(request.token, None)
            if dropped is not None:
                dropped.mm.exit()
        self._reply(notification, memory, request, Answer.DONE)

    def _child(self, notification: Notification, memory: TargetMemory, request: Request) -> None:
        with self._lock:
            found = self._forks.pop(request.token, None)
        if found is None:
            self._reply(notification, memory, request, Answer.DONE, -errno.ESRCH)
            return
        mm, engine = found.mm, found.engine
        pid = int(status_of(notification.tid).get("Tgid", "0"))
        engine.memory = TargetMemory(pid)
        engine.begin_watching()
        process = TargetProcess(next(self._keys), pid, mm, engine, found.parent.state_address)
        process.inherit()
        try:
            memory.write(process.state_address + TargetState.key.offset, struct.pack("<Q", process.key))
        except BadAddress:  # it is being killed
            mm.exit()
            self.files.reap()
            return
        self._processes[process.key] = process
        self._check()
        if self._paging:
            engine.pages_leave()
        request.key = process.key
        self._watch(process)
        self._carry(notification, memory, request, process, 0)
