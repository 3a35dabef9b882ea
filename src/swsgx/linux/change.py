"""Pages of a running enclave on their way into another state: what the three ioctls of SGX2 share.

Linux goes page by page, and runs ETRACK and an interrupt of all processors behind each. Here pages that nothing can
refuse are changed as one stretch, which leaves the machine as that would; the first of an ioctl, and each that
something could refuse, or that is not in the EPC, goes alone, in Linux's order. Signals are not looked at. Read from
ioctl.c, sgx_ioc_sgx2_ready, sgx_validate_offset_length, sgx_enclave_etrack and the loops, of Linux 6.1 and 6.12 (same).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from swsgx.cpu.encls import etrack
from swsgx.cpu.encls.etrack import etrack as etrack_leaf
from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import Fault, LeafResult
from swsgx.cpu.machine import SecsState
from swsgx.isa.address import PAGE_SIZE, EpcAddr, TargetAddr, is_aligned
from swsgx.isa.layout import Layout
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import OK, Outcome, Refuser
from swsgx.linux.task import BadAddress, Task
from swsgx.linux.uapi import EnclaveModifyTypes, EnclaveRemovePages, EnclaveRestrictPermissions
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.device import Driver
    from swsgx.linux.encl import Encl

__all__ = ["ChangeRequest", "PageChange", "change_pages", "track_run"]

_BITS_64 = (1 << 64) - 1
_Argument = TypeVar("_Argument", EnclaveModifyTypes, EnclaveRemovePages, EnclaveRestrictPermissions)


@dataclass(slots=True)
class ChangeRequest:
    """What one of the three ioctls asks for.

    Attributes:
        encl, task: the enclave, and who calls.
        arg: address of the argument.
        name: of the ioctl.
        function: the kernel's, that has the loop.
        offset, length: bytes from the enclave's base, and bytes.
        result: the SGX error code that stopped it, or 0.
    """

    encl: Encl
    task: Task
    arg: TargetAddr
    name: str
    function: str
    offset: int = 0
    length: int = 0
    result: int = 0

    @property
    def state(self) -> SecsState:
        """What the SECS holds."""
        return self.encl.state

    def refuse(
        self,
        number: int,
        rule: str,
        expected: object,
        found: object,
        *,
        function: str = "",
        remedy: str = "",
        cause: Reason | None = None,
    ) -> Outcome:
        """A refusal of the ioctl."""
        refuser = Refuser(self.name, "ioctl.c", self.function)
        return refuser(
            self.encl, number, rule, expected, found, function=function, remedy=remedy, cause=cause
        )

    def ready(self) -> Outcome | None:
        """The machine has SGX2, and the enclave is initialised: looked at before the argument is read."""
        function = "sgx_ioc_sgx2_ready"
        model = self.encl.driver.cpu.model
        if not model.sgx2:
            return self.refuse(
                errno.ENODEV,
                "the processor has SGX2",
                "CPUID.12H.0:EAX bit 1",
                model.name,
                function=function,
                remedy="choose a CPU model with SGX2",
            )
        if not self.encl.initialised:
            found = "a created enclave" if self.encl.created else "an empty one"
            return self.refuse(
                errno.EINVAL, "INIT was done", "an initialised enclave", found, function=function
            )
        return None

    def read(self, size: int) -> bytes | Outcome:
        """The argument; -EFAULT."""
        try:
            return self.task.memory.read(self.arg, size)
        except BadAddress as bad:
            return self.refuse(
                errno.EFAULT, "the argument is readable", f"{size} readable bytes", bad.address
            )

    def in_range(self, offset: int, length: int) -> Outcome | None:
        """Whole pages inside the enclave, at least one; -EINVAL."""
        function = "sgx_validate_offset_length"

        def no(rule: str, expected: object, found: object) -> Outcome:
            return self.refuse(errno.EINVAL, rule, expected, found, function=function)

        if not is_aligned(offset, PAGE_SIZE):
            return no("offset is page aligned", "a multiple of 4096", offset)
        if not length:
            return no("length is not 0", "at least a page", 0)
        if not is_aligned(length, PAGE_SIZE):
            return no("length is page aligned", "a multiple of 4096", length)
        if offset + length > _BITS_64:
            return no("offset + length does not wrap", "below 2^64", f"{offset:#x} + {length:#x}")
        last = offset + length - PAGE_SIZE
        if last >= self.encl.size:
            return no("the last page is inside the enclave", f"below {self.encl.size:#x}", last)
        self.offset, self.length = offset, length
        return None

    def argument(
        self,
        layout: type[_Argument],
        own: Callable[[_Argument], Outcome | None],
        outputs: tuple[str, ...],
    ) -> _Argument | Outcome:
        """All that is looked at before the first page: the argument, or why not.

        Args:
            layout: of the argument.
            own: what one ioctl alone looks at, between the range and the fields that it fills in.
            outputs: names of those.
        """
        refused = self.ready()
        if refused is not None:
            return refused
        raw = self.read(layout.size_of)
        if isinstance(raw, Outcome):
            return raw
        argument = layout(bytearray(raw))
        refused = (
            self.in_range(argument.offset, argument.length)
            or own(argument)
            or self.zero(**{name: getattr(argument, name) for name in outputs})
        )
        return argument if refused is None else refused

    def zero(self, **outputs: int) -> Outcome | None:
        """Fields that the ioctl fills in are 0 on entry; -EINVAL."""
        for name, value in outputs.items():
            if value:
                return self.refuse(errno.EINVAL, f"{name} is 0 on entry", 0, value)
        return None

    def write_back(self, argument: Layout, outcome: Outcome) -> Outcome:
        """The whole argument goes back, whatever the result; -EFAULT replaces it."""
        try:
            self.task.memory.write(self.arg, bytes(argument))
        except BadAddress as bad:
            return self.refuse(
                errno.EFAULT,
                "the argument is writable",
                "a writable structure",
                bad.address,
                cause=outcome.reason,
            )
        return outcome

    # One page.

    def load(self, index: int) -> Outcome | None:
        """sgx_encl_load_page: the page, which exists, is in the EPC: -EFAULT if not, -EAGAIN if not now.

        The mutex is held. No EPC page to be had at all is -EFAULT, too, as is a page that does not come back as it
        was; while the page is being written out, or EPC is short, it is -EAGAIN.
        """
        failures = self.encl.driver.failures
        failure = failures.hit(FailurePoint.LOAD_PAGE) if failures.armed else 0
        if failure == errno.EBUSY:
            return self.refuse(
                errno.EAGAIN, "the page is in the EPC", "a page at rest", "one on its way", remedy="try again"
            )
        if failure or not self.encl.page_type[index]:
            found = "a page that will not load" if failure else f"a hole at offset {index * PAGE_SIZE:#x}"
            return self.refuse(errno.EFAULT, "a page was added at the offset", "a page", found)
        loaded = self.encl.paging.load(np.array([index]))
        if loaded.errno == errno.EAGAIN:
            return self.refuse(
                errno.EAGAIN,
                "the page is in the EPC",
                "a page at rest",
                "one on its way",
                remedy="try again",
                cause=loaded.reason,
            )
        if not loaded.ok:
            return self.refuse(
                errno.EFAULT, "the page can be loaded", "a page", str(loaded), cause=loaded.reason
            )
        return None

    def host_refused(self, error: OSError) -> Outcome:
        """The host cannot give pages the protection that they have now."""
        return self.refuse(errno.ENOMEM, "the host can protect the pages", "success", str(error))

    def address(self, index: int) -> EpcAddr:
        """EPC address of a page that exists."""
        encl = self.encl
        return encl.driver.cpu.epc.address(int(encl.store.frame_map[index]) - 1)

    def leaf_refused(self, result: LeafResult) -> Outcome:
        """A leaf returned a code: it is the ioctl's result."""
        self.result = result.rax
        leaf = result.reason.operation if result.reason is not None else "the leaf"
        return self.refuse(
            errno.EFAULT, f"{leaf} gives no error code", "success", str(result), cause=result.reason
        )

    def leaf_faulted(self, fault: Fault) -> Outcome:
        """A leaf faulted, which is no result."""
        rule = f"{fault.reason.operation} does not fault"
        return self.refuse(errno.EFAULT, rule, "success", fault.mnemonic, cause=fault.reason)

    def track(self) -> Outcome | None:
        """sgx_enclave_etrack: ETRACK, once more behind an interrupt if it must be, and the interrupt."""
        cpu, state = self.encl.driver.cpu, self.state
        result = etrack_leaf(cpu, self.encl.secs_address)
        if not result.ok:
            cpu.tracker.interrupt(state)
            result = etrack_leaf(cpu, self.encl.secs_address)
        if not result.ok:
            return self.refuse(
                errno.EFAULT,
                "ETRACK succeeds behind an interrupt",
                "success",
                str(result),
                function="sgx_enclave_etrack",
                cause=result.reason,
            )
        cpu.tracker.interrupt(state)
        return None


