"""Injection into a program that somebody else traces: strace or gdb, inside the tree.

Only the tracer may use ptrace on its tracee, so the tracer does what the supervisor would: it asks before it resumes a
tracee without an image (``native/supervised/trap.c``), and is told which calls to make. It notices nothing of it.

What was learnt:

- A tracer that steps from system call to system call wants to see the exit of execve, too: from the stop of the
  exec event it is let go on once, which the stop's siginfo tells apart.
- RET_TRACE is a stop only for a tracer that asked for it. So the code ends with INT3, which is one for all.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Generator

from swsgx.supervisor.image import IMAGE_BASE, Image
from swsgx.supervisor.inject import CODE, CODE_END, Registers
from swsgx.supervisor.memory import TargetMemory
from swsgx.supervisor.steps import Call, Step

__all__ = ["inject_by_tracer"]

_NR_WAIT4, _NR_PTRACE = 61, 101
_SYSCALL = 24
_GETREGS, _SETREGS, _CONT = 12, 13, 7
_GETSIGINFO, _GETSIGMASK, _SETSIGMASK = 0x4202, 0x420A, 0x420B
_WALL = 0x40000000
_SIGTRAP = 5
#: Stops before that of the code's INT3: that of the SIGTRAP which an exec brings, a stop of job control.
_STOPS = 4
_EXEC_STOP = _SIGTRAP | 4 << 8
_ALL_BUT_SIGTRAP = ((1 << 64) - 1) & ~(1 << _SIGTRAP - 1)


def inject_by_tracer(
    image: Image,
    scratch: int,
    tracer: TargetMemory,
    pid: int,
    request: int,
    filled: Callable[[int, int], None],
) -> Generator[list[Step], list[int], bool]:
    """What a tracer does before it resumes a new program.

    Args:
        image: what is injected.
        scratch: address of 1024 bytes in the tracer that nobody uses.
        tracer: its memory.
        pid: the tracee.
        request: how it is to be resumed, PTRACE_*.
        filled: called with the tracee and its memory's descriptor when the image is there.

    Yields: calls for the tracer to make.

    Returns: whether the image is there now; False: not yet, or it cannot be.
    """

    def traced(which: int, data: int = 0, address: int = 0) -> Call:
        return Call(_NR_PTRACE, (which, pid, address, data))

    registers_at, mask_at, info_at, status_at = scratch, scratch + 256, scratch + 384, scratch + 768
    yield [traced(_GETREGS, registers_at), traced(_GETSIGMASK, mask_at, 8), traced(_GETSIGINFO, info_at)]
    (code,) = struct.unpack("<8xi", tracer.read(info_at, 12))
    if code == _EXEC_STOP and request == _SYSCALL:
        return False
    registers = Registers.parse(tracer.read(registers_at, Registers.size))
    mask = tracer.read(mask_at, 8)
    if not registers.injectable:
        return True
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        entry = os.pread(memory, len(CODE), registers["rip"])
        os.pwrite(memory, CODE[:CODE_END] + b"\xcc", registers["rip"])
        tracer.write(registers_at, registers.mapping(image).packed())
        tracer.write(mask_at, struct.pack("<Q", _ALL_BUT_SIGTRAP))
        yield [traced(_SETREGS, registers_at), traced(_SETSIGMASK, mask_at, 8)]
        going_on: list[Step] = [
            traced(_CONT),
            Call(_NR_WAIT4, (pid, status_at, _WALL, 0)),
            traced(_GETREGS, registers_at),
        ]
        answered = registers
        for _ in range(_STOPS):
            yield going_on
            answered = Registers.parse(tracer.read(registers_at, Registers.size))
            if answered["rip"] == registers["rip"] + CODE_END + 1:
                break
        mapped = answered["r12"] == IMAGE_BASE and answered["r13"] == 0
        if mapped:
            for offset, contents in image.parts:
                os.pwrite(memory, contents, IMAGE_BASE + offset)
            filled(pid, memory)
        os.pwrite(memory, entry, registers["rip"])
        tracer.write(registers_at, registers.started(image, mapped).packed())
        tracer.write(mask_at, mask)
        yield [traced(_SETREGS, registers_at), traced(_SETSIGMASK, mask_at, 8)]
    finally:
        os.close(memory)
    return True
