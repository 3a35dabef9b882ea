"""Signals that reach the process while a thread is inside an enclave, going in or coming out."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from swsgx.inprocess import Sgx
from swsgx.inprocess.process import process
from tests.inprocess.conftest import MODES
from tests.make.forked import forked
from tests.make.native_enclave import NEEDS_GCC, Block, Loaded, Source
from tests.make.readable import readable
from tests.make.stepper import stepped
from tests.make.storm import Storm, mixer

pytestmark = [NEEDS_GCC, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever a test does to handlers and timers is undone, and was undone by the machine."""
    numbers = (signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


# Computing under a timer.

#: Every register of the extended state is in the result: each round mixes each with its neighbour, and once in a while
#: with the x87 stack. RSI rounds from the state at "given" to that at "result".
ROUNDS = """
	xrstor64 given+192(%rip)
	mov	%rsi, %r8
	mov	%rcx, %r9
1:	{body}
	fxch	%st(3)
	dec	%r8
	jnz	1b
	mov	$xfrm, %eax
	xor	%edx, %edx
	xsave64	result+192(%rip)
	eexit	%r9
"""


def body(xfrm: int) -> str:
    """One round, with all vectors that there are."""
    lines = []
    if xfrm & 0xE0 == 0xE0:
        for number in range(32):
            lines.append(f"vpaddq %zmm{(number + 1) % 32}, %zmm{number}, %zmm{number}")
            lines.append(f"vprolq ${number + 1}, %zmm{number}, %zmm{number}")
        for number in range(1, 8):
            lines.append(f"kaddq %k{number % 7 + 1}, %k{number}, %k{number}")
    elif xfrm & 4:
        for number in range(16):
            lines.append(f"vaddps %ymm{(number + 1) % 16}, %ymm{number}, %ymm{number}")
            lines.append(f"vxorps %ymm{(number + 5) % 16}, %ymm{number}, %ymm{number}")
    else:
        for number in range(16):
            lines.append(f"paddq %xmm{(number + 1) % 16}, %xmm{number}")
    return "\n\t".join(lines)


def rounds_of(xfrm: int) -> Source:
    code = f"entry:\tmov\t$xfrm, %eax\n\tmov\t%rcx, %r9\n\txor\t%edx, %edx\n{ROUNDS.format(body=body(xfrm))}"
    return Source(code, blocks=(Block("given"), Block("result"), Block("scratch")), xfrm=xfrm)


def masks() -> list[int]:
    """SSE alone; and all that this CPU and the model have."""
    return sorted({3, process().xcr0 & 0xE7})


def given_state(xfrm: int) -> bytes:
    generator = np.random.default_rng(7)
    area = bytearray(generator.integers(0, 256, 3904, np.uint8).tobytes())
    area[0:2] = (0x037F).to_bytes(2, "little")
    area[2:4] = bytes(2)
    area[4:24] = b"\xff" + bytes(19)
    area[24:32] = (0x1F80).to_bytes(4, "little") + bytes(4)
    for number in range(8):
        at = 32 + 16 * number
        area[at : at + 16] = (0x8000_0000_0000_0000 + number).to_bytes(8, "little") + (
            0x4000 + number
        ).to_bytes(8, "little")
    area[416:512] = bytes(96)
    area[512:576] = xfrm.to_bytes(8, "little") + bytes(56)
    return bytes(area)


def computed(loaded: Loaded, rounds: int) -> bytes:
    loaded.memory("result")[:] = bytes(4096)
    loaded.enclave.enter(rsi=rounds).check()
    return bytes(loaded.memory("result"))


def under_a_timer(mode: str, xfrm: int, seconds: float, hertz: int = 1000) -> None:
    seen: list[tuple[str, float]] = []

    def handler(number: int, frame: FrameType | None) -> None:
        # Normal Python: floats, strings, objects, a frame of the program.
        assert frame is not None
        seen.append((frame.f_code.co_name, float(np.sqrt(np.float64(2)))))

    with Sgx(**MODES[mode]) as sgx:
        loaded = rounds_of(xfrm).build().load(sgx)
        loaded.state("given").xsave = given_state(xfrm)
        start = time.perf_counter()
        computed(loaded, 200_000)
        rounds = int(200_000 * min(seconds, 0.5) / (time.perf_counter() - start))
        alone = computed(loaded, rounds)
        exits = loaded.enclave.counters["aex"]
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 1 / hertz, 1 / hertz)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(seen) <= 50:  # a busy machine gives few ticks
            assert computed(loaded, rounds) == alone
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert loaded.enclave.counters["aex"] > exits
        assert (loaded.tcs().state, loaded.tcs().cssa) == (0, 0)
    assert {value for _, value in seen} == {2**0.5}


