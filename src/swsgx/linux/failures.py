"""Failures on demand: allocations and services that fail once in a blue moon, made to fail now.

The driver asks at each place where Linux can run out of something; nobody but a test ever answers yes.
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["FailurePoint", "Failures"]


class FailurePoint(Enum):
    """Where the driver can be made to fail. The comment names Linux's function."""

    OPEN = auto()
    """sgx_open: the enclave object."""
    COPY_BUFFER = auto()
    """sgx_ioc_enclave_create, sgx_ioc_enclave_init: the kernel's copy of SECS or SIGSTRUCT."""
    VA_BOOKKEEPING = auto()
    """sgx_encl_grow: the record of a VA page."""
    VA_PAGE = auto()
    """sgx_alloc_va_page: the EPC page for it."""
    BACKING = auto()
    """sgx_encl_create: the shmem file for evicted pages."""
    SECS_PAGE = auto()
    """sgx_encl_create: the EPC page for the SECS."""
    PAGE_BOOKKEEPING = auto()
    """sgx_encl_page_alloc: the record of an enclave page."""
    EPC_PAGE = auto()
    """sgx_encl_add_page: the EPC page for an enclave page."""
    CRYPTO = auto()
    """sgx_get_key_hash: the hash of the modulus."""
    LOAD_PAGE = auto()
    """sgx_encl_load_page: the page cannot be had now (EBUSY) or at all, in the SGX2 ioctls."""
    RECLAIMED = auto()
    """sgx_unmark_page_reclaimable: the page is on its way out of the EPC."""
    MM_LIST = auto()
    """sgx_encl_mm_add: the record of an address space."""


class Failures:
    """Which failures are due. Empty, it costs one attribute test."""

    def __init__(self) -> None:
        self._due: dict[FailurePoint, list[int]] = {}

    @property
    def armed(self) -> bool:
        """Whether any failure is due."""
        return bool(self._due)

    def arm(self, point: FailurePoint, errno: int, after: int = 0) -> None:
        """Let the next passage fail with ``errno``, ``after`` that many passages that succeed."""
        self._due.setdefault(point, []).extend([0] * after + [errno])

    def hit(self, point: FailurePoint) -> int:
        """One passage: the errno to fail with, or 0."""
        due = self._due.get(point)
        if not due:
            return 0
        errno = due.pop(0)
        if not due:
            del self._due[point]
        return errno
