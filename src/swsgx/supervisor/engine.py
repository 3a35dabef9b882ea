"""The engine that maps enclaves into an unmodified program (:class:`swsgx.linux.engine.Engine`).

The tables of the monitor lie in the program's memory, private, so that a fork copies them; we store into them while
the program waits for our answer. Only the mapping bytes are shared with us: a fork's child gets its own.

Pages that are executable and not writable are private copies of the enclave's contents, as in our own process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swsgx.cpu.faults import InternalError, invariant
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.linux.encl import Encl, EnclaveMapping
from swsgx.linux.engine import MappedRun
from swsgx.linux.task import BadAddress
from swsgx.linux.vma import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from swsgx.native.abi import (
    EXIT_TABLE_SIZE,
    FRAME_MAP_OFFSET,
    SLOT_COUNT,
    EnclaveSlot,
    OwnCall,
    SlotFlags,
    TargetState,
    ThreadRecord,
    VisibleRun,
    grant_offset,
)
from swsgx.native.copies import follow
from swsgx.native.mappings import mappings, occupied
from swsgx.native.runs import Runs
from swsgx.supervisor.kernel import NR_USERFAULTFD
from swsgx.supervisor.memory import TargetMemory
from swsgx.supervisor.missing import FLAGS, Watch
from swsgx.supervisor.steps import Adopt, Call, Fd, Give, Step, Store, Watched

__all__ = ["TargetEngine"]

_NR_MMAP, _NR_MPROTECT, _NR_MUNMAP, _NR_MREMAP = 9, 10, 11, 25
#: MREMAP_MAYMOVE | MREMAP_FIXED
_MREMAP_FIXED = 3
_MAP_ANONYMOUS = 0x20
_MAP_NORESERVE = 0x4000
#: More files are allowed than a table of them should have.
_MOST_FILES = 1 << 16
#: Of TargetState.watch, besides the descriptor: pages leave the EPC; request.c has the same.
_LEAVE = 0x8000_0000
#: What it is called in a process's table.
_WATCH = "anon_inode:[userfaultfd]"
_READ = PROT_READ
_READ_WRITE = PROT_READ | PROT_WRITE
_READ_EXEC = PROT_READ | PROT_EXEC
_RESERVED = MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
_NO_FILE = (1 << 64) - 1

#: TCSs of one enclave that one process can enter, and runs that can be mapped of it.
_THREADS = 1024
_RUNS = 65536
#: How far from an enclave the jump of a patched exit site reaches, less a margin.
_REACH = (1 << 31) - (1 << 20)
#: Addresses far below those that the kernel hands out by itself; our own things go to the upper half of them.
_QUIET_START = 0x1000_0000_0000
_OWN_START = 0x2800_0000_0000
_QUIET_END = 0x4000_0000_0000
_GAP = 1 << 16
_HUGE = 2 << 20


@dataclass
class _Attached:
    """One mapped enclave: where its things are in the program.

    ``none`` is a mapping of its contents that nobody can access, to map parts of it once more; 0: it is not watched.
    """

    index: int
    slot: EnclaveSlot
    runs: Runs
    vma: int
    pieces: list[tuple[int, int]]
    none: int


class TargetEngine:
    """Decides what a program must do to have an enclave mapped; :meth:`take` hands the steps out.

    Args:
        memory: the program's.
        state: what its image said when it was armed.
        address: where that lies in the program.
        epcm: descriptor and size of the EPCM table.
        patch: whether exit sites may be patched after their first use.
        hide: whether enclaves are out of reach while no thread is inside; debug enclaves never are.
        watches: whether mappings are watched, so that pages can leave the EPC (:mod:`swsgx.supervisor.missing`).
        elsewhere: linear addresses of an enclave's TCSs that threads of other processes than this are inside with.

    Attributes:
        counts_all: the monitor has counted each entry: no enclave was ever attached that is not hidden.
    """

    def __init__(
        self,
        memory: TargetMemory,
        state: TargetState,
        address: int,
        epcm: tuple[int, int],
        *,
        patch: bool,
        hide: bool,
        watches: bool,
        elsewhere: Callable[[TargetEngine, Encl], set[int]],
    ) -> None:
        self._elsewhere = elsewhere
        self.counts_all = True
        self.memory = memory
        self._state = state
        self._epcm_fd, self._epcm_size = epcm
        self._patch = patch
        self._hide = hide
        self._watches = watches
        self.watched: Watch | None = None
        self._watch_address = address + TargetState.watch.offset
        self._given = -1
        self._watch_lock = threading.Lock()
        self._leaving = self._careful = False
        self._attached: dict[Encl, _Attached] = {}
        self._free = list(range(SLOT_COUNT - 1, -1, -1))
        self._steps: list[Step] = []
        self._next = _OWN_START
        self._epcm = 0

    def take(self) -> list[Step]:
        """The steps that were decided since the last time, in order."""
        steps, self._steps = self._steps, []
        return steps

    @property
    def state(self) -> TargetState:
        """What the program's image said when it was armed."""
        return self._state

    @property
    def pending(self) -> bool:
        """Whether there are steps to take."""
        return bool(self._steps)

    def fork(self, waiting: list[Step]) -> TargetEngine:
        """The engine of a child that is about to be: the same things at the same addresses, copied by the kernel.

        Enclaves that the child has, too, are told by :meth:`attach`; :meth:`keep_attached` ends the others. Its memory
        becomes another one when its number is known.

        Args:
            waiting: steps that were decided for the parent and are not done; the child does them, too.
        """
        epcm = (self._epcm_fd, self._epcm_size)
        child = TargetEngine(
            self.memory,
            self._state,
            self._watch_address - TargetState.watch.offset,
            epcm,
            patch=self._patch,
            hide=self._hide,
            watches=self._watches,
            elsewhere=self._elsewhere,
        )
        child._given, child._leaving = self._given, self._leaving
        child.counts_all = self.counts_all
        child._steps = [*waiting, *self._steps]
        child._next, child._epcm, child._free = self._next, self._epcm, list(self._free)
        child._attached = {
            encl: _Attached(
                a.index,
                EnclaveSlot(bytearray(a.slot.buffer)),
                a.runs.copy(),
                a.vma,
                list(a.pieces),
                a.none,
            )
            for encl, a in self._attached.items()
        }
        return child

    # Watching.

    def begin_watching(self) -> None:
        """Before all other steps, the process makes what its mappings are watched by, and we take it."""
        if self._watches:
            self._steps[:0] = [Call(NR_USERFAULTFD, (FLAGS,)), Adopt()]

    def adopt(self, fd: int, give: Give) -> None:
        """The process has made it. What a fork's child has mapped already is watched now."""
        self.watched = Watch.of(self.memory.pid, fd)
        # A process that has all the descriptors it may have gets none: we watch in its place.
        with contextlib.suppress(OSError):
            self.give_watch(give)
        for encl, attached in self._attached.items():
            if attached.none:
                self.watched.begin_where_mapped(attached.slot.contents, encl.store.contents.size)
                for start, end, _ in attached.runs.runs:
                    self.watched.begin_where_mapped(start, end - start)

    def give_watch(self, give: Give) -> None:
        """The process itself watches mappings that it moves: it gets the descriptor, where it disturbs nobody.

        Raises:
            OSError: it cannot be given any.
        """
        invariant(self.watched is not None, "engine: a process that is watched")
        if self.watched is None:
            return
        before, self._given = self._given, -1
        limit, _ = resource.prlimit(self.memory.pid, resource.RLIMIT_NOFILE)
        folder = f"/proc/{self.memory.pid}/fd"
        taken = {int(name) for name in os.listdir(folder)}
        if before in taken and str(Path(folder, str(before)).readlink()) == _WATCH:
            taken.discard(before)  # ours: of a fork's parent
        numbers = range(min(limit, _MOST_FILES) - 1, -1, -1)
        number = next((number for number in numbers if number not in taken), -1)
        if number >= 0:
            give(self.watched.fd, number)
            self._given = number
        self._tell_watch()

    def _tell_watch(self) -> None:
        with self._watch_lock:
            word = max(self._given, 0) | (_LEAVE if self._leaving else 0)
            self.memory.write(self._watch_address, struct.pack("<I", word))

    def pages_leave(self) -> bool:
        """Pages are about to leave the EPC: hidden enclaves come back with more care from now on.

        Returns:
            Whether no thread is about to bring one back that was not careful yet. Ask again a moment later.
        """
        if self._careful:
            return True
        with contextlib.suppress(BadAddress):
            if not self._leaving:
                self._leaving = True
                self._tell_watch()
            for attached in list(self._attached.values()):
                at = self._slot_address(attached) + EnclaveSlot.lock.offset
                if any(self.memory.read(at, EnclaveSlot.lock.size)):
                    return False
        self._careful = True
        return True

    @property
    def watch_number(self) -> int:
        """Under which number the process has its descriptor; -1: none yet."""
        return self._given

    def watch(self, start: int, length: int) -> None:
        """A mapping of an enclave's contents is there, and the process could not do it."""
        invariant(self.watched is not None, "engine: a process that is watched")
        if self.watched is not None:
            self.watched.begin(start, length)

    def place(self, address: int) -> tuple[Encl, int] | None:
        """Which enclave's page, by its index, is mapped at an address, by the program or by the monitor."""
        for encl, attached in list(self._attached.items()):
            for base in (encl.base, attached.slot.contents):
                if base <= address < base + encl.size:
                    return encl, (address - base) // PAGE_SIZE
        return None

    def refuse(self, encl: Encl, index: int) -> bool:
        """A page will not come back: who touches it gets SIGBUS. False: that cannot be done here."""
        attached = self._attached.get(encl)
        if attached is None or self.watched is None:
            return True
        refused = []
        for base in (encl.base, attached.slot.contents):
            refused.append(self.watched.refuse(base + index * PAGE_SIZE))
            self.watched.wake(base + index * PAGE_SIZE, PAGE_SIZE)
        return refused[0]

    def close(self) -> None:
        """The process has ended."""
        if self.watched is not None:
            self.watched.close()
            self.watched = None

    # Address space.

    def _own(self, size: int, align: int = PAGE_SIZE) -> int:
        """Addresses for something of our own."""
        size = -(-size // PAGE_SIZE) * PAGE_SIZE
        address = -(-self._next // align) * align
        while occupied(self.memory.pid, address, size):
            address += 1 << 40
        self._next = address + size + _GAP
        return address

    def _mmap(
        self, address: int, size: int, prot: int, flags: int, fd: Fd | None = None, offset: int = 0
    ) -> None:
        args = (address, size, prot, flags, fd if fd is not None else _NO_FILE, offset)
        self._steps.append(Call(_NR_MMAP, args, address))

    def _map_own(self, size: int, prot: int = _READ_WRITE, fd: Fd | None = None) -> int:
        address = self._own(size)
        flags = MAP_SHARED if fd is not None else _RESERVED
        self._mmap(address, size, prot, flags | MAP_FIXED_NOREPLACE, fd)
        return address

    def reserve(self, length: int, alignment: int, hint: int = 0) -> Linaddr:
        """The highest free addresses, as the kernel would choose; nothing is reserved."""
        found = [m for m in mappings(self.memory.pid) if m.end < 1 << 47]
        if hint and not hint % alignment and not any(m.start < hint + length and hint < m.end for m in found):
            return Linaddr(hint)
        # The kernel fills from the top, but puts nothing between the stack and what lies below it.
        stack = next((i for i, m in enumerate(found) if m.path == "[stack]"), len(found))
        for upper, lower in zip(reversed(found[1:stack]), reversed(found[: stack - 1]), strict=True):
            address = (upper.start - length) // alignment * alignment
            if address >= lower.end:
                return Linaddr(address)
        raise OSError(errno.ENOMEM, f"no {length:#x} free bytes")

    def occupied(self, address: Linaddr, length: int) -> bool:
        """Whether the program has a mapping in the range."""
        return occupied(self.memory.pid, address, length)

    def protect_others(self, address: int, length: int, prot: int) -> None:
        """mprotect(2) of the program's own on memory that is no enclave's; what it says is the call's result."""
        self._steps.append(Call(_NR_MPROTECT, (address, length, prot), 0))

    # Enclaves.

    def attach(self, mapping: EnclaveMapping) -> None:
        """Give the enclave a slot of the monitor's table, an exit stub near it, and thread records."""
        encl, vma_bits = mapping.encl, mapping.vma_bits
        if encl in self._attached:
            self._forked(mapping)
            return
        if vma_bits is None:
            raise InternalError("engine: an attached enclave has its mapping bytes")
        if not self._free:
            raise OSError(errno.ENOMEM, f"this process maps {SLOT_COUNT} enclaves already")
        if not self._epcm:
            self._epcm = self._map_own(self._epcm_size, _READ, Fd(self._epcm_fd))
        hide = self._hide and not encl.debug
        self.counts_all = self.counts_all and hide
        table, contents = encl.store.table, encl.store.contents
        sizes = (table.size, contents.size, vma_bits.size, EXIT_TABLE_SIZE)
        head = self._map_own(sizes[0], _READ, Fd(table.fd))
        inside = self._map_own(sizes[1], _READ_WRITE, Fd(contents.fd))
        none = 0
        if self._watches:
            self._steps.append(Watched(inside, sizes[1]))
            none = self._map_own(sizes[1], PROT_NONE, Fd(contents.fd))
        vma = self._map_own(sizes[2], _READ_WRITE, Fd(vma_bits.fd))
        exits = self._map_own(EXIT_TABLE_SIZE)
        threads = self._map_own(_THREADS * ThreadRecord.size_of)
        runs = self._map_own(_RUNS * VisibleRun.size_of)
        slot = EnclaveSlot(bytearray(EnclaveSlot.size_of))
        slot.size, slot.head, slot.frames = encl.size, head, head + FRAME_MAP_OFFSET
        slot.contents, slot.vma, slot.exit_table = inside, vma, exits
        slot.threads, slot.thread_capacity, slot.epcm = threads, _THREADS, self._epcm
        slot.runs, slot.contents_fd = runs, 0xFFFF_FFFF
        slot.grant = vma + grant_offset(encl.size // PAGE_SIZE)
        slot.flags = (SlotFlags.PATCH if self._patch else 0) | (SlotFlags.HIDE if hide else 0)
        slot.flags |= SlotFlags.WATCH if none and hide else 0
        pieces = [
            (head, sizes[0]),
            (inside, sizes[1]),
            (vma, sizes[2]),
            (exits, EXIT_TABLE_SIZE),
            (threads, _THREADS * ThreadRecord.size_of),
            (runs, _RUNS * VisibleRun.size_of),
            *([(none, sizes[1])] if none else []),
        ]
        if hide:
            place = self._own(encl.size + _HUGE, _HUGE)
            self._mmap(place, encl.size + _HUGE, PROT_NONE, _RESERVED | MAP_FIXED_NOREPLACE)
            pieces.append((place, encl.size + _HUGE))
            slot.hidden = place + encl.base % _HUGE
            if encl.base >= _QUIET_START and encl.base + encl.size <= _QUIET_END:
                slot.flags |= SlotFlags.QUIET
        elif self._patch:
            slot.exit_stub = self._place_stub(encl.base, encl.size, exits)
            if slot.exit_stub:
                pieces.append((slot.exit_stub, PAGE_SIZE))
        attached = _Attached(self._free.pop(), slot, Runs(), vma, pieces, none)
        self._attached[encl] = attached
        slot.base = encl.base
        self._steps.append(Store(self._slot_address(attached), bytes(slot.buffer)))

    def enclave_in(self, slot: int) -> Encl | None:
        """The enclave whose slot is at that address."""
        return next((e for e, a in self._attached.items() if self._slot_address(a) == slot), None)

    def _slot_address(self, attached: _Attached) -> int:
        return self._state.slots + attached.index * EnclaveSlot.size_of

    def detach(self, mapping: EnclaveMapping) -> None:
        """Undo :meth:`attach`. A thread of this process that is inside will not come back: it is outside now."""
        cpu, encl = mapping.encl.driver.cpu, mapping.encl
        state = cpu.enclaves.get(encl.secs) if encl.secs is not None else None
        if state is not None and state.tcs:
            held = self._elsewhere(self, encl)
            for frame in state.tcs:
                page = cpu.page(frame)
                if any(page[:8]) and cpu.epcm[frame].enclaveaddress not in held:
                    page[:8] = bytes(8)
        self._drop(encl)

    def _drop(self, encl: Encl) -> None:
        attached = self._attached.pop(encl)
        base, size = attached.slot.base, attached.slot.size
        self._steps.append(Call(OwnCall.FORGET, (base, size)))
        self._steps.append(Store(self._slot_address(attached), bytes(EnclaveSlot.size_of)))
        self._free.append(attached.index)
        self._steps += [Call(_NR_MUNMAP, piece) for piece in attached.pieces]

    def _forked(self, mapping: EnclaveMapping) -> None:
        """In a fork's child: the mapping bytes are its own."""
        if mapping.vma_bits is None:
            return
        vma = self._attached[mapping.encl].vma
        fd = Fd(mapping.vma_bits.fd)
        self._mmap(vma, mapping.vma_bits.size, _READ_WRITE, MAP_SHARED | MAP_FIXED, fd)

    def keep_attached(self, kept: Iterable[Encl]) -> None:
        """Forget all enclaves but these."""
        for encl in self._attached.keys() - set(kept):
            self._drop(encl)

    def _place_stub(self, base: int, size: int, table: int) -> int:
        """The exit stub where a 32-bit jump from the whole enclave reaches it; 0 if nothing is free there."""
        code = bytearray(self.memory.read(self._state.exit_stub, self._state.exit_stub_size))
        struct.pack_into("<QQ", code, len(code) - 16, table, self._state.exit_common)
        for at in self._candidates(base, size):
            if occupied(self.memory.pid, at, PAGE_SIZE):
                continue
            if at < base + size and base < at + PAGE_SIZE:
                continue
            self._mmap(at, PAGE_SIZE, _READ_WRITE, MAP_PRIVATE | _MAP_ANONYMOUS | MAP_FIXED_NOREPLACE)
            self._steps.append(Store(at, bytes(code)))
            self._steps.append(Call(_NR_MPROTECT, (at, PAGE_SIZE, _READ_EXEC), 0))
            return at
        return 0

    def _candidates(self, base: int, size: int) -> Iterator[int]:
        end = base + size
        yield base - PAGE_SIZE  # mostly free, and so the others need not be looked for
        taken = [(m.start, m.end) for m in mappings(self.memory.pid)]
        for start, _ in reversed(taken):
            if end - _REACH <= start - PAGE_SIZE and start <= base:
                yield start - PAGE_SIZE
        for _, stop in taken:
            # Right behind a mapping there is free space, or the next mapping.
            if end <= stop <= base + _REACH:
                yield stop
        yield base - _GAP
        yield end + _GAP

    # Mappings.

    def _pinned(self, encl: Encl, steps: list[Step]) -> None:
        """Steps with the range in its place."""
        attached = self._attached.get(encl)
        if attached is None or not attached.slot.flags & SlotFlags.HIDE:
            self._steps += steps
            return
        slot = self._slot_address(attached)
        self._steps += [Call(OwnCall.PIN, (slot,), 0), *steps]
        self._store_runs(attached)
        self._steps.append(Call(OwnCall.UNPIN, (slot,), 0))

    def _store_runs(self, attached: _Attached) -> None:
        table, count = attached.runs.table()
        self._steps.append(Store(attached.slot.runs, table))
        at = self._slot_address(attached) + EnclaveSlot.run_count.offset
        self._steps.append(Store(at, struct.pack("<I", count)))

    def map(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        """Map each run of the enclave's contents, or inaccessible memory where nothing may be accessed."""
        self._show(encl, [(run, self._fresh(encl, run)) for run in runs])

    def protect(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        """The same for what is mapped; by mprotect(2) where private stays private and shared stays shared."""
        attached = self._attached.get(encl)
        steps: list[tuple[MappedRun, list[Step]]] = []
        for run in runs:
            start, end = run.address, run.address + run.length
            if run.prot and attached is not None and attached.runs.keeps_kind(start, end, run.prot):
                steps.append((run, [Call(_NR_MPROTECT, (start, run.length, run.prot), 0)]))
            else:
                steps.append((run, self._fresh(encl, run)))
        self._show(encl, steps)

    def _fresh(self, encl: Encl, run: MappedRun) -> list[Step]:
        """Steps that map a run anew, whatever was there.

        Shared memory is one of the monitor's mappings of the contents, once more: that takes no descriptor, and merges
        with its neighbours. Where pages may be out, nobody may touch one before the mapping is watched.
        """
        attached = self._attached.get(encl)
        inside = encl.base <= run.address and run.address + run.length <= encl.base + encl.size
        watched = attached is not None and attached.none != 0 and run.prot != 0
        shared = run.prot and not Runs.private(run.prot) and attached is not None
        first, offset = PROT_NONE if watched else run.prot, run.address - encl.base
        if shared and attached is not None:
            first = PROT_NONE if watched else _READ_WRITE
            source = attached.none if watched else attached.slot.contents
            again = (source + offset, 0, run.length, _MREMAP_FIXED, run.address)
            steps: list[Step] = [Call(_NR_MREMAP, again, run.address)]
        else:
            fd, kind = None, _RESERVED
            # Of a debug enclave, a debugger also reads what nobody may access: TCS pages.
            if run.prot or (encl.debug and inside):
                fd = Fd(encl.store.contents.fd)
                kind = MAP_PRIVATE if Runs.private(run.prot) else MAP_SHARED
            else:
                offset = 0
            args = (run.address, run.length, first, kind | MAP_FIXED, fd or _NO_FILE, offset)
            steps = [Call(_NR_MMAP, args, run.address)]
        if watched:
            steps.append(Watched(run.address, run.length))
        if first != run.prot:
            steps.append(Call(_NR_MPROTECT, (run.address, run.length, run.prot), 0))
        return steps

    def _show(self, encl: Encl, shown: list[tuple[MappedRun, list[Step]]]) -> None:
        attached = self._attached.get(encl)
        if attached is not None:
            for run, _ in shown:
                attached.runs.replace(run.address, run.address + run.length, run.prot)
            if not attached.slot.flags & SlotFlags.HIDE:
                self._store_runs(attached)
        self._pinned(encl, [step for _, steps in shown for step in steps])

    def can_grant(self, encl: Encl) -> bool:
        """Whether the process may make pages of the enclave accessible by itself."""
        attached = self._attached.get(encl)
        return attached is not None and attached.none != 0 and not attached.slot.flags & SlotFlags.HIDE

    def grant(self, encl: Encl, start: int, length: int, serial: int) -> None:
        """Map pages that the enclave may accept by itself: without protection, watched, and counted as visible."""
        attached = self._attached[encl]
        attached.runs.replace(start, start + length, _READ_WRITE)
        self._store_runs(attached)
        *mapped, _ = self._fresh(encl, MappedRun(Linaddr(start), length, _READ_WRITE))
        self._steps += mapped
        self._steps.append(Call(OwnCall.GRANT, (self._slot_address(attached), serial), 0))

    def ungrant(self, encl: Encl, start: int, length: int) -> None:
        """Some were not accepted."""
        attached = self._attached.get(encl)
        if attached is not None:
            attached.runs.replace(start, start + length, 0)
            self._store_runs(attached)

    def written(self, encl: Encl, address: Linaddr, length: int) -> None:
        """Private copies, which patches made, follow."""
        attached = self._attached.get(encl)
        if attached is not None:
            parts = attached.runs.private_parts(address, address + length)
            follow(self.memory.pid, parts, encl.base, encl.store.contents.view)

    def accessed(self, mapping: EnclaveMapping, first: int, count: int) -> npt.NDArray[np.bool_]:
        """No page: the host's page tables are not ours to read."""
        return np.zeros(count, np.bool_)

    def unmap(self, encl: Encl | None, address: Linaddr, length: int) -> None:
        """Take the range away."""
        step = Call(_NR_MUNMAP, (address, length), 0)
        attached = self._attached.get(encl) if encl is not None else None
        if attached is None or encl is None:
            self._steps.append(step)
            return
        attached.runs.replace(address, address + length, 0)
        self._pinned(encl, [step])
        if not attached.slot.flags & SlotFlags.HIDE:
            self._store_runs(attached)
