"""Calls that reach into a process's memory from outside: ptrace(2)'s words, /proc/PID/mem, process_vm_readv(2).

The image asks where an enclave may be meant (``native/supervised/tracing.c``). Enclave memory is the driver's to show
(:mod:`swsgx.linux.access`); what lies beside it in the same range is read and written as the kernel would.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Generator, Iterator

from swsgx.linux import access
from swsgx.linux.outcome import Outcome
from swsgx.linux.provenance import Subject
from swsgx.native.abi import Answer
from swsgx.supervisor.calls.asked import Asked, Handler, Result
from swsgx.supervisor.calls.files import FILE_CALLS
from swsgx.supervisor.files import flags_of
from swsgx.supervisor.kinship import is_stopped, leader_of, memory_of, tracer_of
from swsgx.supervisor.memory import TargetMemory
from swsgx.supervisor.process import TargetProcess
from swsgx.supervisor.steps import Call, Step, Store

__all__ = ["DEBUGGING_CALLS", "WORDS", "word"]

_PEEK, _POKE = (1, 2), (4, 5)
#: Requests of ptrace(2) that read or write a word.
WORDS = frozenset(_PEEK + _POKE)
_WORD = 8
_NR_LSEEK = 8
_SEEK_CUR = 1
_HERE = (1 << 64) - 1
_IOVEC = struct.Struct("<QQ")
_IOV_MAX = 1024


class _Memory:
    """A process's memory, as its debugger reaches it.

    Args:
        process: whose.
        subject: who reaches, for security modules.

    Attributes:
        refused: what the driver said if it moved less than it was to; None: it was not that.
    """

    def __init__(self, process: TargetProcess, subject: Subject | None) -> None:
        self._process = process
        self._subject = subject
        self.refused: Outcome | None = None

    def _pieces(self, address: int, size: int) -> Iterator[tuple[int, int, bool]]:
        """The range in pieces that are enclave mappings, or none at all: address, bytes, which of both."""
        at, end = address, address + size
        with self._process.mm.lock:
            vmas = list(self._process.mm.overlapping(address, end))
        for vma in vmas:
            if at < vma.start:
                yield at, vma.start - at, False
                at = vma.start
            yield at, min(vma.end, end) - at, True
            at = min(vma.end, end)
        if at < end:
            yield at, end - at, False

    def read(self, address: int, size: int) -> bytes:
        """What can be read from there on, at most ``size`` bytes."""
        found = bytearray()
        for at, length, enclave in self._pieces(address, size):
            some = b""
            if enclave:
                outcome = access.read_memory(self._process.mm, at, length, self._subject)
                if isinstance(outcome, Outcome):
                    self.refused = outcome
                else:
                    some = outcome
            else:
                some = _peek(self._process.pid, at, length)
            found += some
            if len(some) < length:
                break
        return bytes(found)

    def write(self, address: int, data: bytes) -> int:
        """Store what can be stored from there on; how many bytes."""
        done = 0
        for at, length, enclave in self._pieces(address, len(data)):
            part, moved = data[done : done + length], 0
            if enclave:
                outcome = access.write_memory(self._process.mm, at, part, self._subject)
                if outcome.ok:
                    moved = outcome.value
                else:
                    self.refused = outcome
            else:
                moved = _poke(self._process.pid, at, part)
            done += moved
            if moved < length:
                break
        return done

    def failed(self) -> Outcome | int:
        """Nothing was moved."""
        return self.refused if self.refused is not None else -errno.EIO


def _peek(pid: int, address: int, size: int) -> bytes:
    """Read a process's memory where there is no enclave; nothing, if it cannot be."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, address)
    except OSError:
        return b""


def _poke(pid: int, address: int, data: bytes) -> int:
    """Write there; how many bytes."""
    try:
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as file:
            return os.pwrite(file.fileno(), data, address)
    except OSError:
        return 0


def _process(asked: Asked, pid: int) -> TargetProcess | None:
    """The armed process of a task."""
    leader = leader_of(pid)
    return next((process for process in asked.service.processes() if process.pid == leader), None)


# ptrace


def word(asked: Asked) -> Result:
    """ptrace(2) that reads or writes a word of an enclave: 0, and a word read is where the caller wants it; -EIO."""
    request, pid, address, data, *_ = asked.args
    process = _process(asked, pid)
    if process is None or tracer_of(pid) != asked.tid or not is_stopped(pid):
        return Answer.PASS
    memory = _Memory(process, asked.subject)
    if request in _POKE:
        return 0 if memory.write(address, struct.pack("<Q", data)) == _WORD else memory.failed()
    found = memory.read(address, _WORD)
    if len(found) != _WORD:
        return memory.failed()
    asked.memory.write(data, found)
    return 0


