"""Type enforcement by the SELinux of the host, asked through selinuxfs.

The host's policy must have the class ``enclave`` with the permissions of :mod:`swsgx.lsm.policy.te`; a policy module
can bring them. What cannot be asked is refused: libselinux would say yes where SELinux is off, or where a class or a
permission is unknown and the policy allows unknown ones, and this does not.

Source: Linux, security/selinux/selinuxfs.c (sel_write_access, sel_write_create, the class directory).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from swsgx.lsm.module import Origin, Subject
from swsgx.lsm.policy.te import CLASS, Decision
from swsgx.lsm.te import TypeEnforcement

__all__ = ["DEVICE_CONTEXT", "SELINUXFS", "HostSelinux", "LiveTypeEnforcement"]

SELINUXFS = Path("/sys/fs/selinux")
#: What our nodes are called: there is none on the host that could have a label.
DEVICE_CONTEXT = "system_u:object_r:sgx_device_t:s0"
_UNLABELED = "system_u:object_r:unlabeled_t:s0"
_LARGEST = 4096
#: Of the flags in an answer: the source's type is permissive.
_PERMISSIVE_TYPE = 1
_NO = Decision(False)


def _transact(path: Path, question: str) -> str:
    """One question by a file of selinuxfs: written, and the answer read from the same opening."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, question.encode())
        return os.pread(fd, _LARGEST, 0).decode()
    finally:
        os.close(fd)


class HostSelinux:
    """The running policy, as :class:`~swsgx.lsm.te.Authority`.

    Nothing is kept from one question to the next: the policy can change at any time. Contexts are the kernel's own;
    a subject or a file without one is refused everything.

    Args:
        root: where selinuxfs is mounted.
        transact: asks one file; tests put something else there.
        device: context of the SGX nodes.

    Attributes:
        device, unlabeled: contexts.
    """

    unlabeled = _UNLABELED

    def __init__(
        self,
        root: Path = SELINUXFS,
        transact: Callable[[Path, str], str] = _transact,
        device: str = DEVICE_CONTEXT,
    ) -> None:
        self.device = device
        self._root = root
        self._transact = transact

    def subject(self, subject: Subject | None, /) -> str:
        return _context(subject.label) if subject is not None else ""

    def file(self, origin: Origin, /) -> str:
        return "" if origin.unwatched else _context(origin.label)

    def enclave(self, subject: str, sigstruct: str) -> tuple[str, str]:
        """By the host's type_transition; without one the kernel gives it the SIGSTRUCT's type."""
        if not subject or not sigstruct:
            return self.unlabeled, ""
        try:
            number = self._number(f"class/{CLASS}/index")
            made = self._transact(self._root / "create", f"{subject} {sigstruct} {number}")
        except (OSError, ValueError):
            return self.unlabeled, ""
        return _context(made.strip("\0\n")) or self.unlabeled, ""

    def query(self, source: str, target: str, permission: str) -> Decision:
        """What the kernel says; no, if it cannot be asked or does not know the class or the permission."""
        if not source or not target:
            return _NO
        try:
            enforcing = self._number("enforce") != 0
            class_number = self._number(f"class/{CLASS}/index")
            bit = 1 << (self._number(f"class/{CLASS}/perms/{permission}") - 1)
            answer = self._transact(
                self._root / "access", f"{source} {target} {class_number} {bit:x}"
            ).split()
            allowed, _, auditallow, auditdeny = (int(word, 16) for word in answer[:4])
            flags = int(answer[5], 16) if len(answer) > 5 else 0
        except (OSError, ValueError):
            return _NO
        return Decision(
            bool(allowed & bit),
            None,
            bool(auditallow & bit),
            not auditdeny & bit,
            bool(flags & _PERMISSIVE_TYPE) or not enforcing,
        )

    def _number(self, name: str) -> int:
        return int((self._root / name).read_text(encoding="ascii").strip("\0\n "))


def _context(label: str) -> str:
    """The label, if it has the form of a context: it becomes a word of a question."""
    label = label.rstrip("\0")
    plain = all(c.isascii() and (c.isalnum() or c in "_:.,-") for c in label)
    return label if plain and label.count(":") >= 2 else ""


class LiveTypeEnforcement(TypeEnforcement):
    """Type enforcement by the host; loads are asked each time, since its policy changes without our knowing."""

    name: ClassVar[str] = "selinux"
    keeps_answers: ClassVar[bool] = False

    def __init__(self, authority: HostSelinux | None = None) -> None:
        super().__init__(authority if authority is not None else HostSelinux())
