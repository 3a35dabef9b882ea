"""Several threads in one enclave at once: each with its TCS, its registers and its place in the monitor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from swsgx.inprocess import Sgx
from swsgx.inprocess.process import process
from swsgx.isa.vectors import Vector
from tests.inprocess.conftest import MODES
from tests.make.native_enclave import NEEDS_GCC, Loaded, Source, Thread
from tests.make.storm import Storm, mixer

pytestmark = [NEEDS_GCC, pytest.mark.timeout(60)]

#: Stays inside until the word at ``data`` is 1; the word after it says that it is there.
WAITER = """
entry:	movq	$1, data+8(%rip)
1:	pause
	cmpq	$0, data(%rip)
	je	1b
	movq	$0, data+8(%rip)
	eexit
"""


def in_threads(work: list[Callable[[], object]]) -> None:
    """Each in a thread of its own; the first exception of any is raised here."""
    failed: list[BaseException] = []

    def guarded(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def through(loaded: Loaded, thread: int) -> None:
    """In and out."""
    loaded.enclave.enter(thread).check()


@pytest.fixture
def ticking() -> Iterator[list[int]]:
    """SIGALRM at 1 kHz, counted by a Python handler."""
    ticks: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    yield ticks
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def storms(loaded: Loaded, threads: int, trips: int, *, faults: int) -> None:
    """Many trips on each TCS, while a sibling sends signals to each thread."""
    all_of_them = [
        Storm(loaded, number, faults=faults and faults + number, seed=number + 1) for number in range(threads)
    ]
    idents: list[int] = []

    def worker(storm: Storm) -> None:
        process().attach()
        idents.append(threading.get_ident())
        gate.wait()
        try:
            for _ in range(10):
                storm.run(trips // 10)
                storm.check_counts()
        finally:
            with alive:
                running.remove(threading.get_ident())

    def poker() -> None:
        gate.wait()
        while running:
            with alive:  # a signal for a thread that has ended is undefined
                for ident in running:
                    signal.pthread_kill(ident, signal.SIGUSR2)
            time.sleep(0.002)

    gate = threading.Barrier(threads + 1, action=lambda: running.extend(idents))
    running: list[int] = []
    alive = threading.Lock()
    in_threads([*(partial(worker, storm) for storm in all_of_them), poker])
    for storm in all_of_them:
        assert storm.c.calls == trips
        assert not faults or storm.c.repaired == -(-trips // (faults + storm.thread))
    assert loaded.contents[loaded.built.symbols["data"]] == 0


@pytest.fixture
def pokes() -> Iterator[list[int]]:
    """A Python handler of the signal that siblings send."""
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGUSR2, before)


def many(mode: str, trips: int, ticking: list[int], pokes: list[int]) -> None:
    with Sgx(**MODES[mode]) as sgx:
        loaded = mixer(8).load(sgx)
        storms(loaded, 8, trips, faults=97)
    assert ticking
    assert pokes


@pytest.mark.parametrize(("mode", "trips"), [("patched", 20_000), ("unpatched", 20_000), ("hidden", 2_000)])
def test_eight_threads_lose_nothing_under_signals_faults_and_resumes(
    mode: str, trips: int, ticking: list[int], pokes: list[int]
) -> None:
    many(mode, trips, ticking, pokes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["patched", "unpatched"])
def test_eight_threads_lose_nothing_in_a_hundred_thousand_trips(
    mode: str, ticking: list[int], pokes: list[int]
) -> None:
    many(mode, 100_000, ticking, pokes)


def test_threads_with_the_same_gs_base_leave_with_their_own_state(
    ticking: list[int], pokes: list[int]
) -> None:
    # Their counters are one page then, and not exact; their registers are.
    with Sgx(isolation="off") as sgx:
        loaded = mixer(4, shared_gs=True).load(sgx)
        all_of_them = [Storm(loaded, number, faults=31 + number, seed=number + 1) for number in range(4)]
        in_threads([partial(storm.run, 10_000) for storm in all_of_them])
        assert all(loaded.tcs(number).state == 0 for number in range(4))


def test_threads_with_state_of_their_own_keep_it_under_the_other_threads_calls(sgx: Sgx) -> None:
    # In Python, with faults that stay open while others work.
    loaded = mixer(4).load(sgx)

    def one(number: int) -> None:
        for trip in range(100):
            stopped = loaded.enclave.enter(number, rdi=trip, rsi=number, r15=1)
            assert stopped.exception is not None
            assert stopped.exception.vector == Vector.UD
            loaded.enclave.enter(number).check()
            done = loaded.enclave.resume(number).check()
            assert (done.rdi, done.rsi, done.r15) == (trip + 0x1111, number + 0x2222, 1 + 0xBBBB)

    in_threads([partial(one, number) for number in range(4)])
    assert [loaded.word(f"tls{number}", 16) for number in range(4)] == [100] * 4


@pytest.mark.parametrize("mode", MODES)
def test_a_busy_tcs_is_refused_with_the_reason_and_the_one_inside_goes_on(mode: str) -> None:
    with Sgx(**MODES[mode]) as sgx:
        loaded = Source(WAITER, threads=(Thread(), Thread())).build().load(sgx)
        inside = threading.Thread(target=lambda: exits.append(loaded.enclave.enter().exception))
        exits: list[object] = []
        inside.start()
        try:
            while not loaded.word("data", 8):
                time.sleep(0.001)
            for refused in (loaded.enclave.enter(), loaded.enclave.enter()):
                assert refused.exception is not None
                assert (refused.exception.vector, refused.exception.error_code) == (Vector.GP, 0)
                assert "no other logical processor" in refused.exception.reason.rule
                assert not refused.exception.inside
            assert loaded.tcs().state == 1
        finally:
            loaded.set_word("data", 1)
            inside.join()
        assert exits == [None]
        loaded.enclave.enter().check()


@pytest.mark.parametrize("mode", MODES)
def test_threads_are_inside_at_the_same_time(mode: str) -> None:
    code = "entry: lock incq data(%rip)\n 1: pause\n cmpq $3, data(%rip)\n jb 1b\n eexit"
    with Sgx(**MODES[mode]) as sgx:
        loaded = Source(code, threads=(Thread(), Thread(), Thread())).build().load(sgx)
        # Each waits inside for the other two.
        in_threads([partial(through, loaded, number) for number in range(3)])


def test_threads_that_end_give_their_place_and_their_memory_back(sgx: Sgx) -> None:
    loaded = mixer(2).load(sgx)
    loaded.enclave.enter().check()
    in_threads([lambda: loaded.enclave.enter(1).check()])
    files = len(os.listdir("/proc/self/fd"))
    places: set[int] = set()

    def short() -> None:
        loaded.enclave.enter(1).check()
        places.add(process().monitor.attach())

    for _ in range(2000):
        thread = threading.Thread(target=short)
        thread.start()
        thread.join()
    # One after the other, so they all found the same one.
    assert len(places) == 1
    assert len(os.listdir("/proc/self/fd")) <= files


def test_threads_in_groups_use_no_more_places_than_there_are_threads_at_a_time(sgx: Sgx) -> None:
    loaded = mixer(16).load(sgx)
    places: set[int] = set()

    def short(number: int) -> None:
        loaded.enclave.enter(number).check()
        places.add(process().monitor.attach())

    for _ in range(64):
        in_threads([partial(short, number) for number in range(16)])
    assert len(places) <= 16


@pytest.mark.parametrize("mode", MODES)
def test_a_forks_child_enters_too_and_the_parent_goes_on(mode: str) -> None:
    with Sgx(**MODES[mode]) as sgx:
        loaded = mixer(2).load(sgx)
        mine, other = Storm(loaded, 0, faults=11), Storm(loaded, 1, faults=13)
        for storm in (mine, other):
            storm.run(100)
        # Both processes have both enclaves' places, and enter at the same time.
        child = os.fork()
        if child == 0:
            status = 1
            try:
                other.run(2000)
                other.check_counts()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        mine.run(2000)
        mine.check_counts()
        assert os.waitpid(child, 0)[1] == 0
        mine.run(100)
        mine.check_counts()


FORKED = """
import os, signal, sys, threading, time
from swsgx.inprocess import Sgx
from tests.make.native_enclave import Source, Thread
from tests.make.storm import Storm, mixer

