"""The generator: steps that are drawn by numbers, episodes that can be replayed and made shorter.

A step is one rule, chosen and filled in by the step's own number and by the state that it finds. So a failure is a list
of numbers, and any shorter list that fails as well tells more: :func:`shortest`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.lsm.ghost.changing import Changing
from tests.lsm.ghost.judges import Judge, Toys

__all__ = ["EPISODE", "Failure", "Machine", "explore", "replay", "shortest"]

#: Steps in one world; then there is a new one.
EPISODE = 120

_RULES: dict[str, int] = {
    "open": 1,
    "create": 2,
    "add": 6,
    "init": 4,
    "build": 8,
    "patch": 3,
    "send": 5,
    "close_file": 2,
    "exit": 2,
    "another": 2,
    "mmap": 18,
    "in_turns": 10,
    "mprotect": 12,
    "mremap": 5,
    "munmap": 4,
    "fork": 2,
    "exec": 1,
    "fault": 10,
    "emodpe": 2,
    "eacceptcopy": 2,
    "eaug": 8,
    "trim_and_remove": 6,
    "replace": 8,
    "to_tcs": 3,
    "restrict": 2,
    "debug": 8,
    "swap_out": 4,
    "swap_in": 3,
    "reload": 3,
    "relabel": 2,
}
_NAMES, _WEIGHTS = list(_RULES), list(_RULES.values())


class Machine(Changing):
    """All rules."""

    def step(self, number: int) -> str:
        """One rule, and all that must hold behind it; which it was."""
        dice = random.Random(number)
        name = dice.choices(_NAMES, _WEIGHTS)[0]
        if dice.random() < 0.08:
            self.judge.crash(dice)
        elif dice.random() < 0.05:
            self.commit_fails = dice.choice(["create", "load", "init", "augment", "modify", "map", "receive"])
        rule: Callable[[random.Random], None] = getattr(self, name)
        rule(dice)
        self.judge.recover()
        self.commit_fails = self.witness.fails = ""
        self.check()
        return name


@dataclass(frozen=True)
class Failure:
    """What a generator has found.

    Attributes:
        seed, steps: of the episode: its world, and the numbers of its steps.
        made: steps that were made until it was found, in all episodes.
        error: what was found.
    """

    seed: int
    steps: tuple[int, ...]
    made: int
    error: Exception


def explore(
    seed: int, steps: int, judge: Callable[[random.Random], Judge] = Toys, *, episode: int = EPISODE
) -> Failure | None:
    """Make so many steps, in episodes; the first that finds something ends it."""
    dice, made = random.Random(seed), 0
    while made < steps:
        world = dice.randrange(1 << 32)
        numbers = tuple(dice.randrange(1 << 32) for _ in range(min(episode, steps - made)))
        done, error = replay(world, numbers, judge)
        made += done
        if error is not None:
            return Failure(world, numbers[:done], made, error)
    return None


def replay(
    seed: int, numbers: tuple[int, ...], judge: Callable[[random.Random], Judge] = Toys
) -> tuple[int, Exception | None]:
    """One episode: how many steps were made, and what the last one, or the end of all processes, found."""
    machine = Machine(seed, judge)
    done, error = 0, None
    try:
        for number in numbers:
            done += 1
            machine.step(number)
    except Exception as found:
        error = found
    try:
        machine.close()
    except Exception as found:
        error = error or found
    return done, error


def shortest(failure: Failure, judge: Callable[[random.Random], Judge] = Toys) -> tuple[int, ...]:
    """Steps of the failing episode without which it does not fail, whatever it says then."""
    steps = failure.steps
    size = max(1, len(steps) // 2)
    while True:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if replay(failure.seed, fewer, judge)[1] is not None:
                steps = fewer
            else:
                at += size
        if size == 1:
            return steps
        size //= 2