class PageChange(Protocol):
    """What one of the ioctls does to pages, by their index in ELRANGE. All but :meth:`one` find the mutex held."""

    @property
    def zaps(self) -> bool:
        """Whether page-table entries go before :meth:`run`.

        For that the mutex is let go. The pages, not on the reclaimer's list, cannot leave the EPC meanwhile.
        """
        ...

    def clean(self, first: int, frames: Frames) -> int:
        """For how many of the pages behind ``first``, all there, nothing can be refused."""
        ...

    def one(self, index: int) -> Outcome | None:
        """Change one page, with all checks: why not, or None.

        Raises:
            OSError: the host cannot take the page's page-table entries away; nothing was changed.
        """
        ...

    def begin(self, first: int, count: int) -> None:
        """Page-table entries of pages that are :meth:`clean` are about to go."""
        ...

    def run(self, first: int, frames: Frames) -> None:
        """Change pages that are :meth:`clean`, or were when the mutex was let go."""
        ...


def change_pages(request: ChangeRequest, change: PageChange) -> tuple[int, Outcome]:
    """The loop: bytes done, and the ioctl's result. Address spaces are told of all that changed or was loaded.

    Returns:
        -ENOMEM if the host cannot protect the pages, else as ``change`` says.
    """
    encl = request.encl
    start, end = request.offset // PAGE_SIZE, (request.offset + request.length) // PAGE_SIZE
    index, outcome = start, OK
    try:
        while index < end and outcome.ok:
            many = _many(request, change, index, end) if index > start else 0
            if many:
                index += many
                continue
            _reclaim_direct(encl.driver)
            refused = change.one(index)
            if refused is None:
                index += 1
            else:
                outcome = refused
    except OSError as error:
        outcome = request.host_refused(error)
    if outcome.errno == errno.EAGAIN:
        encl.driver.wake()  # so that the caller need not wait for somebody else to
    done = index - start
    try:
        # The page at which it stopped may be changed, too.
        encl.pages_changed(start, min(done + 1, end - start))
        encl.tell_loaded()
    except OSError as error:
        outcome = request.host_refused(error)
    return done * PAGE_SIZE, outcome


