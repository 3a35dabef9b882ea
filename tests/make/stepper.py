"""A debugger in a few lines: a child of ours, instruction by instruction (ptrace(2)).

Only the code that a signal could meet half way is stepped through: the entry and exit paths of the monitor, the exit
stub, the enclave. The monitor's C runs with all signals blocked, and is run through.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from swsgx.native.mappings import mappings
from tests.make.storm import MONITOR

CONT, STEP, GETREGS, SETREGS, SYSCALL, GETSIGINFO, SEIZE = 7, 9, 12, 13, 24, 0x4202, 0x4206
#: si_code of INT3; a step has another one.
SI_KERNEL = 0x80
TRACE_SYSGOOD, EXIT_KILL = 1, 0x100000
SYSCALL_STOP = signal.SIGTRAP | 0x80
#: Not a signal.
BREAK = -1
RT_SIGRETURN, RT_SIGPROCMASK = 15, 14
_NAMES = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)
_RIP = _NAMES.index("rip")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Died(AssertionError):
    """The child is gone."""


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace({request:#x})")


def monitor_symbols() -> dict[str, int]:
    """Offsets in the image."""
    with MONITOR.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise ValueError("the monitor has no symbols")
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


class Stepped:
    """A child that makes calls between two INT3 each (``storm_stepped``).

    Args:
        script: Python of the child. It prints one line when it is ready: the enclave's base, its size, the stub's page,
            and the image's base, in decimal. Then it makes calls until it is killed.
    """

    def __init__(self, checkout: Path, script: str, *arguments: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": f"{checkout}/src:{checkout}"},
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        self.pid = self.child.pid
        if self.child.stdout is None or self.child.stdin is None:
            raise ValueError("pipes were asked for")
        words = self.child.stdout.readline().split()
        if len(words) != 4:
            raise Died(f"the child said {words}")
        base, size, stub, image = (int(word) for word in words)
        symbols = monitor_symbols()
        self.symbols = {name: image + value for name, value in symbols.items()}
        #: Ranges whose every instruction counts.
        self.counted = [(base, base + size), (self.symbols["enclu_entry"], self.symbols["exit_end"])]
        if stub:
            self.counted.append((stub, stub + 4096))
        _ptrace(SEIZE, self.pid, 0, TRACE_SYSGOOD | EXIT_KILL)
        self.child.stdin.write("go\n")
        self.child.stdin.flush()
        self._registers = (ctypes.c_uint64 * len(_NAMES))()
        self._at_entry = 0

    def _rip(self) -> int:
        _ptrace(GETREGS, self.pid, 0, ctypes.addressof(self._registers))
        return self._registers[_RIP]

    def registers(self) -> dict[str, int]:
        _ptrace(GETREGS, self.pid, 0, ctypes.addressof(self._registers))
        return dict(zip(_NAMES, self._registers, strict=True))

    def go(self, request: int, deliver: int = 0) -> int:
        """On; returns the signal of the next stop."""
        _ptrace(request, self.pid, 0, deliver)
        _, status = os.waitpid(self.pid, 0)
        if not os.WIFSTOPPED(status):
            self.child.returncode = os.waitstatus_to_exitcode(status)
            raise Died(f"the child ended with {self.child.returncode}")
        return os.WSTOPSIG(status)

    def to_marker(self, first: int = 0) -> None:
        """Run to the next INT3 of the child's own; all signals are delivered."""
        stopped = self.go(CONT, first)
        while not self._at_marker(stopped):
            if stopped == signal.SIGTRAP:
                self._clear_tf()
            stopped = self.go(CONT, 0 if stopped in (SYSCALL_STOP, signal.SIGTRAP) else stopped)

    def _clear_tf(self) -> None:
        """PUSHFQ under a step stores our TF, and POPFQ or IRETQ brings it back."""
        self.registers()
        self._registers[_NAMES.index("rflags")] &= ~0x100
        _ptrace(SETREGS, self.pid, 0, ctypes.addressof(self._registers))

    def start(self) -> None:
        """Run to the first INT3."""
        _, status = os.waitpid(self.pid, 0)
        while not self._at_marker(os.WSTOPSIG(status)):
            if not os.WIFSTOPPED(status):
                raise Died("before the first marker")
            _ptrace(CONT, self.pid, 0, os.WSTOPSIG(status))
            _, status = os.waitpid(self.pid, 0)

    def one(self, boundary: int, number: int = signal.SIGUSR1) -> int | None:
        """One call; the signal is made pending before the counted instruction ``boundary``, from 0.

        Returns:
            RIP there; None if the call has fewer.
        """
        seen = 0
        stopped = self._to_entry()
        if stopped != BREAK:
            raise Died("a call without an entry")
        stopped = self.go(STEP)
        while True:
            if stopped not in (SYSCALL_STOP, signal.SIGTRAP):
                stopped = self._through_c(stopped)
                continue
            rip = self._rip()
            if any(low <= rip < high for low, high in self.counted):
                if seen == boundary:
                    self._clear_tf()
                    # To this thread: numpy has others.
                    if _libc.tgkill(self.pid, self.pid, number):
                        raise OSError(ctypes.get_errno(), "tgkill")
                    self.to_marker()
                    return rip
                seen += 1
                stopped = self.go(STEP)
                continue
            if self._in_monitor(rip):
                stopped = self._through_c(0)
            else:
                stopped = self._to_entry()
                if stopped != BREAK:
                    return None
                stopped = self.go(STEP)

    def _to_entry(self) -> int:
        """Run to the vDSO function's ENCLU (answers BREAK) or to the INT3 behind the call."""
        self._poke(0xCC)
        stopped = self.go(CONT)
        while stopped == signal.SIGTRAP and not self._at_marker(stopped):
            self._clear_tf()
            stopped = self.go(CONT)
        self._poke(self._at_entry)
        if stopped != signal.SIGTRAP:
            raise Died(f"signal {stopped} on the way to an entry")
        if self._rip() != self.symbols["enter_aep"] + 1:
            return stopped
        self._registers[_RIP] -= 1
        self._registers[_NAMES.index("rflags")] &= ~0x100
        _ptrace(SETREGS, self.pid, 0, ctypes.addressof(self._registers))
        return BREAK

    def _poke(self, byte: int) -> None:
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(self.symbols["enter_aep"])
            if not self._at_entry:
                self._at_entry = memory.read(1)[0]
                memory.seek(self.symbols["enter_aep"])
            memory.write(bytes([byte]))

    def _in_monitor(self, rip: int) -> bool:
        """In its C."""
        return self.symbols["__ehdr_start"] <= rip < self.symbols["enclu_entry"]

    def _at_marker(self, stopped: int) -> bool:
        if stopped != signal.SIGTRAP:
            return False
        information = (ctypes.c_int32 * 32)()
        _ptrace(GETSIGINFO, self.pid, 0, ctypes.addressof(information))
        return information[2] == SI_KERNEL

    def _through_c(self, deliver: int) -> int:
        """From the monitor's C (or into its handler, with a signal) to where it returns; ready for the next look."""
        stopped = self.go(SYSCALL, deliver)
        while True:
            if stopped == signal.SIGTRAP and not self._at_marker(stopped):
                self._clear_tf()
                stopped = self.go(SYSCALL)
                continue
            if stopped != SYSCALL_STOP:
                raise Died(f"signal {stopped} in the monitor's C at {self.registers()['rip']:#x}")
            registers = self.registers()
            in_assembly = self.symbols["enclu_entry"] <= registers["rip"] < self.symbols["exit_end"]
            if registers["orig_rax"] == RT_SIGRETURN:
                return self.go(SYSCALL)
            if registers["orig_rax"] == RT_SIGPROCMASK and in_assembly:
                return self.go(STEP)
            stopped = self.go(SYSCALL)

    def end(self) -> None:
        """The child is killed and gone."""
        with contextlib.suppress(ProcessLookupError):
            if self.child.returncode is None:
                os.kill(self.pid, signal.SIGKILL)
                self.child.returncode = -signal.SIGKILL
                while os.WIFSTOPPED(os.waitpid(self.pid, 0)[1]):
                    pass
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def stepped(checkout: Path, script: str, *arguments: str) -> Iterator[Stepped]:
    """A :class:`Stepped` at its first INT3, on one CPU with us: then a step is cheap."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        child = Stepped(checkout, script, *arguments)
        try:
            child.start()
            yield child
        finally:
            child.end()
    finally:
        os.sched_setaffinity(0, cpus)


def image_base() -> int:
    """Where the monitor is loaded in this process."""
    return min(found.start for found in mappings(os.getpid()) if found.path.endswith(MONITOR.name))
