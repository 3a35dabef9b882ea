"""Tracking: has every thread that was inside, when a page changed, left its enclave since?

Source: SDM, "Tracking Rules" of the section on EPC management, "ETRACK" and "EACCEPT". Processors keep the map of the
EPC in their TLBs, which only an exit flushes. So an enclave's time is cut into *epochs*; ETRACK begins one, and a page
that was changed in epoch e is tracked once a later one has begun and all who entered up to then have left: once, by
EEXIT or AEX, whether or not they come back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from swsgx.cpu.machine import SecsState

__all__ = ["CountedThreads", "Tracker", "is_tracked"]


class Tracker(Protocol):
    """Who knows which threads that entered before the present epoch are still inside."""

    def begin(self, state: SecsState) -> None:
        """ETRACK was granted: whoever is inside now entered before the epoch that begins."""
        ...

    def stragglers(self, state: SecsState) -> int:
        """How many threads that entered before the present epoch have not left since."""
        ...

    def interrupt(self, state: SecsState) -> None:
        """The operating system interrupts all processors that may be inside: each leaves by an AEX, and may resume."""
        ...


class CountedThreads:
    """The machine's own count, :attr:`~swsgx.cpu.machine.SecsState.previous`, for owners who tell it of exits.

    Who tells nothing is never told too little: a thread counts until nobody is inside at all, or until
    :meth:`interrupt`. No TLB is modelled, so that an interrupt need not really happen: what it would
    flush is not there.

    Args:
        inside: how many threads are inside the enclave with a SECS in that frame.
    """

    def __init__(self, inside: Callable[[int], int]) -> None:
        self._inside = inside

    def begin(self, state: SecsState) -> None:
        state.previous = self._inside(state.frame)

    def stragglers(self, state: SecsState) -> int:
        if state.previous:
            state.previous = min(state.previous, self._inside(state.frame))
        return state.previous

    def interrupt(self, state: SecsState) -> None:
        state.previous = 0

    @staticmethod
    def left(state: SecsState) -> None:
        """A thread that entered before the present epoch has left."""
        state.previous = max(state.previous - 1, 0)


def is_tracked(tracker: Tracker, state: SecsState, epoch: int) -> bool:
    """Whether a page that was changed in ``epoch`` is tracked now."""
    return state.epoch > epoch + 1 or (state.epoch == epoch + 1 and not tracker.stragglers(state))
