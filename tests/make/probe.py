"""The program ``tests/programs/probe.S`` in our own process: any registers in, all registers out."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

from swsgx.inprocess.process import process
from swsgx.isa.leaves import Enclu
from swsgx.native.abi import EnclaveRun
from swsgx.native.images import IMAGES
from tests.make.native_enclave import Loaded, State

_PROGRAMS = Path(__file__).resolve().parent.parent / "programs"
#: Order of the general registers in a signal frame (REG_R8 ... of sys/ucontext.h).
_GREGS = (
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax"),
    *("rcx", "rsp", "rip", "rflags", "segments", "error", "trap", "oldmask", "cr2"),
)
#: What a call of the user_handler leaves.
_CALL = ("rdi", "rsi", "rdx", "rsp", "r8", "r9", "run", "function", "vector")
_CAUGHT_BYTES = 4 * 8 + 23 * 8 + 512 + 8


class Landed(IntEnum):
    """Where the thread appeared again."""

    EXIT = 1
    AEP = 2
    RETURN = 3


@dataclass(frozen=True)
class Caught:
    """What the program's own handler was told.

    Attributes:
        count: how often it was called.
        registers: ``rip``, ``trap``, ``error``, ``cr2`` and the general registers.
        fxsave: 512 bytes.
    """

    count: int
    signal: int
    code: int
    address: int
    registers: dict[str, int]
    fxsave: bytes


@dataclass(frozen=True)
class Handled:
    """How a user_handler was called.

    Attributes:
        count: how often.
        aligned: whether its stack was, each time.
        df_clear: whether DF was clear, each time.
        calls: arguments, and what the run structure said.
    """

    count: int
    aligned: bool
    df_clear: bool
    calls: list[dict[str, int]]


class Probe:
    """One such program. Its state is of the process: one thread at a time."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "probe.so"
            sources = [str(_PROGRAMS / name) for name in ("probe.S", "catch.c", "handler.c")]
            command = [
                "gcc",
                "-shared",
                "-fPIC",
                "-O2",
                "-Wall",
                "-Wextra",
                "-Wl,-Bsymbolic",
                "-o",
                str(image),
            ]
            subprocess.run([*command, *sources], check=True)
            self._image = ctypes.CDLL(str(image))
        self.into = State(self._bytes("probe_in", 4096))
        self.out = State(self._bytes("probe_out", 4096))
        self.run = EnclaveRun(self._bytes("probe_run", 256))
        self._mask = ctypes.c_uint64.in_dll(self._image, "probe_mask")
        self._landed = ctypes.c_uint64.in_dll(self._image, "probe_landed")
        self._skip_to = ctypes.c_uint64.in_dll(self._image, "caught_skip_to")
        self._caught = (ctypes.c_char * _CAUGHT_BYTES).in_dll(self._image, "caught")
        monitor = ctypes.CDLL(str(IMAGES / "swsgx-monitor.so"))
        self._vdso = ctypes.cast(monitor.swsgx_enter_enclave, ctypes.c_void_p).value

    def _bytes(self, name: str, size: int) -> memoryview:
        return memoryview((ctypes.c_char * size).in_dll(self._image, name)).cast("B")

    def address(self, label: str) -> int:
        """Of a label of probe.S."""
        return ctypes.addressof(ctypes.c_char.in_dll(self._image, label))

    def prepare(self, mask: int = 3, **registers: int) -> None:
        """What the thread is to have in its registers; those that are not named hold patterns."""
        self._mask.value = mask
        self.into.buffer[:] = pattern_state(mask, 0x10).buffer
        self.out.buffer[:] = bytes(4096)
        for name, value in registers.items():
            setattr(self.into, name, value)

    def raw(
        self, loaded: Loaded, leaf: int = Enclu.EENTER, *, aep: str = "probe_aep", thread: int = 0
    ) -> Landed:
        """By an ENCLU of the program's own."""
        process().attach()
        self.into.rax, self.into.rbx, self.into.rcx = leaf, loaded.enclave.tcs[thread], self.address(aep)
        return self.go()

    def go(self, function: str = "probe_raw", target: int = 0) -> Landed:
        """With the registers just as they are prepared."""
        self._landed.value = 0
        getattr(self._image, function)(ctypes.c_void_p(target))
        return Landed(self._landed.value)

    def site(self, loaded: Loaded, aep: int, *, thread: int = 0) -> Landed:
        """By a jump to ``aep``, the vDSO function's own entry and AEP: EENTER with any flags."""
        process().attach()
        self.into.rax, self.into.rbx, self.into.rcx = Enclu.EENTER, loaded.enclave.tcs[thread], aep
        self.into.rsp = self.address("probe_stack") - 256
        return self.go("probe_site", aep)

    def vdso(
        self, loaded: Loaded, leaf: int = Enclu.EENTER, *, thread: int = 0, run: bytes | None = None
    ) -> Landed:
        """Through ``__vdso_sgx_enter_enclave``. RAX, RBX, RCX, RSP and RBP are the function's.

        Args:
            loaded: which enclave.
            leaf: ECX.
            thread: which TCS.
            run: the run structure, all but its TCS; zero by default.
        """
        process().attach()
        self.run.buffer[:] = run if run is not None else bytes(256)
        self.run.tcs = loaded.enclave.tcs[thread]
        self.into.rax = leaf
        return self.go("probe_vdso", self._vdso or 0)

    def handler(self, *answers: int, spoils: int = 0, tcs: int = 0) -> int:
        """Address of a user_handler that gives these answers, one at each call.

        Args:
            answers: what it returns.
            spoils: which reserved quadword of the run structure it sets, from 1; 0: none.
            tcs: what it writes to the run structure's TCS; 0: nothing.
        """
        ctypes.memset(self.address("handled"), 0, 8 * (3 + 9 * 8))
        given = (ctypes.c_int64 * 8).in_dll(self._image, "handler_answers")
        given[:] = [*answers, *[0] * (8 - len(answers))]
        ctypes.c_uint64.in_dll(self._image, "handler_spoils").value = spoils
        ctypes.c_uint64.in_dll(self._image, "handler_tcs").value = tcs
        return self.address("user_handler")

    @property
    def handled(self) -> Handled:
        """How that handler was called."""
        words = list((ctypes.c_uint64 * (3 + 9 * 8)).in_dll(self._image, "handled"))
        calls = [dict(zip(_CALL, words[at : at + 9], strict=True)) for at in range(3, 75, 9)]
        return Handled(words[0], not words[1], not words[2], calls[: words[0]])

    @contextlib.contextmanager
    def catching(self, *signals: signal.Signals, skip_to: str = "") -> Iterator[None]:
        """While a machine is open: the program handles these signals itself, by sigaction(2).

        Args:
            signals: which.
            skip_to: a label where the thread goes on after the handler, instead of where it stopped.
        """
        self._caught.raw = bytes(_CAUGHT_BYTES)
        self._skip_to.value = self.address(skip_to) if skip_to else 0
        monitor = process().monitor
        monitor.unhook()
        for number in signals:
            self._image.catch_signal(number)
        process().rehook()
        monitor.hook({int(number) for number in signals})
        try:
            yield
        finally:
            monitor.unhook()
            for number in signals:
                self._image.release_signal(number)
            process().rehook()

    @property
    def caught_at(self) -> list[int]:
        """RIP of each call of the handler, in order."""
        count = self.caught.count
        words = (ctypes.c_uint64 * 4096).in_dll(self._image, "caught_rips")
        return list(words[: min(count, 4096)])

    @property
    def caught(self) -> Caught:
        """What the handler saw last."""
        raw = self._caught.raw
        words = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, 27 * 8, 8)]
        return Caught(
            count=words[0],
            signal=words[1],
            code=ctypes.c_int64(words[2]).value,
            address=words[3],
            registers=dict(zip(_GREGS, words[4:27], strict=True)),
            fxsave=raw[27 * 8 : 27 * 8 + 512],
        )


