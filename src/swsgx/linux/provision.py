"""The provision node: whoever can open it may let an enclave have the provisioning keys."""

from __future__ import annotations

import errno

from swsgx.linux.outcome import Outcome, refuse
from swsgx.linux.task import Task

__all__ = ["ProvisionFile"]


class ProvisionFile:
    """An open provision node: good for PROVISION, and for nothing else."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.descriptors = 1

    def dup(self) -> ProvisionFile:
        """One more descriptor for the same file."""
        self.descriptors += 1
        return self

    def close(self) -> None:
        """One descriptor less."""
        self.descriptors -= 1

    def ioctl(self, task: Task, code: int, arg: int) -> Outcome:
        """-ENOTTY, always."""
        return refuse(
            errno.ENOTTY,
            operation="ioctl",
            rule="the node has ioctls",
            expected="an enclave node",
            found=self.node,
            source="Linux 6.12, arch/x86/kernel/cpu/sgx/main.c: sgx_provision_fops",
        )
