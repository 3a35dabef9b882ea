"""From an ioctl's number to its handler. Source: ioctl.c, sgx_ioctl, of Linux 6.1 and 6.12 (same)."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from swsgx.isa.layout import Layout
from swsgx.linux import uapi
from swsgx.linux.ioctl import (
    add_pages,
    create,
    init,
    modify_types,
    provision,
    remove_pages,
    restrict_permissions,
)
from swsgx.linux.outcome import Outcome, refuse
from swsgx.linux.profile import V23
from swsgx.linux.task import BadAddress, Task

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["ioctl"]

Handler = Callable[["Encl", Task, int], Outcome]

_COMMON: dict[int, tuple[Handler, type[Layout]]] = {
    uapi.SGX_IOC_ENCLAVE_CREATE: (create.create, uapi.EnclaveCreate),
    uapi.SGX_IOC_ENCLAVE_INIT: (init.init, uapi.EnclaveInit),
    uapi.SGX_IOC_ENCLAVE_PROVISION: (provision.provision, uapi.EnclaveProvision),
}
_UPSTREAM = _COMMON | {
    uapi.SGX_IOC_ENCLAVE_ADD_PAGES: (add_pages.add_pages, uapi.EnclaveAddPages),
    uapi.SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS: (
        restrict_permissions.restrict_permissions,
        uapi.EnclaveRestrictPermissions,
    ),
    uapi.SGX_IOC_ENCLAVE_MODIFY_TYPES: (modify_types.modify_types, uapi.EnclaveModifyTypes),
    uapi.SGX_IOC_ENCLAVE_REMOVE_PAGES: (remove_pages.remove_pages, uapi.EnclaveRemovePages),
}
_V23 = _COMMON | {uapi.SGX_IOC_ENCLAVE_ADD_PAGES_V23: (add_pages.add_pages, uapi.EnclaveAddPagesV23)}


def ioctl(encl: Encl, task: Task, code: int, arg: int) -> Outcome:
    """One ioctl on an enclave's file.

    Returns: what the handler returns; -EBUSY if another ioctl of the enclave is under way, whatever the code;
        -ENOTTY for an unknown code; series v23: -EFAULT, then -EBUSY for ever, on a dead enclave.
    """
    # By what a program adds its first pages tells which generation it was written for.
    if code == uapi.SGX_IOC_ENCLAVE_ADD_PAGES_V23 and encl.profile.count_ioctl and not encl.page_type.any():
        encl.profile = V23
    trace = encl.driver.trace
    if not trace.on:
        return _locked(encl, task, code, arg)
    shown: dict[str, object] = {"enclave": encl.number, "arg": arg}
    known = _table(encl).get(code)
    if known is not None:
        with contextlib.suppress(BadAddress):
            shown |= {f.name: v for f, v in known[1](task.memory.read(arg, known[1].size_of)).values()}  # type: ignore[arg-type]
    outcome = _locked(encl, task, code, arg)
    trace.event("ioctl", uapi.ioctl_name(code), shown, str(outcome), outcome.reason)
    return outcome


def _table(encl: Encl) -> dict[int, tuple[Handler, type[Layout]]]:
    return _UPSTREAM if encl.profile.count_ioctl else _V23


def _locked(encl: Encl, task: Task, code: int, arg: int) -> Outcome:
    source = encl.profile.source("ioctl.c: sgx_ioctl")
    if not encl.ioctl_bit.acquire(blocking=False):
        return refuse(
            errno.EBUSY,
            operation=uapi.ioctl_name(code),
            rule="one ioctl at a time for an enclave",
            expected="no other ioctl",
            found="one under way",
            source=source,
        )
    if encl.dead:
        # Quirk of v23: the busy bit is not given back. test_ioctl_on_a_dead_enclave_is_efault_once_then_ebusy
        return refuse(
            errno.EFAULT,
            operation=uapi.ioctl_name(code),
            rule="the enclave is alive",
            expected="no failure of EEXTEND or EINIT before",
            found="a dead enclave",
            source=source,
        )
    try:
        reason = encl.used_by(task.subject)
        if reason is not None:
            return Outcome(-errno.EACCES, reason)
        known = _table(encl).get(code)
        if known is None:
            return refuse(
                errno.ENOTTY,
                operation=uapi.ioctl_name(code),
                rule="the driver knows the ioctl",
                expected=", ".join(uapi.ioctl_name(c) for c in _table(encl)),
                found=code,
                source=source,
            )
        return known[0](encl, task, arg)
    finally:
        encl.ioctl_bit.release()