def _reclaim_direct(driver: Driver) -> None:
    """sgx_reclaim_direct: one batch, if EPC is short. No lock is held."""
    if driver.cpu.epc.free_count < driver.reclaimer.low:
        driver.reclaimer.reclaim(driver.reclaimer.batch)


def _many(request: ChangeRequest, change: PageChange, index: int, end: int) -> int:
    """Change pages from ``index`` on as one, if that can be done to the first; how many.

    Raises:
        OSError: the host cannot take page-table entries away; nothing was changed.
    """
    encl, reclaimer = request.encl, request.encl.driver.reclaimer
    with encl.mutex:
        frames = _stretch(request, change, index, end)
        if not change.zaps:
            if len(frames):
                change.run(index, frames)
            return len(frames)
        frames = frames[: reclaimer.unlist(encl, index, len(frames))]
        if not len(frames):
            return 0
        last = index + len(frames)
        ceilings = encl.max_prot[index:last].copy()
        change.begin(index, len(frames))
    try:
        encl.zap(index, len(frames))
    except OSError:
        with encl.mutex:
            encl.max_prot[index:last] = ceilings
            reclaimer.enlist(encl, np.arange(index, last))
        raise
    with encl.mutex:
        change.run(index, frames)
    return len(frames)


def _stretch(request: ChangeRequest, change: PageChange, index: int, end: int) -> Frames:
    """Frames of pages from ``index`` on that can be changed as one; none if the first cannot."""
    encl = request.encl
    present = encl.store.frame_map[index:end]
    if encl.driver.failures.armed or encl.driver.cpu.tracker.stragglers(request.state):
        return present[:0]
    gone = (present == 0) | encl.paging.blocked(np.arange(index, end))
    frames = present[: int(np.argmax(gone)) if gone.any() else len(present)] - np.uint32(1)
    count = change.clean(index, frames) if len(frames) else 0
    return frames[: count if count > 1 else 0]


def track_run(request: ChangeRequest, frames: Frames) -> None:
    """:meth:`ChangeRequest.track` of each page of a stretch."""
    cpu = request.encl.driver.cpu
    if cpu.tracker.stragglers(request.state):  # the reclaimer has begun an epoch while the mutex was free
        cpu.tracker.interrupt(request.state)
    etrack.run(cpu, request.encl.secs_address, frames)
    cpu.tracker.interrupt(request.state)
