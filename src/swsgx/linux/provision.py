"""What both nodes' open files have in common, and the provision node: who can open it may ask for its key."""

from __future__ import annotations

import errno

from swsgx.linux.outcome import Outcome, refuse
from swsgx.linux.task import Task

__all__ = ["NodeFile", "ProvisionFile"]

_FILES = "Linux 6.12, arch/x86/kernel/cpu/sgx/"


class NodeFile:
    """An open file of either node: no reading, no writing, no seeking.

    Attributes:
        node: the path it was opened by.
        descriptors: how many file descriptors refer to it, in all processes.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.descriptors = 1

    def close(self) -> None:
        """One descriptor less."""
        self.descriptors -= 1

    def _lacks(self, number: int, operation: str, rule: str) -> Outcome:
        return refuse(
            number,
            operation=operation,
            rule=rule,
            expected="open, ioctl, mmap, close",
            found=self.node,
            source=f"{_FILES}driver.c: sgx_encl_fops; main.c: sgx_provision_fops",
        )

    def read(self, size: int) -> Outcome:
        """read(2): -EINVAL, always."""
        return self._lacks(errno.EINVAL, "read", "the node can be read")

    def write(self, data: bytes) -> Outcome:
        """write(2): -EINVAL, always."""
        return self._lacks(errno.EINVAL, "write", "the node can be written")

    def lseek(self, offset: int, whence: int) -> Outcome:
        """lseek(2): -ESPIPE, always."""
        return self._lacks(errno.ESPIPE, "lseek", "the node has a position")


class ProvisionFile(NodeFile):
    """An open provision node: good for PROVISION, and for nothing else."""

    def dup(self) -> ProvisionFile:
        """One more descriptor for the same file."""
        self.descriptors += 1
        return self

    def ioctl(self, task: Task, code: int, arg: int) -> Outcome:
        """-ENOTTY, always."""
        return self._lacks(errno.ENOTTY, "ioctl", "the node has ioctls")

    def mmap(self) -> Outcome:
        """-ENODEV, always."""
        return self._lacks(errno.ENODEV, "mmap", "the node can be mapped")
