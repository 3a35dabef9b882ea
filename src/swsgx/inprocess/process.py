"""What there is once in a process: the monitor with its tables, the threads that it knows, the signals it takes.

Signals. Inside an enclave the thread pointer is the enclave's, so no handler of the process may run there
before the monitor has left the enclave. The monitor stands in front of the handlers that exist when it starts;
Python and faulthandler can install others later, so while it runs, ``signal.signal`` and faulthandler's
functions put it in front again. A handler that other C code installs with sigaction(2) later escapes this:
call :meth:`Process.rehook` after that.
"""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import mmap
import os
import signal
import struct
import threading
from collections.abc import Callable
from typing import Any

from swsgx.inprocess.memory import MAP_NORESERVE, host_mmap
from swsgx.native.abi import (
    LP_COUNT,
    LP_SIZE,
    SLOT_COUNT,
    XSTATE_COMPONENTS,
    EnclaveSlot,
    LogicalProcessor,
    MonitorConfig,
)
from swsgx.native.host import xsave_components
from swsgx.native.images import Monitor, address_of
from swsgx.native.shm import PrivateRegion

__all__ = ["Process", "process"]

#: Exceptions: always the monitor's.
_EXCEPTIONS = {signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS}


class Process:
    """The monitor in this process. There is one: use :func:`process`.

    Attributes:
        monitor: the loaded image.
        xcr0: the real processor's XCR0.
        components: ``{bit: (offset, size)}`` of each XSAVE component beyond SSE, bytes, standard format.
    """

    def __init__(self) -> None:
        self.monitor = Monitor()
        self.xcr0 = self.monitor.xcr0()
        self.components = xsave_components(self.monitor)
        self._slots = PrivateRegion(SLOT_COUNT * EnclaveSlot.size_of)
        self._free_slots = list(range(SLOT_COUNT - 1, -1, -1))
        self._xstate = PrivateRegion(8 * XSTATE_COMPONENTS)
        for bit, place in self.components.items():
            struct.pack_into("<II", self._xstate.view, 8 * bit, *place)
        reserved = host_mmap(
            0,
            (LP_COUNT + 1) * LP_SIZE,
            mmap.PROT_READ | mmap.PROT_WRITE,
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE,
        )
        config = MonitorConfig.of(
            lps=-(-reserved // LP_SIZE) * LP_SIZE,
            slots=address_of(self._slots.view),
            xcr0=self.xcr0,
            xstate=address_of(self._xstate.view),
            dispatch=1,
        )
        self.monitor.start(config)
        self._threads = threading.local()
        self._users = 0
        self._lock = threading.RLock()
        self._originals: list[tuple[Any, str, Callable[..., Any]]] = []

    # Enclaves.

    def take_slot(self) -> EnclaveSlot:
        """A free entry of the monitor's table.

        Raises:
            OSError: all are in use.
        """
        with self._lock:
            if not self._free_slots:
                raise OSError(f"this process maps {SLOT_COUNT} enclaves already: close some")
            index = self._free_slots.pop()
        at = index * EnclaveSlot.size_of
        return EnclaveSlot(self._slots.view[at : at + EnclaveSlot.size_of])

    def give_slot(self, slot: EnclaveSlot) -> None:
        """The enclave is unmapped: clear its entry, ``base`` first."""
        self.monitor.forget(slot.base, slot.size)
        slot.base = 0
        at = address_of(slot.buffer) - address_of(self._slots.view)
        slot.buffer[:] = bytes(EnclaveSlot.size_of)
        with self._lock:
            self._free_slots.append(at // EnclaveSlot.size_of)

    # Threads.

    def attach(self) -> LogicalProcessor:
        """The calling thread's logical processor; from here on the thread can enter enclaves.

        Raises:
            OSError: too many threads.
        """
        mine: _Attached | None = getattr(self._threads, "mine", None)
        if mine is None or mine.pid != os.getpid():
            address = self.monitor.attach()
            if not address:
                raise OSError(f"{LP_COUNT} threads of this process use enclaves already")
            mine = self._threads.mine = _Attached(self.monitor, address)
        return mine.lp

    # Signals.

    def open(self) -> None:
        """One more user of the monitor; the first puts it in front of the process's handlers."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._wrap(signal, "signal")
                for name in ("enable", "disable", "register", "unregister"):
                    self._wrap(faulthandler, name)
            self.rehook()

    def close(self) -> None:
        """One user less; the last gives the signals back."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for module, name, original in self._originals:
                setattr(module, name, original)
            self._originals.clear()
            self.monitor.unhook()

    def rehook(self) -> None:
        """Put the monitor in front of every handler that the process has now."""
        # Python's own table does not know what C code has installed, faulthandler's among it; the kernel does.
        with open("/proc/self/status") as status:
            caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
        handled = {number for number in range(1, 65) if caught >> (number - 1) & 1}
        self.monitor.hook(handled | {int(number) for number in _EXCEPTIONS})

    def _wrap(self, module: Any, name: str) -> None:
        original = getattr(module, name)

        @functools.wraps(original)
        def around(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                # faulthandler restores what it remembers, so it must find its own handlers in place.
                if module is faulthandler:
                    self.monitor.unhook()
                try:
                    return original(*args, **kwargs)
                finally:
                    if self._users:
                        self.rehook()

        self._originals.append((module, name, original))
        setattr(module, name, around)


class _Attached:
    """A thread's place in the monitor, given back when the thread's locals go."""

    def __init__(self, monitor: Monitor, address: int) -> None:
        self._monitor = monitor
        self.pid = os.getpid()
        self._memory = (ctypes.c_char * LogicalProcessor.size_of).from_address(address)
        self.lp = LogicalProcessor(memoryview(self._memory).cast("B"))
        self.lp.interrupt = 1

    def __del__(self) -> None:
        # A fork's child takes over the place of the thread that forked.
        if self.pid == os.getpid():
            self._monitor.detach()


_the_process: Process | None = None
_making = threading.Lock()


def process() -> Process:
    """The monitor of this process, loaded at the first call.

    Raises:
        swsgx.native.images.ImageMissing: the C images are not built.
    """
    global _the_process  # a process has one monitor
    with _making:
        if _the_process is None:
            _the_process = Process()
        return _the_process
