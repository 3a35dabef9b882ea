"""SGX_IOC_ENCLAVE_MODIFY_TYPES. Read from ioctl.c, sgx_enclave_modify_types, of Linux 6.1 and 6.12 (same)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.encls import emodt
from swsgx.cpu.encls.changing import clean_pages
from swsgx.cpu.encls.emodt import emodt as emodt_leaf
from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import Fault
from swsgx.cpu.memory import ScratchMemory
from swsgx.isa.address import TargetAddr
from swsgx.isa.flags import PageType, secinfo_flags
from swsgx.isa.structs import Secinfo
from swsgx.linux import hooks
from swsgx.linux.change import ChangeRequest, change_pages, track_run
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import Outcome
from swsgx.linux.task import Task
from swsgx.linux.uapi import EnclaveModifyTypes
from swsgx.linux.vma import PROT_READ, PROT_WRITE, shown_prot

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["modify_types"]

_TYPE_MASK = 0xFF
#: What a mapping of a TCS may have.
_TCS_CEILING = PROT_READ | PROT_WRITE


def modify_types(encl: Encl, task: Task, arg: int) -> Outcome:
    """Make regular pages TCSs, or trim regular pages and TCSs; the enclave acknowledges each by EACCEPT with MODIFIED.

    A new TCS can be mapped with R and W at most, and its page-table entries are gone everywhere. A trimmed page stays
    mapped. `result` and `count` are written back whenever the loop was entered.

    Returns: 0; -ENODEV no SGX2; -EINVAL not initialised, a bad range, `result` or `count` not 0, another type than TCS
        or TRIM, a page whose type cannot become that; -EPERM a new TCS whose ceiling lacks R or W; -EFAULT a pointer
        leads nowhere, no page, EMODT refuses (its code is `result`) or faults, ETRACK fails; -EAGAIN the page is on its
        way in or out of the EPC.
    """
    request = ChangeRequest(
        encl, task, TargetAddr(arg), "SGX_IOC_ENCLAVE_MODIFY_TYPES", "sgx_enclave_modify_types"
    )
    argument = request.argument(
        EnclaveModifyTypes, lambda given: _page_type_bits(request, given.page_type), ("result", "count")
    )
    if isinstance(argument, Outcome):
        return argument
    if argument.page_type in (PageType.TCS, PageType.TRIM):
        kind = PageType(argument.page_type)
        denied = hooks.modifying(encl, task.subject, "EMODT", request.offset, request.length, page_type=kind)
        if denied is not None:
            return request.write_back(argument, denied)
        argument.count, outcome = change_pages(request, _Modify(request, kind))
        argument.result = request.result
    else:
        outcome = request.refuse(
            errno.EINVAL,
            "page_type is TCS or TRIM",
            "1 or 4",
            argument.page_type,
            remedy="nothing else is possible",
        )
    return request.write_back(argument, outcome)


def _page_type_bits(request: ChangeRequest, page_type: int) -> Outcome | None:
    if page_type & ~_TYPE_MASK:
        return request.refuse(
            errno.EINVAL,
            "page_type has 8 bits",
            "no bit beyond 0xff",
            page_type,
            function="sgx_ioc_enclave_modify_types",
        )
    return None


class _Modify:
    """EMODT and ETRACK."""

    def __init__(self, request: ChangeRequest, page_type: PageType) -> None:
        self._request = request
        self._type = page_type

    @property
    def zaps(self) -> bool:
        return self._type is PageType.TCS

    def clean(self, first: int, frames: Frames) -> int:
        encl, sources = self._request.encl, emodt.ALLOWED[self._type]
        count = clean_pages(encl.driver.cpu, encl.secs_address, frames, sources)
        # The driver's own idea of the type may lag behind the EPCM's: after an ETRACK that failed.
        good = np.isin(encl.page_type[first : first + count], [int(source) for source in sources])
        if self._type is PageType.TCS:
            good &= encl.max_prot[first : first + count] & _TCS_CEILING == _TCS_CEILING
        return count if good.all() else int(np.argmin(good))

    def one(self, index: int) -> Outcome | None:
        encl = self._request.encl
        with encl.mutex:
            before = int(encl.max_prot[index])
            refused = self._check(index, before)
            if refused is not None or not self.zaps:
                return refused or self._change(index, before)
        # Off the reclaimer's list, the page stays in the EPC.
        try:
            encl.zap(index, 1)
        except OSError:
            with encl.mutex:
                encl.max_prot[index] = before
                encl.driver.reclaimer.enlist(encl, np.array([index]))
            raise
        with encl.mutex:
            encl.driver.reclaimer.enlist(encl, np.array([index]))
            return self._change(index, before)

    def _change(self, index: int, before: int) -> Outcome | None:
        encl = self._request.encl
        refused = self._emodt(index)
        if refused is not None:
            encl.max_prot[index] = before
            return refused
        # Quirk of all kernels: after an ETRACK that fails, the driver's books keep the old type.
        # test_a_page_whose_etrack_fails_keeps_its_type_in_the_drivers_books
        refused = self._request.track()
        if refused is None:
            encl.page_type[index] = int(self._type)
        return refused

    def _check(self, index: int, ceiling: int) -> Outcome | None:
        """What must hold before anything changes; then the ceiling of a new TCS does, and it is off the list."""
        request = self._request
        refused = request.load(index)
        if refused is not None:
            return refused
        found = PageType(int(request.encl.page_type[index]))
        sources = emodt.ALLOWED[self._type]
        if found not in sources:
            return request.refuse(
                errno.EINVAL,
                f"the page's type can become {self._type.name}",
                " or ".join(f"PT_{source.name}" for source in sources),
                f"PT_{found.name}",
            )
        return self._to_tcs(index, ceiling) if self._type is PageType.TCS else None

    def _to_tcs(self, index: int, ceiling: int) -> Outcome | None:
        request, failures = self._request, self._request.encl.driver.failures
        if ~ceiling & _TCS_CEILING:
            return request.refuse(
                errno.EPERM,
                "a page that becomes a TCS may be mapped R and W",
                shown_prot(_TCS_CEILING),
                shown_prot(ceiling),
                remedy="add the page with R and W",
            )
        armed = failures.armed and failures.hit(FailurePoint.RECLAIMED)
        if armed or not request.encl.driver.reclaimer.unlist(request.encl, index, 1):
            return request.refuse(
                errno.EAGAIN,
                "the page stays in the EPC",
                "a page at rest",
                "one on its way",
                remedy="try again",
            )
        request.encl.max_prot[index] = _TCS_CEILING
        return None

    def _emodt(self, index: int) -> Outcome | None:
        request, memory = self._request, ScratchMemory()
        secinfo = memory.place(Secinfo.of(flags=secinfo_flags(self._type)).buffer, 64)
        try:
            result = emodt_leaf(request.encl.driver.cpu, memory, secinfo, request.address(index))
        except Fault as fault:
            return request.leaf_faulted(fault)
        return None if result.ok else request.leaf_refused(result)

    def begin(self, first: int, count: int) -> None:
        self._request.encl.max_prot[first : first + count] = _TCS_CEILING

    def run(self, first: int, frames: Frames) -> None:
        encl, last = self._request.encl, first + len(frames)
        emodt.run(encl.driver.cpu, encl.secs_address, frames, self._type)
        track_run(self._request, frames)
        encl.page_type[first:last] = int(self._type)
        encl.driver.reclaimer.enlist(encl, np.arange(first, last))
