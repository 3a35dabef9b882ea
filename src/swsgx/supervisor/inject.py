"""Putting the image into a program that exec has just made, before its first instruction.

The task is in the exec's ptrace stop. A few instructions are written over its entry point, which map the image's
memory; the image is written there, the entry point and the registers are put back, and the task is let go. Nothing of
the injection stays but the image, and one private page around the entry point.

What was learnt:

- The code ends with an option of prctl of our own, which the filter answers with RET_TRACE: a stop that is no
  signal. With INT3 an inherited SIG_IGN of SIGTRAP would be lost.
- All signals are blocked meanwhile (PTRACE_SETSIGMASK), so that none is delivered in the middle; SIGSTOP cannot be
  blocked, so it is kept and sent again.
- The image is written through /proc/PID/mem, which may write to read-only private memory, and needs no file in the
  target: its root folder, mounts and file descriptors may be any.
- The exec's stop is inside the system call: RAX is overwritten with its result, 0, when the task goes on.
- x32 and i386 programs are left alone: their stack lies below 4 GiB.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from swsgx.supervisor.image import IMAGE_BASE, Image
from swsgx.supervisor.kernel import Ptrace, ptrace, ptrace_buffer
from swsgx.supervisor.seccomp import INJECTED

__all__ = ["CODE", "CODE_END", "Injection", "Registers"]

# fmt: off
_NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9",
    "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip", "cs",
    "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)
# fmt: on
_REGISTERS = struct.Struct(f"<{len(_NAMES)}Q")
_CS_64 = 0x33
_NO_SYSCALL = (1 << 64) - 1
_PROT_READ_EXEC = 5
_MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE = 0x100022
_MINUS_ONE = (1 << 64) - 1
_LOWEST_64_BIT_STACK = 1 << 32

#: mmap as the registers say; mprotect(RBX, RBP, READ | WRITE); the stop. R12 and R13 hold the answers.
CODE = (
    b"\xb8\x09\x00\x00\x00"  # mov eax, mmap
    b"\x0f\x05"  # syscall
    b"\x49\x89\xc4"  # mov r12, rax
    b"\x48\x89\xdf"  # mov rdi, rbx
    b"\x48\x89\xee"  # mov rsi, rbp
    b"\xba\x03\x00\x00\x00"  # mov edx, PROT_READ | PROT_WRITE
    b"\xb8\x0a\x00\x00\x00"  # mov eax, mprotect
    b"\x0f\x05"  # syscall
    b"\x49\x89\xc5"  # mov r13, rax
    b"\xbf" + struct.pack("<I", INJECTED) + b"\xb8\x9d\x00\x00\x00\x0f\x05"  # prctl(INJECTED)
)
#: Where the code has done its work.
CODE_END = len(CODE) - 12


class Registers(dict[str, int]):
    """A task's user registers by name, as PTRACE_GETREGS gives them: :attr:`size` bytes."""

    size = _REGISTERS.size

    @classmethod
    def of(cls, tid: int) -> Registers:
        """Those of a task in a ptrace stop."""
        buffer = bytearray(_REGISTERS.size)
        ptrace_buffer(Ptrace.GETREGS, tid, 0, buffer)
        return cls.parse(buffer)

    @classmethod
    def parse(cls, data: bytes | bytearray) -> Registers:
        """As PTRACE_GETREGS writes them, :attr:`size` bytes."""
        return cls(zip(_NAMES, _REGISTERS.unpack(data), strict=True))

    def packed(self) -> bytes:
        """As PTRACE_SETREGS reads them."""
        return _REGISTERS.pack(*(self[name] for name in _NAMES))

    def put(self, tid: int) -> None:
        """Make these the registers of a task in a ptrace stop."""
        ptrace_buffer(Ptrace.SETREGS, tid, 0, bytearray(self.packed()))

    @property
    def injectable(self) -> bool:
        """Whether it is a 64-bit program, and not an x32 one."""
        return self["cs"] == _CS_64 and self["rsp"] >= _LOWEST_64_BIT_STACK

    def mapping(self, image: Image) -> Registers:
        """Those that :data:`CODE` starts with, to map the image's memory."""
        asked = Registers(self)
        asked.update(
            orig_rax=_NO_SYSCALL,
            rdi=IMAGE_BASE,
            rsi=image.size,
            rdx=_PROT_READ_EXEC,
            r10=_MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE,
            r8=_MINUS_ONE,
            r9=0,
            rbx=IMAGE_BASE + image.writable,
            rbp=image.size - image.writable,
        )
        return asked

    def started(self, image: Image, mapped: bool) -> Registers:
        """Those that the program goes on with: at the image's start, if it is there."""
        registers = Registers(self)
        registers.update(orig_rax=_NO_SYSCALL, rax=0)
        if mapped:
            registers.update(rip=IMAGE_BASE + image.start, rdi=registers["rip"])
        return registers


class Injection:
    """An injection under way. Every method raises ``ProcessLookupError`` when the task has died.

    Attributes:
        tid: the task, in a stop whenever a method is called.
        stopped_by: a SIGSTOP that came meanwhile and must be sent again; 0 for none.
    """

    def __init__(self, tid: int, registers: Registers, memory: int, entry: bytes, mask: bytearray) -> None:
        self.tid = tid
        self.stopped_by = 0
        self._registers = registers
        self._memory = memory
        self._entry = entry
        self._mask = mask

    @classmethod
    def begin(cls, tid: int, image: Image) -> Injection | None:
        """At the exec stop: make the task map the image's memory. None: not a program that can be injected."""
        registers = Registers.of(tid)
        if not registers.injectable:
            return None
        try:
            memory = os.open(f"/proc/{tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            return None  # a program that we may run but not read
        mask = bytearray(8)
        try:
            entry = os.pread(memory, len(CODE), registers["rip"])
            ptrace_buffer(Ptrace.GETSIGMASK, tid, 8, mask)
            ptrace_buffer(Ptrace.SETSIGMASK, tid, 8, bytearray(b"\xff" * 8))
            os.pwrite(memory, CODE, registers["rip"])
            registers.mapping(image).put(tid)
            ptrace(Ptrace.CONT, tid)
        except OSError:
            os.close(memory)
            raise
        return cls(tid, registers, memory, entry, mask)

    def finish(self, image: Image, filled: Callable[[int, int], None]) -> bool:
        """At the stop behind the mapping: fill it, and put the task back to its entry point.

        Args:
            image: what to fill it with; its own start runs before the program's entry point.
            filled: called with the task and its memory's descriptor when that is done.

        Returns: False when there was no room for the image; the program then runs without it.
        """
        try:
            answered = Registers.of(self.tid)
            mapped = answered["r12"] == IMAGE_BASE and answered["r13"] == 0
            if mapped:
                for offset, contents in image.parts:
                    os.pwrite(self._memory, contents, IMAGE_BASE + offset)
                filled(self.tid, self._memory)
            os.pwrite(self._memory, self._entry, self._registers["rip"])
            self._registers.started(image, mapped).put(self.tid)
            ptrace_buffer(Ptrace.SETSIGMASK, self.tid, 8, self._mask)
        finally:
            self.close()
        return mapped

    def close(self) -> None:
        """Give up what the supervisor holds for it."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
