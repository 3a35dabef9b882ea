"""The engine that runs enclave code on the real CPU, in our own process.

Pages that are executable and not writable are private copies of the enclave's contents: breakpoints and the
monitor's patched exit sites live there, and the contents stay as measured. All other pages are shared.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from swsgx.cpu.faults import InternalError
from swsgx.inprocess.memory import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    PROT_NONE,
    host_mmap,
    host_munmap,
)
from swsgx.inprocess.process import Process
from swsgx.inprocess.visible import VisibleRuns
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.linux.encl import Encl, EnclaveMapping
from swsgx.linux.engine import MappedRun
from swsgx.native.abi import EXIT_TABLE_SIZE, FRAME_MAP_OFFSET, EnclaveSlot, SlotFlags, ThreadRecord
from swsgx.native.copies import follow
from swsgx.native.images import address_of
from swsgx.native.mappings import mappings, mappings_from, occupied
from swsgx.native.runs import Runs
from swsgx.native.shm import PrivateRegion

__all__ = ["NativeEngine"]

#: TCSs of one enclave that one process can enter.
_THREADS = 1024
#: How far from an enclave the jump of a patched exit site reaches, less a margin.
_REACH = (1 << 31) - (1 << 20)
#: Addresses far below those that the kernel hands out by itself.
_QUIET_START = 0x1000_0000_0000
_QUIET_END = 0x4000_0000_0000
_QUIET_GAP = 1 << 16
#: Where page tables move whole.
_HUGE = 2 << 20
_RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE


class _Attached:
    """What one mapped enclave needs here: its slot, its exit stub, its thread records, where it hides."""

    def __init__(self, slot: EnclaveSlot) -> None:
        self.slot = slot
        self.table = PrivateRegion(EXIT_TABLE_SIZE)
        self.threads = PrivateRegion(_THREADS * ThreadRecord.size_of)
        self.runs = VisibleRuns(slot)

    def close(self) -> None:
        """Give the memory back. The slot is free already."""
        self.table.close()
        self.threads.close()
        self.runs.close()


class NativeEngine:
    """Maps enclaves into this process and tells the monitor of them (:class:`swsgx.linux.engine.Engine`).

    Args:
        process: the monitor's process.
        epcm: address of the EPCM table.
        patch: whether exit sites may be patched after their first use.
        hide: whether enclaves are out of reach while no thread is inside; debug enclaves never are.
    """

    def __init__(self, process: Process, epcm: int, *, patch: bool = True, hide: bool = False) -> None:
        self._process = process
        self._epcm = epcm
        self._patch = patch
        self._hide = hide
        self._attached: dict[int, _Attached] = {}
        self._quiet_next = _QUIET_START

    def reserve(self, length: int, alignment: int, hint: int = 0) -> Linaddr:
        """Address space that stays reserved (PROT_NONE) until it is mapped or unmapped."""
        if hint and not hint % alignment:
            try:
                return Linaddr(host_mmap(hint, length, PROT_NONE, _RESERVED | MAP_FIXED_NOREPLACE))
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
        quiet = self._reserve_quiet(length, alignment)
        if quiet:
            return Linaddr(quiet)
        slack = alignment - PAGE_SIZE
        start = host_mmap(0, length + slack, PROT_NONE, _RESERVED)
        address = -(-start // alignment) * alignment
        if address > start:
            host_munmap(start, address - start)
        if address + length < start + length + slack:
            host_munmap(address + length, start + slack - address)
        return Linaddr(address)

    def _reserve_quiet(self, length: int, alignment: int) -> int:
        """Space where the kernel puts nothing by itself, since it fills from the top; 0: it is all taken.

        The search begins behind what the last one found, or at what was given back since: from the start, it would go
        past all enclaves that there are.
        """
        for start in (self._quiet_next, _QUIET_START):
            at = -(-start // alignment) * alignment
            for found in mappings_from(os.getpid(), at - _QUIET_GAP):
                # A gap on both sides leaves room for an exit stub.
                if at + length + _QUIET_GAP <= found.start:
                    break
                at = -(-(found.end + _QUIET_GAP) // alignment) * alignment
            if at + length + _QUIET_GAP <= _QUIET_END:
                self._quiet_next = at + length + _QUIET_GAP
                try:
                    return host_mmap(at, length, PROT_NONE, _RESERVED | MAP_FIXED_NOREPLACE)
                except OSError:
                    return 0
        return 0

    def _give_back(self, address: int, length: int) -> None:
        host_munmap(address, length)
        if _QUIET_START <= address < self._quiet_next:
            self._quiet_next = address

    def occupied(self, address: Linaddr, length: int) -> bool:
        """Whether this process has a mapping in the range."""
        return occupied(os.getpid(), address, length)

    def attach(self, mapping: EnclaveMapping) -> None:
        """Give the enclave a slot of the monitor's table, an exit stub near it, and thread records."""
        encl, vma_bits = mapping.encl, mapping.vma_bits
        if vma_bits is None:
            raise InternalError("engine: an attached enclave has its mapping bytes")
        slot = self._process.take_slot()
        attached = _Attached(slot)
        table, hide = address_of(attached.table.view), self._hide and not encl.debug
        table_address = address_of(encl.store.table.view)
        slot.size = encl.size
        slot.head = table_address
        slot.frames = table_address + FRAME_MAP_OFFSET
        slot.contents = address_of(encl.store.contents.view)
        slot.vma = address_of(vma_bits.view)
        slot.exit_table = table
        slot.threads = address_of(attached.threads.view)
        slot.thread_capacity = _THREADS
        slot.flags = (SlotFlags.PATCH if self._patch else 0) | (SlotFlags.HIDE if hide else 0)
        if hide:
            slot.hidden = self._hiding_place(encl.base, encl.size)
            if _quiet(encl.base, encl.size) and _quiet(slot.hidden, encl.size):
                slot.flags |= SlotFlags.QUIET
            slot.contents_fd = encl.store.contents.fd
        elif self._patch:
            slot.exit_stub = self._place_stub(encl.base, encl.size, table)
        slot.epcm = self._epcm
        slot.base = encl.base
        self._attached[id(encl)] = attached

    def detach(self, mapping: EnclaveMapping) -> None:
        """Undo :meth:`attach`. No thread may be inside."""
        attached = self._attached.pop(id(mapping.encl))
        stub, hidden, size = attached.slot.exit_stub, attached.slot.hidden, attached.slot.size
        self._process.give_slot(attached.slot)
        if stub:
            host_munmap(stub, PAGE_SIZE)
        if hidden:
            self._give_back(hidden & ~(_HUGE - 1), size + _HUGE)
        attached.close()

    def _hiding_place(self, base: int, size: int) -> int:
        """Reserved space for the range, at the same offset in a 2 MiB page: then page tables move whole."""
        return self.reserve(size + _HUGE, _HUGE) + base % _HUGE

    @contextlib.contextmanager
    def _in_place(self, encl: Encl) -> Iterator[_Attached | None]:
        """The range stays where it belongs, so that its mappings can be changed."""
        attached = self._attached.get(id(encl))
        if attached is None:
            yield None
            return
        self._process.monitor.pin(address_of(attached.slot.buffer))
        try:
            yield attached
        finally:
            self._process.monitor.unpin(address_of(attached.slot.buffer))

    def slot(self, encl: Encl) -> EnclaveSlot:
        """An attached enclave's place in the monitor's table."""
        return self._attached[id(encl)].slot

    def counters(self, encl: Encl) -> dict[str, int]:
        """Entries by the slow path and asynchronous exits of an enclave, in this process."""
        slot = self.slot(encl)
        return {"eenter_slow": slot.eenter_count, "aex": slot.aex_count}

    def _place_stub(self, base: int, size: int, table: int) -> int:
        """Map the exit stub where a 32-bit jump from the whole enclave reaches it; 0 if nothing is free there."""
        code = bytearray(self._process.monitor.exit_stub())
        struct.pack_into("<QQ", code, len(code) - 16, table, self._process.monitor.exit_common())
        for at in self._candidates(base, size):
            try:
                flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
                stub = host_mmap(at, PAGE_SIZE, mmap.PROT_READ | mmap.PROT_WRITE, flags)
            except OSError:
                continue
            ctypes.memmove(stub, bytes(code), len(code))
            _protect(stub, PAGE_SIZE, mmap.PROT_READ | mmap.PROT_EXEC)
            return stub
        return 0

    @staticmethod
    def _candidates(base: int, size: int) -> Iterable[int]:
        end = base + size
        for found in mappings_from(os.getpid(), end - 1):
            if found.end > base + _REACH:
                break
            # Right behind a mapping there is free space, or the next mapping.
            yield found.end
        for found in reversed(list(mappings(os.getpid()))):
            if end - _REACH <= found.start - PAGE_SIZE and found.start <= base:
                yield found.start - PAGE_SIZE

    def map(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        """Map each run of the enclave's contents, or inaccessible memory where nothing may be accessed."""
        with self._in_place(encl) as attached:
            for run in runs:
                self._map(encl, run)
                if attached is not None:
                    attached.runs.replace(run.address, run.address + run.length, run.prot)

    def protect(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        """The same for what is mapped; by mprotect(2) where private stays private and shared stays shared."""
        with self._in_place(encl) as attached:
            for run in runs:
                start, end = run.address, run.address + run.length
                if run.prot and attached is not None and attached.runs.keeps_kind(start, end, run.prot):
                    _protect(start, run.length, run.prot)
                else:
                    self._map(encl, run)
                if attached is not None:
                    attached.runs.replace(start, end, run.prot)

    @staticmethod
    def _map(encl: Encl, run: MappedRun) -> None:
        if not run.prot:
            host_mmap(run.address, run.length, PROT_NONE, _RESERVED | MAP_FIXED)
            return
        kind = mmap.MAP_PRIVATE if Runs.private(run.prot) else mmap.MAP_SHARED
        offset = run.address - encl.base
        host_mmap(run.address, run.length, run.prot, kind | MAP_FIXED, encl.store.contents.fd, offset)

    def written(self, encl: Encl, address: Linaddr, length: int) -> None:
        """Private copies, which patches made, follow."""
        attached = self._attached.get(id(encl))
        if attached is not None:
            parts = attached.runs.private_parts(address, address + length)
            follow(os.getpid(), parts, encl.base, encl.store.contents.view)

    def accessed(self, mapping: EnclaveMapping, first: int, count: int) -> npt.NDArray[np.bool_]:
        """No page: the host's page tables are not ours to read."""
        return np.zeros(count, np.bool_)

    def unmap(self, encl: Encl | None, address: Linaddr, length: int) -> None:
        """Take the range away."""
        if encl is None:
            self._give_back(address, length)
            return
        with self._in_place(encl) as attached:
            self._give_back(address, length)
            if attached is not None:
                attached.runs.replace(address, address + length, 0)


def _quiet(start: int, length: int) -> bool:
    return start >= _QUIET_START and start + length <= _QUIET_END


def _protect(address: int, length: int, prot: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), prot):
        raise OSError(ctypes.get_errno(), f"mprotect of {length:#x} bytes at {address:#x}")
