"""The hashing thread: order, room, failure, idleness, fork."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from swsgx.identity.pipeline import HashPipeline


class Gate:
    """A digest whose hashing waits until the test lets it go on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.seen: list[bytes] = []

    def update(self, data: memoryview, /) -> None:
        self.open.wait(60)
        self.seen.append(bytes(data))


class Broken:
    def update(self, data: memoryview, /) -> None:
        raise MemoryError("no memory left")


def pipeline(depth: int = 4, idle: float = 0.5) -> HashPipeline[bytearray]:
    return HashPipeline(lambda: bytearray(16), depth, idle)


def send(to: HashPipeline[bytearray], digest: Gate | Broken, value: int) -> int:
    block = to.take()
    block[:] = bytes([value]) * 16
    return to.submit(digest, memoryview(block)[:4], block)


def test_blocks_are_hashed_in_the_order_of_their_submission() -> None:
    p, gate = pipeline(), Gate()
    gate.open.set()
    ticket = 0
    for value in range(100):
        ticket = send(p, gate, value)
    p.settle(ticket)
    assert gate.seen == [bytes([value]) * 4 for value in range(100)]


def test_tickets_grow_and_ticket_0_is_always_settled() -> None:
    p, gate = pipeline(), Gate()
    p.settle(0)
    gate.open.set()
    assert [send(p, gate, 0) for _ in range(3)] == [1, 2, 3]
    p.settle(3)


def test_no_more_blocks_are_made_than_the_depth_allows() -> None:
    made: list[bytearray] = []

    def make() -> bytearray:
        made.append(bytearray(16))
        return made[-1]

    p, gate = HashPipeline(make, depth=2), Gate()
    gate.open.set()
    ticket = 0
    for value in range(50):
        ticket = send(p, gate, value)
    p.settle(ticket)
    assert len(made) == 2


def test_who_wants_a_block_waits_until_one_is_hashed() -> None:
    p, gate = pipeline(depth=1), Gate()
    send(p, gate, 1)
    got = threading.Event()

    def second() -> None:
        send(p, gate, 2)
        got.set()

    waiting = threading.Thread(target=second)
    waiting.start()
    assert not got.wait(0.05)
    gate.open.set()
    waiting.join(60)
    assert got.is_set()
    p.settle(2)


def test_a_block_that_was_given_back_is_used_again() -> None:
    p = pipeline(depth=1)
    first = p.take()
    p.give_back(first)
    assert p.take() is first


def test_a_failure_to_hash_reaches_whoever_settles() -> None:
    """A digest that misses a block would be believed."""
    p = pipeline()
    ticket = send(p, Broken(), 1)
    with pytest.raises(RuntimeError, match="hashing in the background failed") as told:
        p.settle(ticket)
    assert isinstance(told.value.__cause__, MemoryError)


def test_after_a_failure_nothing_is_settled_any_more() -> None:
    p, gate = pipeline(), Gate()
    gate.open.set()
    send(p, Broken(), 1)
    ticket = send(p, gate, 2)
    with pytest.raises(RuntimeError, match="failed"):
        p.settle(ticket)


def _hashing_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "swsgx-hash"]


def test_the_thread_ends_when_idle_and_starts_again() -> None:
    before = _hashing_threads()
    p, gate = pipeline(idle=0.01), Gate()
    gate.open.set()
    p.settle(send(p, gate, 1))
    for thread in _hashing_threads():
        if thread not in before:
            thread.join(60)
            assert not thread.is_alive()
    p.settle(send(p, gate, 2))
    assert gate.seen == [b"\1" * 4, b"\2" * 4]


FORK = """
import hashlib, os, sys
from swsgx.identity.measure import Measurement

def build(m):
    m.eadd_run(0x100000, 0x203, bytes(range(256)) * 16 * 1024, 1024, True)
    return m.digest()

m = Measurement()
m.ecreate(1, 1 << 30)
m.eadd_run(0, 0x203, os.urandom(4096) * 1024, 1024, True)
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.write(write, build(m))
    os._exit(0)
here = build(m)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert os.read(read, 32) == here
"""


def test_a_fork_in_the_middle_of_a_measurement_leaves_both_sides_right(checkout: Path) -> None:
    """In a process of its own: the test runner has threads too."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    done = subprocess.run(
        command, cwd=checkout / "src", capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_hashlib_objects_are_digests() -> None:
    p = pipeline()
    sha = hashlib.sha256()
    block = p.take()
    block[:4] = b"abcd"
    p.settle(p.submit(sha, memoryview(block)[:4], block))
    assert sha.digest() == hashlib.sha256(b"abcd").digest()