@pytest.mark.parametrize("mode", MODES)
def test_a_long_computation_is_right_under_a_timer_of_1_khz(mode: str) -> None:
    for xfrm in masks():
        under_a_timer(mode, xfrm, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_ten_seconds_of_computing_are_right_under_a_timer_of_1_khz(mode: str) -> None:
    under_a_timer(mode, masks()[-1], 10)


# Many entries under many signals.


def stormed(mode: str, entries: int, faults: int) -> None:
    ticks: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
    signal.signal(signal.SIGUSR2, lambda number, frame: ticks.append(number))
    me, stop = threading.get_ident(), threading.Event()

    def poke() -> None:
        while not stop.wait(0.0007):
            signal.pthread_kill(me, signal.SIGUSR2)

    with Sgx(**MODES[mode]) as sgx:
        storm = Storm(mixer().load(sgx), faults=faults)
        sibling = threading.Thread(target=poke)
        sibling.start()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
            for _ in range(100):
                storm.run(entries // 100)
                storm.check_counts()
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            stop.set()
            sibling.join()
    assert {signal.SIGUSR2, signal.SIGALRM} <= set(ticks)


@pytest.mark.parametrize(
    ("mode", "entries", "faults"),
    [
        ("patched", 300_000, 0),
        ("patched", 100_000, 13),
        ("unpatched", 200_000, 0),
        ("unpatched", 50_000, 13),
        ("hidden", 10_000, 13),
    ],
)
def test_entries_are_right_under_a_timer_of_5_khz_and_a_siblings_signals(
    mode: str, entries: int, faults: int
) -> None:
    stormed(mode, entries, faults)


# Handlers that end a call.

#: Counts RDI rounds with a register, so that a round that is lost or done twice shows.
COUNTER = "entry: mov %rcx, %r9\n xor %esi, %esi\n 1: inc %rsi\n cmp %rdi, %rsi\n jb 1b\n xor %edi, %edi\n eexit %r9"
LONG = 400_000_000


@pytest.fixture(params=MODES)
def counter(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    with Sgx(**MODES[request.param]) as sgx:
        yield Source(COUNTER).build().load(sgx)


def test_ctrl_c_ends_the_call_and_resume_goes_on_where_it_was(counter: Loaded) -> None:
    me = threading.get_ident()
    for _ in range(3):
        sibling = threading.Timer(0.03, signal.pthread_kill, (me, signal.SIGINT))
        sibling.start()
        with pytest.raises(KeyboardInterrupt):
            counter.enclave.enter(rdi=LONG)
        sibling.join()
        assert (counter.tcs().state, counter.tcs().cssa) == (0, 1)
        assert counter.enclave.resume().check().rsi == LONG
        assert counter.tcs().cssa == 0


def test_ctrl_c_during_a_resume_ends_that_too(counter: Loaded) -> None:
    me = threading.get_ident()
    act: Callable[[], object] = partial(counter.enclave.enter, rdi=LONG)
    for _ in range(3):
        sibling = threading.Timer(0.02, signal.pthread_kill, (me, signal.SIGINT))
        sibling.start()
        with pytest.raises(KeyboardInterrupt):
            act()
        sibling.join()
        act = counter.enclave.resume
    assert counter.enclave.resume().check().rsi == LONG


class Late(Exception):
    """The time is up."""


def test_a_time_limit_is_a_handler_that_raises(sgx: Sgx) -> None:
    endless = Source("entry: jmp entry").build().load(sgx)

    def late(number: int, frame: FrameType | None) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    for again in range(3):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(Late):
            endless.enclave.resume() if again else endless.enclave.enter()
    assert endless.tcs().cssa == 1
    endless.enclave.close()


def test_a_signal_that_waits_already_is_handled_before_or_right_after_the_entry(sgx: Sgx) -> None:
    loaded = mixer().load(sgx)
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    for _ in range(100):
        signal.raise_signal(signal.SIGUSR1)
        assert loaded.enclave.enter(rdi=1).check().rdi == 0x1112
    assert len(seen) == 100
    assert loaded.word("tls0", 16) == 100


def test_a_handler_may_enter_the_same_tcs_one_frame_up(sgx: Sgx) -> None:
    # The enclave is outside while Python's handler runs; its frame waits.
    code = (
        "entry: test %eax, %eax\n jnz 2f\n 1: pause\n cmpq $0, data(%rip)\n je 1b\n movq $5, %rsi\n eexit\n"
    )
    code += "2: movq $1, data(%rip)\n eexit"
    loaded = Source(code).build().load(sgx)
    signal.signal(signal.SIGALRM, lambda number, frame: loaded.enclave.enter().check())
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    loaded.enclave.enter().check()
    assert loaded.tcs().cssa == 0


# Who handles what.


def caught_inside(loaded: Loaded, number: int) -> None:
    """The signal arrives while the enclave runs, and the enclave goes on."""
    me = threading.get_ident()
    sibling = threading.Timer(0.02, signal.pthread_kill, (me, number))
    sibling.start()
    assert loaded.enclave.enter(rdi=LONG // 4).check().rsi == LONG // 4
    sibling.join()


def test_a_handler_that_was_there_before_is_called() -> None:
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    with Sgx(isolation="off") as sgx:
        caught_inside(Source(COUNTER).build().load(sgx), signal.SIGUSR1)
    assert seen == [signal.SIGUSR1]
    signal.raise_signal(signal.SIGUSR1)
    assert len(seen) == 2


def noting(seen: list[int], value: int) -> Callable[[int, FrameType | None], object]:
    return lambda number, frame: seen.append(value)


def test_a_handler_that_is_installed_later_is_called_and_stays(sgx: Sgx) -> None:
    loaded = Source(COUNTER).build().load(sgx)
    seen: list[int] = []
    for round_trip in range(3):
        signal.signal(signal.SIGUSR2, noting(seen, round_trip))
        caught_inside(loaded, signal.SIGUSR2)
    assert seen == [0, 1, 2]
    sgx.close()
    signal.raise_signal(signal.SIGUSR2)
    assert seen == [0, 1, 2, 2]


def test_an_ignored_signal_stays_ignored(sgx: Sgx) -> None:
    loaded = Source(COUNTER).build().load(sgx)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    caught_inside(loaded, signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)


def test_siginterrupt_and_a_wakeup_descriptor_keep_working(sgx: Sgx) -> None:
    loaded = Source(COUNTER).build().load(sgx)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    before = signal.set_wakeup_fd(writer)
    try:
        signal.siginterrupt(signal.SIGUSR1, False)
        caught_inside(loaded, signal.SIGUSR1)
        assert readable(reader, 5)
        assert os.read(reader, 1)[0] == signal.SIGUSR1
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def test_subprocesses_and_their_sigchld_are_as_ever(sgx: Sgx) -> None:
    loaded = mixer().load(sgx)
    seen: list[int] = []
    signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    for number in range(5):
        done = subprocess.run(
            [sys.executable, "-S", "-c", f"print({number})"], capture_output=True, check=True
        )
        assert done.stdout == f"{number}\n".encode()
        loaded.enclave.enter().check()
    assert len(seen) >= 5
    failed = subprocess.run([sys.executable, "-S", "-c", "import os; os.abort()"], check=False, timeout=20)
    assert failed.returncode == -signal.SIGABRT


def test_a_child_inherits_no_handler(sgx: Sgx) -> None:
    mixer().load(sgx).enclave.enter().check()
    script = (
        "print([line for line in open('/proc/self/status') if line.startswith('Sig') and 'Q' not in line])"
    )
    with_sgx = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, check=True).stdout
    sgx.close()
    assert (
        subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, check=True).stdout
        == with_sgx
    )


def dispositions() -> str:
    status = Path("/proc/self/status").read_text()
    return "".join(
        line for line in status.splitlines(keepends=True) if line.startswith(("SigIgn", "SigCgt", "SigBlk"))
    )


def test_dispositions_are_given_back_when_the_last_machine_closes() -> None:
    before = dispositions()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    first, second = Sgx(), Sgx()
    assert dispositions() != before
    first.close()
    assert dispositions() != before
    second.close()
    assert dispositions() == before
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
    assert signal.signal.__module__ == "signal"


# Faults that are not the enclave's.


def die_outside(when: str, where: str, how: str) -> None:
    """By a load of the host's own, in several circumstances."""
    if how == "before":
        faulthandler.enable(2)
    sgx = None
    if when != "without":
        sgx = Sgx()
        loaded = mixer().load(sgx)
        loaded.enclave.enter().check()
        loaded.enclave.enter(r15=1)  # an exception inside, too
    if how in ("after", "toggled"):
        faulthandler.enable(2)
    if how == "toggled":
        faulthandler.disable()
        faulthandler.enable(2)
    if sgx is not None and when == "closed":
        sgx.close()

    def die() -> None:
        os.write(1, b"here")
        ctypes.string_at(16)

    if where == "main":
        die()
    thread = threading.Thread(target=die)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("when", "where", "how"),
    [
        ("without", "main", "before"),
        ("open", "main", "before"),
        ("open", "main", "after"),
        ("open", "main", "toggled"),
        ("open", "thread", "before"),
        ("open", "thread", "after"),
        ("closed", "main", "before"),
        ("closed", "thread", "toggled"),
        ("open", "main", "never"),
    ],
)
def test_a_fault_outside_kills_with_faulthandlers_words(when: str, where: str, how: str) -> None:
    done = forked(lambda: die_outside(when, where, how))
    assert (done.status, done.out) == (-signal.SIGSEGV, "here"), done
    assert done.err.count("Fatal Python error: Segmentation fault") == (how != "never")
    assert how == "never" or "in die" in done.err


def test_faulthandler_registers_and_dumps_on_time() -> None:
    def act() -> None:
        with Sgx() as sgx:
            loaded = Source(COUNTER).build().load(sgx)
            faulthandler.register(signal.SIGUSR1, file=2, chain=False)
            faulthandler.dump_traceback_later(0.1, file=2)
            me = threading.get_ident()
            threading.Timer(0.05, signal.pthread_kill, (me, signal.SIGUSR1)).start()
            assert loaded.enclave.enter(rdi=LONG).check().rsi == LONG
            time.sleep(0.2)
            faulthandler.unregister(signal.SIGUSR1)

    done = forked(act)
    assert done.status == 0, done
    assert done.err.count("most recent call first") >= 2
    assert "Timeout (" in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGSEGV])
