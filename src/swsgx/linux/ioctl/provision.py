"""SGX_IOC_ENCLAVE_PROVISION. Read from ioctl.c, sgx_ioc_enclave_provision, and main.c, sgx_set_attribute, 6.12."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from swsgx.isa.address import TargetAddr
from swsgx.isa.flags import Attributes
from swsgx.linux import hooks
from swsgx.linux.outcome import OK, Outcome, refuse
from swsgx.linux.provision import ProvisionFile
from swsgx.linux.task import BadAddress, Task
from swsgx.linux.uapi import EnclaveProvision

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["provision"]

_NAME = "SGX_IOC_ENCLAVE_PROVISION"


def provision(encl: Encl, task: Task, arg: int) -> Outcome:
    """Allow the PROVISIONKEY attribute to an enclave, to whoever could open the provision node.

    No state is looked at. Upstream, CREATE assigns the allowed attributes, so that it is lost before CREATE.

    Returns: 0; -EFAULT the argument cannot be read; -EINVAL the descriptor is none of the provision node;
        -EACCES a security module refused.
    """
    source = encl.profile.source("main.c: sgx_set_attribute")
    try:
        fd = EnclaveProvision(task.memory.read(TargetAddr(arg), EnclaveProvision.size_of)).fd & 0xFFFF_FFFF
    except BadAddress as bad:
        return refuse(
            errno.EFAULT,
            operation=_NAME,
            rule="the argument is readable",
            expected="8 readable bytes",
            found=bad.address,
            source=encl.profile.source("ioctl.c: sgx_ioc_enclave_provision"),
        )
    file = task.files.get(fd)
    if file is None:
        return refuse(
            errno.EINVAL,
            operation=_NAME,
            rule="fd is an open file",
            expected="a descriptor not opened with O_PATH",
            found=fd,
            source=source,
        )
    if not isinstance(file, ProvisionFile):
        return refuse(
            errno.EINVAL,
            operation=_NAME,
            rule="fd is the provision node",
            expected=encl.profile.provision_nodes[0],
            found=f"another file, descriptor {fd}",
            source=source,
        )
    reason = hooks.provisioning(encl, task.subject)
    if reason is not None:
        return hooks.denied(reason)
    encl.allowed |= Attributes.PROVISIONKEY
    return OK
