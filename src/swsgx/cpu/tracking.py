"""Tracking: has every thread left that could still use an old translation of a page?

The manual states a contract, not a mechanism (SDM, "ETRACK", "EBLOCK", "EWB"). Ours: each enclave has an epoch, from
1. EBLOCK, EMODPR and EMODT write it into the page's EPCM entry; ETRACK begins the next one and remembers who is inside.
A page is *tracked* when an ETRACK came after the change and all who were inside then have left once.

Who is inside, :attr:`swsgx.cpu.machine.Cpu.inside` says: entries that have not ended, each by a number. A thread that
leaves and enters again is another entry. By default an entry is known by the frame of its TCS, so that a thread that
entered again by the same TCS between two looks still counts as the old one: too careful, never wrong. Whoever has
made all threads leave says so by :func:`all_left`.
"""

from __future__ import annotations

from swsgx.cpu.machine import Cpu, SecsState

__all__ = ["all_left", "begin", "is_tracked", "still_inside"]


def still_inside(cpu: Cpu, state: SecsState) -> int:
    """How many entries from before the present epoch have not ended."""
    if state.previous:
        state.previous &= cpu.inside(state)
    return len(state.previous)


def begin(cpu: Cpu, state: SecsState) -> None:
    """The next epoch begins; everybody inside entered before it. The one before must be over."""
    state.epoch += 1
    state.previous = frozenset(cpu.inside(state))


def is_tracked(cpu: Cpu, state: SecsState, epoch: int) -> bool:
    """Whether a change that was made in ``epoch`` is known to all who are inside."""
    if state.epoch > epoch + 1:
        return True
    return state.epoch == epoch + 1 and not still_inside(cpu, state)


def all_left(state: SecsState) -> None:
    """Everybody who was inside when the present epoch began has left since."""
    state.previous = frozenset()