def test_a_deadly_signal_inside_kills_by_that_signal(number: signal.Signals) -> None:
    def act() -> None:
        with Sgx() as sgx:
            loaded = Source("entry: jmp entry").build().load(sgx)
            signal.signal(number, lambda number, frame: None)
            signal.signal(number, signal.SIG_DFL)
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            loaded.enclave.enter()

    assert forked(act).status == -number


def test_faulthandler_of_this_very_process_is_as_it_was() -> None:
    enabled = faulthandler.is_enabled()
    with Sgx() as sgx:
        mixer().load(sgx).enclave.enter().check()
        assert faulthandler.is_enabled() == enabled
    assert faulthandler.is_enabled() == enabled


# A signal at every instruction.

#: Makes calls for a debugger: by a way in, with a way out; and looks after each one.
STEPPED = """
import ctypes, sys
from swsgx.inprocess import Sgx
from swsgx.inprocess.process import process
from tests.make.stepper import image_base
from tests.make.storm import Storm, mixer, watch, watch_signal

isolation, patch, way = sys.argv[1:]
with Sgx(isolation=isolation, patch=patch == "patch") as sgx:
    loaded = mixer().load(sgx)
    storm = Storm(loaded, faults=way == "resume")
    storm.run(3)
    slot = sgx.mm.engine.slot(loaded.enclave.file.encl)
    watch().tcs = ctypes.addressof(ctypes.c_char.from_buffer(loaded.tcs().buffer))
    watch().code_begin, watch().code_end = loaded.enclave.base, loaded.enclave.base + loaded.enclave.size
    watch_signal(10)
    print(loaded.enclave.base, loaded.enclave.size, slot.exit_stub, image_base(), flush=True)
    sys.stdin.readline()
    calls = 0
    while True:
        if way == "fast":
            storm.run(2)
        elif way == "slow":
            loaded.enclave.file.encl.store.changed()
        storm.stepped()
        calls += 1
        storm.check_counts()
        assert not storm.problem, storm.problem
        found = watch()
        assert found.count == calls, (found.count, calls)
        assert not found.busy, "the TCS is busy while the program's handler runs"
        assert not found.wrong_thread, "the handler ran with a wrong FS base"
        assert not found.inside, "the handler was told an address inside the enclave"
"""


@pytest.mark.parametrize(
    ("isolation", "patch", "way"),
    [
        ("off", "patch", "fast"),
        ("off", "patch", "slow"),
        ("off", "patch", "resume"),
        ("off", "plain", "fast"),
        pytest.param("off", "plain", "resume", marks=pytest.mark.slow),
        ("hidden", "patch", "slow"),
    ],
)
def test_a_signal_before_any_instruction_of_the_way_in_and_out_changes_nothing(
    checkout: Path, isolation: str, patch: str, way: str
) -> None:
    places: list[int] = []
    with stepped(checkout, STEPPED, isolation, patch, way) as child:
        while True:
            at = child.one(len(places))
            if at is None:
                break
            places.append(at)
            child.to_marker()
        entry, exit_end = child.symbols["enclu_entry"], child.symbols["exit_end"]
    inside = sum(1 for at in places if not entry <= at < exit_end)
    assert inside > 20
    assert len(places) - inside > 30
