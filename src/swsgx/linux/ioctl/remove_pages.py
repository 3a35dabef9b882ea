"""SGX_IOC_ENCLAVE_REMOVE_PAGES. Read from ioctl.c, sgx_encl_remove_pages, of Linux 6.1 and 6.12 (same)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.encls import eremove
from swsgx.cpu.encls.emodpr import emodpr
from swsgx.cpu.epc import Frames
from swsgx.cpu.epcm import HOME_ENCLAVE
from swsgx.cpu.faults import Fault, PageFault
from swsgx.cpu.memory import ScratchMemory
from swsgx.isa.address import TargetAddr
from swsgx.isa.flags import PERM_MASK, PageType
from swsgx.isa.structs import Secinfo
from swsgx.linux import hooks
from swsgx.linux.change import ChangeRequest, change_pages
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import Outcome
from swsgx.linux.task import Task
from swsgx.linux.uapi import EnclaveRemovePages
from swsgx.native.abi import EpcmState
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["remove_pages"]


def remove_pages(encl: Encl, task: Task, arg: int) -> Outcome:
    """Take pages out of a running enclave that were trimmed and that the enclave has accepted as such.

    The addresses are holes again, where the next touch makes a new page. `count` is written back whenever the loop was
    entered.

    Returns: 0; -ENODEV no SGX2; -EINVAL not initialised, a bad range, `count` not 0; -EFAULT a pointer leads nowhere,
        no page; -EPERM a page that is not trimmed, or not accepted; -EAGAIN the page is on its way into the EPC; -EBUSY
        it is on its way out.
    """
    request = ChangeRequest(
        encl, task, TargetAddr(arg), "SGX_IOC_ENCLAVE_REMOVE_PAGES", "sgx_encl_remove_pages"
    )
    argument = request.argument(EnclaveRemovePages, lambda _: None, ("count",))
    if isinstance(argument, Outcome):
        return argument
    denied = hooks.modifying(encl, task.subject, "EREMOVE", request.offset, request.length)
    if denied is not None:
        return request.write_back(argument, denied)
    argument.count, outcome = change_pages(request, _Remove(request))
    return request.write_back(argument, outcome)


class _Remove:
    """EREMOVE."""

    def __init__(self, request: ChangeRequest) -> None:
        self._request = request

    @property
    def zaps(self) -> bool:
        return True

    def clean(self, first: int, frames: Frames) -> int:
        encl = self._request.encl
        cpu = encl.driver.cpu
        if cpu.any_locked():
            return 0
        columns, last = cpu.epcm.columns, first + len(frames)
        good = encl.page_type[first:last] == int(PageType.TRIM)
        good &= columns["pt"][frames] == int(PageType.TRIM)
        good &= columns["state"][frames] == int(EpcmState.VALID)
        good &= columns["home"][frames] == HOME_ENCLAVE
        return len(frames) if good.all() else int(np.argmin(good))

    def one(self, index: int) -> Outcome | None:
        encl = self._request.encl
        with encl.mutex:
            refused = self._check(index)
        if refused is not None:
            return refused
        # Off the reclaimer's list, the page stays in the EPC.
        try:
            encl.zap(index, 1)
        except OSError:
            encl.driver.reclaimer.enlist(encl, np.array([index]))
            raise
        with encl.mutex:
            encl.driver.free_page(int(encl.store.frame_map[index]) - 1)
            encl.remove(index, 1)
        return None

    def _check(self, index: int) -> Outcome | None:
        request, failures = self._request, self._request.encl.driver.failures
        refused = request.load(index)
        if refused is not None:
            return refused
        found = PageType(int(request.encl.page_type[index]))
        if found is not PageType.TRIM:
            return request.refuse(
                errno.EPERM,
                "the page is trimmed",
                "PT_TRIM",
                f"PT_{found.name}",
                remedy="SGX_IOC_ENCLAVE_MODIFY_TYPES first, and EACCEPT",
            )
        accepted, cause = self._accepted(index)
        if not accepted:
            return request.refuse(
                errno.EPERM,
                "the enclave has accepted that the page is trimmed",
                "EMODPR faults on the page",
                "it does not",
                remedy="EACCEPT with TRIM and MODIFIED first",
                cause=cause,
            )
        armed = failures.armed and failures.hit(FailurePoint.RECLAIMED)
        if armed or not request.encl.driver.reclaimer.unlist(request.encl, index, 1):
            return request.refuse(
                errno.EBUSY,
                "the page stays in the EPC",
                "a page at rest",
                "one on its way",
                remedy="try again",
            )
        return None

    def _accepted(self, index: int) -> tuple[bool, Reason | None]:
        """EMODPR is always refused: in one way before, and in another behind the EACCEPT of a trimmed page."""
        request, memory = self._request, ScratchMemory()
        secinfo = memory.place(Secinfo.of(flags=PERM_MASK).buffer, 64)
        try:
            result = emodpr(request.encl.driver.cpu, memory, secinfo, request.address(index))
        except PageFault:
            return True, None
        except Fault as fault:
            return False, fault.reason
        return False, result.reason

    def begin(self, first: int, count: int) -> None:
        pass

    def run(self, first: int, frames: Frames) -> None:
        encl = self._request.encl
        cpu = encl.driver.cpu
        eremove.run_trimmed(cpu, encl.secs_address, frames)
        cpu.epc.free(frames)
        encl.remove(first, len(frames))
