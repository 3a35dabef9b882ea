"""Where the built C images are, and the monitor's exported functions as Python callables.

The image is built by ``native/Makefile`` and shipped in the wheel; nothing here compiles.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from swsgx.native.abi import MonitorConfig

__all__ = ["IMAGES", "ImageMissing", "Monitor", "address_of"]

#: The folder of the built images, inside the package.
IMAGES = Path(__file__).parent / "images"


class ImageMissing(Exception):
    """A built image is not where it should be: the package was not built, or not for this platform."""


def address_of(buffer: memoryview) -> int:
    """Where a writable buffer lies in our own address space."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Monitor:
    """The monitor, loaded into our own process (``native/monitor/api.h``).

    Raises:
        ImageMissing: the image is absent or cannot be loaded.
    """

    def __init__(self) -> None:
        path = IMAGES / "swsgx-monitor.so"
        if not path.exists():
            raise ImageMissing(
                f"{path.name} is not built: run `make -C native` (needs gcc and make), or install a wheel"
            )
        try:
            image = ctypes.CDLL(str(path))
        except OSError as error:
            raise ImageMissing(f"{path.name} cannot be loaded: {error}") from None
        self._image = image
        u64, u32, i32 = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int
        image.swsgx_attach.restype = u64
        image.swsgx_forget.argtypes = [u64, u64]
        image.swsgx_forget.restype = None
        image.swsgx_pin.argtypes = [u64]
        image.swsgx_pin.restype = None
        image.swsgx_unpin.argtypes = [u64]
        image.swsgx_unpin.restype = None
        image.swsgx_hook.argtypes = [u64]
        image.swsgx_unhook.restype = None
        image.swsgx_hooked.argtypes = [i32]
        image.swsgx_exit_stub.argtypes = [ctypes.POINTER(u64)]
        image.swsgx_exit_stub.restype = u64
        image.swsgx_exit_common.restype = u64
        image.swsgx_cpuid.argtypes = [u32, u32, ctypes.POINTER(u32)]
        image.swsgx_cpuid.restype = None
        image.swsgx_xcr0.restype = u64
        image.swsgx_start.argtypes = [u64]
        image.swsgx_call.argtypes = [u64]
        image.swsgx_round_trips.argtypes = [u64]
        image.swsgx_raw_round_trips.argtypes = [u64]
        image.swsgx_raw_round_trips.restype = None
        image.swsgx_null_calls.argtypes = [u64]
        image.swsgx_null_calls.restype = None
        #: ``call(address of an EnclaveCall) -> int``: 0, -22, or -4 when a signal wants the caller.
        self.call = image.swsgx_call
        #: The same, ``EnclaveCall.count`` times.
        self.round_trips = image.swsgx_round_trips
        #: The same through an ENCLU instruction of its own.
        self.raw_round_trips = image.swsgx_raw_round_trips
        #: ``null_calls(count)``: that many null system calls.
        self.null_calls = image.swsgx_null_calls
        #: ``forget(base, size)``: drop what is cached of an enclave.
        self.forget = image.swsgx_forget
        #: ``pin(address of an EnclaveSlot)``: keep a hiding enclave in place until ``unpin``, its counterpart.
        self.pin = image.swsgx_pin
        self.unpin = image.swsgx_unpin

    def start(self, config: MonitorConfig) -> None:
        """Tell the monitor where its tables are; they must outlive it. ``config`` is read during the call only."""
        self._image.swsgx_start(address_of(config.buffer))

    def attach(self) -> int:
        """Address of the calling thread's LogicalProcessor; 0 when none is left."""
        return int(self._image.swsgx_attach())

    def detach(self) -> bool:
        """Give the thread's LogicalProcessor back. False: the thread is inside an enclave."""
        return bool(self._image.swsgx_detach() == 0)

    def hook(self, signals: set[int]) -> None:
        """Put the monitor in front of these signals' present handlers. Repeating it is harmless.

        Raises:
            OSError: the kernel refused one of them.
        """
        failed = self._image.swsgx_hook(sum(1 << (signal - 1) for signal in signals))
        if failed:
            raise OSError(f"rt_sigaction refused signal {-failed}")

    def unhook(self) -> None:
        """Give the signals back to the handlers that were there before."""
        self._image.swsgx_unhook()

    def hooked(self, signal: int) -> bool:
        """Whether the monitor handles the signal now; False when somebody took it away."""
        return bool(self._image.swsgx_hooked(signal))

    def exit_stub(self) -> bytes:
        """The code that goes near each enclave; its last 16 bytes are the exit table's and exit_common's address."""
        size = ctypes.c_uint64()
        address = self._image.swsgx_exit_stub(ctypes.byref(size))
        return ctypes.string_at(address, size.value)

    def exit_common(self) -> int:
        """Where exit stubs jump to."""
        return int(self._image.swsgx_exit_common())

    def cpuid(self, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
        """CPUID of the real processor: EAX, EBX, ECX, EDX."""
        out = (ctypes.c_uint32 * 4)()
        self._image.swsgx_cpuid(leaf, subleaf, out)
        return out[0], out[1], out[2], out[3]

    def xcr0(self) -> int:
        """XCR0 of the real processor."""
        return int(self._image.swsgx_xcr0())
