"""SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS. Read from ioctl.c, sgx_enclave_restrict_permissions, of 6.1 and 6.12 (same)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from swsgx.cpu.encls import emodpr
from swsgx.cpu.encls.changing import clean_pages
from swsgx.cpu.encls.emodpr import emodpr as emodpr_leaf
from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import Fault
from swsgx.cpu.memory import ScratchMemory
from swsgx.isa.address import TargetAddr
from swsgx.isa.flags import PERM_MASK, PageType, SecinfoFlags
from swsgx.isa.structs import Secinfo
from swsgx.linux import hooks
from swsgx.linux.change import ChangeRequest, change_pages, track_run
from swsgx.linux.outcome import Outcome
from swsgx.linux.task import Task
from swsgx.linux.uapi import EnclaveRestrictPermissions

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["restrict_permissions"]


def restrict_permissions(encl: Encl, task: Task, arg: int) -> Outcome:
    """Take EPCM permissions from pages; ceilings and page-table entries stay as they are.

    Permissions that a page does not have are not given, without a word. The enclave acknowledges each page by EACCEPT
    with PR. `result` and `count` are written back whenever the loop was entered.

    Returns: 0; -ENODEV no SGX2; -EINVAL not initialised, a bad range, a bit beyond R, W and X, W without R, `result` or
        `count` not 0, a page that is not REG; -EFAULT a pointer leads nowhere, no page, EMODPR refuses (its code is
        `result`) or faults, ETRACK fails; -EAGAIN the page is on its way in or out of the EPC.
    """
    request = ChangeRequest(
        encl,
        task,
        TargetAddr(arg),
        "SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS",
        "sgx_enclave_restrict_permissions",
    )
    argument = request.argument(
        EnclaveRestrictPermissions,
        lambda given: _permissions(request, given.permissions),
        ("result", "count"),
    )
    if isinstance(argument, Outcome):
        return argument
    perm = argument.permissions
    denied = hooks.modifying(encl, task.subject, "EMODPR", request.offset, request.length, permissions=perm)
    if denied is not None:
        return request.write_back(argument, denied)
    argument.count, outcome = change_pages(request, _Restrict(request, argument.permissions))
    argument.result = request.result
    return request.write_back(argument, outcome)


def _permissions(request: ChangeRequest, permissions: int) -> Outcome | None:
    function = "sgx_ioc_enclave_restrict_permissions"
    if permissions & ~PERM_MASK:
        return request.refuse(
            errno.EINVAL,
            "permissions has R, W and X only",
            "no bit beyond 0x7",
            permissions,
            function=function,
        )
    if permissions & SecinfoFlags.W and not permissions & SecinfoFlags.R:
        return request.refuse(
            errno.EINVAL, "W comes with R in permissions", "R, or no W", permissions, function=function
        )
    return None


class _Restrict:
    """EMODPR and ETRACK."""

    def __init__(self, request: ChangeRequest, permissions: int) -> None:
        self._request = request
        self._permissions = permissions

    @property
    def zaps(self) -> bool:
        return False

    def clean(self, first: int, frames: Frames) -> int:
        encl = self._request.encl
        return clean_pages(encl.driver.cpu, encl.secs_address, frames, (PageType.REG,))

    def one(self, index: int) -> Outcome | None:
        with self._request.encl.mutex:
            return self._one(index)

    def _one(self, index: int) -> Outcome | None:
        request, memory = self._request, ScratchMemory()
        encl = request.encl
        refused = request.load(index)
        if refused is not None:
            return refused
        found = PageType(int(encl.page_type[index]))
        if found is not PageType.REG:
            return request.refuse(errno.EINVAL, "the page is a regular one", "PT_REG", f"PT_{found.name}")
        secinfo = memory.place(Secinfo.of(flags=self._permissions).buffer, 64)
        try:
            result = emodpr_leaf(encl.driver.cpu, memory, secinfo, request.address(index))
        except Fault as fault:
            return request.leaf_faulted(fault)
        return request.leaf_refused(result) if not result.ok else request.track()

    def begin(self, first: int, count: int) -> None:
        pass

    def run(self, first: int, frames: Frames) -> None:
        encl = self._request.encl
        emodpr.run(encl.driver.cpu, encl.secs_address, frames, self._permissions)
        track_run(self._request, frames)