@cache
def the_probe() -> Probe:
    """There is one in a process."""
    return Probe()


def pattern_state(mask: int, seed: int) -> State:
    """A state in which everything is recognisable: every register has a value of its own, no exception is pending.

    Args:
        mask: components of extended state that are in use.
        seed: makes values differ, 8 bits.
    """
    state = State()
    names = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
    for number, name in enumerate(names):
        setattr(state, name, 0x0101_0101_0101_0101 * (seed + number & 0x7F))
    state.rflags = 0x202
    area = bytearray(3904)
    for at in range(32, 3904):
        area[at] = (at * 7 + seed) & 0xFF
    # x87: masked exceptions, a control word and top of stack of its own, eight valid numbers.
    area[0:2] = (0x027F).to_bytes(2, "little")
    area[2:4] = (0x3800).to_bytes(2, "little")
    area[4:24] = b"\xff".ljust(20, b"\0")
    area[24:28] = (0x1F80 | 0x2000).to_bytes(4, "little")
    area[28:32] = bytes(4)
    for number in range(8):
        at = 32 + 16 * number
        area[at : at + 16] = (0x8000_0000_0000_0000 + seed + number).to_bytes(8, "little") + (
            0x3FFF + number
        ).to_bytes(8, "little")
    area[416:512] = bytes(96)
    area[512:576] = mask.to_bytes(8, "little") + bytes(56)
    state.xsave = bytes(area)
    return state
