"""Hashing in the background, in order.

SHA-256 is what bounds the building of an enclave, so whoever prepares its input (copies pages, makes
headers) works beside it: one thread hashes blocks in the order of their submission, for all measurements of
the process, while the caller fills the next block. hashlib gives up the interpreter lock for blocks of this
size. The thread starts with the first block and ends after an idle moment, and the blocks with it.

Rules: :attr:`HashPipeline._changed` is the only lock and guards every other attribute; a block belongs to who
took it until it is submitted, then to the thread until it is free again; tickets only grow. A fork waits
until nothing is under way, and the child starts without a thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["Digest", "HashPipeline"]


class Digest(Protocol):
    """What is fed: a hashlib object."""

    def update(self, data: memoryview, /) -> None:
        """Hash some more bytes."""
        ...


Block = TypeVar("Block")


class HashPipeline(Generic[Block]):
    """One hashing thread and the blocks that go through it.

    Args:
        make: makes a block. At most ``depth`` exist at a time.
        depth: how many blocks; three keep the thread busy while one is filled.
        idle: seconds without work after which the thread ends.
    """

    def __init__(self, make: Callable[[], Block], depth: int = 4, idle: float = 0.5) -> None:
        self._make = make
        self._depth = depth
        self._idle = idle
        self._changed = threading.Condition(threading.Lock())
        self._free: list[Block] = []
        self._made = 0
        self._jobs: deque[tuple[Digest, memoryview, Block]] = deque()
        self._running = False
        self._submitted = 0
        self._done = 0
        self._failure: BaseException | None = None
        os.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._after_fork_in_parent,
            after_in_child=self._after_fork_in_child,
        )

    def take(self) -> Block:
        """A block to fill, with whatever its last user left in it; waits until one is free.

        It must be given to :meth:`submit` or :meth:`give_back`.
        """
        with self._changed:
            while not self._free and self._made >= self._depth:
                self._changed.wait()
            if self._free:
                return self._free.pop()
            self._made += 1
        return self._make()

    def give_back(self, block: Block) -> None:
        """Return a block that is not going to be hashed after all."""
        with self._changed:
            self._free.append(block)
            self._changed.notify_all()

    def submit(self, digest: Digest, data: memoryview, block: Block) -> int:
        """Hash ``data``, which lies in ``block``, into ``digest``, after all that was submitted before.

        Returns:
            A ticket for :meth:`settle`.
        """
        with self._changed:
            self._jobs.append((digest, data, block))
            self._submitted += 1
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="swsgx-hash", daemon=True).start()
            self._changed.notify_all()
            return self._submitted

    def settle(self, ticket: int) -> None:
        """Wait until everything up to this ticket is hashed; 0 is always settled.

        Raises:
            RuntimeError: hashing failed, so that no digest of this process can be believed.
        """
        if ticket == 0:
            return
        with self._changed:
            while self._done < ticket:
                self._changed.wait()
            if self._failure is not None:
                raise RuntimeError("hashing in the background failed") from self._failure

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    if not self._changed.wait(self._idle) and not self._jobs:
                        self._running = False
                        self._made -= len(self._free)
                        self._free.clear()
                        return
                digest, data, block = self._jobs.popleft()
            failure: BaseException | None = None
            try:
                digest.update(data)
            except BaseException as error:  # kept for whoever settles: a thread has nobody to raise to
                failure = error
            data.release()
            with self._changed:
                self._failure = self._failure or failure
                self._done += 1
                self._free.append(block)
                self._changed.notify_all()

    def _before_fork(self) -> None:
        self._changed.acquire()
        while self._done < self._submitted:
            self._changed.wait()

    def _after_fork_in_parent(self) -> None:
        self._changed.release()

    def _after_fork_in_child(self) -> None:
        # The thread did not come along, nor did whoever held a block; the old lock is ours and held.
        self._changed = threading.Condition(threading.Lock())
        self._made = len(self._free)
        self._running = False