class Stop(Exception):
    pass

def stop(number, frame):
    raise Stop

with Sgx(isolation=sys.argv[1]) as sgx:
    loaded = mixer(3).load(sgx)
    spinner = Source("entry: jmp entry").build().load(sgx)
    storm = Storm(loaded)
    storm.run(10)
    ready, go = threading.Event(), threading.Event()
    def sleeper():
        loaded.enclave.enter(1).check()
        ready.set()
        go.wait()
    thread = threading.Thread(target=sleeper)
    thread.start()
    ready.wait()
    child = os.fork()
    if child == 0:
        # A new thread, on the stack of the one that was not inherited, with a signal inside the enclave.
        status = 1
        try:
            signal.signal(signal.SIGALRM, stop)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                spinner.enclave.enter()
            except Stop:
                status = 2
            signal.signal(signal.SIGALRM, lambda number, frame: None)
            def work():
                global status
                for _ in range(20):
                    mine.run(200)
                    time.sleep(0.001)
                    signal.pthread_kill(threading.get_ident(), signal.SIGALRM)
                done.append(1)
            done = []
            mine = Storm(loaded, 2, faults=5)
            other = threading.Thread(target=work)
            other.start()
            other.join()
            mine.run(0)
            if done and status == 2:
                status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    go.set()
    thread.join()
    storm.run(100)
    storm.check_counts()
    sys.exit(status and 3)
"""


@pytest.mark.parametrize("isolation", ["off", "hidden"])
def test_a_forks_child_takes_signals_and_starts_threads_of_its_own(checkout: object, isolation: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, isolation],
        cwd=str(checkout),
        env=os.environ | {"PYTHONPATH": f"{checkout}/src:{checkout}"},
        timeout=30,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
