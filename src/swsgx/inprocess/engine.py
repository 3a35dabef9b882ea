"""The engine that runs enclave code on the real CPU, in our own process.

Pages that are executable and not writable are private copies of the enclave's contents: breakpoints and the
monitor's patched exit sites live there, and the contents stay as measured. All other pages are shared.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from collections.abc import Iterable

from swsgx.cpu.faults import InternalError
from swsgx.inprocess.memory import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    PROT_NONE,
    host_mmap,
    host_munmap,
    own_mappings,
)
from swsgx.inprocess.process import Process
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.linux.encl import Encl, EnclaveMapping
from swsgx.linux.engine import MappedRun
from swsgx.native.abi import EXIT_TABLE_SIZE, FRAME_MAP_OFFSET, EnclaveSlot, SlotFlags, ThreadRecord
from swsgx.native.images import address_of
from swsgx.native.shm import SharedRegion

__all__ = ["NativeEngine"]

#: TCSs of one enclave that one process can enter.
_THREADS = 1024
#: How far from an enclave the jump of a patched exit site reaches, less a margin.
_REACH = (1 << 31) - (1 << 20)
_RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE


class _Attached:
    """What one mapped enclave needs here: its slot, its exit stub, its thread records."""

    def __init__(self, slot: EnclaveSlot, stub: int, table: SharedRegion, threads: SharedRegion) -> None:
        self.slot = slot
        self.stub = stub
        self.table = table
        self.threads = threads


class NativeEngine:
    """Maps enclaves into this process and tells the monitor of them (:class:`swsgx.linux.engine.Engine`).

    Args:
        process: the monitor's process.
        epcm: address of the EPCM table.
        patch: whether exit sites may be patched after their first use.
    """

    def __init__(self, process: Process, epcm: int, *, patch: bool = True) -> None:
        self._process = process
        self._epcm = epcm
        self._patch = patch
        self._attached: dict[int, _Attached] = {}

    def reserve(self, length: int, alignment: int, hint: int = 0) -> Linaddr:
        """Address space that stays reserved (PROT_NONE) until it is mapped or unmapped."""
        if hint and not hint % alignment:
            try:
                return Linaddr(host_mmap(hint, length, PROT_NONE, _RESERVED | MAP_FIXED_NOREPLACE))
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
        slack = alignment - PAGE_SIZE
        start = host_mmap(0, length + slack, PROT_NONE, _RESERVED)
        address = -(-start // alignment) * alignment
        if address > start:
            host_munmap(start, address - start)
        if address + length < start + length + slack:
            host_munmap(address + length, start + slack - address)
        return Linaddr(address)

    def occupied(self, address: Linaddr, length: int) -> bool:
        """Whether this process has a mapping in the range."""
        return any(start < address + length and address < end for start, end, _, _ in own_mappings())

    def attach(self, mapping: EnclaveMapping) -> None:
        """Give the enclave a slot of the monitor's table, an exit stub near it, and thread records."""
        encl, vma_bits = mapping.encl, mapping.vma_bits
        if vma_bits is None:
            raise InternalError("engine: an attached enclave has its mapping bytes")
        slot = self._process.take_slot()
        table = SharedRegion("swsgx-exits", EXIT_TABLE_SIZE)
        threads = SharedRegion("swsgx-threads", _THREADS * ThreadRecord.size_of)
        stub = self._place_stub(encl.base, encl.size, address_of(table.view)) if self._patch else 0
        table_address = address_of(encl.store.table.view)
        slot.size = encl.size
        slot.head = table_address
        slot.frames = table_address + FRAME_MAP_OFFSET
        slot.contents = address_of(encl.store.contents.view)
        slot.vma = address_of(vma_bits.view)
        slot.exit_stub = stub
        slot.exit_table = address_of(table.view)
        slot.threads = address_of(threads.view)
        slot.thread_capacity = _THREADS
        slot.flags = SlotFlags.PATCH if self._patch else 0
        slot.epcm = self._epcm
        slot.base = encl.base
        self._attached[id(encl)] = _Attached(slot, stub, table, threads)

    def detach(self, mapping: EnclaveMapping) -> None:
        """Undo :meth:`attach`. No thread may be inside."""
        attached = self._attached.pop(id(mapping.encl))
        self._process.give_slot(attached.slot)
        if attached.stub:
            host_munmap(attached.stub, PAGE_SIZE)
        attached.table.close()
        attached.threads.close()

    def counters(self, encl: Encl) -> dict[str, int]:
        """Entries by the slow path and asynchronous exits of an enclave, in this process."""
        slot = self._attached[id(encl)].slot
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
        taken = sorted((start, stop) for start, stop, _, _ in own_mappings())
        for _, stop in taken:
            # Right behind a mapping there is free space, or the next mapping.
            if end <= stop <= base + _REACH:
                yield stop
        for start, _ in reversed(taken):
            if end - _REACH <= start - PAGE_SIZE and start <= base:
                yield start - PAGE_SIZE

    def map(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        """Map each run of the enclave's contents, or inaccessible memory where nothing may be accessed."""
        for run in runs:
            if not run.prot:
                host_mmap(run.address, run.length, PROT_NONE, _RESERVED | MAP_FIXED)
                continue
            private = bool(run.prot & mmap.PROT_EXEC) and not run.prot & mmap.PROT_WRITE
            host_mmap(
                run.address,
                run.length,
                run.prot,
                (mmap.MAP_PRIVATE if private else mmap.MAP_SHARED) | MAP_FIXED,
                encl.store.contents.fd,
                run.address - encl.base,
            )

    # Private and shared mappings differ, so a new protection is a new mapping.
    protect = map

    def unmap(self, encl: Encl | None, address: Linaddr, length: int) -> None:
        """Take the range away."""
        host_munmap(address, length)


def _protect(address: int, length: int, prot: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), prot):
        raise OSError(ctypes.get_errno(), f"mprotect of {length:#x} bytes at {address:#x}")