# /proc/PID/mem


def _vectors(memory: TargetMemory, address: int, count: int) -> list[tuple[int, int]]:
    data = memory.read(address, _IOVEC.size * count)
    return list(_IOVEC.iter_unpack(data))


def _move(
    asked: Asked, buffers: Callable[[], list[tuple[int, int]]], place: int | None, *, write: bool
) -> Result:
    """Read or write the memory file of a process.

    Args:
        buffers: of the caller: address and bytes of each.
        place: address in the process; None: where the descriptor is, which is then moved on.
    """
    fd = asked.args[0] & 0xFFFF_FFFF
    pid = memory_of(os.readlink(f"/proc/{asked.tid}/fd/{fd}"))  # noqa: PTH115 - only the kernel can follow it
    process = _process(asked, pid) if pid is not None else None
    wanted = (os.O_WRONLY if write else os.O_RDONLY), os.O_RDWR
    if process is None or flags_of(asked.tid, fd) & (os.O_ACCMODE | os.O_PATH) not in wanted:
        other = FILE_CALLS.get(asked.request.number)
        return other.serve(asked) if other is not None else Answer.PASS
    ours = buffers()
    memory = _Memory(process, asked.subject)
    address = _place_of(asked.tid, fd) if place is None else place
    size = sum(length for _, length in ours)
    if write:
        moved = memory.write(address, b"".join(asked.memory.read(at, length) for at, length in ours))
    else:
        found = memory.read(address, size)
        moved = len(found)
        for at, length in ours:
            asked.memory.write(at, found[:length])
            found = found[length:]
    if size and not moved:
        return memory.failed()
    return moved if place is not None else _moved_on(fd, moved)


def _moved_on(fd: int, moved: int) -> Generator[list[Step], list[int], int]:
    yield [Call(_NR_LSEEK, (fd, moved, _SEEK_CUR))]
    return moved


def _place_of(tid: int, fd: int) -> int:
    with open(f"/proc/{tid}/fdinfo/{fd}", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("pos:")) & _HERE


def _single(write: bool, *, anywhere: bool) -> Handler:
    """read(2), write(2); pread64(2), pwrite64(2)."""

    def serve(asked: Asked) -> Result:
        _, buffer, size, place, *_ = asked.args
        return _move(asked, lambda: [(buffer, size)], place if anywhere else None, write=write)

    return Handler(serve, slow=True)


def _several(write: bool, *, anywhere: bool) -> Handler:
    """readv(2), writev(2); preadv(2), pwritev(2), preadv2(2), pwritev2(2)."""

    def serve(asked: Asked) -> Result:
        _, vectors, count, place, *_ = asked.args
        if count > _IOV_MAX:
            return -errno.EINVAL
        here = not anywhere or place == _HERE
        return _move(
            asked, lambda: _vectors(asked.memory, vectors, count), None if here else place, write=write
        )

    return Handler(serve, slow=True)


# process_vm_readv


def vectors(asked: Asked) -> Result:
    """process_vm_readv(2), process_vm_writev(2): up to the first byte of an enclave; -EFAULT, if that is at once."""
    pid, local, locals_, remote, count, flags = asked.args
    process = _process(asked, pid)
    if process is None or count > _IOV_MAX:
        return Answer.PASS
    for index, (address, length) in enumerate(_vectors(asked.memory, remote, count)):
        with process.mm.lock:
            first = next(
                (max(vma.start, address) for vma in process.mm.overlapping(address, address + length)), None
            )
        if first is None or not length:
            continue
        if index:
            return _other_vectors(asked, (pid, local, locals_, remote, index, flags))
        if first == address:
            return -errno.EFAULT
        at = asked.service.scratch + 16
        less = Store(at, _IOVEC.pack(address, first - address))
        return _other_vectors(asked, (pid, local, locals_, at, 1, flags), less)
    return Answer.PASS


def _other_vectors(
    asked: Asked, args: tuple[int, ...], *before: Step
) -> Generator[list[Step], list[int], int]:
    (moved,) = yield [*before, Call(asked.request.number, args)]
    return moved


DEBUGGING_CALLS = {
    0: _single(write=False, anywhere=False),
    1: _single(write=True, anywhere=False),
    17: _single(write=False, anywhere=True),
    18: _single(write=True, anywhere=True),
    19: _several(write=False, anywhere=False),
    20: _several(write=True, anywhere=False),
    295: _several(write=False, anywhere=True),
    296: _several(write=True, anywhere=True),
    327: _several(write=False, anywhere=True),
    328: _several(write=True, anywhere=True),
    310: Handler(vectors),
    311: Handler(vectors),
}
