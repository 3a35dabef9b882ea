"""The device nodes: opening them, what an open file is, and when an enclave ends.

An enclave lives from open to the last close of its file; every mapping holds the file open, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable

import numpy as np

from swsgx.cpu.encls.epa import epa
from swsgx.cpu.encls.eremove import eremove
from swsgx.cpu.faults import Fault, invariant
from swsgx.cpu.machine import Cpu
from swsgx.isa.flags import PageType
from swsgx.linux import hooks
from swsgx.linux.encl import VA_SLOTS, Encl
from swsgx.linux.failures import FailurePoint, Failures
from swsgx.linux.ioctl import dispatch
from swsgx.linux.outcome import Outcome, refuse
from swsgx.linux.profile import UPSTREAM_6_12, Profile
from swsgx.linux.provenance import Subject
from swsgx.linux.provision import NodeFile, ProvisionFile
from swsgx.linux.reclaim import EnclaveFigures, EpcFull, Figures, Reclaimer
from swsgx.linux.security import Plain, SecurityHooks
from swsgx.linux.task import Task
from swsgx.trace import OFF, Recorder

__all__ = ["Driver", "EnclaveFile", "ProvisionFile"]

_ACCESS_MODES = {os.O_RDONLY: (True, False), os.O_WRONLY: (False, True), os.O_RDWR: (True, True)}


class Driver:
    """The SGX driver of one machine.

    Args:
        cpu: the machine.
        profile: which kernel to be.
        trace: where calls are recorded.
        security: a stack of security modules; by default the plain driver. It cannot be exchanged while enclaves are
            open: an enclave that was opened without one is asked nothing.
        noexec: the nodes are on a filesystem mounted noexec.
        sleep: waits that many seconds; for INIT's retries.
        backing_pages: how many evicted pages there may be at a time, of all enclaves; by default 4 GiB of them.

    Attributes:
        failures: allocations that tests let fail.
        reclaimer: what makes room in the EPC.
        shootdown: called with an enclave, without any lock, when pages of it were blocked and engines were told to
            take them away. Returns whether both hold now: what engines were told is done in every process; and
            every thread that was inside the enclave has left it once. Until it does, the pages stay where they are, out
            of everybody's reach: those who touch them try again. None: engines act at once, and nobody can be
            made to leave; then enclaves are left alone while somebody is inside.
        demand: engines map evicted pages, too: who touches one waits until it is loaded, so no protection changes when
            a page leaves or comes. Pages vanish for all at the moment they are written out.
        recall: called when EPC is short, whatever locks are held; whether pages came back that were set aside.
        when_full: the advice when no EPC page is free and none can be made so.
        wake: called, without any lock, when EPC is short: Linux's wake_up of ksgxd. By default pages are reclaimed
            before it returns; an owner may have another thread call ``reclaimer.balance``.
        leaked: EPC frames that could not be removed, lost for ever.
    """

    def __init__(
        self,
        cpu: Cpu,
        profile: Profile = UPSTREAM_6_12,
        *,
        trace: Recorder = OFF,
        security: SecurityHooks | None = None,
        noexec: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        backing_pages: int = 1 << 20,
    ) -> None:
        self.cpu = cpu
        self.profile = profile
        self.trace = trace
        self.security: SecurityHooks = security if security is not None else Plain()
        self.noexec = noexec
        self.sleep = sleep
        self.failures = Failures()
        self.leaked: list[int] = []
        self.lock = threading.RLock()
        self.reclaimer = Reclaimer(self, backing_pages)
        self.shootdown: Callable[[Encl], bool] | None = None
        self.recall: Callable[[], bool] = lambda: False
        self.demand = False
        self.when_full = "make the EPC larger"
        self.wake: Callable[[], None] = self.reclaimer.balance
        self._enclaves: dict[int, Encl] = {}
        self._last_enclave = 0
        self._counts = dict.fromkeys(("ewb", "eldu", "eaug", "faults"), 0)

    @property
    def usable(self) -> bool:
        """Whether the nodes exist: SGX on, and the launch hash writable."""
        return self.cpu.model.flc and self.cpu.msrs.sgx_enabled and self.cpu.msrs.launch_control

    @property
    def nodes(self) -> tuple[str, ...]:
        """Paths that can be opened."""
        return (*self.profile.enclave_nodes, *self.profile.provision_nodes) if self.usable else ()

    def open(
        self, path: str | None = None, flags: int = os.O_RDWR, subject: Subject | None = None
    ) -> EnclaveFile | ProvisionFile | Outcome:
        """open(2) of a node.

        Args:
            path: the node; by default the profile's enclave node.
            flags: only the access mode is looked at.
            subject: who opens it.

        Returns:
            The file; -ENOENT no such node; -ENOMEM no memory; -EACCES a security module refused.
        """
        node = self.profile.enclave_nodes[0] if path is None else path
        opened = self._open(node, flags, subject)
        if self.trace.on:
            refused = opened if isinstance(opened, Outcome) else None
            self.trace.event(
                "file",
                "open",
                {"path": node, "flags": flags},
                str(refused) if refused is not None else "ok",
                refused.reason if refused is not None else None,
            )
        return opened

    def _open(self, node: str, flags: int, subject: Subject | None) -> EnclaveFile | ProvisionFile | Outcome:
        source = self.profile.source("driver.c: sgx_open")
        if node not in self.nodes:
            return refuse(
                errno.ENOENT,
                operation="open",
                rule="the node exists",
                expected=", ".join(self.nodes) or "none: SGX or launch control is off",
                found=node,
                source=self.profile.source("driver.c: sgx_drv_init"),
            )
        reason = hooks.opened(self, subject, node)
        if reason is not None:
            return hooks.denied(reason)
        readable, writable = _ACCESS_MODES.get(flags & os.O_ACCMODE, (False, False))
        if node in self.profile.provision_nodes:
            return ProvisionFile(node)
        failure = self.failures.hit(FailurePoint.OPEN)
        if failure:
            return refuse(
                failure,
                operation="open",
                rule="memory for the enclave object",
                expected="memory",
                found="none",
                source=source,
            )
        with self.lock:
            self._last_enclave += 1
            encl = Encl(self, self.profile, self._last_enclave)
            self._enclaves[encl.number] = encl
        if subject is not None:
            encl.users[subject] = None
        return EnclaveFile(self, encl, node, readable, writable)

    def open_enclave(self, subject: Subject | None = None) -> EnclaveFile:
        """The enclave node, opened read-write, where nothing can refuse that.

        Raises:
            OSError: the open was refused.
        """
        opened = self.open(subject=subject)
        if isinstance(opened, EnclaveFile):
            return opened
        reason = str(opened.reason) if isinstance(opened, Outcome) else "no enclave node"
        raise OSError(opened.errno if isinstance(opened, Outcome) else errno.ENODEV, reason)

    # EPC pages.

    def take_page(self, point: FailurePoint) -> int | Outcome:
        """One EPC page; -ENOMEM if none is free and none can be made so.

        Raises:
            EpcFull: none is free, but pages can be reclaimed, which must be done without locks.
        """
        failure = self.failures.hit(point) if self.failures.armed else 0
        moves = self.reclaimer.moves
        frame = None if failure else self.cpu.epc.allocate()
        if frame is not None:
            return frame
        if not failure and not self.reclaimer.hopeless(moves):
            raise EpcFull
        return self.no_page(failure)

    def no_page(self, failure: int = 0) -> Outcome:
        """-ENOMEM, or the failure that a test asked for: there is no EPC page."""
        return refuse(
            failure or errno.ENOMEM,
            operation="EPC",
            rule="an EPC page is free",
            expected="a free page",
            found=f"none of {self.cpu.epc.frames}" if not failure else "a failure asked for by a test",
            source=self.profile.source("main.c: sgx_alloc_epc_page"),
            remedy=self.when_full,
        )

    def balance(self) -> None:
        """Wake the reclaimer if EPC is short; no lock may be held."""
        if self.cpu.epc.free_count < self.reclaimer.low:
            self.wake()

    def free_page(self, frame: int) -> None:
        """Take a page out of the EPC and put it on the free list; a page that will not go is lost."""
        gone = False
        with contextlib.suppress(Fault):
            gone = eremove(self.cpu, self.cpu.epc.address(frame)).ok
        if gone:
            self.cpu.epc.free(frame)
        else:
            self.leaked.append(frame)

    def grow(self, encl: Encl) -> int | Outcome | None:
        """Make room for the version of one more page of an enclave.

        Returns:
            The EPC frame of a new VA page; None if the last one has room; -ENOMEM or -EFAULT (EPA faulted) with
            nothing changed. The caller counts the page.

        Raises:
            EpcFull: as :meth:`take_page`.
        """
        if encl.page_count % VA_SLOTS:
            return None
        failure = self.failures.hit(FailurePoint.VA_BOOKKEEPING) if self.failures.armed else 0
        if failure:
            return refuse(
                failure,
                operation="EPC",
                rule="memory for the record of a VA page",
                expected="memory",
                found="none",
                source=self.profile.source("ioctl.c: sgx_encl_grow"),
            )
        frame = self.take_page(FailurePoint.VA_PAGE)
        if isinstance(frame, Outcome):
            return frame
        try:
            epa(self.cpu, PageType.VA, self.cpu.epc.address(frame))
        except Fault as fault:
            self.cpu.epc.free(frame)
            return refuse(
                errno.EFAULT,
                operation="EPC",
                rule="EPA makes a VA page",
                expected="no fault",
                found=fault.mnemonic,
                source=self.profile.source("encl.c: sgx_alloc_va_page"),
                cause=fault.reason,
            )
        encl.va_pages.append(frame)
        return frame

    def shrink(self, encl: Encl, va_page: int | None) -> None:
        """Undo :meth:`grow`."""
        if va_page is not None:
            encl.va_pages.remove(va_page)
            self.free_page(va_page)

    # What is told of paging.

    @property
    def enclaves(self) -> tuple[Encl, ...]:
        """Those that are open."""
        with self.lock:
            return tuple(self._enclaves.values())

    def ended(self, encl: Encl) -> None:
        """An enclave has released everything."""
        with self.lock:
            self._enclaves.pop(encl.number, None)

    def count(self, what: str, times: int) -> None:
        """Something happened that :meth:`figures` tells: "ewb", "eldu", "eaug" or "faults"."""
        with self.lock:
            self._counts[what] += times

    def figures(self) -> Figures:
        """How full the EPC is, and what paging did; no lock of an enclave is taken."""
        epc = self.cpu.epc
        enclaves = tuple(
            EnclaveFigures(
                encl.number,
                encl.base,
                encl.size,
                encl.initialised,
                encl.debug,
                state.children,
                encl.paging.evicted,
                encl.augmented,
                int(np.count_nonzero(encl.page_type == PageType.TCS)),
                len(encl.va_pages),
                encl.secs is not None,
            )
            for encl in self.enclaves
            if (state := encl.known_state) is not None
        )
        return Figures(epc.frames, epc.free_count, len(self.reclaimer), enclaves=enclaves, **self._counts)


class EnclaveFile(NodeFile):
    """An open enclave node: what fork, dup and SCM_RIGHTS share.

    Attributes:
        encl: the enclave.
        node: the path it was opened by.
        readable, writable: the access mode; only mmap looks at it.
        descriptors: how many file descriptors refer to it, in all processes.
    """

    def __init__(self, driver: Driver, encl: Encl, node: str, readable: bool, writable: bool) -> None:
        super().__init__(node)
        self.driver = driver
        self.encl = encl
        self.readable = readable
        self.writable = writable
        self._mapped = 0

    @property
    def released(self) -> bool:
        """Whether the last reference is gone, and the enclave with it."""
        return not self.descriptors and not self._mapped

    def dup(self) -> EnclaveFile:
        """One more descriptor for the same file: dup(2), fork, SCM_RIGHTS, pidfd_getfd."""
        with self.driver.lock:
            invariant(
                self.descriptors > 0, "file: a descriptor is duplicated from an open one", node=self.node
            )
            self.descriptors += 1
            return self

    def close(self) -> None:
        """One descriptor less. The enclave ends with the last descriptor and the last mapping."""
        with self.driver.lock:
            invariant(self.descriptors > 0, "file: only an open descriptor is closed", node=self.node)
            self.descriptors -= 1
            last = self.released
        trace = self.driver.trace
        if trace.on:
            trace.event("file", "close", {"enclave": self.encl.number, "descriptors": self.descriptors})
        if last:
            self._release()

    def hold(self) -> None:
        """A mapping refers to the file."""
        with self.driver.lock:
            self._mapped += 1

    def drop(self) -> None:
        """A mapping is gone."""
        with self.driver.lock:
            invariant(self._mapped > 0, "file: only a held file is dropped", node=self.node)
            self._mapped -= 1
            last = self.released
        if last:
            self._release()

    def _release(self) -> None:
        """sgx_release, which drains the mm list and so drops the last reference to the enclave."""
        for mapping in list(self.encl.mappings):
            mapping.mm.forget(mapping)
        self.encl.release()

    def ioctl(self, task: Task, code: int, arg: int) -> Outcome:
        """ioctl(2) by ``task``; ``arg`` is a pointer in its memory, ``code`` has 32 bits.

        Returns:
            0 or minus errno; -EBUSY while another ioctl runs; -ENOTTY for a code that is not the driver's.
        """
        return dispatch.ioctl(self.encl, task, code & 0xFFFF_FFFF, arg)
