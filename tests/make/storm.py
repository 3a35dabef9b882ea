"""Many calls in a row from C (``tests/programs/storm.c``), with every register checked."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from swsgx.inprocess.process import process
from swsgx.native.abi import EnclaveCall, EnclaveRun
from swsgx.native.images import IMAGES, address_of
from swsgx.native.shm import PrivateRegion
from tests.make.native_enclave import SCRATCH, Block, Built, Loaded, Source, Thread

_HERE = Path(__file__).resolve().parent
_STACK = 1 << 16

#: Adds 1111H times its number to each register and counts its calls in its thread's page; #UD where R15 is odd. As its
#: own exception handler it goes on behind that. {middle} is code of a test's own; R15 must survive it.
MIXER = """
entry:	test	%eax, %eax
	jnz	repair
	incq	%gs:8
	add	$0x1111, %rdi
	add	$0x2222, %rsi
	add	$0x3333, %rdx
	add	$0x4444, %r8
	test	$1, %r15
	jz	1f
	ud2
1:	{middle}
	add	$0x5555, %r9
	add	$0x6666, %r10
	add	$0x7777, %r11
	add	$0x8888, %r12
	add	$0x9999, %r13
	add	$0xaaaa, %r14
	add	$0xbbbb, %r15
	incq	%gs:16
	eexit
repair:	addq	$2, 0x2000 + 0x1000 - SIZEOF_GPRSGX + GPRSGX_RIP(%rbx)
	incq	%gs:24
	eexit
"""


@cache
def mixer(threads: int = 1, middle: str = "nop", *, shared_gs: bool = False, xfrm: int = 3) -> Built:
    """The enclave for a :class:`Storm`.

    Args:
        threads: TCSs.
        middle: code.
        shared_gs: all threads but the first have the first one's FS and GS.
        xfrm: extended state.
    """
    every = [Thread(nssa=3) for _ in range(threads)]
    built = Source(
        MIXER.format(middle=middle), threads=tuple(every), blocks=(Block("data"), SCRATCH), xfrm=xfrm
    ).build()
    if not shared_gs:
        return built
    fields = {"ofsbase": built.symbols["tls0"], "ogsbase": built.symbols["tls0"]}
    every[1:] = [Thread(nssa=3, fields=fields) for _ in every[1:]]
    return Source(built.source.code, threads=tuple(every), blocks=built.source.blocks, xfrm=xfrm).build()


class _Storm(ctypes.Structure):
    _fields_ = [
        ("call", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("nested", ctypes.c_void_p),
        *(
            (name, ctypes.c_uint64)
            for name in ("seed", "faults", "calls", "interruptions", "repaired", "wrong")
        ),
        *((name, ctypes.c_uint64) for name in ("wrong_register", "wrong_value", "expected")),
        ("failed", ctypes.c_int64),
    ]


class Watch(ctypes.Structure):
    """What the program's own handler found."""

    _fields_ = [
        ("tcs", ctypes.c_void_p),
        *(
            (name, ctypes.c_uint64)
            for name in ("count", "busy", "wrong_thread", "inside", "code_begin", "code_end")
        ),
    ]


class Storm:
    """Calls of one thread into one TCS.

    Args:
        loaded: a :func:`mixer`.
        thread: which TCS.
        faults: one call in so many raises #UD, which the enclave repairs; 0: none.
        seed: makes registers differ.
    """

    def __init__(self, loaded: Loaded, thread: int = 0, *, faults: int = 0, seed: int = 1) -> None:
        self.loaded = loaded
        self.thread = thread
        self._image = the_image()
        self._stacks = PrivateRegion(2 * _STACK)
        self._regions = [PrivateRegion(EnclaveCall.size_of) for _ in range(2)]
        tops = [address_of(self._stacks.view) + _STACK * (number + 1) for number in range(2)]
        for region, top in zip(self._regions, tops, strict=True):
            call = EnclaveCall(region.view[: EnclaveCall.size_of])
            call.stack = top
            EnclaveRun(region.view[: EnclaveRun.size_of]).tcs = loaded.enclave.tcs[thread]
        self.c = _Storm(
            call=ctypes.cast(process().monitor.call, ctypes.c_void_p).value,
            first=address_of(self._regions[0].view),
            nested=address_of(self._regions[1].view),
            seed=seed << 40,
            faults=faults,
        )

    def run(self, count: int) -> None:
        """So many calls; the GIL is free meanwhile.

        Raises:
            AssertionError: one of them was wrong.
        """
        process().attach()
        done = self._image.storm_calls(ctypes.byref(self.c), count)
        assert (done, self.problem) == (count, "")

    def stepped(self) -> None:
        """One call between two INT3."""
        process().attach()
        self._image.storm_stepped(ctypes.byref(self.c))

    @property
    def problem(self) -> str:
        """What was wrong; empty if nothing was."""
        c = self.c
        if c.failed:
            return f"call {c.calls} ended with {c.failed:#x}"
        if c.wrong:
            return f"call {c.calls}: register {c.wrong_register} is {c.wrong_value:#x}, not {c.expected:#x}"
        return ""

    def check_counts(self) -> None:
        """The enclave counted each call once, at its beginning and at its end; and the thread is outside."""
        tls = f"tls{self.thread}"
        counts = [self.loaded.word(tls, offset) for offset in (8, 16, 24)]
        assert counts == [self.c.calls, self.c.calls, self.c.repaired]
        tcs = self.loaded.tcs(self.thread)
        assert (tcs.state, tcs.cssa) == (0, 0)
        assert process().attach().record == 0


@cache
def the_image() -> ctypes.CDLL:
    """The compiled program."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "storm.so"
        include = _HERE.parent.parent / "native" / "include"
        source = _HERE.parent / "programs" / "storm.c"
        command = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-I", str(include), "-o", str(image)]
        subprocess.run([*command, str(source)], check=True)
        loaded = ctypes.CDLL(str(image))
    loaded.storm_calls.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    loaded.storm_calls.restype = ctypes.c_uint64
    loaded.storm_stepped.argtypes = [ctypes.c_void_p]
    return loaded


def watch() -> Watch:
    """Of the program's own handler."""
    return Watch.in_dll(the_image(), "watch")


def watch_signal(number: int) -> None:
    """Install the program's own handler, by sigaction(2) and as late as one can; the monitor is told."""
    if the_image().watch_signal(number):
        raise OSError("sigaction")
    process().monitor.hook({number})


MONITOR = IMAGES / "swsgx-monitor.so"
