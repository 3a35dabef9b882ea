"""One address space, as far as enclaves are mapped in it: the list of mappings, fork, exit.

Only enclave mappings are known here; whatever else a program maps is between it and its kernel. The calls
themselves, with the part of generic kernel code whose order and errors show, are in
:mod:`swsgx.linux.syscalls`.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from swsgx.isa.address import Linaddr
from swsgx.linux import hooks
from swsgx.linux.encl import EnclaveMapping
from swsgx.linux.engine import Engine, ModelOnly
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import OK, Outcome, refuse
from swsgx.linux.security import ALLOWED, Answer, Subject, judge
from swsgx.linux.syscalls import madvise, mmap, mprotect, mremap, munmap
from swsgx.linux.task import SourceVma
from swsgx.linux.vma import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    TASK_SIZE,
    Vma,
)
from swsgx.native.abi import VmaBits

if TYPE_CHECKING:
    from swsgx.linux.device import EnclaveFile
    from swsgx.linux.encl import Encl

__all__ = [
    "MAP_FIXED",
    "MAP_FIXED_NOREPLACE",
    "MAP_PRIVATE",
    "MAP_SHARED",
    "MAP_SHARED_VALIDATE",
    "MAX_MAP_COUNT",
    "PROT_EXEC",
    "PROT_NONE",
    "PROT_READ",
    "PROT_WRITE",
    "TASK_SIZE",
    "AddressSpace",
]

#: Default of vm.max_map_count.
MAX_MAP_COUNT = 65530


class AddressSpace:
    """The enclave mappings of one process.

    Lock order: an address space's lock, an enclave's mutex, the driver's lock; never two address spaces' at once.

    Args:
        engine: carries mappings out; by default nothing does.
        max_map_count: vm.max_map_count; here only enclave mappings count.

    Attributes:
        mappings: enclaves on whose mm list this address space is.
        lock: held by every call; Linux's mmap_lock.
        changes: how often mappings came or went.
    """

    def __init__(self, engine: Engine | None = None, *, max_map_count: int = MAX_MAP_COUNT) -> None:
        self.engine: Engine = engine if engine is not None else ModelOnly()
        self.max_map_count = max_map_count
        self.mappings: dict[Encl, EnclaveMapping] = {}
        self.lock = threading.RLock()
        self._vmas: list[Vma] = []
        self.changes = 0

    # The calls.

    def mmap(
        self,
        address: int,
        length: int,
        prot: int,
        flags: int,
        file: EnclaveFile,
        offset: int = 0,
        *,
        personality: int = 0,
        subject: Subject | None = None,
    ) -> Outcome:
        """mmap(2) of an enclave's file: :func:`swsgx.linux.syscalls.mmap.mmap`."""
        request = mmap.Request(address, length, prot, flags, file, offset, personality, subject)
        with self.lock:
            outcome = mmap.mmap(self, request)
        trace = file.driver.trace
        if trace.on:
            args = {
                "address": address,
                "length": length,
                "prot": prot,
                "flags": flags,
                "enclave": file.encl.number,
                "offset": offset,
            }
            trace.event("memory", "mmap", args, str(outcome), outcome.reason)
        return outcome

    def munmap(self, address: int, length: int) -> Outcome:
        """munmap(2): :func:`swsgx.linux.syscalls.munmap.munmap`."""
        with self.lock:
            touched = next(self.overlapping(address, address + length), None)
            outcome = munmap.munmap(self, address, length)
        self._record("munmap", touched, outcome, address=address, length=length)
        return outcome

    def mprotect(
        self, address: int, length: int, prot: int, *, personality: int = 0, subject: Subject | None = None
    ) -> Outcome:
        """mprotect(2): :func:`swsgx.linux.syscalls.mprotect.mprotect`."""
        with self.lock:
            touched = self.vma_at(address)
            outcome = mprotect.mprotect(self, address, length, prot, personality, subject)
        self._record("mprotect", touched, outcome, address=address, length=length, prot=prot)
        return outcome

    def mremap(
        self,
        address: int,
        old_length: int,
        new_length: int,
        flags: int,
        new_address: int = 0,
        *,
        subject: Subject | None = None,
    ) -> Outcome:
        """mremap(2): :func:`swsgx.linux.syscalls.mremap.mremap`."""
        with self.lock:
            touched = self.vma_at(address)
            outcome = mremap.mremap(self, address, old_length, new_length, flags, new_address, subject)
        self._record(
            "mremap",
            touched,
            outcome,
            address=address,
            old_length=old_length,
            new_length=new_length,
            flags=flags,
            new_address=new_address,
        )
        return outcome

    def madvise(self, address: int, length: int, advice: int) -> Outcome:
        """madvise(2): :func:`swsgx.linux.syscalls.madvise.madvise`."""
        with self.lock:
            touched = self.vma_at(address)
            outcome = madvise.madvise(self, address, length, advice)
        self._record("madvise", touched, outcome, address=address, length=length, advice=advice)
        return outcome

    @staticmethod
    def _record(call: str, touched: Vma | None, outcome: Outcome, **args: int) -> None:
        if touched is not None and touched.file.driver.trace.on:
            shown = {**args, "enclave": touched.encl.number}
            touched.file.driver.trace.event("memory", call, shown, str(outcome), outcome.reason)

    # Looking.

    @property
    def vmas(self) -> tuple[Vma, ...]:
        """All enclave mappings, ascending."""
        return tuple(self._vmas)

    def _first(self, address: int) -> int:
        """Index of the first VMA that ends above ``address``."""
        return bisect.bisect_right(self._vmas, address, key=lambda vma: vma.end)

    def overlapping(self, start: int, end: int) -> Iterator[Vma]:
        """The VMAs that have a byte in the range, ascending. Take a list before changing any."""
        for index in range(self._first(start), len(self._vmas)):
            if self._vmas[index].start >= end:
                return
            yield self._vmas[index]

    def vma_at(self, address: int) -> Vma | None:
        """The VMA that covers ``address``."""
        return next(self.overlapping(address, address + 1), None)

    def find_vma(self, address: int) -> SourceVma | None:
        """The lowest enclave mapping that ends above ``address``, as a source of pages: it can never be pinned."""
        at = self._first(address)
        if at == len(self._vmas):
            return None
        vma = self._vmas[at]
        return SourceVma(vma.start, vma.end, may_exec=bool(vma.may & PROT_EXEC), pinnable=False)

    def occupied(self, address: int, size: int) -> bool:
        """Whether anything is mapped in the range, enclave or not."""
        known = any(True for _ in self.overlapping(address, address + size))
        return known or self.engine.occupied(Linaddr(address), size)

    # Changing. The calls use these, with the lock held.

    def join(self, encl: Encl, operation: str) -> Outcome:
        """Put this address space on the enclave's mm list, once; -ENOMEM if there is no memory for the entry."""
        if encl in self.mappings:
            return OK
        failure = encl.driver.failures.hit(FailurePoint.MM_LIST)
        if failure:
            return refuse(
                failure,
                operation=operation,
                rule="memory for an entry of the mm list",
                expected="memory",
                found="none",
                source=encl.profile.source("encl.c: sgx_encl_mm_add"),
            )
        mapping = EnclaveMapping(encl, self)
        self.mappings[encl] = mapping
        encl.mappings.append(mapping)
        return OK

    def insert(self, vma: Vma) -> None:
        """A new VMA over free addresses: make it appear, remember it, hold its file.

        Raises:
            OSError: the host cannot map it; nothing was remembered.
        """
        mapping = vma.mapping
        if mapping is not None:
            self._attach(mapping)
            try:
                self.engine.map(vma.encl, list(vma.encl.runs(vma.start, vma.end, vma.prot)))
            except OSError:
                self._detach_unused(mapping)
                raise
            mapping.cover(vma.start, vma.end, vma.prot, fresh=True)
        self._list(vma)
        _changed(vma.encl)

    def _list(self, vma: Vma) -> None:
        """One VMA more: it is in the list, counts for its enclave, and holds its file."""
        self.changes += 1
        bisect.insort(self._vmas, vma, key=lambda v: v.start)
        vma.file.hold()
        if vma.mapping is not None:
            vma.mapping.areas += 1

    def _attach(self, mapping: EnclaveMapping) -> None:
        if mapping.encl.created and not mapping.attached:
            mapping.attached = True
            self.engine.attach(mapping)

    def clear(self, start: int, end: int) -> None:
        """Take all enclave mappings out of a range."""
        self.split(start)
        self.split(end)
        gone = list(self.overlapping(start, end))
        if not gone:
            return
        self.changes += 1
        at = self._first(start)
        del self._vmas[at : at + len(gone)]
        for vma in gone:
            self._vanish(vma)
        for vma in gone:
            vma.file.drop()

    def _vanish(self, vma: Vma) -> None:
        """A VMA that is in the list no more: its bytes, its pages, and the engine's interest."""
        self.engine.unmap(vma.encl, Linaddr(vma.start), vma.end - vma.start)
        mapping = vma.mapping
        if mapping is None:
            return
        mapping.areas -= 1
        mapping.uncover(vma.start, vma.end)
        _changed(vma.encl)
        self._detach_unused(mapping)

    def _detach_unused(self, mapping: EnclaveMapping) -> None:
        if mapping.attached and not mapping.areas:
            mapping.attached = False
            self.engine.detach(mapping)

    def split(self, address: int) -> None:
        """Cut the VMA that has ``address`` inside in two."""
        vma = self.vma_at(address)
        if vma is None or vma.start == address:
            return
        upper = Vma(address, vma.end, vma.prot, vma.may, vma.file, vma.mapping, vma.dontfork, vma.judgement)
        vma.end = address
        self._list(upper)

    def protect(self, vma: Vma, prot: int) -> None:
        """Change a whole VMA's protection; page-table entries stay where they are.

        Raises:
            OSError: the host cannot do it; the VMA keeps its protection.
        """
        if vma.mapping is not None:
            self.engine.protect(vma.encl, list(vma.encl.runs(vma.start, vma.end, prot)))
            vma.mapping.cover(vma.start, vma.end, prot, fresh=False)
        vma.prot = prot
        _changed(vma.encl)

    # What the enclave tells.

    def enclave_created(self, mapping: EnclaveMapping) -> None:
        """CREATE gave the enclave its range: what is mapped already gets bytes and file offsets now."""
        with self.lock:
            for vma in [v for v in self._vmas if v.mapping is mapping]:
                self._attach(mapping)
                mapping.cover(vma.start, vma.end, vma.prot, fresh=True)
                self.engine.map(vma.encl, list(vma.encl.runs(vma.start, vma.end, vma.prot)))

    def sync(self, mapping: EnclaveMapping, start: int, end: int) -> None:
        """Pages of the range changed: bring effective protection up to date."""
        with self.lock:
            for vma in self.overlapping(start, end):
                if vma.mapping is mapping:
                    low, high = max(vma.start, start), min(vma.end, end)
                    self.engine.protect(vma.encl, list(vma.encl.runs(low, high, vma.prot)))

    def zap(self, mapping: EnclaveMapping, start: int, end: int) -> None:
        """Pages of the range leave the EPC: :meth:`sync`, and page-table entries are gone."""
        with self.lock:
            self.sync(mapping, start, end)
            first, last = mapping.clip(start, end)
            mapping.bits[first:last] &= np.uint8(~VmaBits.PRESENT & 0xFF)

    def forget(self, mapping: EnclaveMapping) -> None:
        """The enclave's file was released, or this process ends: leave the enclave's mm list.

        Needs no lock, and must not: whoever releases a file may hold another address space's.
        """
        self.mappings.pop(mapping.encl, None)
        with contextlib.suppress(ValueError):
            mapping.encl.mappings.remove(mapping)
        mapping.close()

    # fork and exit.

    def fork(self, engine: Engine | None = None, subject: Subject | None = None) -> AddressSpace:
        """The child's address space after fork(2): the same mappings of the same enclaves.

        The child's page-table entries are there at once. The engine is told of the enclaves, not of the
        mappings: the host's own fork has copied those. A mapping stays without an enclave, so that every touch
        of it is SIGBUS, if the enclave could not be recorded or a security module refused the child.
        """
        child = AddressSpace(engine, max_map_count=self.max_map_count)
        with self.lock:
            for vma in self._vmas:
                if not vma.dontfork:
                    self._copy(child, vma, subject)
        return child

    @staticmethod
    def _copy(child: AddressSpace, vma: Vma, subject: Subject | None) -> None:
        encl = vma.encl
        answer = ALLOWED if encl.security is None else AddressSpace._ask_to_copy(vma, subject)
        joined = answer is not None and vma.mapping is not None and child.join(encl, "fork").ok
        mapping = child.mappings[encl] if joined else None
        copy = Vma(vma.start, vma.end, vma.prot, vma.may, vma.file, mapping)
        child._list(copy)
        if joined and answer is not None:
            hooks.remember_mapping(encl, copy, subject, answer.allowed)
        if mapping is not None and vma.mapping is not None:
            first, last = mapping.clip(vma.start, vma.end)
            mapping.bits[first:last] = vma.mapping.bits[first:last]
            child._attach(mapping)

    @staticmethod
    def _ask_to_copy(vma: Vma, subject: Subject | None) -> Answer | None:
        """What security modules say; None: no. A page's flags are its own, so a copy of a mapping cannot make them
        stale.
        """
        encl = vma.encl
        if vma.mapping is None or encl.used_by(subject) is not None:
            return None
        with encl.guard:
            event = hooks.mapping(encl, subject, "fork", vma.start, vma.end, vma.prot)
            answer = judge(encl.driver.security, event)
            return answer if answer.reason is None else None

    def exit(self) -> None:
        """The process ends, or executes another program: all mappings go, and the address space from all lists."""
        with self.lock:
            self.changes += 1
            gone, self._vmas = self._vmas, []
            for mapping in list(self.mappings.values()):
                if mapping.attached:
                    mapping.attached = False
                    self.engine.detach(mapping)
                self.forget(mapping)
            for vma in gone:
                vma.file.drop()

    @property
    def room_to_split(self) -> bool:
        """Whether one more VMA is allowed."""
        return len(self._vmas) < self.max_map_count


def _changed(encl: Encl) -> None:
    if encl.created:
        encl.store.changed()
